"""`slm replay`: take the new turns of the consuming playbook out of NoETL's event log."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from slm_assets.errors import BadInputError
from slm_assets.registry.home import Home


def replay(
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="A folder of domains/.")],
    by: Annotated[str, typer.Option("--by", help="Who acts, for the audit.")] = "operator",
    json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts, nothing else.")] = False,
) -> None:
    """Read what the consuming playbook did since the last time; redacted, it joins the next version's rows.

    What is read is said by `data.event_log_replay`, what is removed by `data.redaction_policy`. Exits 1 where
    the server went away; what it had answered until then is kept.

    Example: `slm replay travel`
    """
    from slm_assets.cli import render
    from slm_assets.noetl.address import URL
    from slm_assets.noetl.replay import replay as read
    from slm_assets.noetl.server import server_from_env
    from slm_assets.registry.captures import mark
    from slm_assets.stages.plans import open_domain

    loaded, registry = open_domain(Home.from_env(), domain)
    server = server_from_env()
    if server is None:
        raise BadInputError(f"{URL} names no server", cure="set it to the server whose executions are to be read")
    with server:
        reading = read(loaded, registry, server, actor=by)
    now = mark(registry, domain)
    result: dict[str, Any] = {
        "domain": domain,
        "turns": len(reading.rows),
        "executions": reading.executions,
        "redacted": dict(sorted(reading.redacted.items())),
        "dropped": dict(sorted(reading.dropped.items())),
        "truncated": reading.truncated,
        "capped": reading.capped,
        "still_running": len(now.pending),
        "watermark": now.watermark,
        "captured": now.turns,
        "away": reading.away,
    }
    if json:
        render.json(result)
    else:
        render.pairs(result)
    if reading.away:
        raise typer.Exit(1)
