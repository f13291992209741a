"""Arguments that several verbs share, and the settings of a profile that they replace."""

import argparse
from typing import Any


def add_profile_arguments(parser: argparse.ArgumentParser) -> None:
    """`--profile` and the settings that a person changes most often."""
    parser.add_argument("--profile", default="quick", help="a profile of the package, or the path of a .toml file")
    parser.add_argument("--folds", type=int, help="number of folds")
    parser.add_argument("--seed", type=int, help="seed of everything random")
    parser.add_argument("--input-size", type=int, help="side of the images that the network sees, in pixels")
    parser.add_argument("--limit", type=int, help="images a class at the most")


def profile_overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """Dotted keys of a profile with the values that were given on the command line."""
    given = {
        "folds": arguments.folds,
        "seed": arguments.seed,
        "model.input_size": arguments.input_size,
        "intake.selection.limit": arguments.limit,
    }
    return {key: value for key, value in given.items() if value is not None}
