"""What a playbook that conducts a version calls: open it, report to Dagster, ask for an engine."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slm_assets.cli.common import Actor, AsJson, DomainName, actor_of, registry_for, show
from slm_assets.errors import BadInputError
from slm_assets.registry.home import Home

if TYPE_CHECKING:
    from slm_assets.registry.registry import Plan

conductor_app = typer.Typer()


@conductor_app.command("open")
def open_(
    domain: DomainName,
    version: Annotated[str | None, typer.Option(help="Take or open this version, such as v3.")] = None,
    new: Annotated[bool, typer.Option("--new", help="Open a new version even if nothing changed.")] = False,
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", help="The conductor's folder; default: a fresh one in SLM_HOME.")
    ] = None,
    window: Annotated[bool, typer.Option("--window", help="A window of live traffic, not a version.")] = False,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Only where a retrain is due and nothing forbids it: see below.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why, for the plan and the audit.")] = "asked for",
    by: Actor = None,
    json: AsJson = False,
) -> None:
    """Open a version without running anything, or take the one that is open, as `slm run` does; or a window of
    live traffic, as `captured_traffic` does.

    With --retrain it is the version of the retrain that a trigger, a schedule or an erasure asked for, by the decision
    of the sensors (cooldown, most per week, budget); the one of an earlier execution that was not finished comes
    first. `gate` of the JSON is `go` with the version, `deferred` where it has to wait, `held` where none is due. A
    --version that is named is opened all the same.

    Example: `slm open travel`, `slm open travel --version v3` or `slm open travel --window`
    """
    from slm_assets.cli import render
    from slm_assets.cli.run import choose_version

    if retrain and (new or window):
        raise BadInputError("--retrain opens what is due", cure="leave --new and --window out")
    home = Home.from_env()
    if window:
        _open_window(home, domain, run_dir, reason, actor_of(by), json)
        return
    if retrain and version is None:
        plan = _next_retrain(domain, actor_of(by))
        if plan is None:
            _show_none(domain, json)
            return
    else:
        _, plan = choose_version(home, domain, version=version, new=new, params={}, reason=reason, actor=actor_of(by))
    folder = run_dir or home.runs / plan.domain / plan.version / f"conducted-{uuid.uuid4().hex[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    result = {"domain": plan.domain, "version": plan.version, "run_dir": str(folder), "opened_at": plan.opened_at}
    result |= {"gate": "go"} if retrain else {}
    show(result, json, lambda found: render.CONSOLE.print(f"{found['domain']} {found['version']} is open"))


def _next_retrain(domain: str, actor: str) -> Plan | None:
    from slm_assets.engines.budgeted import recover
    from slm_assets.stages.cadence.conducted import take

    registry = registry_for(domain)
    recover(registry, domain=domain)
    return take(registry, domain, actor=actor)


def _show_none(domain: str, json: bool) -> None:
    """What a playbook branches on has one word and nobody's text; a person reads why."""
    from slm_assets.cli import render
    from slm_assets.registry import retrains

    waits = retrains.in_states(registry_for(domain), retrains.UNFINISHED, domain)
    gate = "deferred" if waits else "held"
    told = "; ".join(f"{row['reason']}: {row['note'] or row['state']}" for row in waits) or "no retrain is due"
    result = {"domain": domain, "gate": gate, "version": "", "run_dir": ""}
    show(result, json, lambda found: render.CONSOLE.print(f"{found['domain']}: {told}", markup=False))


def _open_window(home: Home, domain: str, run_dir: Path | None, reason: str, actor: str, json: bool) -> None:
    from slm_assets.cli import render
    from slm_assets.stages.plans import open_domain
    from slm_assets.stages.windows import next_window

    loaded, registry = open_domain(home, domain)
    opened = next_window(loaded, registry, actor=actor, reason=reason)
    folder = run_dir or home.runs / domain / opened.version / f"conducted-{uuid.uuid4().hex[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    result = {"domain": domain, "window": opened.version, "window_dir": str(folder), "opened_at": opened.opened_at}
    show(result, json, lambda found: render.CONSOLE.print(f"{found['domain']} {found['window']} is open"))


@conductor_app.command()
def report(
    domain: DomainName,
    version: Annotated[str, typer.Argument(help="An open version, such as v1, or window of traffic, such as w1.")],
    stage: Annotated[str | None, typer.Option(help="Only this stage's asset.")] = None,
    json: AsJson = False,
) -> None:
    """Tell Dagster what was made without it, so that its lineage is whole; what it knows already stays as it is.

    Does nothing where this home has no Dagster instance yet.

    Example: `slm report travel v1`
    """
    from slm_assets.cli import render
    from slm_assets.stages.requests import subject_of
    from slm_assets.stages.table import BY_NAME, STAGES, WATCH

    home = Home.from_env()
    own = [one.name for one in (WATCH if version.startswith("w") else STAGES)]
    if stage is not None and stage not in BY_NAME:
        raise BadInputError(f"{stage!r} is no stage", cure=f"stages: {', '.join(BY_NAME)}")
    reported: list[str] = []
    if there := (home.dagster / "dagster.yaml").is_file():
        from slm_assets.assets.report import report_version

        registry = registry_for(domain)
        subject = subject_of(registry, domain, own[0], version)
        reported = report_version(home, registry, subject, [stage] if stage else own)
    result = {"domain": domain, "version": version, "instance": there, "reported": reported}
    told = ", ".join(reported) or ("nothing new" if there else "no Dagster instance here")
    show(result, json, lambda _found: render.CONSOLE.print(f"{domain} {version}: {told}"))


@conductor_app.command()
def engine(
    domain: DomainName,
    role: Annotated[str, typer.Argument(help="A role that was promoted, or may be.")],
    json: AsJson = False,
) -> None:
    """Which engine answers for a role now: `slm` for a promoted release or a teacher, `deterministic` for its oracle.

    Example: `slm engine travel extract`
    """
    from slm_assets.cli import render

    flag = registry_for(domain).flags(domain).get(role)
    served: dict[str, Any] = {"engine": "deterministic", "version": None, "release": None}
    if flag is not None and flag.engine == "release":
        served = {"engine": "slm", "version": f"v{flag.number}", "release": flag.release}
    elif flag is not None and flag.engine == "teacher":
        served["engine"] = "slm"
    result = {"domain": domain, "role": role, **served}
    show(result, json, lambda found: render.CONSOLE.print(f"{domain}.{role}: {found['engine']}"))
