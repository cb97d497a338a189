"""From a partition key to a version's plan or a window of traffic, and the registry: always one that was opened."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from slm_assets.automation import local
from slm_assets.automation.partitions import names_of
from slm_assets.domain.config import DomainConfig
from slm_assets.domain.domain import Domain
from slm_assets.errors import BadInputError
from slm_assets.registry import windows
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry
from slm_assets.stages.plans import number_of, open_domain
from slm_assets.stages.requests import WATCHING, Subject
from slm_assets.stages.windows import next_window, window_of


class NotOpenedError(BadInputError):
    """The cell's version was never opened for its domain: there is nothing to make."""


@dataclass(frozen=True)
class Cell:
    """A version of a domain or a window of its traffic, the registry that knows it, and the domain's config as it is
    now: where stages run may change while a version is made, what they do may not."""

    registry: Registry
    plan: Subject
    config: DomainConfig


def open_cell(partition_key: str, run_id: str, stage: str, actor: str = "dagster") -> Cell:
    """The cell's version or window; for `capture` the next window is opened where there is something new.

    NotOpenedError where there is no such version or window, ConfigError where its domain is broken.
    """
    running = local.current()
    home = running.home if running else Home.from_env()
    if stage in WATCHING:
        loaded, registry = _opened(home, partition_key, run_id)
        if stage == "capture":
            return Cell(registry, next_window(loaded, registry, actor=actor), loaded.config)
        newest = windows.newest_traffic(registry, partition_key)
        if newest is None:
            raise NotOpenedError(
                f"no traffic of {partition_key} was captured yet, so nothing runs",
                cure="materialise captured_traffic of this domain first",
            )
        return Cell(registry, window_of(registry, partition_key, f"w{newest['number']}"), loaded.config)
    domain, version = names_of(partition_key)
    loaded, registry = _opened(home, domain, run_id)
    plan = registry.plan(domain, number_of(version))
    if plan is None:
        raise NotOpenedError(
            f"{domain} {version} was never opened, so nothing runs",
            cure=f"open it with `slm run {domain} --new` or the job open_version",
        )
    return Cell(registry, plan, loaded.config)


def checked_cell(partition_key: str, run_id: str, stage: str) -> Cell:
    """The cell that a check of the stage is about: of the traffic the newest that was captured."""
    return open_cell(partition_key, run_id, "drift" if stage == "capture" else stage)


@lru_cache(maxsize=4)
def _opened(home: Home, domain: str, _run_id: str) -> tuple[Domain, Registry]:
    """One reading of the domain's config per run, not one per step."""
    return open_domain(home, domain)
