"""What each probe sees and what its figure means, in a sentence."""

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.findings import PROBE_INPUTS, SourceFinding
from cxr_platform.evaluation.formatting import percent, rate
from cxr_platform.evaluation.statistics.shortcut import share_kept

NAMES = {
    "metadata": "Facts of the file, no pixels",
    "whole-image": "Whole image, same recipe",
    "without-lungs": "Lungs blacked out",
    "lungs-only": "Lungs only",
}
SOURCE_NAMES = {**NAMES, "whole-image": "Whole image"}
MEANINGS = {
    ("metadata", True): "how the files were made is enough for most of what the network achieves",
    ("metadata", False): "how the files were made gives away less than half of what the network achieves",
    ("without-lungs", True): "most of what this recipe goes by lies outside of the lungs",
    ("without-lungs", False): "without the lungs this recipe loses most of what it goes by",
}


def probe_sentence(name: str, found: Interval, control: Interval, chance: float, *, shortcut: bool) -> str:
    """What was seen, what it reached beside what, and what that means."""
    kept = share_kept(found.value, control.value, chance)
    seen = {
        "metadata": "A random forest that sees size, shape, colour mode and brightness of the file, and no pixel,",
        "without-lungs": "The same simple recipe on images with the lung field blacked out",
        "lungs-only": "The same simple recipe on the lung field alone, everything else black,",
    }[name]
    beside = "the winner" if name == "metadata" else "the same recipe on whole images"
    reached = f"{seen} reaches {rate(found)}, {beside} {percent(control.value)}, chance {percent(chance)}"
    if kept is None:
        return f"{reached}: what it is compared with is not better than chance, so that this says nothing."
    share = percent(100 * max(0.0, kept))
    if name == "lungs-only":
        return f"{reached}: the lung field carries {share} of the lead over chance."
    return f"{reached}: {share} of the lead over chance remains; {MEANINGS[name, shortcut]}."


def source_sentence(found: SourceFinding) -> str:
    """How often the source is told right."""
    return (
        f"The source is told from {PROBE_INPUTS[found.probe]} for {rate(found.accuracy)} of the images; always naming the "
        f"largest of the {found.sources} sources would be right for {percent(found.chance)}."
    )


def caution() -> str:
    """What the probes of pixels cannot show."""
    return (
        "The lung field is one outline for all images, drawn generously: a strip of lung stays outside of it on about "
        "one image in ten, heart and spine lie within, and it follows the shape of the image, which the black areas "
        "therefore still show. The recipe is a logistic regression on features of a network that was trained on "
        "photographs only; it shows what is there to be found, not what the study's own networks go by. Some signs of "
        "disease, a large heart or tubes, do lie outside of the lungs."
    )
