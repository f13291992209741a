"""The eight training strategies of §2.2 and §2.4, and the Keras layers that each one trains.

MobileNetV2 has 17 inverted-residual blocks (`expanded_conv`, `block_1` … `block_16`), a stem before and a 1×1
convolution (`Conv_1`) after them. "Fine-Tuning k" trains the top k blocks, `Conv_1` above them, and the head.
The paper counts "trainable convolutional blocks starting from the top" (§3.2) and does not say whether `Conv_1` is one;
here it is not: it belongs to whatever is trained below the head.
"""

from dataclasses import dataclass

from cxr_platform.errors import ConfigError

BLOCKS = 16  # block_1 … block_16; fine-tuning never reaches expanded_conv


@dataclass(frozen=True)
class Strategy:
    """One way of training. `trainable_blocks` is `None` for scratch (all, from random weights), 0 for a frozen one."""

    name: str
    family: str
    trainable_blocks: int | None

    @property
    def pretrained(self) -> bool:
        """Whether it starts from ImageNet weights."""
        return self.trainable_blocks is not None

    @property
    def cut(self) -> str | None:
        """The last frozen thing: `"features"` (pooled backbone), `"block_N"`, or `None` when nothing is frozen."""
        if self.trainable_blocks is None:
            return None
        return f"block_{BLOCKS - self.trainable_blocks}" if self.trainable_blocks else "features"


STRATEGIES: tuple[Strategy, ...] = (
    Strategy("off-the-shelf", "off_the_shelf", 0),
    *(Strategy(f"fine-tuning-{k}", "fine_tuning", k) for k in (1, 3, 5, 7, 9, 11)),
    Strategy("scratch", "scratch", None),
)
STRATEGY_NAMES: tuple[str, ...] = tuple(s.name for s in STRATEGIES)


def strategy_by_name(name: str) -> Strategy:
    """The strategy called `name`; `ConfigError` lists the names when there is none."""
    for strategy in STRATEGIES:
        if strategy.name == name:
            return strategy
    raise ConfigError(f"Expected a strategy out of {', '.join(STRATEGY_NAMES)}.", received=repr(name))
