"""The engines of one domain at one moment, made from what its flags say."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from slm_assets.domain.config import Role
from slm_assets.domain.loading import Domain
from slm_assets.errors import SlmError
from slm_assets.registry.registry import Flag, Registry
from slm_assets.serving.problems import Problem, shown
from slm_assets.stages.bundle import Bundle
from slm_assets.stages.serving import Serving, serving_of, serving_oracle

LOG = logging.getLogger("slm.serving")


@dataclass(eq=False)
class Snapshot:
    """The engines of one domain at one moment; `faults`: role → why nothing answers for it."""

    domain: Domain
    tenant: str
    project: str
    roles: tuple[Role, ...]
    engines: Mapping[str, Serving]
    flags: Mapping[str, Flag]
    faults: Mapping[str, str]
    bundles: Mapping[str, Bundle] = field(repr=False)
    leases: int = 0
    retired: bool = False

    def close(self) -> None:
        """End the oracles' processes."""
        for serving in self.engines.values():
            serving.close()

    def engine(self, role_id: str) -> Serving:
        """What answers for a role. Problem 404 or 503."""
        if role_id in self.engines:
            return self.engines[role_id]
        if role_id in self.faults:
            raise Problem(503, "unavailable", f"{self.domain.name}.{role_id}: {self.faults[role_id]}")
        names = ", ".join(role.id for role in self.roles)
        raise Problem(404, "role", f"domain {self.domain.name} has no role {shown(role_id)}", cure=f"one of {names}")


def make_snapshot(
    base: Domain,
    registry: Registry,
    flags: Mapping[str, Flag],
    old: Snapshot | None,
    open_release: Callable[[str], Bundle],
    refused: dict[str, str],
) -> Snapshot:
    """What the flags name, loaded and verified; a bundle that `old` has is not opened again.

    Whatever is wrong with a release is kept in `refused` under `domain.role`: what answered goes on, or the
    oracle. A role for which nothing answers is a fault of the snapshot.
    """
    bundles: dict[str, Bundle] = {}
    spare = dict(old.bundles) if old else {}

    def opened(release: str) -> Bundle:
        if release not in bundles:
            bundles[release] = spare[release] if release in spare else open_release(release)
        return bundles[release]

    engines: dict[str, Serving] = {}
    faults: dict[str, str] = {}
    for role_id, flag in flags.items():
        key = f"{base.name}.{role_id}"
        refused.pop(key, None)
        try:
            engines[role_id] = _serving(registry, base, flag, opened, old, partial(refused.__setitem__, key))
        except Exception as error:
            faults[role_id] = _said(error)
            LOG.error("role has no engine", extra={"fields": {"role": key, "error": faults[role_id]}})
    # What served before stays loaded: the way back is short.
    before = {flag.release for flag in old.flags.values()} if old else set()
    kept = {release: bundle for release, bundle in spare.items() if release in before}
    return Snapshot(
        base, registry.tenant, registry.project, tuple(base.config.roles), engines, flags, faults, {**kept, **bundles}
    )


def _serving(
    registry: Registry,
    base: Domain,
    flag: Flag,
    opened: Callable[[str], Bundle],
    old: Snapshot | None,
    refuse: Callable[[str], None],
) -> Serving:
    try:
        return serving_of(registry, base, flag, opened)
    except Exception as error:  # whatever a release is, the others go on
        if flag.engine == "oracle":
            raise
        refuse(said := _said(error))
        LOG.error("engine refused", extra={"fields": {"role": f"{base.name}.{flag.role}", "error": said}})
        if old is not None and flag.role in old.engines:
            return old.engines[flag.role]
        return serving_oracle(base, flag.role, refused=said)


def _said(error: Exception) -> str:
    return error.message if isinstance(error, SlmError) else f"{type(error).__name__}: {error}"[:500]
