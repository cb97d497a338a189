"""Flip flags to an engine that served before, without a rebuild: back by default, or to a named version.

The request names the version that serves now, so that a repeated request rolls back once.
"""

from __future__ import annotations

import time
from typing import Any

from slm_assets import canonical
from slm_assets.errors import BadInputError
from slm_assets.registry.registry import Flag, Registry
from slm_assets.stages.contract import StageRequest, StageResult
from slm_assets.stages.plans import number_of
from slm_assets.stages.runtime import StageContext
from slm_assets.stages.switch import deployed_engine, flips, previous_engine, rehearse

PLAYBOOK = "automation/mlops/slm/rollback"


def rollback_request(
    registry: Registry,
    domain: str,
    *,
    roles: list[str] | None = None,
    to: str | None = None,
    reason: str = "",
) -> StageRequest:
    """The request that rolls back `roles` (default: every role that ever had a flag) to what served
    before, or to `to`: "v2" or "oracle". BadInputError where there is nothing to roll back."""
    flags = registry.flags(domain)
    known = sorted(r for r, flag in flags.items() if to is not None or flag.engine == "release")
    wanted = sorted(set(roles)) if roles else known
    unknown = [role for role in wanted if role not in flags]
    if unknown or not wanted:
        what = f"{', '.join(unknown)} of {domain} has" if unknown else f"{domain} has"
        raise BadInputError(
            f"{what} never been promoted: its oracle answers and there is nothing to roll back",
            cure=f"`slm status {domain}` shows what serves",
        )
    plans = registry.plans(domain)
    serving = max((flags[role].number or 0 for role in wanted), default=0) or plans[-1].number
    config = next(plan.config for plan in plans if plan.number == serving)
    events = {role: flags[role].event for role in wanted}
    params: dict[str, Any] = {"roles": wanted, "to": to, "reason": reason, "events": events}
    return StageRequest(stage="rollback", domain=domain, version=f"v{serving}", config=config, params=params)


def run(ctx: StageContext) -> StageResult:
    """Output `rollback`: rollback.json, role → from and to. Every target is verified byte for byte,
    loaded, and answers its probes before any flag moves; all flags move in one transaction."""
    started = time.perf_counter()
    registry, domain, params = ctx.registry, ctx.request.domain, ctx.request.params
    current = registry.flags(domain)
    waiting = []
    for role in params["roles"]:
        flag = current[role]
        if flag.event == params["events"][role]:
            waiting.append(role)
        elif registry.flag_events(domain, role)[-1]["previous"]["event"] != params["events"][role]:
            raise BadInputError(
                f"{domain}.{role} was flipped by someone else since this rollback was asked for",
                cure=f"look at `slm why {domain}` and decide again",
            )
    targets = [_target(registry, domain, role, params["to"]) for role in waiting]
    changes = flips(registry, domain, targets)
    moving = {change.role for change in changes}
    rehearse(registry, ctx.request.config, [target for target in targets if target.role in moving])
    action = "rollback" if _backwards(current, targets) else "redeploy"
    reason = params["reason"] or f"{action} by {ctx.envelope.actor}"
    registry.flip(domain, changes, action=action, actor=ctx.envelope.actor, reason=reason, playbook=PLAYBOOK)
    moved = {change.role: _change(registry, domain, change.role) for change in changes}
    canonical.write_json(ctx.out["rollback"] / "rollback.json", {"domain": domain, "roles": moved})
    return StageResult(
        roles=dict.fromkeys(moved, "flipped"),
        summary={"changes": moved, "action": action},
        measured={"switch_seconds": round(time.perf_counter() - started, 3)},
    )


def _target(registry: Registry, domain: str, role: str, to: str | None) -> Flag:
    if to is None:
        return previous_engine(registry, domain, role)
    if to == "oracle":
        return Flag(role, "oracle")
    return deployed_engine(registry, domain, role, number_of(to))


def _backwards(current: dict[str, Flag], targets: list[Flag]) -> bool:
    return any((t.number or 0) < (current[t.role].number or 0) for t in targets)


def _change(registry: Registry, domain: str, role: str) -> dict[str, Any]:
    event = registry.flag_events(domain, role)[-1]
    keys = ("engine", "number", "release")
    before = event["previous"] or {}
    return {"from": {k: before.get(k) for k in keys}, "to": {k: event[k] for k in keys}}
