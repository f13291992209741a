"""Options that several verbs share, and the records of their values."""

import argparse
import dataclasses
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from cxr_platform.errors import ConfigError
from cxr_platform.monitoring import names
from pipelines import benchmark
from pipelines.benchmark import BENCHMARKS
from pipelines.options import (
    MetricsOptions,
    ProfileOptions,
    StudyRequest,
    add_metrics_options,
    add_profile_options,
    add_storage_option,
    add_study_options,
    build_request,
    parse_request,
    positive,
    strategy_list,
)


@dataclass(frozen=True)
class Request:
    """Two groups of shared options."""

    profile: ProfileOptions
    metrics: MetricsOptions


def parsed(*words: str) -> Request:
    parser = argparse.ArgumentParser(prog="verb")
    add_profile_options(parser)
    add_metrics_options(parser)
    return parse_request(Request, parser, words)


def test_the_default_is_the_quick_profile_as_it_is() -> None:
    assert parsed().profile == ProfileOptions("quick", None, None, None, None)
    assert parsed().profile.load().name == "quick"


def test_only_given_settings_replace_those_of_the_profile() -> None:
    default, changed = parsed().profile.load(), parsed("--folds", "4").profile.load()
    assert changed == dataclasses.replace(default, folds=4)


def test_a_zero_replaces_the_setting_of_the_profile() -> None:
    assert parsed("--seed", "0").profile.load().seed == 0


def test_every_setting_reaches_its_place_in_the_profile() -> None:
    profile = parsed(
        "--folds", "4", "--seed", "7", "--input-size", "64", "--limit", "50", "--classes", "any"
    ).profile.load()
    assert (profile.folds, profile.seed) == (4, 7)
    assert (profile.model.input_size, profile.intake.selection.limit) == (64, 50)
    assert profile.intake.selection.classes == "any"


def test_text_instead_of_a_number_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed("--folds", "ten")
    assert caught.value.code == 2
    assert "--folds: invalid int value: 'ten'" in capsys.readouterr().err


def test_an_unknown_scheme_of_a_uri_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_storage_option(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--storage", "nonsense://x"])
    assert "gcsfs" in capsys.readouterr().err


def test_an_unknown_strategy_is_a_usage_error_with_the_names() -> None:
    assert strategy_list("scratch,off-the-shelf") == ("off-the-shelf", "scratch")
    with pytest.raises(argparse.ArgumentTypeError, match=r"Expected a strategy out of off-the-shelf.*'nosuch'"):
        strategy_list("nosuch")


@pytest.mark.parametrize("verb", ["step", "study", "overhead", "growth"])
def test_a_benchmark_refuses_an_unknown_strategy(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        benchmark.main([verb, "--strategies", "nosuch"])
    assert caught.value.code == 2
    assert "--strategies: Expected a strategy out of" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", ""])
def test_a_number_that_is_not_positive_and_whole_is_a_usage_error(text: str) -> None:
    assert positive("9") == 9
    with pytest.raises(argparse.ArgumentTypeError, match=f"expected a whole number of at least 1, not '{text}'"):
        positive(text)


def test_a_study_is_named_with_its_manifest_and_weights() -> None:
    parser = argparse.ArgumentParser()
    add_study_options(parser)
    request = parse_request(
        StudyRequest, parser, ["--study", "runs/a", "--manifest", "m", "--imagenet-weights", "w.h5"]
    )
    assert request == StudyRequest(Path("runs/a"), Path("m"), Path("w.h5"))


def test_a_field_without_an_option_keeps_its_default() -> None:
    assert build_request(StudyRequest, {"study": Path("a")}) == StudyRequest(Path("a"), None, None)


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser, or its sub-commands."""
    subcommands = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in subcommands:
        yield from action.choices.values()
    if not subcommands:
        yield parser


def fields(kind: type[Any]) -> set[str]:
    """Names of the fields of a request, with those of its groups of options."""
    types = get_type_hints(kind)
    nested = {name for name, field in types.items() if dataclasses.is_dataclass(field)}
    return (set(types) - nested).union(*(fields(types[name]) for name in nested))


REQUESTS = {
    "phantoms": "PhantomsRequest",
    "manifest": "ManifestRequest",
    "cross-validate": "CrossValidateRequest",
    "study": "StatusRequest",
    "simulate": "SimulateRequest",
    "report": "ReportRequest",
    "evaluate": "EvaluateRequest",
    "explain": "ExplainRequest",
    "lungs": "LungsRequest",
    "submit": "SubmitRequest",
    "track": "TrackRequest",
    "champion": "ChampionRequest",
    "serve": "ServeRequest",
    "screen": "ScreenRequest",
    "registry": "RegistryRequest",
    "exporter": "ExporterRequest",
}


@pytest.mark.parametrize(("verb", "request_name"), REQUESTS.items())
def test_every_option_of_a_verb_is_a_field_of_its_request(verb: str, request_name: str) -> None:
    module = importlib.import_module(f"pipelines.{verb.replace('-', '_')}")
    for parser in parsers(module.parser()):
        options = {action.dest for action in parser._actions} - {"help"}
        assert options <= fields(getattr(module, request_name))
        assert all(action.help for action in parser._actions)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_option_of_a_benchmark_is_a_field_of_its_request(name: str) -> None:
    parser = argparse.ArgumentParser()
    BENCHMARKS[name].add_options(parser)
    assert {action.dest for action in parser._actions} - {"help"} == fields(BENCHMARKS[name].request)
    assert all(action.help for action in parser._actions)


def test_without_a_destination_no_metrics_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXR_METRICS_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    with parsed().metrics.job("study", "a"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_metrics_are_written_to_the_folder_of_the_option(tmp_path: Path) -> None:
    with parsed("--metrics-dir", str(tmp_path)).metrics.job("study", "a") as job:
        job.set(names.STUDY_TRIALS, 3, state="finished")
    written = (tmp_path / "cxr_study_a.prom").read_text()
    assert 'cxr_study_trials{state="finished",study="a"} 3.0' in written
    assert 'cxr_job_success{study="a",verb="study"} 1.0' in written


def test_a_push_gateway_that_is_no_url_is_an_error_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="push gateway"):
        parsed("--push-gateway", "here").metrics.job("study", "a")
