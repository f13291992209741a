"""Kermany's chest_xray: `{train,test,val}/{NORMAL,PNEUMONIA}/*.jpeg`, images of children, without a table.

The published archive holds a second copy of everything in `chest_xray/`, and `__MACOSX/`: both are left out.

No patients are published; they are inferred from the file names:

- `person23_bacteria_78.jpeg`: person 23, in whatever folder and with whatever germ. Bacterial and viral images are
  numbered separately, so person 23 of one series and person 23 of the other (often one in `train` and one in `test`)
  are probably two children. They count as one patient all the same: a group that is too large does no harm, as both
  are Pneumonia, while a child on both sides of a fold would bias the results upwards.
- `IM-0115-0001.jpeg` and `NORMAL2-IM-0115-0001.jpeg`: the number of the examination, in two series. The same number in
  both counts as two children; such pairs of images are no more alike than random pairs.
- `BACTERIA-1008087-0001.jpeg` (third version of the publication): the publisher's own patient number.
"""

import re
from pathlib import PurePosixPath

from cxr_platform.config import SelectionConfig
from cxr_platform.intake.candidate import Candidate
from cxr_platform.intake.layouts.collection import Collection, Layout, Reading, as_text

_SPLITS = {"train", "test", "val"}
_CLASSES = {"NORMAL": "Normal", "PNEUMONIA": "Pneumonia"}
_NAME = re.compile(
    r"(?P<person>person\d+)_(?P<germ>bacteria|virus)_.*"
    r"|(?P<exam>(?:NORMAL\d+-)?IM-\d+)-.*"
    r"|(?P<disease>BACTERIA|VIRUS|NORMAL)-(?P<number>\d+)-.*"
)


def _recognises(collection: Collection) -> bool:
    """Other collections have the same folders and a third class, or other spellings."""
    inner = [folder.split("/") for folder in collection.folders if folder.count("/") == 1]
    names = {name for split, name in inner if split in _SPLITS}
    return bool(names) and names <= _CLASSES.keys()


def _read(collection: Collection, selection: SelectionConfig) -> Reading:
    del selection  # every image is frontal and has one finding
    return Reading([_candidate(collection, file) for file in collection.files])


def _candidate(collection: Collection, file: str) -> Candidate:
    path = PurePosixPath(file)
    split, folder = path.parts[:-1] if len(path.parts) == 3 else ("", "")
    if split not in _SPLITS:
        return collection.refused(file, "unknown-folder", "outside train/test/val")
    if folder not in _CLASSES:
        return collection.refused(file, "unknown-folder", f"folder {as_text(folder)} is none of {', '.join(_CLASSES)}")
    match = _NAME.fullmatch(path.name)
    parts = match.groupdict() if match else {}
    germ = parts.get("germ") or parts.get("disease") or ""
    return collection.candidate(
        file,
        label=_CLASSES[folder],
        finding=" ".join([folder, germ.lower()]).strip() if folder == "PNEUMONIA" else folder,
        patient=parts.get("person") or parts.get("exam") or parts.get("number"),
        view="AP",
    )


LAYOUT = Layout("kermany", "{train,test,val}/{NORMAL,PNEUMONIA}/ (Kermany's chest_xray)", _recognises, _read)
