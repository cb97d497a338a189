"""Named approvals: of a first promotion, or of a verdict that more turns would be needed to decide."""

from __future__ import annotations

from typing import Any

from slm_assets.errors import BadInputError
from slm_assets.registry.registry import Registry
from slm_assets.stages.plans import number_of, output_of


def approve(
    registry: Registry, domain: str, version: str, *, roles: list[str] | None, actor: str, reason: str
) -> dict[str, Any]:
    """Record an approval bound to the digests of the verdicts and, where it exists, the release.

    Default roles: all that did not fail. BadInputError for a role that a gate failed: an approval can
    stand in for missing evidence, not against it.
    """
    if not actor.strip():
        raise BadInputError("an approval needs a name", cure="give --by NAME")
    number = number_of(version)
    plan = registry.plan(domain, number)
    if plan is None:
        raise BadInputError(f"{domain} {version} was never opened")
    evidence = output_of(registry, plan, "evaluate")
    cell = registry.cell(domain, number, "evaluate")
    assert cell is not None
    outcomes: dict[str, str] = cell["receipt"]["result"]["roles"]
    wanted = roles or [role for role, outcome in outcomes.items() if outcome != "fail"]
    refused = {role: outcomes.get(role, "unknown") for role in wanted if outcomes.get(role) in (None, "fail")}
    if refused or not wanted:
        raise BadInputError(
            f"{domain} {version} cannot be approved: {refused or outcomes}",
            cure="a gate that failed is not overruled by an approval; train a better version",
        )
    package = registry.cell(domain, number, "package")
    packaged = package is not None and package["status"] == "succeeded"
    release = package["receipt"]["outputs"]["release"]["sha256"] if package and packaged else None
    registry.approve(domain, number, wanted, evidence=evidence, release=release, actor=actor, reason=reason)
    return {
        "domain": domain, "version": version, "roles": wanted, "by": actor, "evidence": evidence,
        "release": release, "reason": reason,
    }  # fmt: skip
