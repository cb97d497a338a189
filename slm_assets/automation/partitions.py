"""Domain × version: the one place where partitions are defined and their keys taken apart."""

from __future__ import annotations

import dagster as dg

from slm_assets.domain.loading import list_domains
from slm_assets.registry.home import Home

VERSIONS = dg.DynamicPartitionsDefinition(name="version")


def partitions(home: Home) -> dg.MultiPartitionsDefinition:
    """Every domain folder × every version that was opened for any domain. Reads folder names only."""
    domains = dg.StaticPartitionsDefinition(list_domains(home.domains))
    return dg.MultiPartitionsDefinition({"domain": domains, "version": VERSIONS})


def key_of(domain: str, version: str) -> dg.MultiPartitionKey:
    """The partition key of a cell."""
    return dg.MultiPartitionKey({"domain": domain, "version": version})


def names_of(key: str) -> tuple[str, str]:
    """(domain, version) of a partition key."""
    domain, version = key.split("|")
    return domain, version
