"""Taking old versions out of the partition grid: their columns go, and nothing of what they are.

A version is a column for every domain, so it goes when no domain needs it: none has it among its newest, serves it,
would roll back to it, waits for it or works on it. Plans, verdicts, lineage, artifacts and the history of runs stay.
"""

from __future__ import annotations

import dagster as dg

from slm_assets.automation.partitions import VERSIONS
from slm_assets.registry import grid
from slm_assets.registry.home import Home
from slm_assets.stages.plans import namespaces

KEEP = 10
"""Of each domain's newest versions, whatever became of them."""


def prunable(home: Home, instance: dg.DagsterInstance, *, keep: int = KEEP) -> list[str]:
    """The versions in the grid that no domain needs, in order. One that no domain ever opened is left alone."""
    assert VERSIONS.name is not None
    known: set[int] = set()
    needed: set[int] = set()
    for registry, _domains in namespaces(home):
        for numbers in grid.opened(registry).values():
            known |= set(numbers)
            needed |= set(numbers[:keep])
        needed |= grid.in_use(registry)
    there = set(instance.get_dynamic_partitions(VERSIONS.name))
    return [f"v{number}" for number in sorted(known - needed) if f"v{number}" in there]


def prune(instance: dg.DagsterInstance, versions: list[str]) -> None:
    """Take versions out of the grid. `ensure_version_partition` brings one back."""
    assert VERSIONS.name is not None
    for version in versions:
        instance.delete_dynamic_partition(VERSIONS.name, version)
