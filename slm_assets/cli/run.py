"""`slm run`: choose or open the version, run the chain through Dagster, and read the registry back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_assets.engines.choose import engine_of
from slm_assets.errors import BadInputError
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Plan, Registry
from slm_assets.stages.plans import frozen_inputs, newest_match, number_of, open_domain, open_version
from slm_assets.stages.standing import record_of
from slm_assets.stages.state import gate_lines, outcome, role_outcomes, stage_lines
from slm_assets.stages.table import STAGES

if TYPE_CHECKING:
    from rich.progress import TaskID

    from slm_assets.automation.launch import LaunchResult
    from slm_assets.engines.in_process import Outcome

EXIT_CODES = {"promoted": 0, "held": 3, "deferred": 4, "running": 4}
"""Outcome of a version → the command's exit code; of any other 1."""


def run_chain(
    home: Home,
    name: str,
    *,
    version: str | None,
    new: bool,
    params: dict[str, Any],
    reason: str,
    actor: str,
    engine: str | None = None,
    quiet: bool,
) -> dict[str, Any]:
    """Run every stage of one version; returns the JSON that scripts rely on."""
    if engine is not None:
        engine_of("", {}, engine)  # refuses a name that is none, before anything is opened
    registry, plan = choose_version(home, name, version=version, new=new, params=params, reason=reason, actor=actor)
    return run_plan(home, registry, plan, actor=actor, engine=engine, quiet=quiet)


def run_plan(
    home: Home,
    registry: Registry,
    plan: Plan,
    *,
    actor: str,
    engine: str | None = None,
    quiet: bool,
    labels: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Run every stage of a version that is open; `labels` are tags of its run."""
    launched = _launch(home, plan, actor=actor, engine=engine, quiet=quiet, labels=labels)
    lines = stage_lines(registry, plan, launched.run_id)
    record = record_of(registry, plan)
    result = outcome(record)
    if not launched.success and result in ("open", "promoted"):
        result = "failed"
    cells = {cell["stage"]: cell["receipt"] for cell in registry.cells(plan.domain, plan.number)}
    kinds = {stage: receipt["error_kind"] for stage, receipt in cells.items()}
    return {
        "domain": plan.domain,
        "version": plan.version,
        "outcome": result,
        "roles": role_outcomes(record),
        "stages": [{**line, "error_kind": kinds[line["stage"]]} for line in lines],
        "gates": gate_lines(registry, plan),
        "above": cells["evaluate"]["result"]["summary"].get("above", []) if "evaluate" in cells else [],
        "run_id": launched.run_id,
        "error": launched.error,
    }


def choose_version(
    home: Home,
    name: str,
    *,
    version: str | None,
    new: bool,
    params: dict[str, Any],
    reason: str,
    actor: str,
) -> tuple[Registry, Plan]:
    """The version to go on with: the named one, else the newest where nothing changed, else a new one."""
    domain, registry = open_domain(home, name)
    frozen = frozen_inputs(domain, registry)
    plan = _choose(registry, name, frozen, version=version, new=new, params=params)
    if plan is None:
        number = number_of(version) if version else None
        plan = open_version(domain, registry, number=number, params=params, reason=reason, actor=actor, frozen=frozen)
    return registry, plan


def _choose(
    registry: Registry,
    name: str,
    frozen: tuple[str, str],
    *,
    version: str | None,
    new: bool,
    params: dict[str, Any],
) -> Plan | None:
    """The version to resume, or None to open one."""
    if version is None:
        return None if new else newest_match(registry, name, frozen, params)
    plan = registry.plan(name, number_of(version))
    if plan is None:
        return None
    changed = {key: value for key, value in params.items() if plan.params.get(key) != value}
    if changed:
        raise BadInputError(
            f"{name} {version} was opened with {plan.params} and cannot be run with {changed}; a version is immutable",
            cure=f"leave the option out to resume {version}, or the version to open a new one",
        )
    if (plan.config, plan.seed) != frozen:
        what = "config" if plan.config != frozen[0] else "seed rows"
        raise BadInputError(
            f"{name} {version} was opened with another {what} than {name} has now; a version is immutable",
            cure=f"open a new version: slm run {name}",
        )
    return plan


def _launch(
    home: Home, plan: Plan, *, actor: str, engine: str | None, quiet: bool, labels: dict[str, str] | None
) -> LaunchResult:
    """Run the job with a progress bar per stage."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from slm_assets.automation.launch import run_version
    from slm_assets.automation.local import Listener
    from slm_assets.cli.render import CONSOLE
    from slm_assets.definitions import defs

    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=CONSOLE, disable=quiet) as bars:
        tasks: dict[str, TaskID] = {
            stage.name: bars.add_task(stage.name, total=1.0, start=False, note="") for stage in STAGES
        }

        def progress(stage: str, share: float, note: str) -> None:
            bars.start_task(tasks[stage])
            bars.update(tasks[stage], completed=share, note=note)

        def ended(stage: str, outcome: Outcome) -> None:
            note = "cached" if outcome.cached else outcome.receipt.status
            bars.update(tasks[stage], completed=1.0, note=note)
            bars.stop_task(tasks[stage])

        listener = Listener(progress, ended)
        return run_version(home, plan, defs, actor=actor, engine=engine, listener=listener, labels=labels)
