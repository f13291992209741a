"""Libraries that quote what they read are not heard: what is wrong with a file is told by its reason code alone."""

import logging

TALKATIVE = ("python_multipart", "pydicom", "PIL")


def quiet_libraries() -> None:
    """Let no message of theirs reach a log of this process: they hold bytes of bodies and values of DICOM elements."""
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
