"""Places on the command line: paths, or URIs of object stores, and how verbs that need real files get these.

A storage holds `manifests/NAME` and `runs/NAME`, as `data/manifests` and `runs` of a machine do.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cxr_platform.cluster import in_sent_folder
from cxr_platform.errors import ConfigError, StudyError
from cxr_platform.storage.lock import folder_lock
from cxr_platform.storage.mirror import is_not_lock, local_copy, local_file
from cxr_platform.storage.paths import is_remote, parse_path

MANIFESTS, RUNS = Path("data/manifests"), Path("runs")


def of_study(file: str) -> bool:
    """Which files of a study a verb may ask for: not its lock, nor what trials under way, a champion's training and
    Ray Tune keep for themselves."""
    *folders, _ = file.split("/")
    return is_not_lock(file) and folders[:1] not in (["tune"], ["champion"]) and not any(map(_of_a_run, folders))


def _of_a_run(folder: str) -> bool:
    return folder.endswith(".run")


WANTED: dict[str, Callable[[str], bool]] = {"study": of_study, "other": of_study, "beside": of_study}


def a_place(text: str) -> Path:
    """For argparse: `storage.paths`, with its error as that of the argument."""
    try:
        return parse_path(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def settled_place(text: str) -> Path:
    """As `a_place`, for what nobody writes to meanwhile."""
    a_place(text)
    return parse_path(text, cache_listings=True)


def add_storage_argument(parser: argparse.ArgumentParser) -> None:
    """`--storage`."""
    parser.add_argument("--storage", type=a_place, metavar="URI", help="path or URI of manifests/ and runs/")


def refuse_copies(*places: Path) -> None:
    """Raise `ConfigError` for a place in the copy of the checkout that a submitted job runs in: Ray removes that."""
    for where in places:
        if not is_remote(where) and not where.is_absolute() and in_sent_folder():
            raise ConfigError(
                "Expected the absolute path or the URI of a place that is there after the job, and on every node.",
                received=where,
                advice="Give it with --storage, --runs, --out, --study or --registry, as the verb has them.",
            )


@contextmanager
def at_hand(arguments: argparse.Namespace, *names: str, reading: bool = False) -> Iterator[argparse.Namespace]:
    """`arguments` with each of the places `names` as a folder of this machine: itself, or a copy.

    What is changed in a copy is put back at the end of the block (`mirror.local_copy`). Where no manifest is named, the
    study's own in the same storage is, if it is there. A registry in a store is held meanwhile, unless it
    is only for `reading`.
    """
    with ExitStack() as held:
        given = {name: value for name in names if (value := getattr(arguments, name, None)) is not None}
        if "manifest" in names and "manifest" not in given and "study" in given:
            given |= _manifest_beside(given["study"])
        refuse_copies(*given.values())
        checks = {}
        if is_remote(given.get("registry", Path())) and not reading:  # its own locks are those of a file system
            checks["registry"] = held.enter_context(folder_lock(given["registry"]))
        local = {
            name: held.enter_context(local_copy(value, WANTED.get(name, is_not_lock), checks.get(name, lambda: None)))
            for name, value in given.items()
        }
        if getattr(arguments, "imagenet_weights", None) is not None:
            local["imagenet_weights"] = held.enter_context(local_file(arguments.imagenet_weights))
        yield argparse.Namespace(**{**vars(arguments), **local})


def _manifest_beside(study: Path) -> dict[str, Path]:
    from cxr_platform.domain.study import read_study

    try:
        name = Path(read_study(study).manifest.path).name
    except StudyError:  # the verb itself says what is wrong with the study
        return {}
    found = study.parent.parent / "manifests" / name
    return {"manifest": found} if (found / "manifest.json").exists() else {}
