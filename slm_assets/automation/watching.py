"""The sensors that have traffic looked at: where some waits, where time is up, where a contract has changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import dagster as dg

from slm_assets.automation import tags
from slm_assets.automation.jobs import MONITOR
from slm_assets.automation.launch import end_if_killed
from slm_assets.automation.tempo import tick_seconds, watch_seconds
from slm_assets.errors import SlmError
from slm_assets.registry import watching
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry
from slm_assets.stages.cadence.contracts import frozen_contract, live_contract
from slm_assets.stages.cadence.due import HOUR_S, Due, due, waiting
from slm_assets.stages.cadence.settings import settings_of
from slm_assets.stages.plans import namespaces

MOST_REQUESTS = 20
"""Runs that one tick asks for; the other domains are still due at the next one."""
LOADING_S = 20.0
"""How long a tick loads domains whose files have changed: the rest is loaded by the next ones."""
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

Found = Iterator[tuple[str, Due]]


@dg.sensor(
    job_name=MONITOR,
    minimum_interval_seconds=tick_seconds(),
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Look at the traffic of each domain where enough of it waits, where another version serves, or where "
    "nobody has looked for a day.",
)
def watch_traffic(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """A listing of two folders for each domain and four queries for all of a namespace; no file is opened."""
    return _requests(context, due_domains)


@dg.sensor(
    job_name=MONITOR,
    minimum_interval_seconds=tick_seconds(),
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Look at once at a domain whose contracts are no longer those that the serving version was made "
    "under, with traffic or without.",
)
def watch_contracts(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """The stamps of each domain's files; what has changed is read."""
    return _requests(context, changed_domains)


def due_domains(registry: Registry, names: list[str], now: datetime) -> Found:
    """The domains of a namespace whose traffic is due, and why. One that is broken is left out: its fault is shown
    where it is used."""
    newest, serving = watching.newest_windows(registry), watching.serving(registry)
    replayed, every_s = watching.replayed(registry), watch_seconds()
    for name in names:
        mine, last = serving.get(name, {}), newest.get(name)
        new = waiting(registry.home, registry, name, last, replayed.get(name))
        if not (new or mine or last):
            continue
        try:
            watch = settings_of(registry.home, name).triggers.watch
        except SlmError:
            continue
        found = due(new, last, mine, watch, now, every_s=every_s)
        if found is not None:
            yield name, found


def changed_domains(registry: Registry, names: list[str], now: datetime) -> Found:
    """The domains of a namespace whose contracts differ from those of what serves, where no window says so yet."""
    serving, newest = watching.serving_configs(registry), watching.newest_windows(registry)
    until = time.monotonic() + LOADING_S
    for name in names:
        if name not in serving or time.monotonic() > until:
            continue
        window = newest.get(name)
        try:
            live = live_contract(registry.home, name)
            known = {frozen_contract(registry, serving[name])}
            known |= {frozen_contract(registry, window["config"])} if window else set()
        except SlmError:
            continue  # its fault is shown where it is used
        if live not in known:
            at = f"w{window['number']}" if window else "w0"
            yield name, Due("its contracts changed", f"contract-{at}-{live[:16]}-{int(now.timestamp() // HOUR_S)}")


def _requests(
    context: dg.SensorEvaluationContext, find: Callable[[Registry, list[str], datetime], Found]
) -> dg.SensorResult | dg.SkipReason:
    now = datetime.now(UTC)
    found = [one for registry, names in namespaces(Home.from_env()) for one in find(registry, names, now)]
    if not found:
        return dg.SkipReason("nothing is due")
    at_work = {
        run.tags.get(tags.DOMAIN) or run.tags.get("dagster/partition")
        for run in context.instance.get_runs(dg.RunsFilter(job_name=MONITOR, statuses=_UNFINISHED))
        if not end_if_killed(context.instance, run)
    }
    requests = [_request(name, due) for name, due in found if name not in at_work]
    if not requests:
        return dg.SkipReason(f"{len(found)} domains are being looked at")
    return dg.SensorResult(run_requests=requests[:MOST_REQUESTS])


def _request(name: str, due: Due) -> dg.RunRequest:
    told = {tags.DOMAIN: name, tags.DUE: due.why, tags.ACTOR: "sensor"}
    return dg.RunRequest(run_key=f"{name}-{due.key}", partition_key=name, tags=told)
