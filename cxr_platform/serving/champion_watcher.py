"""Follow the champion of the registry without a restart.

A promotion is written with the moment from which it holds. A replica that has loaded and warmed up the new version by
then switches at that moment, so all such replicas switch together. A replica that needs longer switches as soon as it
is ready: until then its status has the champion as pending, and clients may still get answers of the previous version.
The alert CxrNotTheChampion (infra/prometheus) reports a replica that stays behind for two minutes.

A version that cannot be loaded changes nothing: the previous one keeps answering, and the status names the version.

With `wait`, a watcher that can load nothing when it starts waits for the registry, for the first champion, or for the
repair of a damaged one. Serve would otherwise give up the application after a few failed starts, and neither a repair
nor the next promotion would start it again. A changed byte is never served; it is logged, counted and reported by
/readyz for as long as it lasts.
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
from cxr_platform.registry.state import RegistryState, champions
from cxr_platform.registry.store import Registry
from cxr_platform.serving.problems import PROBLEM_TYPES, Problem

POLL_SECONDS = 1.0
RETRY_SECONDS = 30.0
"""Time between two attempts to load a version that could not be loaded, if the registry has not changed."""

REMINDER_SECONDS = 60.0
"""Time between two log messages of a watcher that waits for a version."""

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Status:
    """The version that answers, if any; the champion that will; versions that cannot be loaded."""

    version: str | None
    pending: str | None
    refused: tuple[str, ...]
    registry_readable: bool


@dataclass(frozen=True)
class _Refusal:
    state: RegistryState
    at: float


class ChampionWatcher(Generic[T]):
    """Holds what `load(folder, bundle)` returns for the champion, and for the next one before its moment comes."""

    def __init__(
        self,
        registry: Registry,
        load: Callable[[Path, Bundle], T],
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        wait: bool = False,
    ) -> None:
        """Raise `RegistryError` without a champion, `ServingError` if neither it nor an earlier one can be loaded.

        With `wait` nothing is raised; the first successful `poll` takes the champion.
        """
        self._registry, self._load, self._clock = registry, load, clock
        self._refused: dict[str, _Refusal] = {}
        self._lock = threading.Lock()
        self._readable = True
        self._reminded_at = -REMINDER_SECONDS
        self._state = RegistryState()
        self._current: tuple[str, T] | None = None
        self._loaded: dict[str, tuple[str, T]] = {}
        if wait:
            self.poll()
        else:
            self._take_first_or_raise()

    @property
    def current(self) -> tuple[str, T]:
        """The version for a request that arrives now, and what was loaded for it. Raise `Problem` without one."""
        effective = self._state.effective(self._clock())
        if effective is not None and effective in self._loaded:
            self._current = self._loaded[effective]
        if self._current is None:
            raise Problem(self.missing_reason or "unavailable")  # a poll in another thread may just have taken one
        return self._current

    @property
    def missing_reason(self) -> str | None:
        """Why no version was loaded so far, a key of `problems.PROBLEM_TYPES`; `None` once there is one."""
        if self._current is not None:
            return None
        if not self._readable:
            return "no-registry"
        if self._refused:
            return "broken-champion"
        return "no-champion" if self._state.champion is None else "unavailable"

    @property
    def status(self) -> Status:
        """The status for readiness checks and metrics."""
        version = None if self._current is None else self.current[0]
        champion = self._state.champion
        pending = champion if champion != version and champion not in self._refused else None
        return Status(version, pending, tuple(sorted(self._refused)), self._readable)

    def poll(self) -> None:
        """Read the registry and load the versions that are needed. Never raises; takes as long as loading does."""
        with self._lock:
            try:
                self._state = self._read_state()
                self._readable = True
            except (RegistryError, OSError) as error:  # a network share that is gone may raise any OSError
                if self._readable:
                    log.warning("The registry cannot be read; the loaded version, if any, stays: %s", error)
                self._readable = False
            else:
                self._take_first() if self._current is None else self._load_wanted()
            self._log_reminder()

    def version(self, version: str) -> T:
        """Return what was loaded for `version`, loading it if necessary; raise `RegistryError` if it cannot be."""
        with self._lock:
            if version not in self._loaded:
                self._loaded[version] = (version, self._load(*self._registry.open(version)))
            return self._loaded[version][1]

    def _read_state(self) -> RegistryState:
        """Return the state of the registry. No change removes the champion: a registry without one is not mounted."""
        state, root = self._registry.state(), self._registry.root
        if state.champion is None and self._state.champion is not None:
            raise RegistryError(f"Expected a champion in {root}, as before.", received="none")
        if not root.is_dir():
            raise RegistryError(f"Expected a registry at {root}.", received="no readable folder")
        return state

    def _take_first(self) -> None:
        """Take the champion, or the latest earlier one that can be loaded."""
        champion = self._state.effective(self._clock()) or self._state.champion
        earlier = reversed(champions(self._state.history))
        for version in dict.fromkeys([champion, *earlier]):
            if version is not None and self._try_load(version):
                self._current = self._loaded[version]
                return

    def _take_first_or_raise(self) -> None:
        self._state = self._registry.state()
        self._take_first()
        if self._current is not None:
            return
        if self._state.champion is None:
            self._registry.open()  # raises an error that says how to get a champion
        raise ServingError(
            f"Expected a champion in {self._registry.root} that can be loaded.",
            received=f"{', '.join(self._refused)}, damaged or changed",
            advice="Check the files with: cxr registry verify.",
        )

    def _load_wanted(self) -> None:
        """Load the version that answers now and the one that will, and release the others."""
        named = (self._state.effective(self._clock()), self._state.champion)
        wanted = {version for version in named if version is not None}
        self._refused = {version: refusal for version, refusal in self._refused.items() if version in wanted}
        for version in sorted(wanted - {*self._loaded}):
            self._try_load(version)
        keep = {*wanted, self.current[0]}
        self._loaded = {version: loaded for version, loaded in self._loaded.items() if version in keep}

    def _try_load(self, version: str) -> bool:
        """Load a version, unless it failed recently; return True if it is loaded now."""
        refusal = self._refused.get(version)
        if refusal is not None and refusal.state == self._state and time.monotonic() - refusal.at <= RETRY_SECONDS:
            return False
        try:
            loaded = self._load(*self._registry.open(version))
        except Exception as error:  # whatever is wrong with a new version, the old one stays
            log.warning("Version %s cannot be loaded and is not used: %s", version, error)
            self._refused[version] = _Refusal(self._state, time.monotonic())
            return False
        self._refused.pop(version, None)
        self._loaded = {**self._loaded, version: (version, loaded)}
        return True

    def _log_reminder(self) -> None:
        reason = self.missing_reason
        if reason is not None and time.monotonic() - self._reminded_at >= REMINDER_SECONDS:
            log.error("Waiting for a champion in %s. %s", self._registry.root, PROBLEM_TYPES[reason].title)
            self._reminded_at = time.monotonic()
