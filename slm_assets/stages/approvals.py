"""What a named person decides of a version: approve what is undecided or first, override a no, hold it back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slm_assets.errors import BadInputError
from slm_assets.registry import decisions
from slm_assets.registry.registry import Plan, Registry, Row
from slm_assets.stages.overriding import NOES, OVERRIDABLE, overridden
from slm_assets.stages.plans import approved_roles, number_of, output_of

REASON = 10
"""Characters that a reason for an override has at least."""


def approve(
    registry: Registry,
    domain: str,
    version: str,
    *,
    roles: list[str] | None,
    actor: str,
    reason: str,
    override: Sequence[str] = (),
) -> dict[str, Any]:
    """Record an approval bound to the digests of the verdicts and, where it exists, the release.

    Default roles: all that did not fail. BadInputError for a role that a gate failed: an approval can stand in for
    missing evidence, not against it. `override` names gates whose no is outweighed all the same, for this reason.
    """
    if not actor.strip():
        raise BadInputError("an approval needs a name", cure="give --by NAME")
    plan = opened(registry, domain, version)
    noes = _noes(registry, plan, override, reason, roles)
    evidence = output_of(registry, plan, "evaluate")
    cell = registry.cell(domain, plan.number, "evaluate")
    assert cell is not None
    outcomes: dict[str, str] = cell["receipt"]["result"]["roles"]
    instead = _overridden(registry, plan, noes, roles or list(outcomes))
    wanted = roles or [role for role, outcome in outcomes.items() if outcome != "fail" or role in instead]
    refused = {
        role: outcomes.get(role, "unknown")
        for role in wanted
        if outcomes.get(role) in (None, "fail") and role not in instead
    }
    if refused or not wanted:
        raise BadInputError(
            f"{domain} {version} cannot be approved: {refused or outcomes}",
            cure="a gate that failed is not overruled by an approval; train a better version, or name every gate "
            f"that failed and why: --override GATE --reason WHY ({', '.join(OVERRIDABLE)})",
        )
    package = registry.cell(domain, plan.number, "package")
    packaged = package is not None and package["status"] == "succeeded"
    release = package["receipt"]["outputs"]["release"]["sha256"] if package and packaged else None
    if noes:
        decisions.override(registry, domain, plan.number, noes, actor=actor, reason=reason)
    registry.approve(domain, plan.number, wanted, evidence=evidence, release=release, actor=actor, reason=reason)
    waiting = _waiting(registry, plan, wanted)
    if waiting:
        own, of = waiting
        registry.approve(domain, plan.number, own, evidence=of, release=release, actor=actor, reason=reason)
    return {
        "domain": domain, "version": version, "roles": wanted, "by": actor, "evidence": evidence,
        "release": release, "reason": reason, "overridden": sorted({row["gate"] for row in noes}),
    }  # fmt: skip


def hold(registry: Registry, domain: str, version: str, *, held: bool, actor: str, reason: str) -> dict[str, Any]:
    """Hold a version back from being deployed, or let it go. BadInputError for one that serves, or is not held."""
    plan = opened(registry, domain, version)
    if not reason.strip():
        raise BadInputError("a hold needs a reason", cure="give --reason WHY")
    serves = sorted(role for role, flag in registry.flags(domain).items() if flag.number == plan.number)
    if held and serves:
        raise BadInputError(
            f"{domain} {version} serves {', '.join(serves)}: it is too late to hold it back",
            cure=f"take it back: slm rollback {domain}",
        )
    if not held and decisions.held_by(registry, domain, plan.number) is None:
        raise BadInputError(f"{domain} {version} is not held back by anybody")
    decisions.hold(registry, domain, plan.number, held=held, actor=actor, reason=reason)
    return {"domain": domain, "version": version, "held": held, "by": actor, "reason": reason}


def opened(registry: Registry, domain: str, version: str) -> Plan:
    """The plan of a version. BadInputError where it was never opened."""
    plan = registry.plan(domain, number_of(version))
    if plan is None:
        raise BadInputError(f"{domain} {version} was never opened")
    return plan


def _noes(registry: Registry, plan: Plan, gates: Sequence[str], reason: str, roles: Sequence[str] | None) -> list[Row]:
    """The answers that an override names: each is a no that stands now, of a gate that may be overridden."""
    if not gates:
        return []
    never = sorted(set(gates) - set(OVERRIDABLE))
    if never:
        raise BadInputError(
            f"{', '.join(never)}: never overridden", cure=f"gates that may be: {', '.join(OVERRIDABLE)}"
        )
    if len(reason.strip()) < REASON:
        raise BadInputError(f"an override needs a reason of at least {REASON} characters", cure="give --reason WHY")
    rows = registry.verdicts(plan.domain, plan.number)
    found = [
        row for row in rows
        if row["gate"] in gates and row["blocking"] and row["verdict"] in NOES and (not roles or row["role"] in roles)
    ]  # fmt: skip
    missing = sorted(set(gates) - {row["gate"] for row in found})
    if missing and not found:
        raise BadInputError(
            f"{plan.domain} {plan.version} cannot be approved so: {', '.join(missing)} gave no no to override",
            cure=f"`slm run {plan.domain} --version {plan.version}` shows the gates",
        )
    return found


def _overridden(registry: Registry, plan: Plan, noes: Sequence[Row], roles: Sequence[str]) -> set[str]:
    """Roles that the evaluation failed and whose every no is overridden, now or before."""
    rows = [row for row in registry.verdicts(plan.domain, plan.number) if row["stage"] == "evaluate"]
    known = [*decisions.overrides(registry, plan.domain, plan.number), *noes]
    return overridden(rows, known, {*approved_roles(registry, plan), *roles})


def _waiting(registry: Registry, plan: Plan, roles: Sequence[str]) -> tuple[list[str], str] | None:
    """Roles whose live turns were too few so far, and the digest of the request that said so."""
    cell = registry.cell(plan.domain, plan.number, "shadow")
    if cell is None or cell["status"] != "deferred":
        return None
    said: dict[str, str] = cell["receipt"]["result"]["roles"]
    own = [role for role in roles if said.get(role) == "insufficient"]
    return (own, cell["request"]) if own else None
