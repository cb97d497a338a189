"""The version that a name means, and the metric that stands for a role where only one is shown."""

from __future__ import annotations

from slm_assets.errors import ArtifactError, BadInputError
from slm_assets.registry.registry import Plan, Registry
from slm_assets.stages.plans import number_of, primary_metric


def plan_of(registry: Registry, domain: str, version: str) -> Plan:
    """The plan of a version by its name. BadInputError names the versions that there are."""
    plan = registry.plan(domain, number_of(version))
    if plan is None:
        numbers = [one.number for one in registry.plans(domain)]
        known = f"v{numbers[0]} to v{numbers[-1]}" if numbers else "none yet"
        raise BadInputError(f"{domain} {version} was never opened", cure=f"versions of {domain}: {known}")
    return plan


def primary_metrics(registry: Registry, plan: Plan) -> dict[str, str]:
    """Role → its primary metric, by the config that the version was opened with; empty where that
    artifact is gone, or is of a release whose keys are no longer read."""
    from pydantic import ValidationError

    from slm_assets.domain.config import ConfigFile
    from slm_assets.domain.documents import Unreadable, read_document
    from slm_assets.domain.loading import CONFIG_NAME

    try:
        document = read_document(registry.store.read(plan.config, CONFIG_NAME), CONFIG_NAME)
        config = ConfigFile.model_validate(document.value).slm_domain
    except (ArtifactError, Unreadable, ValidationError):
        return {}
    return {role.id: primary_metric(config, role.id) for role in config.roles}
