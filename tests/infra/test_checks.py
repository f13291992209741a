"""The commands that check the code: `make check` and the hooks of pre-commit."""

import re
import subprocess
from pathlib import Path

import yaml

from tests.conftest import REPOSITORY
from tests.infra.dockerfile import dockerfile
from tests.infra.project import PROJECT


def make(target: str, *variables: str) -> str:
    """The commands of a target, which are not run."""
    words = ["make", "-C", str(REPOSITORY), "--dry-run", "--assume-old", "setup", target, *variables]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout


def explained() -> dict[str, set[str]]:
    """The advisories of the table in SECURITY.md, by the lock for which it explains them."""
    security = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
    table = security[security.index("## Dependencies with known advisories") :]
    by_lock: dict[str, set[str]] = {}
    for name, version, locks, advisories in re.findall(r"^\| (\S+) (\S+) \(([^)]+)\) \| (.+?) \|", table, re.MULTILINE):
        for lock in re.findall(r"`(\S+)`", locks):
            (path,) = [*REPOSITORY.glob(lock), *REPOSITORY.glob(f"infra/container/{lock}")]
            text = path.read_text(encoding="utf-8")
            assert f"\n{name}=={version} " in f"\n{text}", f"the row of {name} is out of date for {lock}"
            by_lock.setdefault(lock, set()).update(re.findall(r"(?:CVE|GHSA)-[\w-]+", advisories))
    return by_lock


def audited() -> dict[str, set[str]]:
    """The advisories that `make audit` leaves out, by lock."""
    lines = make("audit").replace("\\\n", " ")
    runs = re.findall(r"--requirement (\S+)([^|;]*)", lines)
    return {Path(lock).name: set(re.findall(r"--ignore-vuln (\S+)", rest)) for lock, rest in runs}


def test_the_audit_leaves_out_for_a_lock_what_is_explained_for_it() -> None:
    found = audited()
    assert {lock: left_out for lock, left_out in found.items() if left_out} == explained()
    assert found["requirements-jax.lock"] == set(), "its onnx and protobuf are newer"
    assert set(found) == locks()


def locks() -> set[str]:
    return {path.name for folder in (REPOSITORY, REPOSITORY / "infra" / "container") for path in folder.glob("*.lock")}


def test_every_lock_has_a_bill_of_materials() -> None:
    commands = make("sbom")
    assert "cyclonedx-py requirements" in commands
    (listed,) = re.findall(r"for lock in ([^;]+);", commands)
    assert {Path(lock).name for lock in listed.split()} == locks()
    assert "sbom/$(basename $lock .lock).cdx.json" in commands


def test_every_image_has_a_bill_of_materials() -> None:
    """The command as text: it needs Docker."""
    commands = make("sbom-images", "IMAGES=" + " ".join(dockerfile().images))
    (listed,) = re.findall(r"for image in ([^;]+);", commands)
    assert set(listed.split()) == set(dockerfile().images)
    assert f"cxr-platform/$image:{PROJECT['version']} " in commands, "the tag with which infra/README.md builds them"
    assert re.search(r" anchore/syft:v[\d.]+@sha256:[0-9a-f]{64} ", commands), "a scanner of a stated version"
    assert "--output cyclonedx-json > sbom/image-$image.tmp && " in commands
    assert "mv sbom/image-$image.tmp sbom/image-$image.cdx.json" in commands
    assert "docker.sock" not in commands
    for page in ("SECURITY.md", "infra/README.md"):
        assert "`make sbom-images`" in (REPOSITORY / page).read_text(encoding="utf-8")


def test_pre_commit_runs_the_checks_of_the_makefile() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^check: .*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None
    checks = [line.strip().replace("$(VENV)", ".venv") for line in recipe[1].splitlines()]
    config = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (repository,) = config["repos"]
    assert repository["repo"] == "local", "no hook is downloaded"
    assert [hook["entry"] for hook in repository["hooks"]] == checks
