"""Promote: prove the bundle in a clean process, drill the way back, then flip the flags at once."""

from __future__ import annotations

import time
from typing import Any

from slm_assets import canonical
from slm_assets.errors import ArtifactError, DeferredError, HeldError
from slm_assets.registry.decisions import held_by
from slm_assets.registry.registry import Flag, Plan
from slm_assets.stages import bundle
from slm_assets.stages.clean_process import answers_in_clean_process
from slm_assets.stages.contract import StageResult, Verdict
from slm_assets.stages.overriding import overridden
from slm_assets.stages.package import promotable
from slm_assets.stages.plans import approved_roles, number_of
from slm_assets.stages.runtime import StageContext
from slm_assets.stages.standing import Record, record_of
from slm_assets.stages.switch import DRILL_LIMIT_S, flips, rehearse
from slm_assets.stages.table import BY_NAME

SHADOWED = ("pass", "not_applicable", "approved")
"""What the shadow report must have said of a role."""


def run(ctx: StageContext) -> StageResult:
    """Output `deployment`: deployment.json, which role went from what to which release.

    HeldError where the registry's verdicts do not allow it, DeferredError where a named approval is
    missing. Flags, events and audit are one transaction; a repeat after a kill flips nothing twice.
    """
    number = number_of(ctx.request.version)
    plan = ctx.registry.plan(ctx.request.domain, number)
    assert plan is not None, "a cell is made only of an open version"
    _not_held_back(ctx, plan)
    manifest = bundle.check(ctx.inputs["release"])
    roles = _allowed(ctx, plan, manifest)
    _approved(ctx, plan, roles)
    release = ctx.request.inputs["release"]
    current = ctx.registry.flags(plan.domain)
    _still_the_incumbent(plan, roles, current, release)

    before = {role: _before(plan, role) for role in roles}
    started = time.perf_counter()
    smoke = _smoke(ctx)
    smoke_seconds = time.perf_counter() - started
    ctx.progress(0.6, "drilling the way back")
    drill_seconds = rehearse(ctx.registry, plan.config, list(before.values()))
    verdicts = [smoke, _drill(drill_seconds, len(roles))]
    if any(verdict.verdict == "FAIL" for verdict in verdicts):
        raise HeldError("; ".join(v.reason for v in verdicts if v.verdict == "FAIL"))

    targets = [Flag(role, "release", number, release) for role in roles]
    ctx.registry.flip(
        plan.domain,
        flips(ctx.registry, plan.domain, targets),
        action="promote",
        actor=ctx.envelope.actor,
        reason=f"{plan.version} passed its gates ({plan.reason})",
        playbook=BY_NAME["deploy"].playbook,
    )
    changes = {
        role: {"from": {"engine": b.engine, "number": b.number, "release": b.release}, "to": release}
        for role, b in before.items()
    }
    canonical.write_json(
        ctx.out["deployment"] / "deployment.json",
        {"domain": plan.domain, "version": plan.version, "release": release, "roles": changes},
    )
    return StageResult(
        verdicts=verdicts,
        roles=dict.fromkeys(roles, "promoted"),
        summary={"promoted": roles, "release": release, "changes": changes},
        measured={"smoke_seconds": round(smoke_seconds, 3), "drill_seconds": round(drill_seconds, 3)},
    )


def _allowed(ctx: StageContext, plan: Plan, manifest: dict[str, Any]) -> list[str]:
    """Roles whose verdicts, read again from the registry, let them go on: the authority is there."""
    evidence = ctx.request.inputs["eval"]
    record = record_of(ctx.registry, plan)
    rows = [row for row in record.verdicts if row["stage"] == "evaluate"]
    if not rows or any(row["evidence"] != evidence for row in rows):
        raise ArtifactError(f"{plan.domain} {plan.version}: the registry's verdicts are not of this eval report")
    if manifest["sources"]["eval"] != evidence:
        raise ArtifactError(f"{plan.domain} {plan.version}: the release was packaged from other verdicts")
    outcomes: dict[str, str] = {}
    for row in rows:
        worst = {"FAIL": "fail", "INSUFFICIENT": "insufficient"}.get(row["verdict"], "pass")
        if row["blocking"] and row["role"]:
            outcomes[row["role"]] = _worse(outcomes.get(row["role"], "pass"), worst)
    allowed = promotable(outcomes, record.approved, overridden(rows, record.overrides, record.approved))
    shadowed = _shadowed(record, ctx.request.inputs["shadow"])
    roles = [role for role in manifest["promotable"] if role in allowed and role in shadowed]
    if not roles:
        said = f"{outcomes}; shadow: {record.roles('shadow')}"
        raise HeldError(f"{plan.domain} {plan.version}: no role passed its gates ({said})")
    return roles


def _shadowed(record: Record[Plan], evidence: str) -> list[str]:
    """Roles that the shadow report lets go on."""
    rows = [row for row in record.verdicts if row["stage"] == "shadow"]
    if not rows or any(row["evidence"] != evidence for row in rows):
        raise ArtifactError(f"{record.plan.domain} {record.plan.version}: the verdicts are not of this shadow report")
    if any(row["verdict"] == "FAIL" for row in rows if row["gate"] == "untrained"):
        return []
    instead = overridden(rows, record.overrides, ())
    return [role for role, said in record.roles("shadow").items() if said in SHADOWED or role in instead]


def _not_held_back(ctx: StageContext, plan: Plan) -> None:
    by = held_by(ctx.registry, plan.domain, plan.number)
    if by is not None:
        raise DeferredError(
            f"{plan.domain} {plan.version} is held back by {by['actor']} since {by['at'][:19]}: {by['reason']}",
            cure=f"slm hold {plan.domain} {plan.version} --off --reason WHY, then slm run {plan.domain} "
            f"--version {plan.version}",
        )


def _worse(one: str, other: str) -> str:
    order = ("pass", "insufficient", "fail")
    return max(one, other, key=order.index)


def _approved(ctx: StageContext, plan: Plan, roles: list[str]) -> None:
    auto = ctx.domain.config.improvement.auto_promote
    approved = approved_roles(ctx.registry, plan)
    waiting = [
        role for role in roles if role not in approved and not (role in plan.incumbents if auto is None else auto)
    ]
    if waiting:
        raise DeferredError(
            f"{plan.domain} {plan.version} passed its gates and waits for an approval of {', '.join(waiting)}",
            cure=f"slm approve {plan.domain} {plan.version} --by NAME, then slm run {plan.domain} "
            f"--version {plan.version}",
        )


def _still_the_incumbent(plan: Plan, roles: list[str], current: dict[str, Flag], release: str) -> None:
    """A version judged against v1 must not replace v2, which nobody compared it with."""
    for role in roles:
        flag = current.get(role)
        serving = flag.number if flag and flag.engine == "release" else None
        if flag and flag.release == release:
            continue
        judged = plan.incumbents.get(role, {}).get("number")
        if serving != judged:
            names = [f"v{n}" if n else "the oracle" for n in (serving, judged)]
            raise HeldError(
                f"{plan.domain}.{role} is served by {names[0]} now; {plan.version} was judged against {names[1]}",
                cure=f"open a new version, which is judged against what serves: slm run {plan.domain} --new",
            )


def _before(plan: Plan, role: str) -> Flag:
    incumbent = plan.incumbents.get(role)
    if incumbent is None:
        return Flag(role, "oracle")
    return Flag(role, "release", incumbent["number"], incumbent["release"])


def _smoke(ctx: StageContext) -> Verdict:
    folder = ctx.inputs["release"]
    probes = list(canonical.read_jsonl(folder / "probes.jsonl"))
    turns = ctx.scratch / "probes.jsonl"
    canonical.write_jsonl(turns, (probe["turn"] for probe in probes))
    clean = answers_in_clean_process(folder / "config", folder / "model", turns, ctx.scratch / "smoke")
    wrong = sum(
        canonical.dumps(got) != canonical.dumps(probe["outputs"])
        for got, probe in zip(clean.outputs, probes, strict=True)
    )
    return Verdict(
        gate="smoke", role="", verdict="FAIL" if wrong else "PASS", value=float(wrong), threshold=0.0,
        n=len(probes), reason=f"{len(probes) - wrong} of {len(probes)} probes answered as packaged",
    )  # fmt: skip


def _drill(seconds: float, roles: int) -> Verdict:
    passed = seconds < DRILL_LIMIT_S
    return Verdict(
        gate="drill", role="", verdict="PASS" if passed else "FAIL", value=round(seconds, 3),
        threshold=DRILL_LIMIT_S, n=roles,
        reason=f"what answers now was loaded and probed again in {seconds:.2f} s, as a rollback would",
    )  # fmt: skip
