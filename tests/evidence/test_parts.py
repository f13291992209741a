from cxr_platform.evaluation.evidence_files import FILES
from cxr_platform.evidence.parts import PARTS


def test_every_file_of_the_evidence_is_made_by_one_part() -> None:
    made = [name for part in PARTS for name in part.names]
    assert len(made) == len(set(made))
    assert set(made) == set(FILES)
