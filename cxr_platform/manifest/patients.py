"""The patient of each image: the key of its collection, the identifier of its DICOM header, and which are one person.

A collection's table or folders and a header may each have an identifier. An image that has both links them: images with
either are of one patient. Identifiers that stand for several people link nothing. Sources of one stated origin share
their patients: the same key, or the same identifier in a header, is the same person in each.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cxr_platform.manifest.patient_ids import header_pseudonym, key_space, pseudonym
from cxr_platform.manifest.records import SelectedImage

Patients = dict[str, str | None]
"""image_id → patient (salted hash)."""

SHARED, SHARED_AT_LEAST = 0.8, 5
"""Share and least number, of the images of a source or origin with an identifier, from which on one is no patient."""
ALIASES, ALIASED_SHARE = 3, 0.1
"""A header's identifier beside more than this number, and this share, of the patients of a source or origin is none.

Patients of a collection may have a key for each examination; an export has one identifier for all that it holds.
"""


@dataclass(frozen=True)
class ImagePatients:
    """`patients` has the collection's key of each image, else the header's identifier, else `None`.

    A person may have several keys, one for each examination: two images are of one patient if they have the same one
    in `patients`, or in `headers`, the identifiers of DICOM headers. `shared`: source → images with an identifier that
    nearly every image with one has, in the source or its origin, and which is no patient.
    """

    patients: Patients
    headers: Patients
    shared: dict[str, int]


def image_patients(images: Sequence[SelectedImage], salt: str, origins: Mapping[str, str]) -> ImagePatients:
    """Return the patients of `images`, where `origins` has those of their sources that have one stated.

    The collection's own key comes before that of a header.
    """
    sources = {image.image_id: image.candidate.source for image in images}
    spaces = {image_id: key_space(source, origins) for image_id, source in sources.items()}
    stated: Patients = {i.image_id: stated_patient(i, salt, spaces[i.image_id]) for i in images}
    headers: Patients = {i.image_id: header_patient(i, salt, spaces[i.image_id]) for i in images}
    stated, shared = drop_shared_patients(images, stated, spaces)
    headers, shared_headers = drop_shared_patients(images, headers, spaces)
    headers = _drop_aliased(stated, headers, spaces)
    aliases: dict[str, str] = {}
    for image_id, header in headers.items():
        if header and (own := stated[image_id]):
            aliases[header] = min(own, aliases.get(header, own))
    patients = {i: stated[i] or (aliases.get(header, header) if header else None) for i, header in headers.items()}
    without = {sources[i] for i, patient in patients.items() if not patient}
    return ImagePatients(patients, headers, {s: n for s, n in (shared_headers | shared).items() if s in without})


def stated_patient(image: SelectedImage, salt: str, space: str) -> str | None:
    """Return the hash of the patient that the collection states, in a `key_space`."""
    return pseudonym(salt, space, image.candidate.patient)


def header_patient(image: SelectedImage, salt: str, space: str) -> str | None:
    """Return the hash of the patient in the DICOM header, in the `key_space` of the image's source or origin."""
    if space == image.candidate.source:
        return image.facts.patient_id
    return header_pseudonym(salt, space, image.facts.header_key)


def drop_shared_patients(
    images: Sequence[SelectedImage], patients: Mapping[str, str | None], spaces: Mapping[str, str]
) -> tuple[Patients, dict[str, int]]:
    """Return `patients` without identifiers of nearly all images, and source → number of images that had one.

    An identifier that `SHARED` of the images of a source, or of a `key_space`, with any have, in several classes, was
    put in by a program that removed names: taken as one patient it would hold all of them in one fold. `spaces` has the
    key space of each image_id.
    """
    together: defaultdict[str, list[SelectedImage]] = defaultdict(list)
    for image in images:
        for place in {image.candidate.source, spaces[image.image_id]}:
            together[place].append(image)
    dropped = {image.image_id for members in together.values() for image in _of_shared_patient(members, patients)}
    kept = {image_id: None if image_id in dropped else patient for image_id, patient in patients.items()}
    shared = Counter(image.candidate.source for image in images if image.image_id in dropped)
    return kept, dict(sorted(shared.items()))


def _of_shared_patient(members: Sequence[SelectedImage], patients: Mapping[str, str | None]) -> Sequence[SelectedImage]:
    """Return the images with the identifier that nearly all of `members` with any have, if there is one."""
    counts = Counter(patient for image in members if (patient := patients[image.image_id]))
    for patient, number in counts.most_common(1):
        own = [image for image in members if patients[image.image_id] == patient]
        several = len({image.candidate.label for image in own}) > 1
        if several and number >= SHARED_AT_LEAST and number >= SHARED * counts.total():
            return own
    return ()


def _drop_aliased(stated: Patients, headers: Patients, spaces: Mapping[str, str]) -> Patients:
    """Return `headers` without those that stand beside many patients of the collection, or of those of one origin.

    Images of which the collection states no patient keep theirs.
    """
    of_space: defaultdict[str, set[str]] = defaultdict(set)
    beside: defaultdict[str, set[str]] = defaultdict(set)
    for image_id, patient in stated.items():
        if patient:
            of_space[spaces[image_id]].add(patient)
            if header := headers[image_id]:
                beside[header].add(patient)

    def links(image_id: str, header: str | None) -> bool:
        many = len(beside[header]) if header else 0
        return not stated[image_id] or many <= max(ALIASES, ALIASED_SHARE * len(of_space[spaces[image_id]]))

    return {image_id: header if links(image_id, header) else None for image_id, header in headers.items()}
