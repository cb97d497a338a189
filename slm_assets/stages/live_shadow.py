"""Which version answers beside what serves in the service: switched by a flag, refused where it cannot be loaded."""

from __future__ import annotations

from typing import Any

from slm_assets.errors import BadInputError
from slm_assets.registry import decisions
from slm_assets.registry.registry import Registry
from slm_assets.stages.approvals import opened
from slm_assets.stages.plans import output_of


def switch_shadow(
    registry: Registry, domain: str, version: str | None, *, sample: float, actor: str, reason: str
) -> dict[str, Any]:
    """Let a packaged version answer a share of the turns beside what serves; None: nobody.

    BadInputError for a version without a release, for one that serves, and for a share that is none.
    """
    if version is None:
        there = decisions.shadow_of(registry, domain)
        if there is not None:
            decisions.shadow_flag(
                registry, domain, number=None, release=None, sample=0.0, actor=actor, reason=reason
            )  # fmt: skip
        was = f"v{there['number']}" if there else None
        return {"domain": domain, "version": None, "was": was, "sample": 0.0, "by": actor}
    if not 0 < sample <= 1:
        raise BadInputError(f"a sample of {sample:g} is no share of the turns", cure="--sample 0.2, or --off")
    plan = opened(registry, domain, version)
    release = output_of(registry, plan, "package")
    serving = registry.flags(domain).values()
    if serving and all(flag.release == release for flag in serving):
        raise BadInputError(f"{domain} {version} serves already: there is nothing to compare it with")
    registry.store.verify(release)
    decisions.shadow_flag(
        registry, domain, number=plan.number, release=release, sample=sample, actor=actor, reason=reason
    )
    return {"domain": domain, "version": version, "release": release, "sample": sample, "by": actor}
