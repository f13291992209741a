"""Promotion of a version to champion if it is no worse than the present one, and rollback to the champion before."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Literal

from cxr_platform.errors import BundleError, PromotionRefused, RegistryError
from cxr_platform.registry.bundle import Bundle
from cxr_platform.registry.bundle_comparison import BundleComparison, compare, interval_text
from cxr_platform.registry.state import Event, RegistryState
from cxr_platform.registry.store import CHAMPION, Registry

LEAD_SECONDS = 10.0
"""Time from a change to its effect. A server that has loaded the version by then switches at that moment, a slower one
once it has."""


@dataclass(frozen=True)
class Promotion:
    """The recorded event, and the comparison with the champion before; `None` if that one cannot be read."""

    event: Event
    comparison: BundleComparison | None


def promote(
    registry: Registry,
    version: str,
    force: bool = False,
    lead_seconds: float = LEAD_SECONDS,
    on_comparison: Callable[[BundleComparison], None] | None = None,
) -> Promotion:
    """Make `version` the champion in `lead_seconds`; call `on_comparison` before a worse version is refused.

    Raise `PromotionRefused` if it is worse than the present champion, cannot be compared, or is not better than always
    naming the most frequent class, unless `force`;
    `BundleError` if one of its files has changed, with or without `force`.
    """
    _check_lead(lead_seconds)
    with registry.change() as state:
        _, new = registry.open(version)
        if new.version == state.champion:
            raise PromotionRefused(
                "Expected a version that is not the champion.", received=f"{new.version}, the champion"
            )
        comparison = _compared(registry, new, state, force)
        if comparison is not None and on_comparison is not None:
            on_comparison(comparison)
        if comparison is not None and comparison.worse and not force:
            raise PromotionRefused(
                f"Expected {new.version} to be no worse than the champion, {comparison.present}.",
                received="; ".join(comparison.reasons),
                advice="Keep the champion, or promote with --force if the metrics cannot be compared.",
            )
        if not new.better_than_majority and not force:
            raise PromotionRefused(
                f"Expected {new.version} to be better than always naming the most frequent class, which is right for "
                f"{new.study.majority_accuracy:.2f} % of the study's images.",
                received=f"7-class accuracy {interval_text(new.metrics['accuracy_7_class'])}",
                advice="Train another strategy, for more steps or on more images, or promote with --force.",
            )
        reason = "the champion before cannot be read" if comparison is None else comparison.verdict
        if not new.better_than_majority:
            reason += "; not shown to be better than always naming the most frequent class"
        forced = comparison is None or comparison.worse or not new.better_than_majority
        event = _event(new.version, "promote", lead_seconds, reason, forced)
        registry.write(_changed(state, event))
    return Promotion(event, comparison)


def rollback(registry: Registry, lead_seconds: float = LEAD_SECONDS) -> Event:
    """Make the champion before the present one the champion again; repeated, go further back.

    Raise `RegistryError` if there is none before, `BundleError` if one of its files has changed.
    """
    _check_lead(lead_seconds)
    with registry.change() as state:
        if state.before is None:
            raise RegistryError(
                f"Expected a champion before {state.champion}." if state.champion else "Expected a champion.",
                received="none",
                advice="Promote another version: cxr registry promote VERSION.",
            )
        registry.open(state.before)
        event = _event(state.before, "rollback", lead_seconds, f"back from {state.champion}", False)
        registry.write(_changed(state, event))
    return event


def _compared(registry: Registry, new: Bundle, state: RegistryState, force: bool) -> BundleComparison | None:
    if state.champion is None:
        return compare(new, None)
    try:
        _, present = registry.open(CHAMPION)
    except BundleError as error:
        if force:
            return None
        raise PromotionRefused(
            f"Expected to compare {new.version} with the champion, {state.champion}, which cannot be read.",
            received=error,
            advice="Go back with cxr registry rollback, or promote without a comparison with --force.",
        ) from error
    return compare(new, present)


def _event(
    version: str, action: Literal["promote", "rollback"], lead_seconds: float, reason: str, forced: bool
) -> Event:
    now = datetime.now(timezone.utc)
    at = now.replace(microsecond=now.microsecond // 1000 * 1000)
    effective = at + timedelta(seconds=lead_seconds)
    return Event(version=version, action=action, at=at, effective_at=effective, reason=reason, forced=forced)


def _changed(state: RegistryState, event: Event) -> RegistryState:
    return state.model_copy(update={"champion": event.version, "history": (*state.history, event)})


def _check_lead(seconds: float) -> None:
    if not (math.isfinite(seconds) and 0 <= seconds <= 86_400):
        raise RegistryError("Expected a lead from 0 to 86400 seconds.", received=f"{seconds:g}")
