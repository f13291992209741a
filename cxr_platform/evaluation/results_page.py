"""The page of published results: figures and tables of finished studies, beside the paper's."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.strategies import ROBUST, TITLES
from cxr_platform.errors import StudyError
from cxr_platform.evaluation.findings import PickedAccuracy
from cxr_platform.evaluation.formatting import text
from cxr_platform.evaluation.paper import ARXIV_ID, paper_metrics
from cxr_platform.evaluation.results_json import SCHEMA_VERSION
from cxr_platform.evaluation.table import SYNTHETIC
from cxr_platform.labels import CLASSES, POSITIVE_CLASS
from cxr_platform.validation import Record, check_schema_version, parse_json, parse_record

README_ROWS = 6
"""The first rows of the table of key figures, which the README repeats."""
MARKS = ("<!-- key figures, written by cxr results -->", "<!-- end of key figures -->")

CHAPTERS: Mapping[str, Sequence[str]] = {
    "The paper's tables": tuple(f"table-{number}{form}" for number in range(1, 8) for form in ("-by-protocol", "")),
    "All strategies with intervals": ("intervals", "comparison", "leakage"),
    "Which classes may an image have?": ("prediction-sets",),
    "Hospital by hospital": (
        *("unseen-hospitals", "unseen-hospitals-by-origin", *(f"unseen-hospitals-{name}" for name in TITLES)),
        *("hospitals", "hospitals-by-robust", "hospital-pairs", "hospital-pairs-by-robust", "left-out"),
    ),
    "Can the figures be believed?": (
        *("within-sources", "within-each-source", "within-compared", "contrast", "shortcuts", "source-probes"),
        *("external", "external-pairs", "strata", "outside", "outside-findings"),
        *("reader-rates", "reader-noise", "lung-share"),
    ),
}
"""Chapter of the page → names of the report's tables in it; a study without a table leaves it out."""

INTRODUCTION = f"""# Results

Studies of real images, each trained and judged by this software. **Every figure is written by `cxr results` from the
reports of the studies**; none is typed. Rates are percentages of out-of-fold predictions, with 95 % confidence
intervals by bootstrap over patients. The paper is [arXiv:{ARXIV_ID}](https://arxiv.org/abs/{ARXIV_ID}); it prints no
intervals, and its images, folds and sizes differ from ours, so that a difference has many possible causes.
"""


class PublishedTable(Record):
    """A table of a report: its Markdown without the caption, which is `title`."""

    title: str
    markdown: str


class PublishedStudy(Record):
    """What `docs/results/*.json` holds of a study: its settings, key figures, the report's answer, and tables.

    `note` says in Markdown what a reader has to know besides, such as how a folder of images was made.
    """

    schema_version: Literal[1] = 1
    name: str
    date: str
    protocol: str
    folds: int
    images: int
    strategies: tuple[str, ...]
    content_hash: str
    command: str
    note: str
    hardware: str
    versions: dict[str, str]
    processor_hours: float | None
    hours: float | None
    key_figures: dict[str, str]
    answer: dict[str, str]
    tables: dict[str, PublishedTable]


def published_study(folder: Path, command: str) -> PublishedStudy:
    """Return what is published of the study in `folder`, from its `results.json` and `report/tables`.

    `command` is how the study was made; it has no note. Raises `StudyError` if there is no report, if it was written by
    another version of this software, or if its images are synthetic: those say nothing about patients.
    """
    file = folder / "results.json"
    if not file.is_file():
        raise StudyError(f"Expected {file}, which a report has.", advice=f"cxr report --study {folder} writes it.")
    tree = parse_json(file.read_bytes(), str(file), StudyError)
    check_schema_version(tree, SCHEMA_VERSION, str(file), StudyError, f"cxr report --study {folder} writes it again.")
    if tree["manifest"]["synthetic"]:
        advice = "Publish a study of real images."
        raise StudyError("Expected a study of real images.", received=f"{folder}: {SYNTHETIC.lower()}", advice=advice)
    study, use = tree["study"], tree["resource_use"]
    hours = {key: None if use[key] is None else round(use[key] / 3600, 2) for key in ("cpu_seconds", "wall_seconds")}
    return PublishedStudy(
        name=study["name"],
        date=study["started"][:10],
        protocol=study["protocol"],
        folds=study["folds"],
        images=tree["manifest"]["study_images"],
        strategies=tuple(study["strategies"]),
        content_hash=tree["manifest"]["content_hash"],
        command=command,
        note="",
        hardware=", ".join(use["machines"]),
        versions=study["versions"],
        processor_hours=hours["cpu_seconds"],
        hours=hours["wall_seconds"],
        key_figures=key_figures(tree),
        answer={line["title"]: line["text"] for line in tree["summary"]["lines"]},
        tables=_tables(folder / "report" / "tables"),
    )


def read_published(file: Path) -> PublishedStudy:
    """Return the study of a file of `docs/results`; raise `StudyError` if it has another form."""
    return parse_record(
        PublishedStudy, file.read_bytes(), str(file), StudyError, "cxr results writes it.", complete=True
    )


def key_figures(tree: Mapping[str, Any]) -> dict[str, str]:
    """Return the figures of the first table, most important first, from `results.json`; a dash where undefined."""
    findings, sections = tree["findings"], tree["sections"]
    intervals, winner = sections["intervals"]["values"], tree["winner"]["winner"]

    def accuracy(strategy: str) -> str:
        measured = intervals.get(strategy)
        return text(None if measured is None else Interval(**measured["pooled"]["accuracy_7_class"]))

    picked = findings["picked"]
    best = Interval(**findings["accuracy"])
    if picked is not None:
        best = PickedAccuracy(Interval(**picked["measured"]), picked["optimism"], picked["strategies"]).corrected
    within = findings["within"]
    figures = {
        "Training from scratch: 7-class accuracy": accuracy("scratch"),
        "Off-the-shelf features: 7-class accuracy": accuracy("off-the-shelf"),
        "Best strategy, corrected for its being the best": f"{TITLES[winner]}: {text(best)}",
        f"{POSITIVE_CLASS} within its own sources: AUC": text(None if within is None else Interval(**within["auc"])),
        f"{POSITIVE_CLASS} with a hospital left out: mean and worst AUC": _hospitals(sections["hospitals"]["values"]),
        **_unseen_hospitals(sections.get("unseen_hospitals", {}).get("values", {}), winner),
        "Images without their lungs: 7-class accuracy": _probe(findings["probes"], "without-lungs"),
        **({f"{TITLES[ROBUST]}: 7-class accuracy": accuracy(ROBUST)} if ROBUST in intervals else {}),
        **_robust_hospitals(sections["hospitals"]["values"]),
        "File metadata alone: 7-class accuracy": _probe(findings["probes"], "metadata"),
        **_shuffled(findings["leakage"]),
        "Always the most frequent class": text(tree["majority_class_accuracy"]),
    }
    for rate in findings["external"]:
        if rate["strategy"] == winner and rate["measure"] != "recall":
            figures[f"External {rate['source']}: {rate['measure']} of {rate['label']}"] = text(
                Interval(**rate["external"])
            )
    for found in findings.get("outside", ()):
        if found["strategy"] == winner and found["whole"]:
            share = found["shares"][CLASSES.index(POSITIVE_CLASS)]
            figures[f"Outside the classes, {found['source']}: called {POSITIVE_CLASS}"] = text(Interval(**share))
    return figures


def _hospitals(values: Mapping[str, Any]) -> str:
    """Return mean and worst as the report's section states them: the worst has enough patients, if any pair has."""
    if not values:
        return text(None)
    return f"{text(Interval(**values['mean_auc']))} and {text(Interval(**values['worst']['auc']))}"


def _robust_hospitals(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the figures of the heads of `robust`, if the study judged them."""
    if not values.get(ROBUST):
        return {}
    return {f"{TITLES[ROBUST]} with a hospital left out: mean and worst AUC": _hospitals(values[ROBUST])}


def _unseen_hospitals(values: Mapping[str, Any], winner: str) -> dict[str, str]:
    """Return the accuracy at hospitals that were not trained on, of the best strategy and of training from scratch."""
    start = "At hospitals that were left out of training"
    names = [name for name in dict.fromkeys((winner, "scratch")) if name in values]
    return {f"{start}, {TITLES[n].lower()}: 7-class accuracy": text(Interval(**values[n]["accuracy"])) for n in names}


def _shuffled(found: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what shuffled folds add on average over the strategies, if both kinds of folds were run with several."""
    if found is None or found["mean"] is None:
        return {}
    return {
        "Shuffled folds minus grouped ones, mean of all strategies: 7-class accuracy": text(Interval(**found["mean"]))
    }


def _probe(probes: Iterable[Mapping[str, Any]], name: str) -> str:
    return next((text(Interval(**probe["accuracy"])) for probe in probes if probe["name"] == name), text(None))


def _tables(folder: Path) -> dict[str, PublishedTable]:
    tables = {}
    for name in (name for names in CHAPTERS.values() for name in names):
        if (file := folder / f"{name}.md").is_file():
            caption, _, markdown = file.read_text(encoding="utf-8").partition("\n\n")
            tables[name] = PublishedTable(title=caption.strip("* "), markdown=markdown)
    return tables


def results_page(studies: Sequence[PublishedStudy], pages: Mapping[str, str]) -> str:
    """Return the Markdown of the page; `pages` is the path of each further page of results → its title."""
    parts = [INTRODUCTION, f"## Key figures\n\n{key_figures_table(studies)}", *map(_study_part, studies)]
    for chapter, names in CHAPTERS.items():
        tables = [
            f"### {study.tables[name].title}: {study.name}\n\n{study.tables[name].markdown}"
            for name in names
            for study in studies
            if name in study.tables
        ]
        if tables:
            parts += [f"## {chapter}\n", *tables]
    parts.append(
        "## Other measurements\n\n" + "\n".join(f"- [{title}]({path})" for path, title in pages.items()) + "\n"
    )
    return "\n".join(parts)


def key_figures_table(studies: Sequence[PublishedStudy], rows: int | None = None) -> str:
    """Return the first `rows` key figures of the studies and of the paper as a Markdown table."""
    names = list(dict.fromkeys(name for study in studies for name in study.key_figures))[:rows]
    lines = [
        ["", *(f"{study.name} ({study.protocol} folds)" for study in studies), "paper"],
        ["---", *["---:"] * (len(studies) + 1)],
    ]
    lines += [[n, *(study.key_figures.get(n, text(None)) for study in studies), _paper_figure(n)] for n in names]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _paper_figure(name: str) -> str:
    for strategy, title in TITLES.items():
        if name == f"{title}: 7-class accuracy":
            return text(paper_metrics(strategy)["accuracy_7_class"])
    return text(None)


def _study_part(study: PublishedStudy) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in study.versions.items())
    time = (
        ""
        if study.hours is None
        else f" Trials ran for {study.hours:.2f} h, {study.processor_hours:.2f} processor hours."
    )
    facts = (
        f"## Study {study.name}\n\n{study.date}: {study.images:,} images, {len(study.strategies)} strategies × "
        f"{study.folds} folds, protocol {study.protocol}. Manifest `{study.content_hash[:16]}`. {study.hardware}; "
        f"{versions}.{time}\n\n```bash\n{study.command}\n```\n"
    )
    answer = "\n".join(f"- **{title}.** {line}" for title, line in study.answer.items())
    note = f"{study.note}\n\n" if study.note else ""
    return f"{facts}\n{note}The first page of its report:\n\n{answer}\n"


def with_key_figures(readme: str, studies: Sequence[PublishedStudy]) -> str:
    """Return the README with the first rows of the key figures between its two marks.

    Raises `StudyError` if the marks are missing.
    """
    start, end = MARKS
    table = f"{start}\n{key_figures_table(studies, README_ROWS)}{end}"
    replaced, found = re.subn(
        f"{re.escape(start)}.*?{re.escape(end)}", lambda _: table, readme, count=1, flags=re.DOTALL
    )
    if not found:
        raise StudyError(
            f"Expected the lines {start} and {end} in the README.", advice="Add both where the table belongs."
        )
    return replaced
