"""MkDocs hooks that write the reference pages from the code: verbs from parsers, settings, records, HTTP API, metrics.

A page under reference/ is therefore never out of date; `make docs` fails when something cannot be described.
"""

import argparse
import dataclasses
import importlib
import json
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel, TypeAdapter

from cxr_platform import config as settings
from cxr_platform import errors


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those of docs/."""
    pages = {
        "command-line": command_line(),
        "profile": profile(),
        "files": files_page(),
        "http": http_api(),
        "metrics": metrics(),
        "exit-codes": exit_codes(),
    }
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def table(heading: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table; cells are escaped."""
    heading = list(heading)
    lines = [heading, ["---"] * len(heading), *[[_cell(value) for value in row] for row in rows]]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


def command_line() -> str:
    """Return the page of all verbs and options, from the parsers themselves."""
    from pipelines.cli import VERBS

    parts = [
        "# Command line\n",
        "`cxr VERB` is `python -m pipelines.VERB`. `cxr VERB --help` prints the same as this page.\n",
        table(["verb", "purpose"], [[f"[{verb}](#cxr-{verb})", what] for verb, what in VERBS.items()]),
    ]
    for verb in VERBS:
        parser: argparse.ArgumentParser = importlib.import_module(f"pipelines.{verb.replace('-', '_')}").parser()
        parts += _verb(f"cxr {verb}", parser)
    return "\n".join(parts)


def _verb(name: str, parser: argparse.ArgumentParser, level: int = 2) -> Iterator[str]:
    yield f"{'#' * level} {name}\n"
    yield f"{parser.description or ''}\n"
    rows, below = [], {}
    for action in parser._actions:  # argparse has no public list of its actions
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            below = dict(action.choices)
            yield table(["command", "purpose"], [[f"`{sub}`", helps.get(sub, "")] for sub in below])
        elif not isinstance(action, argparse._HelpAction):
            names = ", ".join(action.option_strings) or action.metavar or action.dest
            value = "" if action.nargs == 0 else action.metavar or ("/".join(map(str, action.choices or ())) or "VALUE")
            option = f"`{names} {value}`" if action.option_strings and value else f"`{names}`"
            rows.append([option, action.help or "", "required" if action.required and action.option_strings else ""])
    if rows:
        yield table(["argument", "meaning", ""], rows)
    for sub, subparser in below.items():
        yield from _verb(f"{name} {sub}", subparser, min(level + 1, 4))


def profile() -> str:
    """Return the page of all settings, their types, ranges and values in the profiles of the package."""
    profiles = {name: settings.load_profile(name).to_dict() for name in ("demo", "quick", "paper", "robust")}
    parts = [
        "# Profile\n",
        "A profile is a TOML file with the settings of a manifest and a study. A key that is left out has its default; "
        "an "
        "unknown key is an error. `--profile` takes a name or the path of a `.toml` file.\n",
    ]
    described = TypeAdapter(settings.Profile).json_schema()["$defs"]
    for name, kind in _tables(settings.Profile, ""):
        rows = []
        for field in dataclasses.fields(kind):
            annotation = typing.get_type_hints(kind, include_extras=True)[field.name]
            if dataclasses.is_dataclass(annotation):
                continue
            default = "required" if field.default is dataclasses.MISSING else f"`{json.dumps(field.default)}`"
            shown = [f"`{json.dumps(_at(tree, name)[field.name])}`" for tree in profiles.values()]
            keys = described.get(kind.__name__, TypeAdapter(settings.Profile).json_schema())["properties"]
            meaning = keys[field.name].get("description", "")
            rows.append([f"`{field.name}`", meaning, _type(annotation), default, *shown])
        if rows:
            summary = (kind.__doc__ or "").strip()
            parts += [f"## {f'[{name}]' if name else 'Top level'}\n", f"{summary}\n"]
            parts.append(table(["key", "meaning", "type", "default", *profiles], rows))
    return "\n".join(parts)


def _tables(kind: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, kind
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from _tables(hints[field.name], f"{name}.{field.name}".lstrip("."))


def _at(tree: dict[str, Any], path: str) -> Any:
    for key in filter(None, path.split(".")):
        tree = tree[key]
    return tree


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        bounds = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
        limits = [
            f"{bounds[name]} {bound}"
            for extra in arguments[1:]
            for name, bound in dataclasses.asdict(extra).items()
            if bound is not None
        ]
        return f"{_type(arguments[0])}, {', '.join(limits)}"
    if origin is typing.Literal:
        return " or ".join(f"`{json.dumps(a)}`" for a in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if arguments:
        return " or ".join(_type(a) for a in arguments if a is not type(None))
    return {"int": "whole number", "float": "number", "bool": "true or false", "str": "text"}.get(
        annotation.__name__, annotation.__name__
    )


def files_page() -> str:
    """Return the page of all files that the platform writes, with their columns and keys."""
    from cxr_platform.domain.predictions import CONTRAST_SCHEMA, GATED_SCHEMA
    from cxr_platform.domain.study import StudyRecord, TrialRecord, TrialState
    from cxr_platform.evidence.image_answers import ANSWER_COLUMNS
    from cxr_platform.intake.candidate import REASONS
    from cxr_platform.manifest.schema import LookedAt, ManifestInfo, manifest_schema
    from cxr_platform.registry.bundle import Bundle
    from cxr_platform.registry.state import RegistryState
    from cxr_platform.serving.request_log import RequestLine

    def columns(schema: Any) -> str:
        return table(
            ["column", "type", "may be empty"], [[f"`{f.name}`", f.type, "yes" if f.nullable else ""] for f in schema]
        )

    parts = [
        "# Files\n",
        FILES,
        "## Reasons for exclusion\n\nThe column `reason` of `excluded.parquet`. `excluded.csv` of an "
        "evaluation also has `in-study`: an image of the study, a copy, or of a patient of the study.\n",
        table(["reason", "meaning"], [[f"`{reason}`", meaning] for reason, meaning in REASONS.items()]),
        "## Manifest: images/*.parquet\n\nOne row per image.\n",
        columns(manifest_schema(200)),
        "## Study: predictions.parquet\n\nOne row per image and strategy, of a trial and of the whole study "
        "(with the protocol origins, one per image, strategy and fold). The last column is there if a strategy has a "
        "gate: its heads disagree on Covid19.\n",
        columns(GATED_SCHEMA),
        "## Study: contrast-predictions.parquet\n\nOne row per contrast image and strategy, by the network of the fold "
        "that holds the image out. `label` is empty.\n",
        columns(CONTRAST_SCHEMA),
        "## Evaluation: predictions.parquet\n\nThe same columns, one row per image, strategy and fold. `label` is "
        "empty if the folder states none of the seven classes. An image of none of them has a `finding`, in the words "
        "of the folder; for other images it is empty.\n",
        "## Evaluation: answers.csv\n\nOne row per file of the folder, refused files included.\n",
        table(["column", "meaning"], [[f"`{name}`", meaning] for name, meaning in ANSWER_COLUMNS.items()]),
    ]
    records = (
        ("Manifest: manifest.json", ManifestInfo),
        ("Manifest: counts.json", LookedAt),
        ("Study: study.json", StudyRecord),
        ("Trial: trial.json", TrialRecord),
        ("Running trial: state.json", TrialState),
        ("Registry: bundle.json", Bundle),
        ("Registry: registry.json", RegistryState),
        ("Request log", RequestLine),
    )
    for title, record in records:
        parts += [f"## {title}\n", f"{_docstring(record)}\n", _record(record)]
    return "\n".join(parts)


def _docstring(kind: Any) -> str:
    return " ".join((kind.__doc__ or "").split())


def _record(record: type[BaseModel]) -> str:
    """Return the keys of a record and of the records in it, from its JSON schema."""
    schema = record.model_json_schema()
    parts = [_keys(schema)]
    for name, part in schema.get("$defs", {}).items():
        if "properties" in part:
            parts += [f"**{name}.** {' '.join(part.get('description', '').split())}\n", _keys(part)]
    return "\n".join(parts)


def _keys(schema: dict[str, Any]) -> str:
    rows = [
        [f"`{key}`", _json_type(value), value.get("description", "")] for key, value in schema["properties"].items()
    ]
    return table(["key", "type", "meaning"], rows)


def _json_type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return schema["$ref"].rsplit("/", 1)[-1]
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_json_type(option) for option in schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {_json_type(schema.get('items', {}))}" if "items" in schema else "list"
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties")
        return f"object of {_json_type(inner)}" if isinstance(inner, dict) else "object"
    return str(schema.get("type", "any"))


FILES = """
| file | content |
|---|---|
| `data/manifests/NAME/images/*.parquet` | one row per image, pixels included |
| `data/manifests/NAME/excluded.parquet` | one row per file that does not take part: `source_path`, `reason`, `detail` |
| `data/manifests/NAME/contact_sheets/REASON.png` | the excluded images of each reason |
| `data/manifests/NAME/validation/` | results of Great Expectations |
| `data/manifests/NAME/croissant.json` | the manifest in Croissant (JSON-LD), with `cxr manifest --croissant` |
| `data/manifests/NAME/manifest.json` | schema version, counts by class and source, settings, seed, content hash |
| `data/manifests/NAME.look/` | of `cxr manifest --look`: `counts.json`, `excluded.parquet`, `contact_sheets/` |
| `data/manifests/NAME.failed/` | the same for images that give no folds, or a manifest that is not valid |
| `data/manifests/NAME.cache/` | decoded images with their keypoints, for the next build |
| `runs/NAME/study.json` | configuration, manifest, versions, hardware |
| `runs/NAME/trials/STRATEGY/fold-K/` | `trial.json`, `history.parquet`, `predictions.parquet`, `model.weights.h5` |
| `runs/NAME/trials/STRATEGY/fold-K.run/` | a running trial: `state.json` and its checkpoint |
| `runs/NAME/activations/` | frozen activations that do not fit into memory, until the last trial is finished |
| `runs/NAME/tune/` | Ray Tune's state, while trials run |
| `runs/NAME/champion/STRATEGY/` | the training on all images, of `cxr champion`: as a trial, without predictions |
| `runs/NAME/predictions.parquet` | out-of-fold predictions of all trials |
| `runs/NAME/contrast-predictions.parquet` | out-of-fold predictions for contrast images, if there are any |
| `runs/NAME/evidence/` | probes, external scores, heatmaps, features, as Parquet |
| `runs/NAME/evaluations/FOLDER/answers.csv` | one answer per file, of `cxr evaluate` |
| `runs/NAME/evaluations/FOLDER/predictions.parquet` | the predictions of each network |
| `runs/NAME/evaluations/FOLDER/excluded.csv` | refused files: `source_path`, `reason`, `detail` |
| `runs/NAME/evaluations/FOLDER/figures.csv` | rates of each source and strategy, if images have classes |
| `runs/NAME/evaluations/FOLDER/shares.csv` | share called each class, of each class or other finding of each source |
| `runs/NAME/evaluations/FOLDER/figures.md` | both as tables, without the answers other than Covid19 and the right one |
| `runs/NAME/evaluations/FOLDER/pairs.csv`, `pairs.md` | AUC of Covid19 for each pair of sources, of each strategy |
| `runs/NAME/report/` | `index.html` (one file), pictures (PNG), tables, `results.json`, `STUDY_CARD.md` |
| `runs/NAME/results.json` | the figures of the report, as in its folder |
| `runs/mlruns/` | what `cxr track` logged, unless it went elsewhere |
| file of weights of `cxr lungs train` | NumPy's npz: `header` (JSON) and arrays of float16 |
| file of `cxr lungs score` | JSON: Dice of each method, hardware, versions |
| `images.parquet` of `cxr gpu-study pack` | the study images of a manifest as JPEG (`jpeg`), beside its other columns |
| `gpu-study.json` of `cxr gpu-study run` | speeds and limits of a GPU, and times, accuracies and tables of the study |
| `progress.tar.gz` of `cxr gpu-study run` | finished trials without weights, and the benchmark, for `--resume` |
| `registry/VERSION/` | `bundle.json`, `model.weights.h5`, `model.onnx`, `reference.json`, `MODEL_CARD.md` |
| `registry/VERSION.minisig` | signature of `bundle.json` in minisign's format, of `cxr registry sign` |
| `registry/registry.json` | the versions, the champion, and its history |
"""


def http_api() -> str:
    """Return the page of the HTTP API, from the OpenAPI document of the application."""
    from cxr_platform.serving.app import build_app
    from cxr_platform.serving.service import Service

    no_champion: Any = None  # the application is described, not opened
    document = build_app(Service(no_champion), keys=None).openapi()
    parts = ["# HTTP API\n", f"{document['info']['description']}\n"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts += [f"## {method.upper()} {path}\n", f"{operation.get('description') or operation.get('summary')}\n"]
            if operation.get("parameters"):
                parts.append(table(["parameter", "in"], [[f"`{p['name']}`", p["in"]] for p in operation["parameters"]]))
            answers = [[status, answer["description"]] for status, answer in operation["responses"].items()]
            parts.append(table(["status", "answer"], answers))
    parts.append("# Answers\n")
    for name, schema in document["components"]["schemas"].items():
        if "properties" in schema:
            parts += [f"## {name}\n", f"{' '.join(schema.get('description', '').split())}\n", _keys(schema)]
    return "\n".join(parts)


def metrics() -> str:
    """Return the page of all metrics."""
    from cxr_platform.monitoring import names

    known = names.METRICS
    sources = {"replica": "replicas and proxy", "batch": "verbs that end", "exporter": "cxr exporter"}
    rows = [[f"`{m.series[0]}`", m.kind, sources.get(m.source, m.source), ", ".join(m.labels), m.help] for m in known]
    text = "Ray prefixes the metrics of replicas with `ray_`. No label names an image.\n"
    return "\n".join(["# Metrics\n", text, table(["metric", "kind", "from", "labels", "meaning"], rows)])


def exit_codes() -> str:
    """Return the page of exit codes and of the exceptions behind them."""
    codes = [
        [0, "Done."],
        [1, "Some trials failed, or a submitted job did; what succeeded is stored."],
        [2, "The request cannot be served; the message says what was expected, what was received and what to do."],
        [70, "A defect of this software; the traceback is printed."],
        [130, "Interrupted (Ctrl-C); the same command continues."],
    ]
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.CxrError)]
    rows = [[f"`{kind.__name__}`", kind.exit_code, _docstring(kind)] for kind in kinds]
    return "\n".join(
        [
            "# Exit codes\n",
            table(["code", "meaning"], codes),
            "`make` turns every failure into its own code 2.\n",
            "## Exceptions\n",
            table(["exception", "exit code", "raised for"], rows),
        ]
    )
