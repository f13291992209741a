"""Fetch images from a DICOMweb server (WADO-RS), and store documents on it (STOW-RS), with dicomweb-client.

A login (`dicomweb_login`) goes to the server of the given URL only.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from pydicom import Dataset

from cxr_platform.errors import ServingError
from cxr_platform.serving.dicom_document import MANUFACTURER, encode_document
from cxr_platform.serving.dicomweb_login import LOGIN, TOKEN, Login, check_encrypted, check_url

if TYPE_CHECKING:
    import requests

T = TypeVar("T")
JSON = "application/dicom+json"
TIMEOUTS = (10.0, 120.0)
"""Seconds until there is a connection, and between two pieces of an answer."""

REASONS: Mapping[int, str] = {
    0x0110: "processing failure",
    0x0117: "invalid UID",
    0x0122: "the server does not store this SOP class",
    0x0124: "not authorised",
    0xA700: "the server is out of resources",
    0xA701: "the server is out of resources",
    0xA900: "the object does not match its SOP class",
    0xC000: "the server cannot understand the object",
}
"""Meanings of Failure Reason (PS3.18 table 10.5.3-3, PS3.4 table B.2-1)."""

ALREADY_THERE = 0x0111
"""The Failure Reason of a document that was stored before: its UID is that of the same image, model and kind."""

NOT_NAMED = "the server does not say that it stored it"

ADVICE: Mapping[int, str] = {
    401: f"Set {LOGIN}=USER:PASSWORD or {TOKEN}, or {LOGIN}_FILE or {TOKEN}_FILE to a file with it.",
    403: "Ask the operator of the server for the right to do so.",
    404: "Check the UIDs, and that the URL is the base of the DICOMweb service.",
    409: "Ask the operator of the server why it stores none of them.",
    413: "Ask the operator of the server for a higher limit of its requests.",
}
"""What to do, by the status of an answer."""

REFUSALS = (401, 403)
"""Statuses that concern the client, and so all images of a study."""

UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")

METADATA = ("00080018", "00080070", "0020000E", "00280010")
"""Tags of SOP Instance UID, Manufacturer, Series Instance UID and Rows."""


class DicomWebServer:
    """A DICOMweb server. All methods raise `ServingError` if it cannot be reached or refuses the client."""

    def __init__(self, url: str, login: Login | None) -> None:
        """Raise `ServingError` for a URL that is not that of a DICOMweb server, or that a login must not go to."""
        import requests
        from dicomweb_client.api import DICOMwebClient

        check_url(url)
        session = requests.Session()
        session.headers["Accept"] = JSON  # of answers to STOW-RS, for which dicomweb-client asks nothing
        session.hooks["response"].append(_cut_parameters)
        if login is not None:
            check_encrypted(url)
            session.auth = login.authorize  # requests drops it if the server redirects to another host
        self.url = url.rstrip("/")
        self._client: DICOMwebClient = DICOMwebClient(self.url, session=session, timeout=TIMEOUTS)
        self._client.set_http_retry_params(retry=False)

    def images(self, study: str, series: str | None = None) -> Iterator[tuple[str, bytes | ServingError]]:
        """Yield the SOP Instance UID and the bytes of each image of a study, or of one of its series.

        Objects without pixels and pictures that this platform wrote are left out. The images are fetched one by one;
        an error takes the place of one that the server does not return, or not as DICOM. Raises `ServingError` if there
        are none, if the connection is lost and if the server refuses the login.
        """
        action = f"fetch study {study}"
        if series is None:
            found = self._call(action, self._client.retrieve_study_metadata, study)
        else:
            found = self._call(action, self._client.retrieve_series_metadata, study, series)
        images = [uids for tree in found if (uids := self._call(action, _image_uids, tree)) is not None]
        if not images:
            where = f"study {study}" if series is None else f"series {series} of study {study}"
            raise ServingError(f"Expected images in {where}.", received=f"{len(found)} other objects")
        for series_uid, uid in images:
            yield uid, self._image(study, series_uid, uid)

    def store(self, documents: Sequence[Dataset]) -> dict[str, str]:
        """Store the documents; return the reason by SOP Instance UID of those that the server did not store.

        A document counts as stored only if the answer names it, or says that it is there already.
        """
        action = "store the documents"
        try:
            answer = self._client.store_instances(documents)
        except Exception as error:  # of requests, or anything for an answer that is no DICOM JSON or XML
            answer = _refused_documents(getattr(error, "response", None))
            if answer is None:
                raise self._described(action, error) from error
        try:
            stored, failed = _outcome(answer)
        except Exception:  # values of other types than the standard says
            stored, failed = set(), {}
        uids = [str(document.SOPInstanceUID) for document in documents]
        unknown = failed.get("", NOT_NAMED)
        return {uid: failed.get(uid, unknown) for uid in uids if uid not in stored}

    def _image(self, study: str, series: str, uid: str) -> bytes | ServingError:
        import requests

        received = "another content, or one that cannot be encoded again"
        try:
            image = self._client.retrieve_instance(study, series, uid)
            if tuple(str(image.get(name)) for name in UIDS) == (study, series, uid):
                return encode_document(image)
            received = "an image with another SOP, Series or Study Instance UID"
        except Exception as error:  # of requests, or anything for what is not DICOM
            described = self._described(f"return image {uid}", error)
            response = error.response if isinstance(error, requests.HTTPError) else None
            if response is not None and response.status_code not in REFUSALS:
                return described
            if response is not None or _is_of_connection(error):
                raise described from error
        return ServingError(
            f"Expected image {uid} as DICOM from {self.url}.",
            received=received,
            advice="Ask the operator of the server to check this image.",
        )

    def _call(self, action: str, method: Callable[..., T], *arguments: Any) -> T:
        try:
            return method(*arguments)
        except Exception as error:  # of requests, or anything for an answer that is not as the standard says
            raise self._described(action, error) from error

    def _described(self, action: str, error: Exception) -> ServingError:
        import requests

        if isinstance(error, requests.HTTPError):
            status = 0 if error.response is None else error.response.status_code
            return ServingError(
                f"Expected {self.url} to {action}.",
                received=f"status {status}",
                advice=ADVICE.get(status, "Try again later, or ask the operator of the server."),
            )
        if _is_of_connection(error):
            return ServingError(
                f"Expected a DICOMweb server at {self.url}.",
                received=type(error).__name__,
                advice="Check the URL, and that the server runs. An authority of your own: set REQUESTS_CA_BUNDLE.",
            )
        return ServingError(
            f"Expected an answer of a DICOMweb server from {self.url}.",
            received=f"another content ({type(error).__name__})",
            advice="Check that the URL is the base of its DICOMweb service.",
        )


def _cut_parameters(response: "requests.Response", **_: Any) -> None:
    """Cut a charset off the media type of JSON and XML, as dicomweb-client compares the whole header."""
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type.endswith(("json", "xml")):
        response.headers["Content-Type"] = media_type


def _is_of_connection(error: Exception) -> bool:
    import requests

    return isinstance(error, requests.RequestException) and not isinstance(error, requests.exceptions.InvalidJSONError)


def _image_uids(tree: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return Series and SOP Instance UID of an object by its metadata; `None` if it is no image, or one of ours."""
    # No more of them is parsed, as pydicom warns of each value that the server refers to by an address.
    header = Dataset.from_json({tag: tree[tag] for tag in METADATA if tag in tree})
    if "Rows" not in header or header.get("Manufacturer") == MANUFACTURER:
        return None
    return str(header.SeriesInstanceUID), str(header.SOPInstanceUID)


def _refused_documents(response: "requests.Response | None") -> Dataset | None:
    """Return the body of an answer with status 409 as a data set: some or all were not stored. Else `None`."""
    if response is None or response.status_code != HTTPStatus.CONFLICT:
        return None
    try:
        answer: Dataset = Dataset.from_json(response.json())
    except Exception:  # XML, HTML, nothing
        return None
    return answer if answer.get("FailedSOPSequence") else None


def _outcome(answer: Dataset) -> tuple[set[str], dict[str, str]]:
    """Return the UIDs that the server has stored, and the reason by UID of those that it has not.

    The UID is empty where an item names none.
    """
    stored = {str(item.get("ReferencedSOPInstanceUID", "")) for item in answer.get("ReferencedSOPSequence") or []}
    failed = {}
    for item in answer.get("FailedSOPSequence") or []:
        uid, code = str(item.get("ReferencedSOPInstanceUID", "")), item.get("FailureReason")
        if code == ALREADY_THERE:
            stored.add(uid)
        else:
            failed[uid] = _reason(code)
    return stored, failed


def _reason(code: Any) -> str:
    if not isinstance(code, int):  # absent, empty, or several
        return "no reason given"
    return f"{REASONS.get(code, 'see the conformance statement of the server')} (failure reason {code:#06x})"
