"""A manifest that is built on several Ray nodes, each with an address of its own, one of which is lost meanwhile."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cxr_platform.config import load_profile
from cxr_platform.manifest.build import build_manifest
from cxr_platform.manifest.store import Manifest, open_manifest
from pipelines import phantoms
from tests.cluster.hosts import GCS, Host, hosts, need_hosts
from tests.cluster.test_nodes import ENVIRONMENT, start_cluster
from tests.waiting import wait_until

pytestmark = pytest.mark.ray

BUILD = """
import platform
import sys
import threading
from pathlib import Path
from cxr_platform.config import load_profile
from cxr_platform.manifest import build, decoding
data, destination, address, lost, *sizes = sys.argv[1:]

class Stuck(decoding.DecodeTask):
    def _decode(self, row, pixels):
        if platform.node() == lost:
            Path(f"{destination}.begun").touch()
            threading.Event().wait()  # until the node is lost
        return super()._decode(row, pixels)

build.DecodeTask = Stuck
decoding.BLOCK_SIZES = tuple(map(int, sizes))
build.build_manifest(Path(data), Path(destination), load_profile("quick"), address=address)
"""


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    """A head without processors, and three nodes with one processor each, of which each test loses one."""
    need_hosts()
    with hosts(4, ENVIRONMENT) as made:
        start_cluster(made, tmp_path_factory.mktemp("logs"))
        yield made


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collections") / "images"
    assert phantoms.main(["--out", str(folder), "--per-class", "12", "--seed", "3", "--size", "224"]) == 0
    return folder


@pytest.fixture(scope="module")
def here(images: Path) -> Manifest:
    """The manifest as this machine builds it alone."""
    return build_manifest(images, images.with_name("here"), load_profile("quick"))


@pytest.mark.parametrize("sizes", [("16", "4", "1"), ("1",)])
def test_a_node_that_is_lost_while_images_are_decoded_changes_nothing(
    sizes: tuple[str, ...], machines: list[Host], images: Path, here: Manifest, tmp_path: Path
) -> None:
    """With blocks of one image, those of the lost node are in the last round, after which files count as damaged."""
    head, lost = machines[0], machines.pop()
    words = (str(images), str(tmp_path / "manifest"), f"{head.address}:{GCS}", lost.name, *sizes)
    build = head.popen(sys.executable, "-c", BUILD, *words, log=tmp_path / "log")
    wait_until(lambda: (tmp_path / "manifest.begun").exists() or build.poll() is not None, seconds=600)
    assert build.poll() is None, (tmp_path / "log").read_text()[-3000:]
    lost.kill_all()
    assert build.wait(600) == 0, (tmp_path / "log").read_text()[-3000:]

    manifest = open_manifest(tmp_path / "manifest")
    assert manifest.info.excluded == here.info.excluded
    assert manifest.content_hash == here.content_hash
    assert np.array_equal(manifest.pixels(), here.pixels())
