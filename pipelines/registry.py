"""List, show, verify, compare, sign, promote and roll back the versions of the registry, and register them in MLflow.

    cxr registry list | show [VERSION] | promote VERSION [--force] [--lead SECONDS] | rollback
    cxr registry compare VERSION [--metrics URL …]
    cxr registry register VERSION --model NAME [--tracking-uri URI]
    cxr registry generate-key NAME | sign VERSION --secret-key FILE | verify [VERSION] [--public-key FILE]

VERSION is v1, v2, … or champion. Every action takes --registry FOLDER and --json.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cxr_platform.errors import RegistryError
from pipelines import registry_actions
from pipelines.command import run_command
from pipelines.local_study import local_copies
from pipelines.options import REGISTRY, location, parse_request


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
        help=f"secret key of minisign; its password is asked for, or read from {registry_actions.PASSWORD_VARIABLE}",
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

    actions: dict[str, Callable[[Registry, RegistryRequest], int]] = {
        "list": registry_actions.print_versions,
        "show": registry_actions.print_version,
        "compare": registry_actions.print_comparison,
        "promote": registry_actions.promote_version,
        "rollback": registry_actions.roll_back,
        "verify": registry_actions.verify_versions,
        "sign": registry_actions.sign_version,
        "register": partial(registry_actions.register_in_mlflow, place=request.registry),
    }
    if request.action == "generate-key":
        return registry_actions.generate_key_pair(request)
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


if __name__ == "__main__":
    raise SystemExit(main())
