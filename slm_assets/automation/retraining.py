"""The sensor that launches retrains, and the schedules that ask for them: one road from a reason to a run."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from datetime import UTC, datetime

import dagster as dg

from slm_assets.automation import tags
from slm_assets.automation.jobs import RETRAIN
from slm_assets.automation.launch import end_the_killed
from slm_assets.automation.partitions import VERSIONS, key_of
from slm_assets.automation.tempo import tick_seconds
from slm_assets.engines.budgeted import recover
from slm_assets.errors import BadInputError
from slm_assets.registry import retrains
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry, Row
from slm_assets.stages.cadence import retraining
from slm_assets.stages.cadence.conducted import is_playbooks
from slm_assets.stages.cadence.retraining import Launch
from slm_assets.stages.cadence.schedules import crons
from slm_assets.stages.plans import registries, registry_of

ACTOR = "retrain_on_drift"


@dg.sensor(
    job_name=RETRAIN,
    minimum_interval_seconds=tick_seconds(),
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Open and launch the next version of a domain whose triggers fired or whose schedule asks, once, when "
    "cooldown, weekly limit and budget allow it.",
)
def retrain_on_drift(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """What was asked for is decided in the registry; a run that is not there yet is asked for again under its key."""
    launches = [launch for registry in registries(Home.from_env()) for launch in _due(context.instance, registry)]
    if not launches:
        return dg.SkipReason("no retrain is to be launched")
    assert VERSIONS.name is not None
    versions = sorted({launch.plan.version for launch in launches})
    new = [version for version in versions if not context.instance.has_dynamic_partition(VERSIONS.name, version)]
    return dg.SensorResult(
        run_requests=[_request(launch) for launch in launches],
        dynamic_partitions_requests=[VERSIONS.build_add_request(new)] if new else [],
    )


def _due(instance: dg.DagsterInstance, registry: Registry) -> list[Launch]:
    """The launched retrains of a namespace that have no run yet, after a look at how the others went on."""
    recover(registry)
    without = []
    for launch in retraining.under_way(registry):
        with retraining.alone(registry, launch.plan.domain) as mine:
            if not mine:
                continue  # another process starts it
            end_the_killed(instance, launch.plan)
            runs = instance.get_runs(dg.RunsFilter(tags={tags.RETRAIN: retrain_id(launch)}))
            ended = bool(runs) and all(run.is_finished for run in runs)
            going_on = retraining.finish(registry, launch, ended=ended) is None
            if going_on and not runs and not is_playbooks(launch.row, datetime.now(UTC)):
                without.append(launch)
    retraining.ask_for_fired(registry, actor=ACTOR)
    with ExitStack() as held:
        return without + retraining.advance(registry, held, actor=ACTOR)


def _request(launch: Launch) -> dg.RunRequest:
    plan = launch.plan
    return dg.RunRequest(
        run_key=launch.run_key, partition_key=key_of(plan.domain, plan.version), tags=tags_of(launch) | {
            tags.DOMAIN: plan.domain, tags.VERSION: plan.version, tags.ACTOR: launch.row["actor"],
        },
    )  # fmt: skip


def retrain_id(launch: Launch) -> str:
    """By which the runs of a retrain are found."""
    return str(launch.row["id"])


def tags_of(launch: Launch) -> dict[str, str]:
    """Why a run was launched, to filter by and to read."""
    row = launch.row
    window = {tags.WINDOW: f"w{row['window']}"} if row["window"] is not None else {}
    return {
        tags.RETRAIN: retrain_id(launch),
        tags.TRIGGER: ",".join(row["triggers"])[:200],
        tags.REASON: row["reason"][:200],
        **window,
    }


def schedules(home: Home, domains: Iterable[str]) -> list[dg.ScheduleDefinition]:
    """One schedule for each of the domains whose config has a cron."""
    return [_schedule(name, cron) for name, cron in crons(home, domains).items()]


def _schedule(name: str, cron: str) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=f"retrain_{name}",
        job_name=RETRAIN,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        tags={tags.DOMAIN: name},
        description=f"Ask for a retrain of {name}; the sensor {ACTOR} launches it when the budget allows.",
    )
    def ask(context: dg.ScheduleEvaluationContext) -> dg.SkipReason:
        at = (context.scheduled_execution_time or datetime.now(UTC)).astimezone(UTC)
        try:
            row = ask_by_schedule(registry_of(Home.from_env(), name), name, at, cron)
        except BadInputError as error:
            return dg.SkipReason(error.message)
        return dg.SkipReason(f"retrain {row['id']} is asked for; {ACTOR} launches it")

    return ask


def ask_by_schedule(registry: Registry, name: str, at: datetime, cron: str) -> Row:
    """Ask for the retrain of one tick of a schedule; asked again, it is the same."""
    cause = f"schedule-{at:%Y-%m-%dT%H:%M}"
    reason = f"schedule: {cron}"
    return retrains.ask(registry, name, cause, triggers=[retrains.SCHEDULE], reason=reason, actor=f"retrain_{name}")
