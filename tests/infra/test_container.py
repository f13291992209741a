"""infra/container: hadolint, and consistency with the repository."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import REPOSITORY
from tests.infra.dockerfile import PATH, Stage, dockerfile, parse
from tests.infra.project import PROJECT
from tests.infra.tools import run, tool

GPU_LOCK = PATH.with_name("requirements-gpu.lock")
JAX_LOCK = "requirements-jax.lock"
UV_LOCK = "requirements-uv.lock"
CLUSTER = REPOSITORY / "infra" / "ray" / "cluster.yaml"
PIN = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)


def commands(keyword: str = "RUN") -> list[str]:
    return [rest for stage in dockerfile().stages for rest in stage.of(keyword)]


def test_hadolint_reports_nothing() -> None:
    done = run(tool("hadolint"), "--failure-threshold", "style", PATH)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_hadolint_reports_a_bad_dockerfile() -> None:
    done = run(tool("hadolint"), "-", given="FROM debian\nRUN cd /tmp && apt-get install wget\nADD a /b\n")
    assert {"DL3006", "DL3008", "DL3020"} <= set(re.findall(r"DL\d+", done.stdout))


def test_the_images_are_cuda_jax_and_by_default_cpu() -> None:
    assert set(dockerfile().images) == {"cpu", "cuda", "jax"}
    assert dockerfile().stages[-1].name == "cpu"


@pytest.mark.parametrize("image", dockerfile().images.values(), ids=lambda stage: stage.name)
def test_an_image_runs_as_an_ordinary_user_and_has_no_build_tools(image: Stage) -> None:
    assert image.of("USER") == ["1000:1000"]
    assert "useradd --uid 1000 --gid 1000" in " ".join(dockerfile().base.of("RUN"))
    assert image.parent == dockerfile().base.name
    assert image.of("COPY") == [f"--from=package-{image.name} /opt/cxr /opt/cxr"]
    assert image.of("RUN") == []


def test_packages_are_locked_by_hash_and_compiled() -> None:
    installs = [each.split(" && ")[0] for each in commands() if "uv pip install" in each]
    assert len(installs) == 7
    for each in installs:
        assert "--compile-bytecode" in each
        assert ("--require-hashes" in each) != each.endswith("--no-deps --no-build-isolation --compile-bytecode .")
    assert "PYTHONDONTWRITEBYTECODE" not in PATH.read_text(encoding="utf-8")


def test_versions_of_tools_and_python_agree_with_makefile_and_package() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert "--require-hashes -r $(UV_LOCK)" in makefile
    assert f"UV_LOCK = {UV_LOCK}\n" in makefile
    assert f"--require-hashes -r {UV_LOCK} " in " ".join(commands())
    assert set(pins(UV_LOCK)) == {"uv"}
    assert PROJECT["requires-python"] == ">=3.10,<3.14"
    assert dockerfile().arguments == {"PYTHON": "3.11"}
    assert dockerfile().base.parent == "python-${PYTHON}"
    assert [stage.name for stage in dockerfile().stages[:2]] == ["python-3.11", "python-3.12"]
    assert "/python3.11/" in dockerfile().images["cuda"].of("ARG")[0]
    for name in dockerfile().images:
        assert f"--target {name}" in PATH.read_text(encoding="utf-8")
        assert f"-t cxr-platform/{name}:{PROJECT['version']} " in PATH.read_text(encoding="utf-8")


def test_every_image_from_outside_is_named_by_tag_and_digest() -> None:
    assert len(dockerfile().outside) == 2
    for name in dockerfile().outside:
        assert re.fullmatch(r"python:3\.1[12]\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", name), name
    for stage in dockerfile().stages[:2]:
        assert stage.parent.startswith(f"{stage.name.replace('-', ':')}."), "a stage has the Python of its name"
    unpinned = parse("FROM debian:12 AS a\nFROM a\nCOPY --from=ghcr.io/astral-sh/uv:0.9 /uv /bin/\n")
    assert unpinned.outside == ["debian:12", "ghcr.io/astral-sh/uv:0.9"]


def test_only_files_that_are_copied_reach_the_build() -> None:
    lines = PATH.with_name("Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*", "what is not named stays out: images, studies, a registry"
    admitted = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {word for rest in commands("COPY") if "--from" not in rest for word in rest.split()[:-1]}
    assert copied == admitted
    assert all((REPOSITORY / name).exists() for name in copied)
    assert any(fnmatch("cxr_platform/__pycache__", rule.replace("**", "*")) for rule in rules[1:])


def test_the_health_check_asks_the_address_of_its_variable() -> None:
    check = dockerfile().base.of("HEALTHCHECK")[0]
    assert "wget" in check
    assert '"$HEALTH_URL' in check.replace("\\", "")
    assert dockerfile().environment["RAY_AUTH_MODE"] == "token"


def pins(name: str) -> dict[str, set[str]]:
    """Versions by package; a lock for several Pythons may have more than one of a package."""
    versions: dict[str, set[str]] = {}
    for package, version in PIN.findall((REPOSITORY / name).read_text(encoding="utf-8")):
        versions.setdefault(package, set()).add(version)
    return versions


def installed(name: str, python: str) -> dict[str, str]:
    """Version by package of what a lock installs on Linux under a Python, its markers evaluated."""
    here = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    here |= {"platform_machine": "x86_64", "platform_system": "Linux", "implementation_name": "cpython"}
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    lines = [Requirement(line.removesuffix("\\")) for line in text.splitlines() if PIN.match(line)]
    locked = [each for each in lines if each.marker is None or each.marker.evaluate(here)]
    assert len({each.name for each in locked}) == len(locked), "one version of a package"
    return {each.name: str(each.specifier).removeprefix("==") for each in locked}


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
def test_the_cuda_lock_agrees_with_make_setup_on_every_python(python: str) -> None:
    """infra/ray/cluster.yaml installs the second lock over the first, under the Python of each machine."""
    assert f"Python {PROJECT['requires-python'][2:6]} to 3.12" in CLUSTER.read_text(encoding="utf-8")
    gpu, cpu = installed(str(GPU_LOCK), python), installed("requirements.lock", python)
    assert gpu["tensorflow"] == "2.16.2"
    assert {"nvidia-cudnn-cu12", "keras", "numpy"} <= set(gpu)
    assert {name.partition("-")[0] for name in set(gpu) - set(cpu)} == {"nvidia"}
    assert {name: (gpu[name], cpu[name]) for name in gpu.keys() & cpu.keys() if gpu[name] != cpu[name]} == {}


def test_the_cuda_lock_adds_only_packages_of_nvidia() -> None:
    gpu, cpu = pins(str(GPU_LOCK)), pins("requirements.lock")
    assert PROJECT["optional-dependencies"]["gpu"] == ["tensorflow[and-cuda]==2.16.2"]
    assert gpu["tensorflow"] == {"2.16.2"}
    added = set(gpu) - set(cpu)
    assert {name.partition("-")[0] for name in added} == {"nvidia"}
    assert {name for name in gpu.keys() & cpu.keys() if not gpu[name] <= cpu[name]} == set(), "run `make lock`"


@pytest.mark.parametrize(
    "lock", [*sorted(PATH.parent.glob("*.lock")), REPOSITORY / JAX_LOCK], ids=lambda lock: lock.stem
)
def test_a_lock_has_hashes_and_no_address(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    blocks = [each for each in re.split(r"^(?=\S)", text, flags=re.MULTILINE) if each]
    assert len(blocks) == sum(len(versions) for versions in pins(str(lock)).values())
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in text
    assert "index" not in text


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("cuda", ["12", "13"])
def test_a_cuda_lock_of_jax_adds_the_libraries_of_its_version_to_the_stack(cuda: str, python: str) -> None:
    added, stack = installed(f"infra/container/requirements-jax-cuda{cuda}.lock", python), installed(JAX_LOCK, python)
    assert {
        name: (added[name], stack[name]) for name in added.keys() & stack.keys() if added[name] != stack[name]
    } == {}
    assert {f"jax-cuda{cuda}-plugin", f"nvidia-cudnn-cu{cuda}"} <= set(added)
    assert {name.partition("-")[0] for name in set(added) - set(stack)} == {"jax", "nvidia"}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_jax_stack_has_current_libraries_and_nothing_of_tensorflow(python: str) -> None:
    stack = installed(JAX_LOCK, python)
    assert not [name for name in stack if name.startswith(("tensorflow", "tf2onnx"))]
    assert stack["numpy"].startswith("2.")
    assert int(stack["protobuf"].partition(".")[0]) >= 5
    assert {"jax", "keras", "ray", "pydicom", "setuptools", "pytest"} <= set(stack)


def test_a_package_of_both_stacks_has_the_same_name_in_both_locks() -> None:
    """The base dependencies, which the extras only narrow."""
    base = {Requirement(each).name for each in PROJECT["dependencies"]} - {"tomli"}
    assert base <= set(pins(JAX_LOCK))
    assert base <= set(pins("requirements.lock"))


def test_every_cuda_library_is_on_the_library_path() -> None:
    folders = set(re.findall(r"\$\{NVIDIA\}/(\w+)/lib", dockerfile().images["cuda"].of("ENV")[0]))
    libraries = {name.removeprefix("nvidia-").removesuffix("-cu12") for name in pins(str(GPU_LOCK)) if "nvidia" in name}
    assert folders == {name.replace("-", "_") for name in libraries - {"cuda-nvcc"}}, "nvcc is programs, on the PATH"
