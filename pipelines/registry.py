"""List, show, verify, compare, sign, promote and roll back the versions of the registry, and register them in MLflow.

    cxr registry list | show [VERSION] | promote VERSION [--force] [--lead SECONDS] | rollback
    cxr registry compare VERSION [--metrics URL …]
    cxr registry register VERSION --model NAME [--tracking-uri URI]
    cxr registry generate-key NAME | sign VERSION --secret-key FILE | verify [VERSION] [--public-key FILE]

VERSION is v1, v2, … or champion. Every action takes --registry FOLDER and --json.
"""

import argparse
import getpass
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_platform.errors import BundleError, ConfigError, RegistryError
from cxr_platform.storage.paths import is_remote
from pipelines.command import console, run_command
from pipelines.local_study import local_copies
from pipelines.options import REGISTRY, location, parse_request
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

PASSWORD_VARIABLE = "CXR_SIGNING_PASSWORD"


@dataclass(frozen=True)
class RegistryRequest:
    """An action on a registry, and the options that the action has."""

    action: str
    registry: Path
    json: bool
    version: str | None = None
    force: bool = False
    lead: float = 10.0
    name: Path | None = None
    secret_key: Path | None = None
    public_key: str | None = None
    model: str | None = None
    tracking_uri: str | None = None
    metrics: Sequence[str] = ()


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, or 2 for a refused promotion, a changed bundle or an unknown version."""
    return run_command(lambda: run(parse_request(RegistryRequest, parser(), argv)))


def parser() -> argparse.ArgumentParser:
    """Return the options of `cxr registry`."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--registry", type=location, default=REGISTRY, help="folder or URI (default: registry)")
    shared.add_argument("--json", action="store_true", help="print JSON")
    lead = argparse.ArgumentParser(add_help=False)
    lead.add_argument(
        "--lead", type=float, default=10.0, metavar="SECONDS", help="seconds until servers switch (default: 10)"
    )
    parser = argparse.ArgumentParser(
        prog="cxr registry", description="List, show, verify, sign, promote and roll back versions of the registry."
    )
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", parents=[shared], help="list every version with its figures")
    show = actions.add_parser("show", parents=[shared], help="show one version")
    show.add_argument("version", nargs="?", default="champion", help="version to show (default: champion)")
    compare = actions.add_parser("compare", parents=[shared], help="compare a version with the champion")
    compare.add_argument("version", help="version to compare")
    compare.add_argument(
        "--metrics",
        action="append",
        default=[],
        metavar="URL",
        help="metrics of a node of a server with --shadow VERSION, such as http://127.0.0.1:9811/metrics: how often "
        "both decided alike; may be repeated",
    )
    promote = actions.add_parser("promote", parents=[shared, lead], help="make a version the champion")
    promote.add_argument("version", help="version to promote")
    promote.add_argument(
        "--force",
        action="store_true",
        help="promote a worse version all the same",
    )
    actions.add_parser("rollback", parents=[shared, lead], help="return to the previous champion")
    verify = actions.add_parser("verify", parents=[shared], help="compare every byte with its hash")
    verify.add_argument("version", nargs="?", help="version to verify (default: all)")
    verify.add_argument(
        "--public-key", metavar="FILE", help="also compare signatures with this key of minisign, or RW…"
    )
    generate = actions.add_parser("generate-key", parents=[shared], help="make a pair of keys for signatures")
    generate.add_argument("name", type=Path, help="writes NAME.key, which is kept offline, and NAME.pub")
    sign = actions.add_parser("sign", parents=[shared], help="sign a version for servers with --public-key")
    sign.add_argument("version", help="version to sign")
    sign.add_argument(
        "--secret-key",
        type=Path,
        required=True,
        metavar="FILE",
        help=f"secret key of minisign; its password is asked for, or read from {PASSWORD_VARIABLE}",
    )
    register = actions.add_parser("register", parents=[shared], help="register a version as a model version in MLflow")
    register.add_argument("version", help="version to register; the champion also gets MLflow's alias champion")
    register.add_argument("--model", required=True, metavar="NAME", help="name of the registered model in MLflow")
    register.add_argument(
        "--tracking-uri", help="folder or server (default: MLFLOW_TRACKING_URI, or mlruns beside the registry)"
    )
    return parser


def run(request: RegistryRequest) -> int:
    """Carry the action out and print its result; return 0, or 2 if `verify` finds a changed bundle."""
    from cxr_platform.registry.signing import read_public_key
    from cxr_platform.registry.store import Registry

    actions: dict[str, Callable[[Registry, RegistryRequest], int]]
    actions = {"list": _list, "show": _show, "promote": _promote, "rollback": _rollback, "verify": _verify}
    actions |= {"compare": _compare}
    actions |= {"sign": _sign, "register": partial(_register, place=request.registry)}
    if request.action == "generate-key":
        return _generate_key(request)
    read_only = request.action not in ("promote", "rollback", "sign")
    with local_copies(request, "registry", read_only=read_only) as local:
        if not local.registry.is_dir():
            raise RegistryError(
                f"Expected a registry at {local.registry}.",
                received="no such folder",
                advice="Make a bundle with `make champion`, or name the folder with --registry.",
            )
        public_key = None if request.public_key is None else read_public_key(request.public_key)
        return actions[request.action](Registry(local.registry, public_key), local)


def _list(registry: "Registry", request: RegistryRequest) -> int:
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


def _show(registry: "Registry", request: RegistryRequest) -> int:
    folder, bundle = registry.open(request.version or "champion")
    if request.json:
        _print_json(bundle.model_dump(mode="json"))
    else:
        console().print(bundle_table(bundle))
        print(f"Every byte is unchanged: {folder}")
    return 0


def _compare(registry: "Registry", request: RegistryRequest) -> int:
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
    _print_comparison(comparison)
    print(comparison.verdict)
    if counts is not None:
        if counts.images:
            console().print(decisions_table(counts))
        print(agreement_text(counts))
    return 0


def _promote(registry: "Registry", request: RegistryRequest) -> int:
    from cxr_platform.registry.promotion import promote

    assert request.version is not None, "the parser requires it"
    before = registry.champion()
    show = None if request.json else _print_comparison
    promotion = promote(registry, request.version, request.force, request.lead, show)
    comparison = promotion.comparison
    if request.json:
        _print_json({"event": promotion.event.model_dump(mode="json"), "comparison": comparison and asdict(comparison)})
    else:
        print(comparison.verdict if comparison else f"{before} cannot be read: nothing was compared.")
        print(_switch(promotion.event, _serving(registry.state())))
    return 0


def _rollback(registry: "Registry", request: RegistryRequest) -> int:
    from cxr_platform.registry.promotion import rollback

    event = rollback(registry, request.lead)
    if request.json:
        _print_json({"event": event.model_dump(mode="json")})
    else:
        print(_switch(event, _serving(registry.state())))
    return 0


def _verify(registry: "Registry", request: RegistryRequest) -> int:
    checks = registry.verify(request.version)
    broken = sum(check.problem is not None for check in checks)
    if request.json:
        _print_json({"checks": [asdict(check) for check in checks], "broken": broken})
    else:
        console().print(checks_table(checks))
    return BundleError.exit_code if broken else 0


def _sign(registry: "Registry", request: RegistryRequest) -> int:
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


def _register(registry: "Registry", request: RegistryRequest, place: Path) -> int:
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


def _generate_key(request: RegistryRequest) -> int:
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


def _print_comparison(comparison: "BundleComparison") -> None:
    console().print(comparison_table(comparison))
    for note in comparison.notes:
        print(note)


if __name__ == "__main__":
    raise SystemExit(main())
