"""The actions of `cxr registry`: each prints its result, as text or JSON, and returns the exit code."""

import getpass
import json
import os
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_platform.errors import BundleError, ConfigError, RegistryError
from cxr_platform.storage.paths import is_remote
from pipelines.command import console
from pipelines.registry_tables import (
    Version,
    agreement_text,
    bundle_table,
    checks_table,
    comparison_table,
    decisions_table,
    versions_table,
)

if TYPE_CHECKING:
    from cxr_platform.registry.bundle_comparison import BundleComparison
    from cxr_platform.registry.state import Event, RegistryState
    from cxr_platform.registry.store import Registry
    from pipelines.registry import RegistryRequest

PASSWORD_VARIABLE = "CXR_SIGNING_PASSWORD"


def print_versions(registry: "Registry", request: "RegistryRequest") -> int:
    """Print every version with its figures, and which one is served."""
    state = registry.state()
    versions = [_read_version(registry, name) for name in state.names]
    serving = _serving(state)
    if request.json:
        _print_json(
            {
                "champion": state.champion,
                "serving": serving,
                "versions": [_plain_version(version, state) for version in versions],
                "history": [event.model_dump(mode="json") for event in state.history],
            }
        )
    elif not versions:
        print(f"{registry.root} has no versions. Make one with `make champion`.")
    else:
        console().print(versions_table(versions, state))
        if state.champion and serving != state.champion:
            print(_switch(state.history[-1], serving))
    return 0


def print_version(registry: "Registry", request: "RegistryRequest") -> int:
    """Print one version, all bytes of which are compared with their hashes."""
    folder, bundle = registry.open(request.version or "champion")
    if request.json:
        _print_json(bundle.model_dump(mode="json"))
    else:
        console().print(bundle_table(bundle))
        print(f"Every byte is unchanged: {folder}")
    return 0


def print_comparison(registry: "Registry", request: "RegistryRequest") -> int:
    """Print the figures of a version and the champion, and how often both decided alike."""
    from cxr_platform.monitoring.shadow_counts import read_shadow_counts
    from cxr_platform.registry.bundle_comparison import compare

    assert request.version is not None, "the parser requires it"
    new, present = registry.open(request.version)[1], registry.open()[1]
    comparison = compare(new, present)
    counts = read_shadow_counts(request.metrics, present.version, new.version) if request.metrics else None
    if request.json:
        shadow = counts and {
            "agreement": asdict(counts.agreement),
            "decisions": [
                {"champion": ours, "challenger": theirs, "images": images}
                for (ours, theirs), images in counts.decisions.items()
            ],
            "skipped": dict(counts.skipped),
            "drift": dict(counts.drift),
        }
        _print_json({"comparison": asdict(comparison), "shadow": shadow})
        return 0
    _print_figures(comparison)
    print(comparison.verdict)
    if counts is not None:
        if counts.images:
            console().print(decisions_table(counts))
        print(agreement_text(counts))
    return 0


def promote_version(registry: "Registry", request: "RegistryRequest") -> int:
    """Make a version the champion, after its figures and the champion's were printed."""
    from cxr_platform.registry.promotion import promote

    assert request.version is not None, "the parser requires it"
    before = registry.champion()
    show = None if request.json else _print_figures
    promotion = promote(registry, request.version, request.force, request.lead, show)
    comparison = promotion.comparison
    if request.json:
        _print_json({"event": promotion.event.model_dump(mode="json"), "comparison": comparison and asdict(comparison)})
    else:
        print(comparison.verdict if comparison else f"{before} cannot be read: nothing was compared.")
        print(_switch(promotion.event, _serving(registry.state())))
    return 0


def roll_back(registry: "Registry", request: "RegistryRequest") -> int:
    """Return to the previous champion."""
    from cxr_platform.registry.promotion import rollback

    event = rollback(registry, request.lead)
    if request.json:
        _print_json({"event": event.model_dump(mode="json")})
    else:
        print(_switch(event, _serving(registry.state())))
    return 0


def verify_versions(registry: "Registry", request: "RegistryRequest") -> int:
    """Print which versions are unchanged; return 2 if one is not."""
    checks = registry.verify(request.version)
    broken = sum(check.problem is not None for check in checks)
    if request.json:
        _print_json({"checks": [asdict(check) for check in checks], "broken": broken})
    else:
        console().print(checks_table(checks))
    return BundleError.exit_code if broken else 0


def sign_version(registry: "Registry", request: "RegistryRequest") -> int:
    """Sign a version; the password of the key comes from the environment or the terminal."""
    from cxr_platform.registry.signing import read_secret_key

    assert request.version is not None, "the parser requires both"
    assert request.secret_key is not None
    password = os.environ.get(PASSWORD_VARIABLE)
    if password is None and sys.stdin.isatty():
        password = getpass.getpass(f"Password of {request.secret_key} (empty if it has none): ")
    path = registry.sign(request.version, read_secret_key(request.secret_key, password))
    if request.json:
        _print_json({"signature": str(path)})
    else:
        print(f"Signed: {path}")
    return 0


def register_in_mlflow(registry: "Registry", request: "RegistryRequest", place: Path) -> int:
    """Register a version of the registry at `place`, of which `registry` may be a local copy."""
    from cxr_platform.tracking.mlflow_models import register_version

    assert request.version is not None, "the parser requires both"
    assert request.model is not None
    source = str(place) if is_remote(place) else None
    if source and not (request.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")):
        raise ConfigError(
            "Expected a place of MLflow: the registry is in an object store, so that no folder is beside it.",
            received="neither --tracking-uri nor MLFLOW_TRACKING_URI",
        )
    messages: list[str] = []
    number = register_version(registry, request.version, request.model, request.tracking_uri, source, messages.append)
    if request.json:
        _print_json({"model": request.model, "version": number})
    else:
        print("\n".join(messages))
    return 0


def generate_key_pair(request: "RegistryRequest") -> int:
    """Write a pair of keys for signatures."""
    from cxr_platform.registry.signing import generate_keys

    assert request.name is not None, "the parser requires it"
    secret, public = generate_keys(request.name)
    if request.json:
        _print_json({"secret_key": str(secret), "public_key": str(public)})
    else:
        print(f"Keep {secret} offline. Servers need {public} (--public-key).")
    return 0


def _read_version(registry: "Registry", name: str) -> Version:
    try:
        return Version(name, registry.open(name)[1], None)
    except RegistryError as error:
        return Version(name, None, str(error))


def _plain_version(version: Version, state: "RegistryState") -> dict[str, Any]:
    """Return the values of `list --json` for one version."""
    plain = {
        "version": version.name,
        "champion": version.name == state.champion,
        **state.versions[version.name].model_dump(mode="json"),
        "problem": version.problem,
    }
    if version.bundle is not None:
        plain |= {
            "synthetic": version.bundle.synthetic,
            "study": version.bundle.study.name,
            "strategy": version.bundle.strategy,
            **version.bundle.model_dump(mode="json", include={"metrics", "operating_point"}),
        }
    return plain


def _serving(state: "RegistryState") -> str | None:
    """Return the version that is served now: before the lead of a promotion has passed, not the champion."""
    return state.effective(datetime.now(timezone.utc))


def _switch(event: "Event", serving: str | None) -> str:
    if serving == event.version:
        return f"Champion: {event.version}, which is served now."
    until = f"; {serving} is served until then" if serving else ""
    return f"Champion: {event.version}, from {event.effective_at.isoformat(timespec='milliseconds')} on{until}."


def _print_json(tree: Any) -> None:
    print(json.dumps(tree, indent=1, allow_nan=False, ensure_ascii=False))


def _print_figures(comparison: "BundleComparison") -> None:
    console().print(comparison_table(comparison))
    for note in comparison.notes:
        print(note)
