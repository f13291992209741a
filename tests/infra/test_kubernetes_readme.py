"""The steps of infra/README.md for Kubernetes, as far as they can be checked without a cluster."""

import os
import re
import shlex
import shutil
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from cxr_platform.config import load_profile
from tests.conftest import REPOSITORY
from tests.infra.entrypoints import commands, parse
from tests.infra.project import PROJECT
from tests.infra.rendered import (
    CLUSTER_OF,
    KUBERNETES,
    clusters,
    containers,
    cores,
    gib,
    objects,
    one,
    pods,
    ray_container,
    rendered,
)
from tests.infra.tools import run, tool

README = (REPOSITORY / "infra" / "README.md").read_text(encoding="utf-8")


def test_the_example_overlay_sets_the_image_of_every_container(
    tmp_path: Path,
) -> None:
    """The README's own example, in a folder beside a copy of infra/kubernetes."""
    shutil.copytree(KUBERNETES, tmp_path / "cxr-platform" / "infra" / "kubernetes")
    (example,) = re.findall(r"```yaml\n(# kustomization.yaml\n.*?)```", README, re.DOTALL)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(example, encoding="utf-8")
    used_images = [container["image"] for pod in pods(rendered(mine)) for container in pod["spec"]["containers"]]
    assert set(used_images) == {f"WHERE/cxr-platform/{name}:{PROJECT['version']}" for name in ("cpu", "cuda")}
    assert len(used_images) == len(list(containers("overlays/gpu")))

    absolute = yaml.safe_load(example) | {"resources": [str(KUBERNETES / "overlays" / "gpu")]}
    (mine / "kustomization.yaml").write_text(yaml.safe_dump(absolute), encoding="utf-8")
    assert "cannot be absolute" in run(tool("kubectl"), "kustomize", mine).stderr


def test_the_steps_of_the_readme_are_in_order_and_fit_each_other() -> None:
    (champion,) = (parse(words) for words in commands(README) if words[2] == "pipelines.champion")
    study = parse(shlex.split(one("overlays/gpu", "RayJob")["spec"]["entrypoint"]))
    (data,) = study.data
    name = f"{data.name}-{load_profile(study.profile, {}).name}"
    assert str(champion.study) == f"{study.storage}/runs/{name}"
    serving = yaml.safe_load(one("base", "RayService")["spec"]["serveConfigV2"])["applications"][0]
    assert str(champion.registry) == serving["args"]["registry"]
    assert f"$head:{data.parent} " in README, "where the images are copied to"
    steps = ["component=common", "component=cluster", "cp -c ray-head images", "component=study", "pipelines.champion"]
    places = [README.index(step) for step in [*steps, "component=serving"]]
    assert places == sorted(places)


def test_the_variables_of_the_secret_are_read_by_the_library_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signed address has them all in it; nothing is asked."""
    cluster = (KUBERNETES / "base" / "raycluster.yaml").read_text(encoding="utf-8")
    (command,) = (line for line in README.splitlines() if "create secret generic cxr-s3 " in line)
    (beside,) = (line for line in cluster.splitlines() if "name: cxr-s3" in line)
    names = re.findall(r"AWS_\w+", command)
    assert names == re.findall(r"AWS_\w+", beside)
    assert names == ["AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"]
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in zip(names, ("http://store.example.org:9000", "mykey", "mysecret", "eu-central-9"), strict=True):
        monkeypatch.setenv(name, value)
    address = signed("s3://cxr/images")
    assert address.startswith("http://store.example.org:9000/cxr/images?")
    assert "mykey" in address
    assert "%2Feu-central-9%2Fs3%2F" in address
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_REGION", "eu-central-9")
    assert "eu-central-9" not in signed("s3://cxr/images"), "the name that other libraries know"


def signed(uri: str) -> str:
    import s3fs

    store = s3fs.S3FileSystem(skip_instance_cache=True, config_kwargs={"signature_version": "s3v4"})
    address: str = store.sign(uri)
    return address


def fits_into_the_small_machine(*kinds: str) -> bool:
    """Eight processors and 32 GiB, with clusters of these kinds at their largest, the exporter and the submitter."""
    taken = [ray_container(one("overlays/small", "Deployment")["spec"])]
    taken.append(one("overlays/small", "RayJob")["spec"]["submitterPodTemplate"]["spec"]["containers"][0])
    for kind in kinds:
        cluster = clusters("overlays/small")[kind]
        taken += [ray_container(cluster["headGroupSpec"]), cluster["autoscalerOptions"]]
        for group in cluster["workerGroupSpecs"]:
            taken += [ray_container(group)] * group["maxReplicas"]
    assert not [each for each in taken if "nvidia.com/gpu" in each["resources"]["limits"]]
    requests = [each["resources"]["requests"] for each in taken]
    processors, memory = sum(cores(each["cpu"]) for each in requests), sum(gib(each["memory"]) for each in requests)
    return processors <= 8 * 0.9 and memory <= 32 * 0.9  # Kubernetes itself needs some


def test_two_clusters_fit_on_the_machine_of_the_small_overlay_and_three_do_not() -> None:
    assert all(fits_into_the_small_machine(*pair) for pair in combinations(CLUSTER_OF, 2))
    assert not fits_into_the_small_machine(*CLUSTER_OF)
    assert "two of the three clusters" in README
    claims = [each for each in objects("overlays/small") if each["kind"] == "PersistentVolumeClaim"]
    assert all(claim["spec"]["accessModes"] == ["ReadWriteOnce"] for claim in claims)
