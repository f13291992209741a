"""Prediction sets of the winner: the classes that an image may have, with coverage by class and set sizes."""

from cxr_platform.domain.prediction_set import PredictionSets
from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.formatting import NBSP, joined, percent, text
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.report_tables import sets_table
from cxr_platform.evaluation.statistics.bootstrap import study_bootstrap
from cxr_platform.evaluation.statistics.prediction_sets import least_patients, prediction_sets

NAME, TITLE = "prediction_sets", "Which classes may an image have?"

METHOD = (
    "A prediction set lists every class whose probability reaches the threshold of that class. The thresholds are "
    "chosen so that the set contains the true class for the stated share of the images of each class (class-"
    "conditional conformal prediction). Images are judged by thresholds and temperature of other patients; one image "
    "per patient, drawn at random, chooses them."
)
LIMIT = (
    "The coverage holds for images like those of the study. It does not hold for other hospitals, other devices or "
    "classes that the study does not have."
)


def compute(inputs: ReportInputs) -> PredictionSets:
    """Return the sets of the winner with their coverage."""
    bootstrap = study_bootstrap(inputs.study, inputs.predictions)
    return prediction_sets(inputs.predictions, inputs.results.decision.winner, bootstrap)


def render(inputs: ReportInputs, sets: PredictionSets) -> Section:
    """Show the coverage by class and the sizes of the sets."""
    if len(sets.not_stated) == len(sets.classes):
        return Section(NAME, TITLE, absent=f"No class has the {least_patients(sets.coverage)} patients that it needs.")
    return Section(
        NAME,
        TITLE,
        lead=(_size_sentence(TITLES[inputs.results.decision.winner], sets), METHOD, *_not_stated(sets), LIMIT),
        tables=(sets_table(sets, inputs.synthetic),),
        values=sets.model_dump(mode="json"),
    )


def _size_sentence(winner: str, sets: PredictionSets) -> str:
    aim = f"With a coverage of {100 * sets.coverage:g}{NBSP}% per class"
    if sets.mean_size is None:
        return f"{aim}, the sets could not be measured: no fold leaves enough other patients."
    return (
        f"{aim}, the sets of {winner.lower()} have {sets.mean_size:.2f} classes on average; {text(sets.single)}{NBSP}% "
        f"of images have a single class and {text(sets.empty)}{NBSP}% none."
    )


def _not_stated(sets: PredictionSets) -> tuple[str, ...]:
    if not sets.not_stated:
        return ()
    return (
        f"Nothing is stated about {joined(sets.not_stated)}: fewer than {least_patients(sets.coverage)} patients "
        f"outside of a fold, too few for {percent(100 * sets.coverage)} coverage. These classes are in no set.",
    )
