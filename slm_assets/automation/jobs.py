"""The jobs: `monitor` watches traffic, `retrain` makes the cells of a version, `open_version` opens the next one."""

from functools import cache

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from slm_assets.automation import tags
from slm_assets.automation.instance import ensure_version_partition
from slm_assets.errors import SlmError
from slm_assets.registry.home import Home
from slm_assets.stages.plans import open_domain
from slm_assets.stages.plans import open_version as open_next
from slm_assets.stages.table import STAGES, WATCH

RETRAIN = "retrain"
MONITOR = "monitor"


class OpenVersion(dg.Config):
    """What the next version of `domain` is opened with; `train_fraction` in (0, 1]."""

    domain: str
    reason: str = "opened in the Dagster UI"
    train_fraction: float = 1.0


@cache
def retrain() -> UnresolvedAssetJobDefinition:
    """The six assets of one version, with their checks."""
    return dg.define_asset_job(
        RETRAIN,
        selection=[stage.asset for stage in STAGES],
        description="Dataset, labels, challenger, verdicts, release and deployment of one version.",
    )


@cache
def monitor() -> UnresolvedAssetJobDefinition:
    """The two assets that watch a domain's traffic, with their checks."""
    return dg.define_asset_job(
        MONITOR,
        selection=[stage.asset for stage in WATCH],
        description="Capture what is new in a domain's traffic, and look for drift in it.",
    )


@dg.op
def open_a_version(context: dg.OpExecutionContext, config: OpenVersion) -> None:
    """Write the plan of the domain's next version and add its partition, ready to be materialised."""
    try:
        domain, registry = open_domain(Home.from_env(), config.domain)
        plan = open_next(
            domain,
            registry,
            params={"train_fraction": config.train_fraction},
            reason=config.reason,
            actor=context.run.tags.get(tags.ACTOR, "dagster"),
        )
    except SlmError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    ensure_version_partition(context.instance, plan.version)
    context.instance.add_run_tags(context.run.run_id, {tags.DOMAIN: plan.domain, tags.VERSION: plan.version})
    context.log.info(f"opened {plan.domain} {plan.version}: materialise its partition next")


@dg.job(description="Open the next version of a domain; then materialise or backfill its partition.")
def open_version() -> None:
    """One op: mint the version, add the partition."""
    open_a_version()
