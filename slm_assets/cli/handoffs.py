"""`slm handoffs`: what the NoETL server is told, and what it could not be told."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from slm_assets.errors import BadInputError
from slm_assets.registry.home import Home

handoffs_app = typer.Typer(
    no_args_is_help=True,
    help="The outbox: each finished asset and each flip, to be told to the NoETL server that NOETL_SERVER_URL names.",
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts, nothing else.")]
OneDomain = Annotated[str | None, typer.Argument(metavar="[DOMAIN]", help="One domain; default: all.")]
By = Annotated[str, typer.Option("--by", help="Your name; it stands in the audit.")]
_SHOWN = (
    "handoff",
    "state",
    "event",
    "domain",
    "number",
    "asset",
    "attempts",
    "at",
    "due_at",
    "ref",
    "places",
    "error",
)


@handoffs_app.command("list")
def list_handoffs(
    domain: OneDomain = None,
    state: Annotated[
        str | None, typer.Option(help="waiting, sent, dead, delivered or skipped; default: all but delivered.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most rows shown, newest first.")] = 50,
    json: AsJson = False,
) -> None:
    """What waits, what is dead and why, and where the delivered ones are; with the counts of all states.

    Example: `slm handoffs list --state dead`
    """
    from slm_assets.registry import outbox
    from slm_assets.stages.plans import registries

    if state not in (None, *outbox.STATES):
        raise BadInputError(f"{state!r} is no state", cure=f"--state {', '.join(outbox.STATES)}")
    states = [state] if state else [name for name in outbox.STATES if name != "delivered"]
    found: list[dict[str, Any]] = []
    counts: dict[str, int] = {}
    for registry in registries(Home.from_env(), domain):
        for name, number in outbox.counts(registry, domain).items():
            counts[name] = counts.get(name, 0) + number
        rows = [row for name in states for row in outbox.rows(registry, domain=domain, state=name, limit=limit)]
        found += [{key: row[key] for key in _SHOWN} for row in rows]
    found = sorted(found, key=lambda row: row["at"], reverse=True)[:limit]
    _print({"counts": counts, "handoffs": found}, json, _table)


@handoffs_app.command()
def deliver(
    domain: OneDomain = None,
    seconds: Annotated[float, typer.Option(min=1, help="Stop after about so long.")] = 300.0,
    json: AsJson = False,
) -> None:
    """Deliver what is due now. Exits 1 where the server is away or something was refused.

    Example: `slm handoffs deliver travel`
    """
    from slm_assets.noetl.address import URL
    from slm_assets.noetl.handoffs import Report
    from slm_assets.noetl.handoffs import deliver as send
    from slm_assets.noetl.server import server_from_env
    from slm_assets.stages.plans import registries

    server = server_from_env()
    if server is None:
        raise BadInputError(f"{URL} names no server", cure="set it; what waits is kept until then")
    until = time.monotonic() + seconds
    total = Report()
    with server:
        for registry in registries(Home.from_env(), domain):
            one = send(registry, server, seconds=max(1.0, until - time.monotonic()))
            total.add(one)
    _print(total.__dict__, json, _report)
    if total.away or total.dead or total.errors:
        raise typer.Exit(1)


@handoffs_app.command()
def retry(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]…", help="Ids of the list, or their beginnings.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All that is dead or delayed.")] = False,
    by: By = "operator",
    json: AsJson = False,
) -> None:
    """Try dead or delayed handoffs again at the next delivery, in their order.

    Example: `slm handoffs retry 3f2a9c01`
    """
    from slm_assets.registry import outbox
    from slm_assets.stages.plans import registries

    if every == bool(ids):
        raise BadInputError("nothing was named", cure="give ids of `slm handoffs list`, or --all and no id")
    names = [name for registry in registries(Home.from_env()) for name in outbox.retry(registry, ids or None, actor=by)]
    _changed("retried", names, json, ids)


@handoffs_app.command()
def skip(
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Ids of the list, or their beginnings.")],
    by: By,
    reason: Annotated[str, typer.Option(help="Why; it stands beside the handoff.")],
    json: AsJson = False,
) -> None:
    """Give handoffs up, so that what waits behind them in their domain goes on.

    Example: `slm handoffs skip 3f2a9c01 --by "A. Lovelace" --reason "registered by hand"`
    """
    from slm_assets.registry import outbox
    from slm_assets.stages.plans import registries

    names = [n for registry in registries(Home.from_env()) for n in outbox.skip(registry, ids, actor=by, reason=reason)]
    _changed("skipped", names, json, ids)


@handoffs_app.command()
def prune(
    days: Annotated[int, typer.Option(min=0, help="Delivered longer ago than so many days.")] = 90,
    json: AsJson = False,
) -> None:
    """Empty the payloads of old delivered handoffs. Ids and URNs stay: lineage is translated by them.

    Example: `slm handoffs prune --days 365`
    """
    from slm_assets.registry import outbox
    from slm_assets.stages.plans import registries

    number = sum(outbox.prune(registry, days) for registry in registries(Home.from_env()))
    _print({"pruned": number}, json, lambda value: _say(f"{value['pruned']} payloads emptied"))


def _changed(word: str, names: list[str], json: bool, asked: list[str] | None) -> None:
    if asked and not names:
        raise BadInputError(f"no open handoff is {', '.join(asked)}", cure="see `slm handoffs list`")
    _print({word: names}, json, lambda _value: _say(f"{len(names)} {word}"))


def _table(value: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from slm_assets.cli.render import CONSOLE

    columns = ("id", "state", "what", "tries", "since", "where, or why not")
    table = Table(*columns, box=None, header_style="bold")
    for row in value["handoffs"]:
        version = f" v{row['number']}" if row["number"] else ""
        what = f"{row['domain']}{version} {row['asset']} {row['event']}"
        told = row["error"] or row["ref"] or ""
        table.add_row(row["handoff"][:12], row["state"], what, str(row["attempts"]), row["at"][:19], escape(told))
    counts = ", ".join(f"{number} {state}" for state, number in value["counts"].items()) or "no handoffs"
    CONSOLE.print(counts)
    if value["handoffs"]:
        CONSOLE.print(table)


def _report(value: dict[str, Any]) -> None:
    _say(f"{value['delivered']} delivered, {value['delayed']} delayed, {value['dead']} dead")
    if value["busy"]:
        _say("another process is delivering")
    for line in [*value["errors"], *([f"stopped: {value['away']}"] if value["away"] else [])]:
        _say(line)


def _say(text: str) -> None:
    from slm_assets.cli.render import CONSOLE

    CONSOLE.print(text, markup=False)


def _print(value: dict[str, Any], as_json: bool, human: Any) -> None:
    from slm_assets.cli import render

    if as_json:
        render.json(value)
    else:
        human(value)
