"""The patient of each image: the key of its collection, the identifier of its DICOM header, and which are one person.

A collection's table or folders and a header may each have an identifier. An image that has both links them: images with
either are of one patient. Identifiers that stand for several people link nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cxr_platform.manifest.patient_ids import pseudonym
from cxr_platform.manifest.records import SelectedImage

Patients = dict[str, str | None]
"""image_id → patient (salted hash)."""

SHARED, SHARED_AT_LEAST = 0.8, 5
"""Share and least number, of the images of a source that have an identifier, from which on one is no patient."""
ALIASES, ALIASED_SHARE = 3, 0.1
"""A header's identifier that stands beside more than this number, and this share, of a source's patients is no patient.

Patients of a collection may have a key for each examination; an export has one identifier for all that it holds.
"""


@dataclass(frozen=True)
class ImagePatients:
    """`patients` has the collection's key of each image, else the header's identifier, else `None`.

    A person may have several keys, one for each examination: two images are of one patient if they have the same one
    in `patients`, or in `headers`, the identifiers of DICOM headers. `shared`: source → images with an identifier that
    nearly every image with one has, and which is no patient.
    """

    patients: Patients
    headers: Patients
    shared: dict[str, int]


def image_patients(images: Sequence[SelectedImage], salt: str) -> ImagePatients:
    """Return the patients of `images`. The collection's own key comes before that of a header."""
    stated: Patients = {i.image_id: pseudonym(salt, i.candidate.source, i.candidate.patient) for i in images}
    headers: Patients = {i.image_id: i.facts.patient_id for i in images}
    stated, shared = drop_shared_patients(images, stated)
    headers, shared_headers = drop_shared_patients(images, headers)
    sources = {image.image_id: image.candidate.source for image in images}
    headers = _drop_aliased(stated, headers, sources)
    aliases: dict[str, str] = {}
    for image_id, header in headers.items():
        if header and (own := stated[image_id]):
            aliases[header] = min(own, aliases.get(header, own))
    patients = {i: stated[i] or (aliases.get(header, header) if header else None) for i, header in headers.items()}
    without = {sources[i] for i, patient in patients.items() if not patient}
    return ImagePatients(patients, headers, {s: n for s, n in (shared_headers | shared).items() if s in without})


def drop_shared_patients(
    images: Sequence[SelectedImage], patients: Mapping[str, str | None]
) -> tuple[Patients, dict[str, int]]:
    """Return `patients` without identifiers of nearly all images, and source → number of images that had one.

    An identifier that `SHARED` of the images of a source with any have, in several classes, was put in by a program
    that removed names: taken as one patient it would hold the whole source in one fold.
    """
    by_source: defaultdict[str, list[SelectedImage]] = defaultdict(list)
    for image in images:
        by_source[image.candidate.source].append(image)
    kept, shared = dict(patients), {}
    for source, members in sorted(by_source.items()):
        counts = Counter(patient for image in members if (patient := patients[image.image_id]))
        for patient, number in counts.most_common(1):
            own = [image for image in members if patients[image.image_id] == patient]
            several = len({image.candidate.label for image in own}) > 1
            if several and number >= SHARED_AT_LEAST and number >= SHARED * counts.total():
                shared[source] = number
                kept.update((image.image_id, None) for image in own)
    return kept, shared


def _drop_aliased(stated: Patients, headers: Patients, sources: Mapping[str, str]) -> Patients:
    """Return `headers` without those that stand beside many patients of the collection.

    Images of which the collection states no patient keep theirs.
    """
    of_source: defaultdict[str, set[str]] = defaultdict(set)
    beside: defaultdict[str, set[str]] = defaultdict(set)
    for image_id, patient in stated.items():
        if patient:
            of_source[sources[image_id]].add(patient)
            if header := headers[image_id]:
                beside[header].add(patient)

    def links(image_id: str, header: str | None) -> bool:
        many = len(beside[header]) if header else 0
        return not stated[image_id] or many <= max(ALIASES, ALIASED_SHARE * len(of_source[sources[image_id]]))

    return {image_id: header if links(image_id, header) else None for image_id, header in headers.items()}
