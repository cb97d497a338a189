"""What the commands share: how an answer is printed, who acts, which registry and version are meant."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.errors import BadInputError
from slm_assets.registry.home import Home

if TYPE_CHECKING:
    from slm_assets.registry.registry import Plan, Registry

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts, nothing else.")]
DomainName = Annotated[str, typer.Argument(metavar="DOMAIN", help="A folder of domains/.")]
Actor = Annotated[str | None, typer.Option("--by", help="Who acts, for the audit; default: the login name.")]


def root_app() -> typer.Typer:
    """`slm` without any command yet."""
    return typer.Typer(
        name="slm",
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        add_completion=False,
        help="Build, gate, deploy and keep improving a domain's own small language model.\n\n"
        "State lives in `SLM_HOME` (default `./.slm`), domains in `SLM_DOMAINS` (default `./domains`).",
    )


def show(value: Json, as_json: bool, human: Any) -> None:
    """Print an answer: as JSON, or as `human(value)` does."""
    from slm_assets.cli import render

    if as_json:
        render.json(value)
    else:
        human(value)


def print_line(value: Json) -> None:
    """One JSON document on one line of stdout, without waiting for what draws tables."""
    sys.stdout.write(canonical.text(value) + "\n")


def actor_of(by: str | None) -> str:
    """Who acts: as given, else the login name."""
    if by:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def registry_for(domain: str) -> Registry:
    """The registry of a domain of this home."""
    from slm_assets.stages.plans import registry_of

    return registry_of(Home.from_env(), domain)


def plan_for(registry: Registry, domain: str, number: int) -> Plan:
    """The plan of a version; BadInputError where it was never opened."""
    plan = registry.plan(domain, number)
    if plan is None:
        raise BadInputError(
            f"{domain} v{number} was never opened", cure=f"open it: slm run {domain} --version v{number}"
        )
    return plan
