"""Domain × version, and domain alone for the traffic: where partitions are defined and their keys taken apart."""

from __future__ import annotations

import dagster as dg

from slm_assets.domain.loading import list_domains
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Plan
from slm_assets.registry.windows import Window

VERSIONS = dg.DynamicPartitionsDefinition(name="version")


def domains(home: Home) -> dg.StaticPartitionsDefinition:
    """Every domain folder. Reads folder names only."""
    return dg.StaticPartitionsDefinition(list_domains(home.domains))


def partitions(by_domain: dg.StaticPartitionsDefinition) -> dg.MultiPartitionsDefinition:
    """Every domain × every version that was opened for any domain."""
    return dg.MultiPartitionsDefinition({"domain": by_domain, "version": VERSIONS})


def key_of(domain: str, version: str) -> dg.MultiPartitionKey:
    """The partition key of a cell."""
    return dg.MultiPartitionKey({"domain": domain, "version": version})


def partition_of(subject: Plan | Window) -> str:
    """The partition of what a cell belongs to: of a window of traffic its domain alone."""
    return subject.domain if isinstance(subject, Window) else key_of(subject.domain, subject.version)


def names_of(key: str) -> tuple[str, str]:
    """(domain, version) of a partition key."""
    domain, version = key.split("|")
    return domain, version
