"""Which version answers: the champion of the registry, followed without a restart.

A change of champion is written with the moment from which it holds. A replica that has loaded and warmed the new
version by then answers with it from that moment on, so that all such replicas switch at once. One that needs longer
than the lead switches when it is done, and until then whoever asks twice may meet the old version again: its status has
the champion as pending, and CxrNotTheChampion (infra/prometheus) tells of one that stays behind for two minutes.
A version that cannot be loaded changes nothing: the one before it keeps answering, and the status says so.

A replica that finds nothing to answer with when it starts waits for it (`patient`): no champion yet, a registry that
cannot be read yet, and a champion that is broken and has none before it alike. A changed byte is never answered with,
and that is logged, counted and told by /readyz as long as it lasts; but a constructor that raised would make Serve give
up the application for good after a few tries, and neither a repair nor the next promotion would bring it back.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Generic, TypeVar

from cxr_platform.errors import RegistryError, ServingError
from cxr_platform.registry.bundle import Bundle
from cxr_platform.registry.state import State, champions
from cxr_platform.registry.store import Registry
from cxr_platform.serving.problems import KINDS, Problem

POLL_SECONDS = 1.0
RETRY_SECONDS = 30.0
"""Between two tries to load a version that could not be loaded, while the registry stays as it is."""

REMIND_SECONDS = 60.0
"""Between two lines in the log of a replica that waits for something to answer with."""

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Status:
    """What a replica follows: the version it answers with, if any, the one that comes, those that cannot be loaded."""

    version: str | None
    pending: str | None
    refused: tuple[str, ...]
    registry_readable: bool


@dataclass(frozen=True)
class _Refusal:
    state: State
    at: float


class Follower(Generic[T]):
    """Keeps what `load(folder, bundle)` makes of the champion, and of the next one before its moment comes."""

    def __init__(
        self,
        registry: Registry,
        load: Callable[[Path, Bundle], T],
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        patient: bool = False,
    ) -> None:
        """Raises `RegistryError` where there is no champion, `ServingError` where neither it nor any before it loads.

        `patient`: nothing is raised, and the first look that finds something takes it.
        """
        self._registry, self._load, self._clock = registry, load, clock
        self._refused: dict[str, _Refusal] = {}
        self._lock = threading.Lock()
        self._readable = True
        self._reminded = -REMIND_SECONDS
        self._state = State()
        self._serving: tuple[str, T] | None = None
        self._loaded: dict[str, tuple[str, T]] = {}
        if patient:
            self.look()
        else:
            self._begin_or_raise()

    @property
    def current(self) -> tuple[str, T]:
        """(version, what was loaded of it) for a request that comes now; `Problem` while there is `missing`."""
        wanted = self._state.effective(self._clock())
        if wanted is not None and wanted in self._loaded:
            self._serving = self._loaded[wanted]
        if self._serving is None:
            raise Problem(self.missing or "unavailable")  # "or": it may just have come
        return self._serving

    @property
    def missing(self) -> str | None:
        """Why nothing has been loaded yet, as a reason of `problems.KINDS`; `None` from the first version on."""
        if self._serving is not None:
            return None
        if not self._readable:
            return "no-registry"
        if self._refused:
            return "broken-champion"
        return "no-champion" if self._state.champion is None else "unavailable"

    @property
    def status(self) -> Status:
        """For readiness and metrics."""
        version = None if self._serving is None else self.current[0]
        champion = self._state.champion
        pending = champion if champion != version and champion not in self._refused else None
        return Status(version, pending, tuple(sorted(self._refused)), self._readable)

    def look(self) -> None:
        """Read the registry and load what will be needed; never raises. Takes as long as loading does."""
        with self._lock:
            try:
                self._state = self._read()
                self._readable = True
            except (RegistryError, OSError) as error:  # a share that is gone raises what it likes
                self._note_unreadable(error)
            else:
                self._begin() if self._serving is None else self._prepare()
            self._remind()

    def of(self, version: str) -> T:
        """What was loaded of `version`, or is now; `RegistryError` where it cannot be."""
        with self._lock:
            if version not in self._loaded:
                self._loaded[version] = (version, self._load(*self._registry.open(version)))
            return self._loaded[version][1]

    def _begin(self) -> None:
        """Take the champion, or the latest one before it that can be loaded."""
        wanted = self._state.effective(self._clock()) or self._state.champion
        before = reversed(champions(self._state.history))
        for version in dict.fromkeys([wanted, *before]):
            if version is not None and self._worth_a_try(version):
                self._take(version)
                if version in self._loaded:
                    self._serving = self._loaded[version]
                    return

    def _begin_or_raise(self) -> None:
        self._state = self._registry.state()
        self._begin()
        if self._serving is not None:
            return
        if self._state.champion is None:
            self._registry.open()  # says that there is no champion, and what to do
        raise ServingError(
            f"Expected a champion in {self._registry.root} that can be loaded.",
            received=f"{', '.join(self._refused)}, broken or changed",
            advice="Look at: cxr registry verify.",
        )

    def _prepare(self) -> None:
        """Load what answers by now or will, and let go of the rest."""
        wanted = {self._state.effective(self._clock()), self._state.champion} - {None}
        self._refused = {version: refusal for version, refusal in self._refused.items() if version in wanted}
        for version in sorted(wanted - {*self._loaded}):  # type: ignore[type-var]
            if version is not None and self._worth_a_try(version):
                self._take(version)
        keep = {*wanted, self.current[0]}
        self._loaded = {version: kept for version, kept in self._loaded.items() if version in keep}

    def _read(self) -> State:
        """The registry's state. No change takes its champion away: a registry without one is not mounted."""
        state, root = self._registry.state(), self._registry.root
        if state.champion is None and self._state.champion is not None:
            raise RegistryError(f"Expected a champion in {root}, as before.", received="none")
        if not root.is_dir():
            raise RegistryError(f"Expected a registry at {root}.", received="no such folder, or none that can be read")
        return state

    def _take(self, version: str) -> None:
        loaded = self._attempt(version)
        if loaded is not None:
            self._loaded = {**self._loaded, version: (version, loaded)}

    def _attempt(self, version: str) -> T | None:
        try:
            loaded = self._load(*self._registry.open(version))
        except Exception as error:  # whatever is wrong with a new version, the old one goes on
            log.warning("Version %s cannot be loaded and is not taken up: %s", version, error)
            self._refused[version] = _Refusal(self._state, time.monotonic())
            return None
        self._refused.pop(version, None)
        return loaded

    def _worth_a_try(self, version: str) -> bool:
        refusal = self._refused.get(version)
        stale = refusal is not None and time.monotonic() - refusal.at > RETRY_SECONDS
        return refusal is None or stale or refusal.state != self._state

    def _note_unreadable(self, error: Exception) -> None:
        if self._readable:
            log.warning("The registry cannot be read; what was loaded, if anything, goes on: %s", error)
        self._readable = False

    def _remind(self) -> None:
        if self.missing is not None and time.monotonic() - self._reminded >= REMIND_SECONDS:
            log.error("Nothing of %s answers. %s Waiting for it.", self._registry.root, KINDS[self.missing].title)
            self._reminded = time.monotonic()
