"""The bundles that can serve, and which of them does.

    cxr registry list | show [VERSION] | promote VERSION [--force] [--lead SECONDS] | rollback | verify [VERSION]

VERSION is v1, v2, … or champion. Each takes --registry FOLDER and --json. A changed byte in a bundle is exit code 2.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_platform.errors import BundleError, RegistryError
from pipelines.command import run_command
from pipelines.places import a_place, at_hand
from pipelines.registry_tables import Known, bundle_table, checks_table, comparison_table, versions_table

if TYPE_CHECKING:
    from rich.table import Table

    from cxr_platform.registry.comparison import Comparison
    from cxr_platform.registry.state import Event, State
    from cxr_platform.registry.store import Registry

REGISTRY = Path("registry")
PIPED_COLUMNS = 120
CHANGING = ("promote", "rollback")
"""The verbs for which a registry in a store is held."""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for a refused promotion, a changed bundle, a version that there is not."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _with_places(arguments))


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--registry", type=a_place, default=REGISTRY, help="folder or URI (default: registry)")
    shared.add_argument("--json", action="store_true", help="print JSON for a program")
    lead = argparse.ArgumentParser(add_help=False)
    lead.add_argument("--lead", type=float, default=10.0, metavar="SECONDS", help="until servers switch (default: 10)")
    parser = argparse.ArgumentParser(prog="cxr registry", description=__doc__.split("\n")[0])
    verbs = parser.add_subparsers(dest="action", required=True)
    verbs.add_parser("list", parents=[shared], help="every version with its figures")
    show = verbs.add_parser("show", parents=[shared], help="what a version is")
    show.add_argument("version", nargs="?", default="champion")
    promote = verbs.add_parser("promote", parents=[shared, lead], help="make a version the champion")
    promote.add_argument("version")
    promote.add_argument("--force", action="store_true", help="even if its figures are worse")
    verbs.add_parser("rollback", parents=[shared, lead], help="go back to the champion before")
    verify = verbs.add_parser("verify", parents=[shared], help="compare every byte with its hash")
    verify.add_argument("version", nargs="?")
    return parser


def _with_places(arguments: argparse.Namespace) -> int:
    with at_hand(arguments, "registry", reading=arguments.action not in CHANGING) as local:
        return _run(local)


def _run(arguments: argparse.Namespace) -> int:
    from cxr_platform.registry.store import Registry

    if not arguments.registry.is_dir():
        raise RegistryError(
            f"Expected a registry at {arguments.registry}.",
            received="no such folder",
            advice="Make a bundle with `make champion`, or name the folder with --registry.",
        )
    actions = {"list": _list, "show": _show, "promote": _promote, "rollback": _rollback, "verify": _verify}
    return actions[arguments.action](Registry(arguments.registry), arguments)


def _list(registry: "Registry", arguments: argparse.Namespace) -> int:
    state = registry.state()
    known = [_known(registry, version) for version in state.names]
    serving = _serving(state)
    if arguments.json:
        _print_json(
            {
                "champion": state.champion,
                "serving": serving,
                "versions": [k.plain(state) for k in known],
                "history": [event.model_dump(mode="json") for event in state.history],
            }
        )
        return 0
    if not known:
        print(f"No versions in {registry.root} yet. Make one: make champion.")
        return 0
    _print_table(versions_table(known, state))
    if state.champion and serving != state.champion:
        print(_switch(state.history[-1], serving))
    return 0


def _show(registry: "Registry", arguments: argparse.Namespace) -> int:
    folder, bundle = registry.open(arguments.version)
    if arguments.json:
        _print_json(bundle.model_dump(mode="json"))
        return 0
    _print_table(bundle_table(bundle))
    print(f"Every byte is as it was added: {folder}")
    return 0


def _promote(registry: "Registry", arguments: argparse.Namespace) -> int:
    from cxr_platform.registry.promotion import promote

    before = registry.champion()
    tell = None if arguments.json else _tell
    promotion = promote(registry, arguments.version, arguments.force, arguments.lead, tell)
    if arguments.json:
        comparison = promotion.comparison
        _print_json({"event": promotion.event.model_dump(mode="json"), "comparison": comparison and asdict(comparison)})
    else:
        print(
            promotion.comparison.verdict if promotion.comparison else f"{before} cannot be read: nothing was compared."
        )
        print(_switch(promotion.event, _serving(registry.state())))
    return 0


def _rollback(registry: "Registry", arguments: argparse.Namespace) -> int:
    from cxr_platform.registry.promotion import rollback

    event = rollback(registry, arguments.lead)
    if arguments.json:
        _print_json({"event": event.model_dump(mode="json")})
    else:
        print(_switch(event, _serving(registry.state())))
    return 0


def _verify(registry: "Registry", arguments: argparse.Namespace) -> int:
    checks = registry.verify(arguments.version)
    broken = sum(check.problem is not None for check in checks)
    if arguments.json:
        _print_json({"checks": [asdict(check) for check in checks], "broken": broken})
    else:
        _print_table(checks_table(checks))
    return BundleError.exit_code if broken else 0


def _known(registry: "Registry", version: str) -> Known:
    try:
        return Known(version, registry.open(version)[1], None)
    except RegistryError as error:
        return Known(version, None, str(error))


def _tell(comparison: "Comparison") -> None:
    _print_table(comparison_table(comparison))
    for note in comparison.notes:
        print(note)


def _serving(state: "State") -> str | None:
    """What answers now: after a change within the lead of another one it is not the champion before."""
    return state.effective(datetime.now(timezone.utc))


def _switch(event: "Event", serving: str | None) -> str:
    if serving == event.version:
        return f"Champion: {event.version}, which answers already."
    until = f"; {serving} answers until then" if serving else ""
    return f"Champion: {event.version}, from {event.effective_at.isoformat(timespec='milliseconds')} on{until}."


def _print_json(tree: Any) -> None:
    print(json.dumps(tree, indent=1, allow_nan=False, ensure_ascii=False))


def _print_table(table: "Table") -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else PIPED_COLUMNS, highlight=False, markup=False).print(table)


if __name__ == "__main__":
    raise SystemExit(main())
