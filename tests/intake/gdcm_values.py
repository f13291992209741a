"""Stored values as GDCM decodes them, in a process of its own: damaged streams can end the process of GDCM."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.pixels import convert_color_space


def values_of_gdcm(files: Sequence[Path], folder: Path) -> dict[Path, np.ndarray]:
    """Return the values, (rows, columns) or (rows, columns, 3), of the files that GDCM decodes to one whole image.

    `folder` is for temporary files. Where GDCM ends its process the next file is decoded in a new one.
    """
    begun = 0
    while begun < len(files):
        parts = [str(folder), str(begun), *map(str, files[begun:])]
        subprocess.run([sys.executable, "-X", "faulthandler=0", __file__, *parts], capture_output=True, check=False)
        last = max((int(file.stem) for file in folder.glob("*.begun")), default=begun - 1)
        begun = max(last, begun) + 1
    stored = {file: folder / f"{number}.npy" for number, file in enumerate(files)}
    return {file: np.load(array) for file, array in stored.items() if array.exists()}


def _decode(file: Path) -> np.ndarray | None:
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(file))
    if not reader.Read():
        return None
    image = reader.GetImage()
    form = image.GetPixelFormat()
    if form.GetBitsAllocated() not in (8, 16, 32) or image.GetNumberOfDimensions() != 2:
        return None
    if image.GetPlanarConfiguration():
        planes = gdcm.ImageChangePlanarConfiguration()
        planes.SetInput(image)
        planes.SetPlanarConfiguration(0)
        planes.Change()
        image = planes.GetOutput()
    kind = np.dtype(f"{'i' if form.GetPixelRepresentation() else 'u'}{form.GetBitsAllocated() // 8}")
    buffer = np.frombuffer(image.GetBuffer().encode("utf-8", "surrogateescape"), kind)
    samples = form.GetSamplesPerPixel()
    shape = (image.GetDimension(1), image.GetDimension(0), *([samples] if samples > 1 else []))
    if buffer.size != np.prod(shape):
        return None
    values = buffer.reshape(shape)
    if image.GetPhotometricInterpretation().GetString().startswith("YBR_FULL"):
        values = convert_color_space(values, "YBR_FULL", "RGB")
    return values


def _main(folder: Path, first: int, files: Sequence[str]) -> None:
    for number, file in enumerate(files, first):
        (folder / f"{number}.begun").touch()
        values = _decode(Path(file))
        if values is not None:
            np.save(folder / f"{number}.npy", values)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
