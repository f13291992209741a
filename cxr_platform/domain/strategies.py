"""The training strategies: names, titles, order, and the part of MobileNetV2 that each trains.

Eight are those of §2.2 and §2.4 of the paper; `robust` is a ninth, of this project.

MobileNetV2 has 17 inverted-residual blocks (`expanded_conv`, `block_1` … `block_16`), a stem before and a 1×1
convolution (`Conv_1`) after them. "Fine-Tuning k" trains the top k blocks, `Conv_1` above them, and the head.
The paper counts "trainable convolutional blocks starting from the top" (§3.2) and does not say whether `Conv_1` is one;
here it is not: it belongs to whatever is trained below the head.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cxr_platform.errors import ConfigError

ROBUST, VIEWS = "robust", "views"
BLOCKS = 16  # block_1 … block_16; fine-tuning never reaches expanded_conv


@dataclass(frozen=True)
class Strategy:
    """One way of training.

    `title` is the name in reports; `family` the table of its schedule in a profile (`training.FAMILY`), or `robust`,
    whose head is solved without a schedule; `trainable_blocks` is 0 for a frozen backbone and `None` for scratch, which
    trains everything from random weights.
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
    def is_solved(self) -> bool:
        """True if the head is solved in closed form, with the settings `[robust]` of a profile."""
        return self.family == ROBUST

    @property
    def cut(self) -> str | None:
        """The last frozen layer: `"features"` (pooled backbone), `"block_N"`, or `None` if nothing is frozen.

        For `robust` it is `"views"`: the features of several views of an image.
        """
        if self.is_solved:
            return VIEWS
        if self.trainable_blocks is None:
            return None
        return f"block_{BLOCKS - self.trainable_blocks}" if self.trainable_blocks else "features"


STRATEGIES: tuple[Strategy, ...] = (
    Strategy("off-the-shelf", "Off-the-shelf features", "off_the_shelf", 0),
    *(Strategy(f"fine-tuning-{k}", f"Fine-tuning {k}", "fine_tuning", k) for k in (1, 3, 5, 7, 9, 11)),
    Strategy("scratch", "Training from scratch", "scratch", None),
)
"""Those of the paper in its order, which is that of every table and chart."""
STRATEGY_NAMES: tuple[str, ...] = tuple(s.name for s in STRATEGIES)
EVERY_STRATEGY: tuple[Strategy, ...] = (*STRATEGIES, Strategy(ROBUST, "Robust head", ROBUST, 0))
"""Those of the paper, and after them what the paper does not have."""
TITLES: dict[str, str] = {s.name: s.title for s in EVERY_STRATEGY}
"""Name → the name in reports, in the order of tables and charts."""
PAPER_WINNER = "scratch"
"""The strategy that came first in the paper (§3.3)."""


def strategy_by_name(name: str) -> Strategy:
    """Return the strategy called `name`; raise `ConfigError` with the known names if there is none."""
    for strategy in EVERY_STRATEGY:
        if strategy.name == name:
            return strategy
    raise ConfigError(f"Expected a strategy out of {', '.join(TITLES)}.", received=repr(name))


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Return `names` once each in the order of tables; raise `ConfigError` for an unknown one."""
    chosen = {strategy_by_name(name).name for name in names}
    return tuple(name for name in TITLES if name in chosen)


def compared_with_paper(names: Iterable[str]) -> tuple[str, ...]:
    """Return the paper's strategies and those of `names` that it does not have: the rows of tables and charts."""
    return ordered([*STRATEGY_NAMES, *names])


def parse_strategies(text: str) -> tuple[str, ...]:
    """Return the strategies in names separated by commas, of which `"all"` stands for the paper's, in their order."""
    names = [name.strip() for name in text.split(",")]
    return ordered(each for name in names for each in (STRATEGY_NAMES if name == "all" else (name,)))
