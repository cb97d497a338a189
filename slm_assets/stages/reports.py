"""Read the registry for a person: what serves and why, how far each version came."""

from __future__ import annotations

from typing import Any

from slm_assets.errors import BadInputError
from slm_assets.registry import decisions
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Plan, Registry, Row
from slm_assets.stages.cadence.reports import freshness
from slm_assets.stages.overriding import NOES
from slm_assets.stages.plans import registry_of
from slm_assets.stages.standing import records_of
from slm_assets.stages.state import gate_lines, outcome, role_outcomes
from slm_assets.stages.validate import problem_of

DECIDED = frozenset(
    {"open", "approve", "override", "hold", "release", "shadow", "shadow.off", "promote", "rollback", "redeploy"}
)
"""Audit events that say what somebody decided of a version; the others are stages' and readings'."""


def status_of(home: Home, name: str) -> dict[str, Any]:
    """`domain_status` of a domain by name, and `problem`: why it cannot run now, "" where it can.

    What is wrong with one domain is shown on it and never hides another. BadInputError for one that is
    not there; SlmError for a registry that cannot be read, which is no domain's fault.
    """
    problem = problem_of(home, name)
    try:
        found = domain_status(registry_of(home, name), name)
    except BadInputError:
        if not problem:
            raise
        found = {
            "domain": name,
            "freshness": None,
            "serving": {},
            "versions": [],
        }  # its namespace is what cannot be read
    return found | {"problem": problem}


def domain_status(registry: Registry, domain: str) -> dict[str, Any]:
    """How fresh it is, flags per role, and every version with its outcome, reason and opener."""
    flags = registry.flags(domain)
    return {
        "domain": domain,
        "freshness": freshness(registry, domain),
        "serving": {
            role: {"engine": flag.engine, "version": _name(flag.number), "since": flag.since}
            for role, flag in sorted(flags.items())
        },
        "versions": [
            {
                "version": record.plan.version,
                "outcome": outcome(record),
                "roles": role_outcomes(record),
                "opened_at": record.plan.opened_at,
                "opener": record.plan.opener,
                "reason": record.plan.reason,
                "params": record.plan.params,
            }
            for record in records_of(registry, domain)
        ],
    }


def explain(registry: Registry, domain: str, role: str | None = None) -> dict[str, Any]:
    """Per role: which version answers, since when, by whom, from what, by which gates, in place of what.

    BadInputError for a role that has never been promoted in this domain.
    """
    flags = registry.flags(domain)
    if role is not None and role not in flags:
        raise BadInputError(
            f"{domain}.{role} was never promoted: its oracle answers, if it has one",
            cure=f"roles with a history: {', '.join(sorted(flags)) or 'none'}",
        )
    roles = [role] if role else sorted(flags)
    return {
        "domain": domain,
        "roles": {name: _explain_role(registry, domain, name) for name in roles},
        "waiting": waiting(registry, domain),
        "events": decided(registry, domain),
    }


def waiting(registry: Registry, domain: str) -> list[dict[str, Any]]:
    """Every version newer than what serves that is not promoted: how far it came, who holds it back, and what each
    gate still misses, with the turns that would decide."""
    serving = max((flag.number or 0 for flag in registry.flags(domain).values()), default=0)
    held = decisions.all_held(registry, domain)
    keys = ("stage", "gate", "role", "verdict", "n", "n_needed", "reason")
    found = []
    for record in records_of(registry, domain):
        number = record.plan.number
        if number <= serving or outcome(record) == "promoted":
            continue
        noes = [
            {key: line[key] for key in keys}
            for line in gate_lines(registry, record.plan)
            if line["blocking"] and line["verdict"] in NOES
        ]
        by = held.get(number)
        found.append(
            {
                "version": record.plan.version,
                "outcome": outcome(record),
                "held_by": {"by": by["actor"], "at": by["at"], "reason": by["reason"]} if by else None,
                "missing": noes,
            }
        )
    return found


def decided(registry: Registry, domain: str) -> list[dict[str, Any]]:
    """All that was decided about a domain's versions, oldest first: opened, approved, overridden, held, shadowed,
    promoted, rolled back; by whom and why."""
    return [
        {
            "at": event["at"],
            "action": event["action"],
            "by": event["actor"],
            "version": _name(event["number"]),
            "detail": event["detail"],
        }
        for event in registry.audit(domain)
        if event["action"] in DECIDED
    ]


def _explain_role(registry: Registry, domain: str, role: str) -> dict[str, Any]:
    flag = registry.flags(domain)[role]
    events = registry.flag_events(domain, role)
    event = events[-1]
    plan = registry.plan(domain, flag.number) if flag.number else None
    return {
        "engine": flag.engine,
        "version": _name(flag.number),
        "release": flag.release,
        "release_urn": registry.urn("release", domain, flag.number) if flag.number else None,
        "since": flag.since,
        "by": event["actor"],
        "action": event["action"],
        "reason": event["reason"],
        "replaced": _engine(event["previous"]),
        "approved_by": _approvers(registry, plan, role) if plan else [],
        "trained_on": _training(registry, plan) if plan else None,
        "gates": [
            line for line in gate_lines(registry, plan) if line["role"] in ("", role)
        ] if plan else [],
        "metrics": _metrics(registry, plan, role) if plan else [],
        "history": [
            {
                "at": e["at"],
                "action": e["action"],
                "by": e["actor"],
                "to": _engine(e),
                "from": _engine(e["previous"]),
                "reason": e["reason"],
            }
            for e in events
        ],
    }  # fmt: skip


def _training(registry: Registry, plan: Plan) -> dict[str, Any]:
    cells = {cell["stage"]: cell["receipt"]["result"] for cell in registry.cells(plan.domain, plan.number)}
    return {
        "opened": plan.opened_at,
        "opener": plan.opener,
        "reason": plan.reason,
        "params": plan.params,
        "rows": cells["finetune"]["rows"].get("model") if "finetune" in cells else None,
        "dataset": cells.get("dataset", {}).get("summary", {}),
        "labels": cells.get("label", {}).get("summary", {}),
        "dataset_urn": registry.urn("dataset", plan.domain, plan.number),
        "model_urn": registry.urn("model", plan.domain, plan.number),
        "config": plan.config,
    }


def _metrics(registry: Registry, plan: Plan, role: str) -> list[dict[str, Any]]:
    keys = ("metric", "value", "low", "high", "n")
    return [
        {key: row[key] for key in keys}
        for row in registry.metrics(plan.domain, plan.number)
        if row["role"] in ("", role)
        and row["subject"] == "challenger"
        and row["slice"] == ""
        and row["mode"] in ("", "end_to_end")
        and ":" not in row["metric"]
    ]


def _approvers(registry: Registry, plan: Plan, role: str) -> list[dict[str, str]]:
    rows = registry.approvals(plan.domain, plan.number)
    return [{"by": r["actor"], "at": r["at"], "reason": r["reason"]} for r in rows if r["role"] == role]


def _engine(flag: Row | None) -> str:
    if not flag:
        return "oracle"
    return f"v{flag['number']}" if flag["engine"] == "release" else "oracle"


def _name(number: int | None) -> str | None:
    return f"v{number}" if number else None
