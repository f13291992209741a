"""The parts of infra/container/Dockerfile that the tests need."""

import re
import shlex
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property, lru_cache
from pathlib import Path

from tests.conftest import REPOSITORY

PATH = REPOSITORY / "infra" / "container" / "Dockerfile"
Instruction = tuple[str, str]


@dataclass(frozen=True)
class Stage:
    """A stage: its name, its parent, and its instructions as (KEYWORD, rest)."""

    name: str
    parent: str
    instructions: list[Instruction] = field(default_factory=list)

    def of(self, keyword: str) -> list[str]:
        return [rest for word, rest in self.instructions if word == keyword]


@dataclass(frozen=True)
class Dockerfile:
    """Arguments before the first stage, and the stages in their order."""

    arguments: dict[str, str]
    stages: list[Stage]

    @cached_property
    def images(self) -> dict[str, Stage]:
        """The stages that are built to be run: no other stage uses them or copies from them."""
        used = self.sources
        return {stage.name: stage for stage in self.stages if not any(fnmatch(stage.name, name) for name in used)}

    @cached_property
    def sources(self) -> list[str]:
        """What stages are built from and copy from, stages and images from outside; `*` stands for an argument."""
        copies = [rest for stage in self.stages for rest in stage.of("COPY")]
        names = [stage.parent for stage in self.stages]
        names += [name for rest in copies for name in re.findall(r"--from=(\S+)", rest)]
        return [re.sub(r"\$\{\w+\}", "*", name) for name in names]

    @cached_property
    def outside(self) -> list[str]:
        """The images that are no stage of this file."""
        stages = {stage.name for stage in self.stages}
        return [name for name in self.sources if not any(fnmatch(stage, name) for stage in stages)]

    @cached_property
    def base(self) -> Stage:
        """The stage that every image is built on."""
        return next(stage for stage in self.stages if stage.name == "runtime")

    @cached_property
    def uid(self) -> int:
        """The user of the first image; a test checks that all have the same."""
        return int(next(iter(self.images.values())).of("USER")[-1].partition(":")[0])

    @cached_property
    def environment(self) -> dict[str, str]:
        """The variables of the base."""
        return dict(word.split("=", 1) for rest in self.base.of("ENV") for word in shlex.split(rest))

    @cached_property
    def debian(self) -> set[str]:
        """Debian's packages in the base."""
        match = re.search(r"apt-get install ([^&]*)", " ".join(self.base.of("RUN")))
        assert match is not None
        return {word for word in match[1].split() if not word.startswith("-")}

    @cached_property
    def folders(self) -> set[str]:
        """Folders that the base creates for its user."""
        match = re.search(r"install --directory --owner=cxr --group=cxr ([^&]*)", " ".join(self.base.of("RUN")))
        assert match is not None
        return set(match[1].split())


def parse(text: str) -> Dockerfile:
    """Parse comments and continued lines, but no heredocs."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    arguments, stages = {}, []
    for line in re.sub(r"\\\n", " ", lines).splitlines():
        keyword, _, rest = " ".join(line.split()).partition(" ")
        if keyword == "FROM":
            parent, _, name = rest.partition(" AS ")
            stages.append(Stage(name, parent))
        elif keyword and stages:
            stages[-1].instructions.append((keyword, rest))
        elif keyword == "ARG":
            arguments.update([rest.split("=", 1)])
    return Dockerfile(arguments, stages)


@lru_cache
def dockerfile(path: Path = PATH) -> Dockerfile:
    """Return the repository's Dockerfile."""
    return parse(path.read_text(encoding="utf-8"))
