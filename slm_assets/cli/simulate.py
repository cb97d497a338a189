"""`slm simulate`: traffic as a domain's scenarios describe it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slm_assets.canonical import Json
from slm_assets.cli.common import AsJson, DomainName, show
from slm_assets.errors import BadInputError
from slm_assets.registry.home import Home

if TYPE_CHECKING:
    from slm_assets.domain.domain import Domain

simulate_app = typer.Typer()


@simulate_app.command()
def simulate(
    domain: DomainName,
    scenario: Annotated[str | None, typer.Option(help="Which; default: list them.")] = None,
    phase: Annotated[list[str] | None, typer.Option(help="Only these phases; default: all, in order.")] = None,
    turns: Annotated[int | None, typer.Option(min=1, help="How many in all; default: as the scenario says.")] = None,
    rate: Annotated[
        float, typer.Option(min=0.0, help="Turns a second, at random times; 0: as fast as answered.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="The same seed is the same traffic.")] = 1,
    url: Annotated[str, typer.Option(help="The service.")] = "http://127.0.0.1:8080",
    token: Annotated[
        str | None,
        typer.Option(
            metavar="ALIAS", help="Alias of the bearer token: an environment variable or file in SLM_SECRETS."
        ),
    ] = None,
    clients: Annotated[int, typer.Option(min=1, max=256, help="Connections.")] = 8,
    drop: Annotated[
        Path | None, typer.Option(help="Folder for the turns of a scenario that another engine answered.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="With --drop: time of the last turn, such as 2027-01-31T12:00:00Z; default: now.")
    ] = None,
    copy_to: Annotated[
        Path | None, typer.Option(help="Copy the domain into this folder with the scenario's files over its own.")
    ] = None,
    tolerate: Annotated[bool, typer.Option("--tolerate", help="Exit 0 although requests failed.")] = False,
    json: AsJson = False,
) -> None:
    """Send realistic turns, and what users do about the answers, to a running service.

    Scenarios are data of the domain (`improvement.simulation`). The summary says who answered, how much was right,
    the feedback sent, latencies, and errors. SIGINT ends it early, with the summary. Exits 1 when a request failed.
    See docs/simulation.md.

    Example: `slm simulate travel --scenario steady --turns 1000 --rate 50`
    """
    from slm_assets.cli import render
    from slm_assets.domain.loading import domain_folder, load_domain

    loaded = load_domain(domain_folder(Home.from_env().domains, domain))
    if scenario is None:
        show(_scenarios(loaded), json, _list)
        return
    if copy_to is not None:
        show(_copied(loaded, scenario, copy_to), json, render.pairs)
        return
    from slm_assets.simulation import run
    from slm_assets.simulation.client import target

    last = _time(at)
    traffic = run.Traffic(loaded, scenario, seed=seed, turns=turns, phases=phase or ())
    if drop is not None:
        result = run.drop(traffic, drop, rate=rate, last=last)
    else:
        result = run.send(traffic, target(url, token), rate=rate, clients=clients)
    show(result, json, _summary)
    if result["failed_requests"] and not tolerate:
        raise typer.Exit(1)


def _time(written: str | None) -> datetime | None:
    if written is None:
        return None
    try:
        found = datetime.fromisoformat(written)
    except ValueError:
        raise BadInputError(f"--at: {written[:80]!r} is no time", cure="such as 2027-01-31T12:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _scenarios(domain: Domain) -> Json:
    from slm_assets.domain.simulation import load_simulation

    found = load_simulation(domain).scenarios
    return {
        "domain": domain.name,
        "scenarios": [
            {
                "id": name,
                "about": scenario.about,
                "note": scenario.note,
                "kind": "drop" if scenario.recorded else "copy" if scenario.overlay else "send",
                "phases": [{"id": phase.id, "turns": phase.turns} for phase in scenario.phases],
            }
            for name, scenario in found.items()
        ],
    }


def _copied(domain: Domain, name: str, root: Path) -> Json:
    from slm_assets.domain.simulation import load_simulation
    from slm_assets.simulation.overlay import overlaid_copy
    from slm_assets.simulation.run import chosen

    scenario = chosen(load_simulation(domain), domain.name, name)
    done = overlaid_copy(domain, name, scenario, root)
    return {"domain": domain.name, "scenario": name, "copy": str(root / domain.name), **done, "note": scenario.note}


def _list(value: Any) -> None:
    from rich.table import Table

    from slm_assets.cli import render

    table = Table("scenario", "turns", "shows")
    for line in value["scenarios"]:
        phases = " + ".join(f"{phase['turns']} {phase['id']}" for phase in line["phases"])
        table.add_row(line["id"], phases, line["about"])
    render.CONSOLE.print(table)


def _summary(value: Any) -> None:
    """The totals, and one row for each phase."""
    from rich.markup import escape
    from rich.table import Table

    from slm_assets.cli import render

    table = Table("phase", "turns", "failed", "right", "feedback", "p50 ms", "p99 ms")
    for line in [*value["phases"], {"id": "all", **value}]:
        right = ", ".join(f"{role} {found['share']:.1%}" for role, found in line["right"].items())
        told = ", ".join(f"{signal} {count}" for signal, count in line["feedback"].items())
        latency = line.get("latency_ms", {})
        times = [f"{latency[name]:.1f}" if name in latency else "" for name in ("p50", "p99")]
        table.add_row(line["id"], str(line["turns"]), str(line["failed_requests"]), right, told, *times)
    render.CONSOLE.print(table)
    for line in value["answers"]:
        who = " ".join(str(line[key]) for key in ("engine", "version") if line[key])
        why = f", in a release's place: {line['fallback']}" if line["fallback"] else ""
        told = f"{line['role']} by {who}: {line['turns']} turns, from {line['first_s']:.2f} s on{why}"
        render.CONSOLE.print(escape(told), soft_wrap=True)
    rest = {key: value[key] for key in ("errors", "invalid", "feedback_not_kept", "note") if value[key]}
    for key in ("file", "seconds", "turns_per_s", "generator_cpu_s"):
        if key in value:
            rest[key] = value[key]
    render.pairs(rest)
