"""Write the documents about an answer into a folder, store them on a DICOMweb server, or both.

What a server did not store is in the folder afterwards, in `NOT_STORED` if none was asked for, so that it can be sent
again: no answer is lost because a server is away or refuses it. The files name patients: other users cannot read them.
"""

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset

from cxr_platform.errors import ImageRefused, ServingError, StorageError
from cxr_platform.intake.dicom import read_source
from cxr_platform.intake.images import sniff
from cxr_platform.serving.dicom_answer import dicom_documents
from cxr_platform.serving.dicom_document import encode_document
from cxr_platform.serving.dicomweb import DicomWebServer
from cxr_platform.serving.problems import PROBLEM_TYPES, problem_for_image
from cxr_platform.serving.schema import ScreenAnswer
from cxr_platform.storage.files import write_atomically

NOT_STORED = Path("not-stored")
FILE_MODE, FOLDER_MODE = 0o600, 0o700
NO_HEATMAP = "The answer came without one."


@dataclass(frozen=True)
class Delivery:
    """What became of the documents about one image: `files`, and UIDs `stored` on the server. `problem` if not all."""

    files: list[str] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    problem: str | None = None

    @property
    def summary(self) -> str:
        """One line for a table."""
        parts = [f"{len(self.stored)} stored"] if self.stored else []
        parts += [f"{len(self.files)} written"] if self.files else []
        return "; ".join([*parts, *([self.problem] if self.problem else [])])


class DicomDelivery:
    """Delivers to `folder`, `server` or both; with `heatmap` a screenable image without one is a problem."""

    def __init__(self, folder: Path | None, server: DicomWebServer | None, heatmap: bool = False) -> None:
        """Raise `StorageError` if files cannot be written into the folder, or into `NOT_STORED` if there is none.

        It is known at once, because later the answers would be lost.
        """
        self._folder, self._server, self._heatmap = folder, server, heatmap
        if folder is not None:
            _check_writable(folder)
        elif server is not None:
            is_new = not NOT_STORED.exists()
            _check_writable(NOT_STORED)
            if is_new:
                with suppress(OSError):  # another process needs it
                    NOT_STORED.rmdir()

    def deliver(self, answer: ScreenAnswer, data: bytes) -> Delivery:
        """Write and store the documents about the image with the bytes `data`.

        Raises `StorageError` if they cannot be written, and `ServingError` if the server cannot be reached or refuses
        the client, after they were written.
        """
        if sniff(data) != "DICOM":
            kind = PROBLEM_TYPES["not-dicom"]
            return Delivery(problem=f"{kind.title} {kind.detail}")
        try:
            documents = dicom_documents(answer, read_source(data))
        except ImageRefused as refused:
            problem = problem_for_image(refused)
            return Delivery(problem=f"{problem.problem} {problem.advice}")
        files = [] if self._folder is None else _write(documents, self._folder)
        problems = _missing_heatmap(answer) if self._heatmap else []
        if self._server is None:
            return Delivery(files, problem="; ".join(problems) or None)
        try:
            failed = self._server.store(documents)
        except ServingError as error:
            try:
                written = f"The documents were written: {', '.join(files or _write(documents, NOT_STORED))}."
            except StorageError as unwritten:
                written = f"The documents are lost: {unwritten}"
            raise ServingError(error.problem, received=error.received, advice=f"{error.advice} {written}") from error
        by_uid = {str(document.SOPInstanceUID): document for document in documents}
        problems += [f"{by_uid[uid].Modality} not stored: {reason}" for uid, reason in failed.items()]
        if self._folder is None and failed:
            try:
                files = _write([by_uid[uid] for uid in failed], NOT_STORED)
            except StorageError as error:
                advice = f"{error.advice} These documents are lost: {'; '.join(problems)}."
                raise StorageError(error.problem, received=error.received, advice=advice) from error
        return Delivery(files, [uid for uid in by_uid if uid not in failed], "; ".join(problems) or None)


def _missing_heatmap(answer: ScreenAnswer) -> list[str]:
    """Return what to say if a screenable image has no heatmap: nothing, or one sentence."""
    explained = answer.explanation
    if answer.findings or (explained is not None and explained.heatmap_png is not None):
        return []
    return [f"No heatmap. {NO_HEATMAP if explained is None or explained.missing is None else explained.missing}"]


def _write(documents: Sequence[Dataset], folder: Path) -> list[str]:
    _make(folder)
    files = [folder / f"{document.Modality}.{document.SOPInstanceUID}.dcm" for document in documents]
    for file, document in zip(files, documents, strict=True):
        write_atomically(file, encode_document(document), FILE_MODE)
    return list(map(str, files))


def _check_writable(folder: Path) -> None:
    """Make the folder if there is none, and write a file into it that is removed at once."""
    _make(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unusable(folder, error) from error


def _make(folder: Path) -> None:
    """Make the folder and those above it that are missing."""
    try:
        for part in reversed([part for part in (folder, *folder.parents) if not part.exists()]):
            part.mkdir(FOLDER_MODE, exist_ok=True)
        folder.mkdir(exist_ok=True)  # an error if it is no folder
    except OSError as error:
        raise _unusable(folder, error) from error


def _unusable(folder: Path, error: OSError) -> StorageError:
    return StorageError(
        f"Expected to be able to make the folder {folder} and to write into it.",
        received=error.strerror,
        advice="Name another folder with --sr, which also gets the documents that a server does not store.",
    )
