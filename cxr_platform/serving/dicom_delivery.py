"""Write the documents about an answer into a folder, store them on a DICOMweb server, or both.

What a server did not store is in the folder afterwards, in `NOT_STORED` if none was asked for, so that it can be sent
again: no answer is lost because a server is away or refuses it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset

from cxr_platform.errors import ImageRefused, ServingError, StorageError
from cxr_platform.intake.dicom import read_source
from cxr_platform.intake.images import sniff
from cxr_platform.serving.dicom_answer import dicom_documents, encode_document
from cxr_platform.serving.dicomweb import DicomWebServer
from cxr_platform.serving.problems import PROBLEM_TYPES, problem_for_image
from cxr_platform.serving.schema import ScreenAnswer
from cxr_platform.storage.files import write_atomically

NOT_STORED = Path("not-stored")


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
    """Delivers to `folder`, `server` or both."""

    def __init__(self, folder: Path | None, server: DicomWebServer | None) -> None:
        """Raise `StorageError` if the folder cannot be made."""
        self._folder, self._server = folder, server
        if folder is not None:
            _make(folder)

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
        if self._server is None:
            return Delivery(files)
        try:
            failed = self._server.store(documents)
        except ServingError as error:
            files = files or _write(documents, NOT_STORED)
            written = f"The documents were written: {', '.join(files)}."
            raise ServingError(error.problem, received=error.received, advice=f"{error.advice} {written}") from error
        by_uid = {str(document.SOPInstanceUID): document for document in documents}
        if self._folder is None and failed:
            files = _write([by_uid[uid] for uid in failed], NOT_STORED)
        reasons = [f"{by_uid[uid].Modality} not stored: {reason}" for uid, reason in failed.items()]
        return Delivery(files, [uid for uid in by_uid if uid not in failed], "; ".join(reasons) or None)


def _write(documents: Sequence[Dataset], folder: Path) -> list[str]:
    _make(folder)
    files = [folder / f"{document.Modality}.{document.SOPInstanceUID}.dcm" for document in documents]
    for file, document in zip(files, documents, strict=True):
        write_atomically(file, encode_document(document))
    return list(map(str, files))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"Expected to be able to make the folder {folder}.", received=error.strerror) from error
