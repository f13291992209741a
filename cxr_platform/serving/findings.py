"""What makes an image not screenable: its quality, or that the network has seen no image like it."""

from collections.abc import Iterator
from dataclasses import dataclass

from cxr_platform.config import QualityConfig
from cxr_platform.intake.candidate import REASONS
from cxr_platform.intake.quality import QualityMeasures, judge

UNLIKE = "unlike-training-images"
SENTENCES = {
    **{code: REASONS[code] for code in ("low-contrast", "partial", "not-upright", "low-resolution")},
    UNLIKE: "to the network the image looks unlike those that it was trained on",
}


@dataclass(frozen=True)
class Finding:
    """A reason against screening an image: `code` of `SENTENCES`, `detail` with the measure and its limit."""

    code: str
    detail: str

    @property
    def sentence(self) -> str:
        """The finding for a person."""
        return SENTENCES[self.code]


def quality_findings(measures: QualityMeasures, config: QualityConfig) -> tuple[Finding, ...]:
    """The first limit of quality that the image misses, as intake judges it; empty for a usable image."""
    refusal = judge(measures, config)
    return () if refusal is None else (Finding(refusal.reason, refusal.detail),)


def distance_findings(distance: float, limit: float) -> Iterator[Finding]:
    """A finding for an image whose features lie further from those of the training images than `limit`."""
    if not distance <= limit:
        yield Finding(UNLIKE, f"distance {distance:.1f}, most {limit:.1f}")
