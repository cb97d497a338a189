"""Whether a domain's contracts are still those that the serving version was trained under."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

from slm_assets import canonical
from slm_assets.domain.domain import CONFIG_NAME, Domain
from slm_assets.domain.loading import load_domain, read_bundle
from slm_assets.domain.stamps import stamp
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry


def contract_digest(domain: Domain) -> str:
    """Over every role's input and output contract, with what they refer to."""
    roles = [role.id for role in domain.config.roles]
    return canonical.digest({role: [domain.input_schema(role), domain.output_schema(role)] for role in roles})


def live_contract(home: Home, name: str) -> str:
    """The digest of a domain's contracts as its folder has them now; read again only when a file's stamp changes.

    ConfigError where the domain is broken.
    """
    folder = home.domains / name
    files = _files(folder, stamp(folder / CONFIG_NAME))
    return _of_folder(folder, tuple(stamp(folder / path) for path in files))


def frozen_contract(registry: Registry, config: str) -> str:
    """The digest of the contracts in a config that a version or a window was opened with."""
    found = _frozen.get(config)
    if found is None:
        with tempfile.TemporaryDirectory(prefix="slm-contract-") as scratch:
            registry.store.get(config, Path(scratch) / "config")
            found = contract_digest(read_bundle(Path(scratch) / "config"))
        _frozen[config] = found
    return found


_frozen: dict[str, str] = {}
"""Config's digest → its contracts' digest: a handful for each domain, and none ever changes."""


@lru_cache(maxsize=4096)
def _files(folder: Path, _as_of: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(sorted(load_domain(folder).files))


@lru_cache(maxsize=4096)
def _of_folder(folder: Path, _as_of: tuple[tuple[int, ...], ...]) -> str:
    return contract_digest(load_domain(folder))
