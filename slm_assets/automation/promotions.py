"""What runs around a promotion: a sensor that watches fresh ones, and jobs by which a person approves and rolls back
from the UI."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import dagster as dg
from pydantic import Field

from slm_assets.automation import tags
from slm_assets.automation.jobs import RETRAIN
from slm_assets.automation.partitions import key_of
from slm_assets.errors import BadInputError, SlmError
from slm_assets.registry import watching
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry
from slm_assets.registry.windows import newest_traffic
from slm_assets.stages.plans import namespaces, open_domain, registries, registry_of
from slm_assets.stages.shadow_request import waiting_shadows


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Look at the live answers of fresh promotions as traffic is captured; take back those that do worse.",
)
def watch_promotions(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Each domain with a fresh promotion, once for each captured window; no run is started. Which these are takes two
    queries for all domains of a namespace."""
    home, now = Home.from_env(), datetime.now(UTC)
    seen: dict[str, int] = json.loads(context.cursor or "{}")
    told: list[str] = []
    looked: dict[str, int] = {}
    due = [one for registry, names in namespaces(home) for one in _due(registry, names, seen)]
    for name, window in due:
        try:
            looked[name] = window
            told += _watch(home, name, now)
        except SlmError as error:
            told.append(f"{name}: {error.message}")
            context.log.error(f"{name}: {error}")
    reason = "; ".join(told) or "no fresh promotion with new traffic"
    if not looked:
        return dg.SkipReason(reason)
    return dg.SensorResult(skip_reason=reason, cursor=json.dumps({**seen, **looked}))


def _due(registry: Registry, names: list[str], seen: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """The domains that a release answers for, each with its newest captured window, where that is a new one."""
    serving, newest = watching.serving(registry), watching.newest_windows(registry)
    for name in names:
        window = newest.get(name)
        if name not in serving or window is None:
            continue
        there = window if window["capture"] == "succeeded" else newest_traffic(registry, name)
        if there is not None and there["number"] > seen.get(name, 0):
            yield name, int(there["number"])


def _watch(home: Home, name: str, now: datetime) -> list[str]:
    from slm_assets.engines.watching import watch_domain

    domain, registry = open_domain(home, name)
    found = watch_domain(domain, registry, actor="watch_promotions", now=now)
    return [f"{name}.{one.role}: {'rolled back, ' if one.rolled_back else ''}{one.sentence}" for one in found]


@dg.sensor(
    job_name=RETRAIN,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Go on with versions that wait for live turns, once for each window of traffic captured since, when "
    "the budget allows it.",
)
def continue_shadows(_context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """A run of the version's job for each: what is made is a cache hit, the shadow report is asked for anew.

    Over budget none is started: a run under this key would be told so once, and come again with other traffic only.
    """
    requests, over = [], []
    for registry in registries(Home.from_env()):
        for domain, number, window in waiting_shadows(registry):
            if too_much := _over_budget(registry, domain, number):
                over.append(f"{domain} v{number}: over budget: {too_much}")
                continue
            key = f"{registry.tenant}/{registry.project} {domain} v{number} w{window}"
            named = {tags.DOMAIN: domain, tags.VERSION: f"v{number}", tags.ACTOR: "continue_shadows"}
            requests.append(dg.RunRequest(run_key=key, partition_key=key_of(domain, f"v{number}"), tags=named))
    if not requests:
        return dg.SkipReason("; ".join(over) or "no version waits for live turns that have come")
    return dg.SensorResult(run_requests=requests)


def _over_budget(registry: Registry, domain: str, number: int) -> str:
    from slm_assets.engines.budgeted import over_budget

    plan = registry.plan(domain, number)
    return "; ".join(over_budget(registry, plan, ["shadow"])) if plan else ""


class Approval(dg.Config):
    """Whom and what an approval is of. `roles` empty: all that did not fail. `override`: gates whose no is outweighed,
    which needs a reason of ten characters."""

    domain: str
    version: str
    by: str
    roles: list[str] = Field(default=[])
    reason: str = ""
    override: list[str] = Field(default=[])


class Rollback(dg.Config):
    """What is rolled back. `roles` empty: all. `to` empty: what served before; else v2, or oracle."""

    domain: str
    by: str
    roles: list[str] = Field(default=[])
    to: str = ""
    reason: str = "asked for in the Dagster UI"


@dg.op
def approve_a_version(context: dg.OpExecutionContext, config: Approval) -> None:
    """Record a named approval; the version's deployment may then be materialised."""
    from slm_assets.stages.approvals import approve

    try:
        registry = registry_of(Home.from_env(), config.domain)
        result = approve(
            registry, config.domain, config.version, roles=config.roles or None, actor=config.by,
            reason=config.reason, override=config.override,
        )  # fmt: skip
    except SlmError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    _tag(context, {tags.DOMAIN: config.domain, tags.VERSION: config.version, tags.ACTOR: config.by})
    context.log.info(f"{config.domain} {config.version}: {', '.join(result['roles'])} approved by {config.by}")


@dg.op
def roll_roles_back(context: dg.OpExecutionContext, config: Rollback) -> None:
    """Flip the flags back; the target is proven first."""
    from slm_assets.engines.rolling_back import roll_back

    try:
        if not config.by.strip():
            raise BadInputError("a rollback needs a name", cure="set by")
        registry = registry_of(Home.from_env(), config.domain)
        result = roll_back(
            registry, config.domain, roles=config.roles or None, to=config.to or None, reason=config.reason,
            actor=config.by,
        )  # fmt: skip
    except SlmError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    _tag(context, {tags.DOMAIN: config.domain, tags.ACTOR: config.by})
    context.log.info(f"{config.domain}: {result['action']} in {result['seconds']:.2f} s: {result['changes']}")


@dg.job(
    description="Approve a version by name: its first promotion, or what is undecided; then materialise deployment."
)
def approve_version() -> None:
    """One op: the approval."""
    approve_a_version()


@dg.job(description="Flip roles of a domain back to what served before, or to a version that served; nothing is built.")
def rollback_roles() -> None:
    """One op: the rollback."""
    roll_roles_back()


def _tag(context: dg.OpExecutionContext, wanted: dict[str, str]) -> None:
    context.instance.add_run_tags(context.run.run_id, wanted)
