"""From a partition key to the version's plan and registry: never the latest, always the one opened."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from slm_assets.automation import local
from slm_assets.automation.partitions import names_of
from slm_assets.domain.config import DomainConfig
from slm_assets.errors import BadInputError
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Plan, Registry
from slm_assets.stages.plans import number_of, open_domain


class NotOpenedError(BadInputError):
    """The cell's version was never opened for its domain: there is nothing to make."""


@dataclass(frozen=True)
class Cell:
    """A version of a domain, the registry that knows it, and the domain's config as it is now: where stages
    run may change while a version is made, what they do may not."""

    registry: Registry
    plan: Plan
    config: DomainConfig


def open_cell(partition_key: str, run_id: str) -> Cell:
    """The cell's version. NotOpenedError where it has no plan, ConfigError where its domain is broken."""
    running = local.current()
    home = running.home if running else Home.from_env()
    domain, version = names_of(partition_key)
    config, registry = _opened(home, domain, run_id)
    plan = registry.plan(domain, number_of(version))
    if plan is None:
        raise NotOpenedError(
            f"{domain} {version} was never opened, so nothing runs",
            cure=f"open it with `slm run {domain} --new` or the job open_version",
        )
    return Cell(registry, plan, config)


@lru_cache(maxsize=4)
def _opened(home: Home, domain: str, _run_id: str) -> tuple[DomainConfig, Registry]:
    """One reading of the domain's config per run, not one per step."""
    loaded, registry = open_domain(home, domain)
    return loaded.config, registry
