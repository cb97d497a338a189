"""The gates as blocking checks: each reads the registry's verdicts of its own version, and decides nothing."""

import warnings
from typing import Any

import dagster as dg

from slm_assets.assets import tables
from slm_assets.assets.cells import checked_cell
from slm_assets.automation import tags
from slm_assets.errors import SlmError
from slm_assets.registry.registry import Registry
from slm_assets.stages.requests import Subject
from slm_assets.stages.standing import VERDICT, checks_of, record_of, standing
from slm_assets.stages.table import STAGES, WATCH, Stage

DESCRIPTIONS = {
    "envelope": "What the sources held could be read as turns and outcomes.",
    "pii": "Redaction finds nothing more in what was kept.",
    "leakage": "No eval row, nor one nearly like it, is among the rows that are trained on.",
    "coverage": "Train, validation and eval have rows, and so has every critical slice.",
    "contract": "Every label meets its role's output contract.",
    "vocabulary": "Labels and oracle stay inside the vocabulary, and reach it.",
    "loads": "The checkpoint loads and answers in a clean process.",
    "floor": "Not worse than the oracle, on rows whose label is not that oracle's.",
    "target": "The absolute targets of the config are met.",
    "incumbent": "Not worse than what serves now, nor than the best version ever promoted.",
    "validity": "Outputs meet their contract before any repair.",
    "slices": "No critical slice is worse than with the incumbent.",
    "latency": "Within the latency budget, and within the ratio to the incumbent.",
    "answers": "The bundle answers as the evaluated model did.",
    "shadow": "Not worse than what serves on live turns that came after the dataset.",
    "untrained": "No live turn that judges is equal or near to a row that was trained on.",
    "smoke": "The bundle answers its probes in a clean process.",
    "drill": "The way back was rehearsed in under two seconds.",
    VERDICT: "At least one role passes all of its gates.",
}


def checks(cells: dg.PartitionsDefinition, domains: dg.PartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    """A check for every gate of every stage."""
    partitioned = [(stage, domains) for stage in WATCH] + [(stage, cells) for stage in STAGES]
    with warnings.catch_warnings():
        # Partitioned checks are in preview; dagster is pinned exactly and the tests hold what we rely on.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [_check(stage, name, by) for stage, by in partitioned for name in checks_of(stage)]


def _check(stage: Stage, name: str, partitions_def: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=stage.asset,
        name=name,
        blocking=True,
        partitions_def=partitions_def,
        description=DESCRIPTIONS[name],
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        return _evaluate(context, stage, name)

    return check


def _evaluate(context: dg.AssetCheckExecutionContext, stage: Stage, name: str) -> dg.AssetCheckResult:
    try:
        cell = checked_cell(context.partition_key, context.run.run_id, stage.name)
    except SlmError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    result = result_of(cell.registry, cell.plan, stage, name)
    if not result.passed:
        context.instance.add_run_tags(context.run.run_id, {tags.OUTCOME: tags.HELD})
    return result


def result_of(registry: Registry, plan: Subject, stage: Stage, name: str) -> dg.AssetCheckResult:
    """What the check says of a version: the same in a run, and reported from outside of one."""
    found = standing(record_of(registry, plan), stage.name, name)
    metadata: dict[str, dg.MetadataValue[Any]] = {"reason": dg.MetadataValue.text(found.reason)}
    if found.rows:
        metadata["verdicts"] = dg.MetadataValue.md(tables.verdicts(found.rows, gate=name == VERDICT))
    for row in found.rows:
        if row["value"] is not None and name != VERDICT:
            metadata[row["role"] or "value"] = dg.MetadataValue.float(row["value"])
    return dg.AssetCheckResult(passed=found.passed, metadata=metadata, description=found.reason)
