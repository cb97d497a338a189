"""The asset graph: one asset per row of the stage table, all made by one factory."""

import warnings
from collections.abc import Iterator
from datetime import timedelta
from typing import NoReturn

import dagster as dg

from slm_assets import tracing
from slm_assets.assets import metadata
from slm_assets.assets.cells import Cell, NotOpenedError, open_cell
from slm_assets.automation import local, tags
from slm_assets.engines.choose import engine_of
from slm_assets.engines.in_process import Outcome, make_cell, refuse_held
from slm_assets.errors import HeldError, SlmError
from slm_assets.stages.runner import CODE_VERSION
from slm_assets.stages.runtime import Progress
from slm_assets.stages.table import BY_NAME, STAGES, WATCH, Stage

GROUP = "slm"
OWNERS = ["team:ml-platform"]
POOL = "gpu"
"""What trains shares one pool of the deployment; it has as many slots as the operator gives it."""
KINDS = {
    "capture": {"table"},
    "drift": {"pandas", "report"},
    "dataset": {"daft", "dataset"},
    "label": {"table"},
    "finetune": {"scikitlearn"},
    "evaluate": {"numpy", "report"},
    "package": {"archive"},
    "shadow": {"report"},
    "deploy": {"deployment"},
}


_WATCHED = dg.FreshnessPolicy.time_window(warn_window=timedelta(hours=26), fail_window=timedelta(hours=50))
"""Traffic is looked at once a day at the least: Dagster shows where nobody does. Of one domain alone: `slm status`."""


def assets(cells: dg.PartitionsDefinition, domains: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """The assets of every stage, in the order of the table: those that watch the traffic by domain, the others by
    domain and version."""
    with warnings.catch_warnings():
        # The mapping from domain × version to domain is in beta; dagster is pinned exactly and the tests hold it.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return [_asset(stage, domains) for stage in WATCH] + [_asset(stage, cells) for stage in STAGES]


def _asset(stage: Stage, partitions_def: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    of_domain = dg.MultiToSingleDimensionPartitionMapping("domain")
    watched = [dg.AssetDep(BY_NAME[name].asset, partition_mapping=of_domain) for name in stage.reads]

    # No backfill_policy: with one, Dagster loses the partition of the asset's checks.
    @dg.asset(
        name=stage.asset,
        deps=[*(BY_NAME[need].asset for need in stage.needs), *watched],
        partitions_def=partitions_def,
        group_name=GROUP,
        owners=OWNERS,
        kinds=KINDS[stage.name],
        tags={"slm/stage": stage.name},
        code_version=CODE_VERSION,
        description=stage.title,
        metadata={"playbook": stage.playbook, "registry kind": stage.kind},
        output_required=False,
        freshness_policy=_WATCHED if stage in WATCH else None,
        pool=POOL if stage.name == "finetune" else None,
    )
    def make(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        yield from _materialise(context, stage)

    return make


def _materialise(context: dg.AssetExecutionContext, stage: Stage) -> Iterator[dg.MaterializeResult[None]]:
    try:
        cell = open_cell(context.partition_key, context.run.run_id, stage.name, _actor(context))
        named = {} if stage in WATCH else {tags.VERSION: cell.plan.version}
        trace = _trace(context)
        _tag(context, {tags.DOMAIN: cell.plan.domain, **named, tags.TRACE: trace})
        with tracing.span(f"asset {stage.asset}", {"slm.run_id": context.run.run_id}, parent=trace):
            outcome = _make(context, cell, stage)
    except NotOpenedError as error:
        _fail(context, tags.NOT_OPENED, error)
    except HeldError as error:
        _fail(context, tags.HELD, error)
    except SlmError as error:
        _fail(context, tags.FAULT, error)

    receipt = outcome.receipt
    if receipt.status == "deferred":
        submitted = receipt.error_kind == "submitted"
        _tag(context, {tags.OUTCOME: tags.SUBMITTED if submitted else tags.DEFERRED})
        context.log.warning(f"{stage.asset} waits: {receipt.error}")
        return
    if receipt.status == "failed":
        _tag(context, {tags.OUTCOME: tags.HELD if outcome.held else tags.FAULT})
        made = metadata.of_run(outcome) | metadata.of_execution(cell.registry, cell.plan, receipt)
        raise dg.Failure(receipt.error, metadata=made, allow_retries=False)
    if stage.name == "deploy":
        _tag(context, {tags.OUTCOME: tags.PROMOTED})
    yield dg.MaterializeResult(
        metadata=metadata.of_outcome(cell.registry, cell.plan, outcome),
        data_version=dg.DataVersion(receipt.outputs[stage.kind].sha256),
    )


def _make(context: dg.AssetExecutionContext, cell: Cell, stage: Stage) -> Outcome:
    registry, plan = cell.registry, cell.plan
    refuse_held(registry, plan, stage.name)
    running = local.current()
    progress = _progress(context, stage, running)
    engine = engine_of(stage.name, cell.config.stages, context.run.tags.get(tags.ENGINE), wait=running is not None)
    outcome = make_cell(
        registry,
        plan,
        stage.name,
        actor=_actor(context),
        run_id=context.run.run_id,
        progress=progress,
        launch=engine.launch,
        engine=engine.name,
    )
    if running:
        running.listener.ended(stage.name, outcome)
    return outcome


def _trace(context: dg.AssetExecutionContext) -> str:
    """Of whoever asked for the run, else one of its own."""
    asked = tracing.valid(context.run.tags.get(tags.TRACE, "")) or tracing.from_environment()
    return asked or tracing.of_run(context.run.run_id)


def _actor(context: dg.AssetExecutionContext) -> str:
    running = local.current()
    return running.actor if running else context.run.tags.get(tags.ACTOR, "dagster")


def _progress(context: dg.AssetExecutionContext, stage: Stage, running: local.LocalRun | None) -> Progress:
    """To whoever listens in this process, else to the run's log, a line per quarter."""
    if running:
        return lambda share, note: running.listener.progress(stage.name, share, note)
    told = 0

    def tell(share: float, note: str) -> None:
        nonlocal told
        if int(share * 4) > told:
            told = int(share * 4)
            context.log.info(f"{share:.0%} {note}")

    return tell


def _tag(context: dg.AssetExecutionContext, wanted: dict[str, str]) -> None:
    if any(context.run.tags.get(name) != value for name, value in wanted.items()):
        context.instance.add_run_tags(context.run.run_id, wanted)


def _fail(context: dg.AssetExecutionContext, outcome: str, error: SlmError) -> NoReturn:
    _tag(context, {tags.OUTCOME: outcome})
    raise dg.Failure(str(error), allow_retries=False) from None
