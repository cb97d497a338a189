"""Tell Dagster of cells that were made without it: what the asset would have given, outside of any run.

A report says what the registry holds, and the registry's cell of a version never becomes another one. So a
report that comes late, twice or out of order finds its data version there already and changes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.instance.utils import RUNLESS_JOB_NAME
from filelock import FileLock

from slm_assets import canonical
from slm_assets.assets import checks, metadata
from slm_assets.automation.instance import ensure_version_partition, instance_for
from slm_assets.automation.partitions import partition_of
from slm_assets.engines.in_process import Outcome
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry
from slm_assets.registry.windows import Window
from slm_assets.stages.contract import StageReceipt
from slm_assets.stages.requests import Subject
from slm_assets.stages.standing import checks_of
from slm_assets.stages.table import BY_NAME, Stage

DATA_VERSION = "dagster/data_version"


def report_version(home: Home, registry: Registry, plan: Subject, stages: Iterable[str]) -> list[str]:
    """Report every finished cell of these stages that Dagster does not know; returns the assets reported."""
    folder = home.locks / registry.tenant / registry.project / plan.domain
    folder.mkdir(parents=True, exist_ok=True)
    reported = []
    with instance_for(home) as instance, FileLock(folder / f"{plan.version}.report"):
        if not isinstance(plan, Window):
            ensure_version_partition(instance, plan.version)
        for name in stages:
            cell = registry.cell(plan.domain, plan.number, name)
            if cell is None or cell["status"] != "succeeded":
                continue
            receipt = StageReceipt.model_validate(cell["receipt"])
            if _report(instance, registry, plan, BY_NAME[name], receipt, cell["engine"], cell["run_id"]):
                reported.append(BY_NAME[name].asset)
    return reported


def _report(
    instance: dg.DagsterInstance,
    registry: Registry,
    plan: Subject,
    stage: Stage,
    receipt: StageReceipt,
    engine: str,
    run_id: str,
) -> bool:
    """Whether anything was new."""
    key, partition = dg.AssetKey(stage.asset), partition_of(plan)
    sha = receipt.outputs[stage.kind].sha256
    known = _latest(instance, key, partition)
    new = known is None or _tag(known, DATA_VERSION) != sha
    if new:
        run_dir = registry.home.runs / plan.domain / plan.version / f"{stage.name}-{receipt.request_digest[:12]}"
        outcome = Outcome(receipt, False, run_dir, engine, run_id)
        instance.report_runless_asset_event(
            dg.AssetMaterialization(
                key,
                metadata=metadata.of_outcome(registry, plan, outcome),
                partition=partition,
                tags={
                    DATA_VERSION: sha,
                    "dagster/data_version_is_user_provided": "true",
                    "dagster/code_version": receipt.code_version,
                    **_dimensions(partition),
                    **_inputs(instance, stage, partition),
                },
            )
        )
        known = _latest(instance, key, partition)
    assert known is not None
    told = [_report_check(instance, registry, plan, stage, name, known) for name in checks_of(stage)]
    return new or any(told)


def _dimensions(partition: str) -> dict[str, str]:
    if not isinstance(partition, dg.MultiPartitionKey):
        return {}
    return {f"dagster/partition/{name}": part for name, part in partition.keys_by_dimension.items()}


def _report_check(
    instance: dg.DagsterInstance, registry: Registry, plan: Subject, stage: Stage, name: str, target: dg.EventLogRecord
) -> bool:
    """Report a check where Dagster has no answer of it for this materialisation, or another one."""
    key, partition = dg.AssetCheckKey(dg.AssetKey(stage.asset), name), partition_of(plan)
    result = checks.result_of(registry, plan, stage, name)
    history = instance.event_log_storage.get_asset_check_execution_history(
        key, limit=100, partition_filter=PartitionKeyFilter(key=partition)
    )
    before = history[0].evaluation if history else None
    if isinstance(before, dg.AssetCheckEvaluation):
        of = before.target_materialization_data
        same = of is not None and of.storage_id == target.storage_id
        if same and (before.passed, before.description) == (result.passed, result.description):
            return False
    evaluation = dg.AssetCheckEvaluation(
        check_name=name,
        passed=result.passed,
        asset_key=dg.AssetKey(stage.asset),
        metadata=dict(result.metadata),
        description=result.description,
        blocking=True,
        partition=partition,
        target_materialization_data=AssetCheckEvaluationTargetMaterializationData(
            storage_id=target.storage_id, run_id=target.run_id, timestamp=target.timestamp
        ),
    )
    if any(record.run_id == "" for record in history):
        # Dagster stores one evaluation without a run per check and partition, and refuses a second: an answer
        # that changed (an approval outweighs "not enough") comes under an id of its own.
        event = dg.DagsterEvent(
            event_type_value=dg.DagsterEventType.ASSET_CHECK_EVALUATION.value,
            event_specific_data=evaluation,
            job_name=RUNLESS_JOB_NAME,
        )
        instance.report_dagster_event(event, run_id=str(uuid.uuid4()))
    else:
        instance.report_runless_asset_event(evaluation)
    return True


def _inputs(instance: dg.DagsterInstance, stage: Stage, partition: str) -> dict[str, str]:
    """The data version and the event of each input, by which Dagster tells what is out of date."""
    found: dict[str, str] = {}
    domain = partition.partition("|")[0]
    for need, of in [*((need, partition) for need in stage.needs), *((name, domain) for name in stage.reads)]:
        asset = BY_NAME[need].asset
        record = _latest(instance, dg.AssetKey(asset), of)
        if record is not None:
            # Of partitioned inputs Dagster keeps the digest over the partitions' data versions: here it is one.
            found[f"dagster/input_data_version/{asset}"] = canonical.digest_bytes(_tag(record, DATA_VERSION).encode())
            found[f"dagster/input_event_pointer/{asset}"] = str(record.storage_id)
        elif need in stage.reads:
            found[f"dagster/input_data_version/{asset}"] = "INITIAL"  # Dagster's word for an input that is not there
    return found


def _latest(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str) -> dg.EventLogRecord | None:
    records: Any = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition]), limit=1
    ).records
    return records[0] if records else None


def _tag(record: dg.EventLogRecord, name: str) -> str:
    materialization = record.asset_materialization
    assert materialization is not None
    return (materialization.tags or {}).get(name, "")
