"""The verb on a small study of drawn images: trained, exported, described, added, and the first one promoted."""

import json
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from cxr_platform.config import Profile
from cxr_platform.registry.promotion import promote
from cxr_platform.registry.store import Registry
from cxr_platform.storage.mirror import local_copy
from cxr_platform.storage.paths import parse_path
from cxr_platform.training import champion as training
from pipelines import champion
from tests.registry.builders import filler


def run(work: Path, *more: str) -> int:
    named = ["--study", str(work / "runs" / "t"), "--manifest", str(work / "manifest")]
    return champion.main([*named, "--registry", str(work / "registry"), *more])


def versions(registry: Path) -> dict[str, object]:
    tree: dict[str, object] = json.loads((registry / "registry.json").read_text())
    return {"versions": list(tree["versions"]), "champion": tree["champion"]}  # type: ignore[call-overload]


@pytest.mark.ray
def test_a_network_that_learned_nothing_is_not_promoted(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(work) == 0
    output = capsys.readouterr().out
    assert output.startswith(
        "# Model card: v1, Training from scratch\n\n**Not shown to be better than always naming the most frequent class"
    )
    assert "**For research, not for diagnosis.**" in output
    assert "**SYNTHETIC IMAGES**" in output
    assert "The study has no other strategy than this one" in output
    assert "| 7-class accuracy (%) |" in output
    assert "v1 is not the champion. Expected v1 to be better than always naming the most frequent class" in output
    assert f"cxr registry promote v1 --force --registry {work / 'registry'}" in output
    assert versions(work / "registry") == {"versions": ["v1"], "champion": None}
    session = onnxruntime.InferenceSession(str(work / "registry" / "v1" / "model.onnx"))
    assert [tensor.name for tensor in session.get_inputs()] == ["images"]


@pytest.mark.ray
def test_the_next_version_is_not_promoted_and_a_registry_in_an_object_store_not_locked_during_training(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, train, held = parse_path("memory://champion/registry"), training.train_champion, []
    with local_copy(registry) as copy:
        Registry(copy).add(filler())
        promote(Registry(copy), "v1", force=True, lead_seconds=0)
        (copy / ".lock").unlink()

    def recording(study: Path, strategy: str, profile: Profile, *arguments: Any, **more: Any) -> Any:
        assert profile.training.precision == "float32", "that of the trials, not auto"
        held.append((registry / ".lock").exists())
        return train(study, strategy, profile, *arguments, **more)

    monkeypatch.setattr(training, "train_champion", recording)
    assert run(work, "--registry", "memory://champion/registry", "--sensitivity", "0.8") == 0
    assert held == [False]
    assert "cxr registry promote v2 --registry memory://champion/registry" in capsys.readouterr().out
    assert versions(registry) == {"versions": ["v1", "v2"], "champion": "v1"}
    bundle = json.loads((registry / "v2" / "bundle.json").read_text())
    assert bundle["operating_point"]["target_sensitivity"] == 0.8


@pytest.mark.parametrize(("accuracy", "champion_after"), [(80.0, "v1"), (25.0, None)])
def test_the_first_version_is_promoted_if_it_is_better_than_the_most_frequent_class(
    tmp_path: Path, accuracy: float, champion_after: str | None
) -> None:
    registry = Registry(tmp_path)
    registry.add(filler(accuracy=accuracy))
    message = champion._promote_first(registry, tmp_path, "v1")
    assert ("v1 is the champion: the registry had none." in message) == bool(champion_after)
    assert registry.champion() == champion_after


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--strategy", "fine-tuning-1"), "Expected a strategy of study 't': scratch. Received: 'fine-tuning-1'"),
        (("--study", "nowhere"), "Expected the record of a study"),
        (("--manifest", "nowhere"), "Expected a manifest in"),
    ],
)
def test_a_missing_strategy_study_or_manifest_is_exit_code_2(
    work: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], message: str
) -> None:
    assert run(work, *more) == 2
    output = capsys.readouterr().err
    assert message in output
    assert "Traceback" not in output
    assert not (work / "runs" / "t" / "champion" / "fine-tuning-1").exists()


@pytest.mark.parametrize("sensitivity", ["0", "95", "much"])
def test_a_sensitivity_that_is_not_a_fraction_is_a_usage_error(work: Path, sensitivity: str) -> None:
    with pytest.raises(SystemExit):
        run(work, "--sensitivity", sensitivity)
