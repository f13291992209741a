"""The table of packages: imports run only downwards, and heavy libraries wait until they are used."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

GROUND = {"labels", "errors", "config", "validation", "progress", "domain", "ray_internals"}
MAY_IMPORT: dict[str, set[str]] = {
    # package → the packages below it that it may import, besides itself and the ground
    "cluster": set(),
    "storage": set(),
    "intake": {"storage"},
    "manifest": {"intake", "cluster", "storage"},
    "models": {"storage"},
    "training": {"manifest", "models", "cluster", "intake", "storage"},
    "evaluation": {"manifest", "storage"},
    "explain": {"models"},
    "evidence": {"manifest", "models", "training", "evaluation", "explain", "intake", "storage"},
    "tracking": {"evaluation", "registry", "storage"},
    "registry": {"storage"},
    "monitoring": {"registry", "storage"},
    "champion": {
        *("manifest", "models", "training", "evaluation", "explain", "intake", "registry", "monitoring", "storage"),
    },
    "serving": {"registry", "intake", "explain", "models", "monitoring", "storage"},
}
GROUND_MAY_IMPORT: dict[str, set[str]] = {
    "labels": set(),
    "errors": set(),
    "config": {"errors", "validation"},
    "validation": {"errors"},
    "progress": set(),
    "ray_internals": set(),
    "domain": {"errors", "labels", "config", "validation", "domain"},
}

CORE = [
    "domain/strategies.py",
    "domain/gate.py",
    "models/*.py",
    *(f"training/{name}.py" for name in ("trial", "step", "inputs", "step_tensorflow", "step_jax")),
]
CORE_MAY_IMPORT = {"keras", "numpy"}
CORE_BACKENDS = {"step_tensorflow.py": "tensorflow", "step_jax.py": "jax"}
CORE_OF_OURS = (
    "cxr_platform.labels",
    "cxr_platform.errors",
    "cxr_platform.config",
    "cxr_platform.domain.strategies",
    "cxr_platform.domain.gate",
    "cxr_platform.validation",
    "cxr_platform.models.",
    "cxr_platform.training.inputs",
    "cxr_platform.training.step",
)
HEAVY = ("tensorflow", "keras", "jax", "ray", "great_expectations", "matplotlib", "pandas", "sklearn")

TOP_LEVEL = {
    "cxr_platform", "pipelines", "infra", "tests", "docs", "pyproject.toml", "mkdocs.yml", "Makefile", "README.md",
    ".ci", ".gitignore", ".pre-commit-config.yaml", "LICENSE", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md",
    "SECURITY.md", "requirements.lock", "requirements-jax.lock",
    "requirements-uv.lock",
}  # fmt: skip


def modules(folder: str) -> list[Path]:
    return sorted((REPOSITORY / folder).rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of everything imported anywhere below `tree`; a relative import is told as `.name`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imports_at_module_level(source: str) -> Iterator[str]:
    """As `imports`, of what runs when the module is imported."""
    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imports(node)
        children = ast.iter_child_nodes(node)
        pending += [c for c in children if not isinstance(c, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)]


def package_of(module: Path) -> str:
    return module.relative_to(REPOSITORY / "cxr_platform").parts[0].removesuffix(".py")


def upward(package: str, source: str) -> list[str]:
    """What `source`, a module of `package`, imports of ours and may not."""
    allowed = GROUND_MAY_IMPORT[package] if package in GROUND else MAY_IMPORT[package] | GROUND | {package}
    may = tuple(f"cxr_platform.{name}." for name in allowed)
    ours = [name for name in imports(ast.parse(source)) if name.startswith((".", "cxr_platform", "pipelines"))]
    return [name for name in ours if not f"{name}.".startswith(may)]


def beyond_core(name: str, source: str) -> list[str]:
    """What `source`, a module of the training core called `name`, imports at module level and may not."""
    allowed = CORE_MAY_IMPORT | set(sys.stdlib_module_names) | {CORE_BACKENDS.get(name, "keras")}
    found = imports_at_module_level(source)
    return [i for i in found if i.split(".")[0] not in allowed and not f"{i}.".startswith(CORE_OF_OURS)]


@pytest.mark.parametrize("module", modules("cxr_platform"), ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_imports_run_only_downwards(module: Path) -> None:
    package = package_of(module)
    if package == "__init__":
        assert set(imports(ast.parse(module.read_text(encoding="utf-8")))) == {"os", "importlib.util.find_spec"}
        return
    assert package in MAY_IMPORT or package in GROUND, f"{package} has no line in the table of packages"
    assert upward(package, module.read_text(encoding="utf-8")) == []


def test_an_import_upwards_would_be_seen() -> None:
    assert upward("intake", "def f():\n    from cxr_platform.manifest.store import open_manifest")
    assert upward("models", "import cxr_platform.training.trial")
    assert upward("models", "from cxr_platform import training")
    assert upward("evaluation", "from pipelines.report import main")
    assert upward("training", "from .trial import run_trial")
    assert upward("labels", "from cxr_platform.config import Profile")
    assert not upward("training", "from cxr_platform.models.frozen import pad")


def test_only_a_verb_imports_verbs() -> None:
    for module in modules("pipelines"):
        names = imports(ast.parse(module.read_text(encoding="utf-8")))
        assert [name for name in names if name.startswith((".", "tests"))] == [], module


@pytest.mark.parametrize(
    "module",
    [path for pattern in CORE for path in sorted((REPOSITORY / "cxr_platform").glob(pattern))],
    ids=lambda p: str(p.relative_to(REPOSITORY / "cxr_platform")),
)
def test_the_training_core_imports_keras_and_numpy_only(module: Path) -> None:
    assert beyond_core(module.name, module.read_text(encoding="utf-8")) == []


def test_the_training_core_is_all_there() -> None:
    found = [path.name for pattern in CORE for path in (REPOSITORY / "cxr_platform").glob(pattern)]
    assert {"augment.py", "frozen.py", "mobilenet.py", "trial.py", "step_jax.py"} <= set(found)
    assert len(found) >= 12


def test_another_library_in_the_training_core_would_be_seen() -> None:
    assert beyond_core("trial.py", "import ray")
    assert beyond_core("trial.py", "if True:\n    import tensorflow as tf")
    assert beyond_core("step_jax.py", "import tensorflow as tf")
    assert beyond_core("step.py", "from cxr_platform.training.folder import StudyFolder")
    assert not beyond_core("step_jax.py", "import jax.numpy as jnp")
    assert not beyond_core("weights.py", "def load():\n    import h5py")


def test_importing_the_ground_brings_in_no_heavy_library() -> None:
    code = "\n".join(
        [
            "import sys, pipelines.command",
            "import cxr_platform, cxr_platform.config, cxr_platform.labels, cxr_platform.errors",
            "cxr_platform.config.load_profile('quick')",
            f"print([name for name in {HEAVY!r} if name in sys.modules])",
        ]
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_top_level_of_the_repository_holds_nothing_else() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is not a git checkout")
    assert {path.split("/")[0] for path in listed.stdout.splitlines()} - TOP_LEVEL == set()
