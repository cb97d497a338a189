"""`slm run` and `slm watch`: a job in this process, on the instance that the UI reads."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from slm_assets.automation import tags
from slm_assets.automation.instance import ensure_version_partition, instance_for
from slm_assets.automation.jobs import MONITOR, RETRAIN
from slm_assets.automation.local import Listener, LocalRun, running
from slm_assets.automation.partitions import key_of
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Plan

LOCATION = "slm_assets"
"""The code location's name in workspace.yaml: the UI links a run to its job by it."""

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class LaunchResult:
    """How a run ended: its `slm/outcome` tag ("" where no asset set one), and what stopped it."""

    success: bool
    run_id: str
    outcome: str = ""
    failed_asset: str = ""
    failed_check: str = ""
    error: str = ""


def run_version(
    home: Home,
    plan: Plan,
    definitions: dg.Definitions,
    *,
    actor: str,
    engine: str | None = None,
    listener: Listener | None = None,
    labels: Mapping[str, str] | None = None,
) -> LaunchResult:
    """Run every stage of a version as a run of the retrain job, with its partition, tags and checks.

    `engine` runs all of them; without it the domain's config decides. What is unchanged is a cache hit. `labels` are
    tags that say more of why. The run is in the UI from its first event on, like one of its own.
    """
    with instance_for(home) as instance:
        ensure_version_partition(instance, plan.version)
        end_the_killed(instance, plan)
        told = {tags.DOMAIN: plan.domain, tags.VERSION: plan.version, **(labels or {})}
        asked = {tags.ENGINE: engine} if engine else {}
        local = LocalRun(home, actor, listener or Listener())
        return _run(instance, definitions, RETRAIN, key_of(plan.domain, plan.version), told | asked, local)


def run_window(home: Home, domain: str, definitions: dg.Definitions, *, actor: str) -> LaunchResult:
    """Look at a domain's traffic now, as a run of the monitor job."""
    with instance_for(home) as instance:
        local = LocalRun(home, actor, Listener())
        return _run(instance, definitions, MONITOR, domain, {tags.DOMAIN: domain}, local)


def _run(
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    job: str,
    partition: str,
    told: Mapping[str, str],
    local: LocalRun,
) -> LaunchResult:
    with running(local):
        result = definitions.resolve_job_def(job).execute_in_process(
            instance=instance,
            partition_key=partition,
            tags={
                **told,
                tags.ACTOR: local.actor,
                tags.PROCESS: f"{socket.gethostname()}:{os.getpid()}",
                "dagster/max_retries": "0",  # whoever typed the command decides about another try
                ".dagster/repository": f"__repository__@{LOCATION}",
            },
            run_config=_QUIET,
            raise_on_error=False,
        )
    run = instance.get_run_by_id(result.run_id)
    return _read(result, run.tags.get(tags.OUTCOME, "") if run else "")


def _read(result: dg.ExecuteInProcessResult, outcome: str) -> LaunchResult:
    if result.success:
        return LaunchResult(True, result.run_id, outcome)
    for evaluation in result.get_asset_check_evaluations():
        if not evaluation.passed:
            asset = evaluation.asset_key.to_user_string()
            said = evaluation.description or ""
            return LaunchResult(False, result.run_id, outcome, asset, evaluation.check_name, said)
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            told = data.user_failure_data.description if data.user_failure_data else None
            error = told or (data.error.message if data.error else "")
            return LaunchResult(False, result.run_id, outcome, event.step_key or "", "", error)
    return LaunchResult(False, result.run_id, outcome)


def end_the_killed(instance: dg.DagsterInstance, plan: Plan) -> None:
    """Fail the runs of this version whose process is gone: nobody else would ever end them."""
    filters = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.NOT_STARTED],
        tags={tags.DOMAIN: plan.domain, tags.VERSION: plan.version},
    )
    for run in instance.get_runs(filters):
        end_if_killed(instance, run)


def end_if_killed(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Fail a run of a command of this machine whose process is gone; whether it was one."""
    host, _, pid = run.tags.get(tags.PROCESS, "").rpartition(":")
    if host != socket.gethostname() or Path(f"/proc/{pid}").exists():
        return False
    instance.report_run_failed(run, f"process {pid} of this run is gone; the next run goes on from there")
    return True
