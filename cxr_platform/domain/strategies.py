"""The eight training strategies of §2.2 and §2.4: names, titles, order, and the part of MobileNetV2 that each trains.

MobileNetV2 has 17 inverted-residual blocks (`expanded_conv`, `block_1` … `block_16`), a stem before and a 1×1
convolution (`Conv_1`) after them. "Fine-Tuning k" trains the top k blocks, `Conv_1` above them, and the head.
The paper counts "trainable convolutional blocks starting from the top" (§3.2) and does not say whether `Conv_1` is one;
here it is not: it belongs to whatever is trained below the head.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cxr_platform.errors import ConfigError

BLOCKS = 16  # block_1 … block_16; fine-tuning never reaches expanded_conv


@dataclass(frozen=True)
class Strategy:
    """One way of training.

    `title` is the name in reports; `family` the table of its schedule in a profile (`training.FAMILY`);
    `trainable_blocks` is 0 for a frozen backbone and `None` for scratch, which trains everything from random weights.
    """

    name: str
    title: str
    family: str
    trainable_blocks: int | None

    @property
    def pretrained(self) -> bool:
        """True if training starts from ImageNet weights."""
        return self.trainable_blocks is not None

    @property
    def cut(self) -> str | None:
        """The last frozen layer: `"features"` (pooled backbone), `"block_N"`, or `None` if nothing is frozen."""
        if self.trainable_blocks is None:
            return None
        return f"block_{BLOCKS - self.trainable_blocks}" if self.trainable_blocks else "features"


STRATEGIES: tuple[Strategy, ...] = (
    Strategy("off-the-shelf", "Off-the-shelf features", "off_the_shelf", 0),
    *(Strategy(f"fine-tuning-{k}", f"Fine-tuning {k}", "fine_tuning", k) for k in (1, 3, 5, 7, 9, 11)),
    Strategy("scratch", "Training from scratch", "scratch", None),
)
"""In the paper's order, which is that of every table and chart."""
STRATEGY_NAMES: tuple[str, ...] = tuple(s.name for s in STRATEGIES)
TITLES: dict[str, str] = {s.name: s.title for s in STRATEGIES}
"""Name → the name in reports, in the paper's order."""
PAPER_WINNER = "scratch"
"""The strategy that came first in the paper (§3.3)."""


def strategy_by_name(name: str) -> Strategy:
    """Return the strategy called `name`; raise `ConfigError` with the known names if there is none."""
    for strategy in STRATEGIES:
        if strategy.name == name:
            return strategy
    raise ConfigError(f"Expected a strategy out of {', '.join(STRATEGY_NAMES)}.", received=repr(name))


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Return `names` once each in the paper's order; raise `ConfigError` for an unknown one."""
    chosen = {strategy_by_name(name).name for name in names}
    return tuple(name for name in STRATEGY_NAMES if name in chosen)


def parse_strategies(text: str) -> tuple[str, ...]:
    """Return the strategies in `"all"`, or in names separated by commas, in the paper's order."""
    return STRATEGY_NAMES if text.strip() == "all" else ordered(name.strip() for name in text.split(","))
