"""`slm stage`: one stage by hand, and the entry that every engine calls."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slm_assets.cli.common import Actor, AsJson, DomainName, actor_of, print_line, registry_for, show
from slm_assets.errors import BadInputError
from slm_assets.registry.home import Home

if TYPE_CHECKING:
    from slm_assets.stages.contract import StageReceipt, StageRequest

stage_app = typer.Typer(no_args_is_help=True, help="Run one stage by hand, as every engine does.")
DRIVERS = ("conductor", "engine")
StageArgument = Annotated[str, typer.Argument(metavar="STAGE", help="dataset, label, finetune, …, rollback")]


@stage_app.command("run")
def stage_run(
    stage: StageArgument,
    run_dir: Annotated[Path, typer.Option("--run-dir", help="Where the receipt goes.")],
    request: Annotated[Path | None, typer.Option(help="The request, a JSON file.")] = None,
    domain: Annotated[str | None, typer.Option(help="In place of --request: the domain …")] = None,
    version: Annotated[
        str | None, typer.Option(help="… and its version, such as v1, or window of traffic, such as w1.")
    ] = None,
    driver: Annotated[
        str | None,
        typer.Option(
            help="For playbooks: conductor makes the cell; engine executes what an engine left in the run folder, "
            "which then verifies and commits. Prints one line of JSON."
        ),
    ] = None,
    handed_over: Annotated[
        str | None,
        typer.Option(
            "--handed-over",
            metavar="TENANT/PROJECT/NAME",
            help="For pods: execute what an engine left under this name in the artifact store; the receipt goes there.",
        ),
    ] = None,
    run_id: Annotated[str | None, typer.Option("--run-id", help="The caller's id for this run.")] = None,
    by: Actor = None,
    json: AsJson = False,
) -> None:
    """Run one stage from its request file and write receipt.json into the run folder.

    Exits 0 whenever a receipt says that the stage succeeded, also where a verdict in it says no; read
    the receipt for that. 2 for bad input, 1 for a fault; nothing else counts as evidence.

    Example: `slm stage run dataset --request request.json --run-dir out/`
    """
    from slm_assets import tracing

    _check_stage(stage)
    if driver is not None:
        with tracing.span(f"slm stage run {stage}", parent=tracing.from_environment()):
            _drive(driver, stage, domain, version, run_dir, by)
        return
    if handed_over is not None:
        _execute(handed_over, stage, domain, version, run_dir)
        return
    from slm_assets.cli import render
    from slm_assets.engines.in_process import run_request
    from slm_assets.stages.requests import request_for, subject_of

    if request is not None:
        parsed = _read_request(request, stage)
        registry = registry_for(parsed.domain)
        plan = subject_of(registry, parsed.domain, stage, parsed.version)
    elif domain and version and stage != "rollback":
        registry = registry_for(domain)
        plan = subject_of(registry, domain, stage, version)
        parsed = request_for(registry, plan, stage)
    else:
        raise BadInputError("which cell?", cure="give --request, or --domain and --version")
    with tracing.span(f"slm stage run {stage}", parent=tracing.from_environment()):
        outcome = run_request(registry, plan, parsed, run_dir, actor=actor_of(by), run_id=run_id)
    receipt = outcome.receipt
    result = {"receipt": str(run_dir / "receipt.json"), "cached": outcome.cached, "status": receipt.status}
    result |= {"outputs": {name: a.sha256 for name, a in receipt.outputs.items()}, "error": receipt.error}
    show(result, json, render.stage)
    _exit(receipt)


def _drive(driver: str, stage: str, domain: str | None, version: str | None, run_dir: Path, by: str | None) -> None:
    """A playbook's way: the outcome as a line of JSON, in the run folder and on stdout."""
    from slm_assets.engines.conduct import conduct, leave_outcome
    from slm_assets.engines.handed_over import execute_handed_over
    from slm_assets.stages.requests import subject_of

    if driver not in DRIVERS:
        raise BadInputError(f"{driver!r} is no driver", cure=f"--driver {' or '.join(DRIVERS)}")
    if not domain or not version:
        raise BadInputError("which cell?", cure="give --domain and --version")
    receipt: StageReceipt | None
    if driver == "engine":
        receipt = execute_handed_over(Home.from_env(), stage, domain, version, run_dir)
        outcome = leave_outcome(run_dir, receipt)
    else:
        registry = registry_for(domain)
        plan = subject_of(registry, domain, stage, version)
        receipt, outcome = conduct(registry, plan, stage, run_dir, actor=actor_of(by))
    print_line(outcome)
    if receipt is not None:
        if receipt.error:
            sys.stderr.write(f"{receipt.error}\n")
        _exit(receipt)


def _execute(handed_over: str, stage: str, domain: str | None, version: str | None, run_dir: Path) -> None:
    """A pod's way: nothing on stdout, its reports on stderr, the receipt in the artifact store."""
    from slm_assets.engines.handed_over import Handed, execute_from_store
    from slm_assets.engines.pod_reports import reporting

    if not domain or not version:
        raise BadInputError("which cell?", cure="give --domain and --version")
    handed = Handed.parse(handed_over)
    with reporting(handed.name) as progress:
        receipt = execute_from_store(Home.from_env(), stage, domain, version, handed, run_dir, progress)
    _exit(receipt)


def _exit(receipt: StageReceipt) -> None:
    if receipt.status == "failed" and receipt.error_kind != "held":
        raise typer.Exit(2 if receipt.error_kind == "bad_input" else 1)


@stage_app.command("cancel")
def stage_cancel(
    stage: Annotated[str, typer.Argument(metavar="STAGE")],
    domain: DomainName,
    version: Annotated[str, typer.Argument(help="A version, such as v1, or window of traffic, such as w1.")],
    by: Actor = None,
    json: AsJson = False,
) -> None:
    """Cancel a stage that runs elsewhere: its pod is deleted, its execution on a NoETL server is cancelled.

    Example: `slm stage cancel finetune travel v3`
    """
    from slm_assets.cli import render
    from slm_assets.engines.cancelling import cancel
    from slm_assets.stages.requests import subject_of

    _check_stage(stage)
    registry = registry_for(domain)
    receipt = cancel(registry, subject_of(registry, domain, stage, version), stage, actor=actor_of(by)).receipt
    result = {"stage": stage, "domain": domain, "version": version, "status": receipt.status, "error": receipt.error}
    show(result, json, lambda told: render.CONSOLE.print(f"{told['stage']} of {told['domain']}: {told['error']}"))


@stage_app.command("request")
def stage_request(
    stage: Annotated[str, typer.Argument(metavar="STAGE")],
    domain: DomainName,
    version: Annotated[str, typer.Argument(help="An open version, such as v1, or window of traffic, such as w1.")],
    json: AsJson = True,
) -> None:
    """Print the request of a stage of an open version, ready for `slm stage run`.

    Example: `slm stage request label travel v1 > request.json`
    """
    from slm_assets.stages.requests import request_for, subject_of

    _check_stage(stage)
    registry = registry_for(domain)
    plan = subject_of(registry, domain, stage, version)
    show(request_for(registry, plan, stage).model_dump(mode="json"), True, lambda _value: None)


def _check_stage(stage: str) -> None:
    from slm_assets.stages.table import BY_NAME

    if stage not in BY_NAME and stage != "rollback":
        raise BadInputError(f"{stage!r} is no stage", cure=f"stages: {', '.join(BY_NAME)}, rollback")


def _read_request(path: Path, stage: str) -> StageRequest:
    from slm_assets.engines.handed_over import read_model
    from slm_assets.stages.contract import StageRequest

    request = read_model(StageRequest, path, "stage request")
    if request.stage != stage:
        raise BadInputError(f"{path} is a request for {request.stage}, not for {stage}")
    return request
