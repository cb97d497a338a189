"""The one request that each cell has: of a version by its plan, of a window of traffic by its row."""

from __future__ import annotations

from slm_assets.errors import BadInputError
from slm_assets.registry.registry import Plan, Registry
from slm_assets.registry.windows import Window
from slm_assets.stages.contract import StageRequest
from slm_assets.stages.plans import number_of, version_request
from slm_assets.stages.table import WATCH
from slm_assets.stages.windows import window_of, window_request

Subject = Plan | Window
"""What cells belong to: a version, or a window of traffic."""
WATCHING = frozenset(stage.name for stage in WATCH)


def request_for(registry: Registry, subject: Subject, stage: str) -> StageRequest:
    """The request of a cell. BadInputError where a cell that it needs has not been made yet."""
    if isinstance(subject, Window):
        return window_request(registry, subject, stage)
    return version_request(registry, subject, stage)


def subject_of(registry: Registry, domain: str, stage: str, name: str) -> Subject:
    """The version (v3) or, for a stage that watches the traffic, the window (w3) of that name. BadInputError where it
    was never opened."""
    if stage in WATCHING:
        return window_of(registry, domain, name)
    plan = registry.plan(domain, number_of(name))
    if plan is None:
        raise BadInputError(f"{domain} {name} was never opened", cure=f"open it: slm run {domain} --version {name}")
    return plan
