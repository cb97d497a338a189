"""What runs by itself where stages run elsewhere: the outbox of a NoETL server is delivered, and cells whose stages
ran there or in pods are launched again when these have ended."""

import os
from collections.abc import Callable
from functools import cache

import dagster as dg

from slm_assets.automation import tags
from slm_assets.automation.jobs import MONITOR, RETRAIN, monitor, retrain
from slm_assets.automation.partitions import key_of
from slm_assets.domain.compute import StageRun, settings
from slm_assets.engines.choose import KUBERNETES, NOETL
from slm_assets.errors import SlmError
from slm_assets.noetl.address import URL
from slm_assets.registry import jobs
from slm_assets.registry.home import Home
from slm_assets.stages.plans import open_domain, registries
from slm_assets.stages.requests import WATCHING

TICK_S = 20.0
"""How long a tick delivers: well below the minute after which Dagster gives a tick up."""


CALL_S = 4.0
"""And how long it waits for an answer, tried four times: a server that hangs must not outlast the tick."""
MOST_LAUNCHES = 10
"""How often the cell of one job is launched again: its run may be killed, but not for ever."""
_OF_THE_RUN = {tags.OUTCOME, tags.PROCESS, tags.JOB}


class DeadLetterError(Exception):
    """Handoffs that the server refused: a person must look, so the tick shows as failed, once."""


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=f"Deliver finished assets and flips to the NoETL server that {URL} names; without one they wait.",
)
def deliver_handoffs(_context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Deliver what is due; no run is started."""
    if not os.environ.get(URL):
        return dg.SkipReason(f"{URL} names no server: handoffs wait in the outbox")
    from slm_assets.noetl.handoffs import Report, deliver
    from slm_assets.noetl.server import server_from_env

    server = server_from_env(timeout_s=CALL_S)
    assert server is not None
    total = Report()
    until = server.clock.now() + TICK_S
    with server:
        for registry in registries(Home.from_env()):
            left = until - server.clock.now()
            if total.away or left <= 0:
                break
            total.add(deliver(registry, server, seconds=left))
    if total.dead:
        raise DeadLetterError(
            f"{total.dead} handoffs were refused; see `slm handoffs list --state dead`:\n" + "\n".join(total.errors)
        )
    return dg.SkipReason(f"{total.delivered} delivered, {total.delayed} delayed {total.away}".strip())


@dg.sensor(
    jobs=[retrain(), monitor()],
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Launch a cell again whose stage a NoETL server or a pod has ended: it finds the receipt and goes on.",
)
def watch_jobs(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """All jobs in flight in one query, and one question to each engine that has some; a run for each job that has
    ended or should have, long ago. An engine that is away hides no other's."""
    home = Home.from_env()
    waiting = [job for registry in registries(home) for job in jobs.in_flight(registry)]
    if not waiting:
        return dg.SkipReason("no job is in flight")
    ended, away = [], []
    for engine, ask in ((NOETL, _on_noetl), (KUBERNETES, _in_pods)):
        mine = [job for job in waiting if job["engine"] == engine]
        try:
            ended += ask(mine, home) if mine else []
        except SlmError as error:
            away.append(f"the server is away: {error.message}")
    requests = [request for job in ended if (request := _relaunch(context.instance, job))]
    if away and not requests:
        return dg.SkipReason("; ".join(away))
    return dg.SensorResult(run_requests=requests)


def _on_noetl(waiting: list[jobs.Row], home: Home) -> list[jobs.Row]:
    """Those of the jobs that a NoETL server has ended."""
    from slm_assets.engines.noetl_server import finished
    from slm_assets.noetl.server import server_from_env

    server = server_from_env(timeout_s=CALL_S)
    if server is None:
        raise SlmError(f"{URL} names no server")
    with server:
        return finished(server, waiting, _timeouts(home))


def _in_pods(waiting: list[jobs.Row], _home: Home) -> list[jobs.Row]:
    """Those of the jobs whose pods have ended."""
    from slm_assets.domain.cluster import cluster_from_env
    from slm_assets.engines.kubernetes import finished
    from slm_assets.engines.kubernetes_api import connect

    return finished(connect(read_s=CALL_S), waiting, cluster_from_env())


def _timeouts(home: Home) -> Callable[[jobs.Row], float]:
    """How long a job's stage may take, as its domain says now; each domain is read once a tick at most."""

    @cache
    def runs(domain: str) -> dict[str, StageRun]:
        try:
            return open_domain(home, domain)[0].config.stages
        except SlmError:  # broken or gone since: what it said is not known, the jobs are there all the same
            return {}

    return lambda job: settings(runs(job["domain"]), job["stage"]).timeout_s


def _relaunch(instance: dg.DagsterInstance, job: jobs.Row) -> dg.RunRequest | None:
    """A run of the cell as the one that submitted it was asked for, unless one is under way."""
    before = instance.get_runs(dg.RunsFilter(tags={tags.JOB: job["dedup"]}))
    if len(before) >= MOST_LAUNCHES or any(not run.is_finished for run in before):
        return None
    submitter = instance.get_run_by_id(job["run_id"])
    kept = {k: v for k, v in submitter.tags.items() if k.startswith("slm/")} if submitter else {}
    selection = submitter.asset_selection if submitter else None
    watching = job["stage"] in WATCHING
    return dg.RunRequest(
        run_key=f"{job['dedup']}#{len(before)}",
        job_name=MONITOR if watching else RETRAIN,
        partition_key=job["domain"] if watching else key_of(job["domain"], f"v{job['number']}"),
        asset_selection=sorted(selection) if selection else None,
        tags={k: v for k, v in kept.items() if k not in _OF_THE_RUN} | {tags.JOB: job["dedup"]},
    )
