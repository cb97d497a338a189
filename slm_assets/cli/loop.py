"""`slm watch`, `slm triggers` and `slm budget`: the loop by hand, and what it says of itself."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from slm_assets.cli.common import Actor, AsJson, DomainName, actor_of, registry_for, show
from slm_assets.errors import SlmError
from slm_assets.registry.home import Home

loop_app = typer.Typer()
NICE = 10
"""Added to the niceness of a process that retrains: whoever answers goes first."""


@loop_app.command()
def watch(
    domain: DomainName,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Then retrain in this process, if it fires and nothing forbids it.")
    ] = False,
    by: Actor = None,
    json: AsJson = False,
) -> None:
    """Look at a domain's traffic now: capture what is new, look for drift, and say what the triggers say.

    With --retrain it goes on as the sensors would, at low priority beside a service: a version that waits for live
    turns is judged on those that came; a firing trigger opens and runs the next one, through the same decision. Exits
    3 when a check or a gate said no, 4 when the retrain must wait. JSON keys: domain, window, run_id, error, triggers,
    became, run (of --retrain).

    Example: `slm watch travel --retrain`
    """
    from slm_assets.cli import render_loop

    actor = actor_of(by)
    registry = registry_for(domain)
    found, code = _watch(registry, domain, actor)
    if retrain and code == 0:
        os.nice(NICE)
        found["run"], code = _go_on(registry, domain, actor, quiet=json)
    found["became"] = _became(registry, domain, found["window"])
    show(found, json, render_loop.watch)
    raise typer.Exit(code)


@loop_app.command()
def triggers(
    domain: DomainName,
    windows: Annotated[int, typer.Option(min=1, max=10_000, help="So many of the newest windows.")] = 20,
    json: AsJson = False,
) -> None:
    """Show what the triggers said, window by window, what became of it, and every retrain that was asked for.

    JSON keys: domain, windows: [{window, triggers: [{trigger, verdict, value, bound, threshold, n, sentence}],
    became}], retrains: [{id, asked_at, by, cause, triggers, reason, state, version, launched_at, note}].

    Example: `slm triggers travel`
    """
    from slm_assets.cli import render_loop
    from slm_assets.stages.cadence.reports import trigger_history

    show(trigger_history(registry_for(domain), domain, newest=windows), json, render_loop.triggers)


@loop_app.command()
def budget(domain: DomainName, json: AsJson = False) -> None:
    """Show what a domain may spend in this window, what it has reserved and spent, and who waits for the next one.

    JSON keys: domain, resources: [{resource, limit, window, since, reserved, spent, left, opens}], entries, waiting.

    Example: `slm budget travel`
    """
    from slm_assets.cli import render_loop
    from slm_assets.engines.budgeted import recover
    from slm_assets.stages.cadence.reports import budget_report

    registry = registry_for(domain)
    recover(registry, domain=domain)
    show(budget_report(registry, domain), json, render_loop.budget)


def _watch(registry: Any, domain: str, actor: str) -> tuple[dict[str, Any], int]:
    """Run the monitor job; (what it found, exit code)."""
    from slm_assets.automation.launch import run_window
    from slm_assets.cli.run import EXIT_CODES
    from slm_assets.definitions import defs
    from slm_assets.registry import windows
    from slm_assets.stages.plans import open_domain

    open_domain(Home.from_env(), domain)  # a broken config is refused with all of its faults, before anything runs
    launched = run_window(Home.from_env(), domain, defs, actor=actor)
    newest = windows.latest(registry, domain)
    if newest is None:
        raise SlmError(launched.error or f"{domain}: its traffic could not be looked at")
    rows = windows.triggers(registry, domain, since=newest.number)
    keys = ("trigger", "verdict", "value", "bound", "threshold", "n", "sentence")
    error = "" if launched.success else f"{launched.failed_asset} {launched.failed_check}: {launched.error}".strip()
    found = {
        "domain": domain,
        "window": newest.version,
        "run_id": launched.run_id,
        "error": error,
        "triggers": [{key: row[key] for key in keys} for row in rows],
        "run": None,
    }
    return found, 0 if launched.success else EXIT_CODES.get(launched.outcome, 1)


def _go_on(registry: Any, domain: str, actor: str, *, quiet: bool) -> tuple[dict[str, Any] | None, int]:
    """Run the version that waits for live turns, where some have come, else what fires; (the run, exit code)."""
    from slm_assets.cli.run import EXIT_CODES, run_plan
    from slm_assets.stages.shadow_request import waiting_shadows

    for name, number, _window in waiting_shadows(registry):
        plan = registry.plan(domain, number)
        if name == domain and plan is not None:
            result = run_plan(registry.home, registry, plan, actor=actor, quiet=quiet)
            return result, EXIT_CODES.get(result["outcome"], 1)
    return _retrain(registry, domain, actor, quiet=quiet)


def _retrain(registry: Any, domain: str, actor: str, *, quiet: bool) -> tuple[dict[str, Any] | None, int]:
    """Act on what fires as the sensor would, with the run in this process; (the run, exit code)."""
    from contextlib import ExitStack

    from slm_assets.automation.retraining import tags_of
    from slm_assets.cli.run import EXIT_CODES, run_plan
    from slm_assets.registry import retrains
    from slm_assets.stages.cadence import retraining

    retraining.ask_for_fired(registry, actor=actor, domain=domain)
    with ExitStack() as held:
        launches = retraining.advance(registry, held, actor=actor, domain=domain)
        for launch in launches:
            result = run_plan(registry.home, registry, launch.plan, actor=actor, quiet=quiet, labels=tags_of(launch))
            retraining.finish(registry, launch, ended=True)
            return result, EXIT_CODES.get(result["outcome"], 1)
    waits = retrains.in_states(registry, retrains.UNFINISHED, domain)
    return None, EXIT_CODES["deferred"] if waits else 0


def _became(registry: Any, domain: str, window: str) -> str:
    from slm_assets.stages.cadence.reports import trigger_history

    for one in reversed(trigger_history(registry, domain, newest=1)["windows"]):
        if one["window"] == window:
            return str(one["became"])
    return ""
