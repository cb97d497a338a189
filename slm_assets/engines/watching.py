"""A fresh promotion is watched on captured traffic, and taken back by itself where it does worse than what it
replaced. What serves is changed by the same rollback as everywhere."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from slm_assets.domain.domain import Domain
from slm_assets.domain.outcomes import GOOD
from slm_assets.engines.rolling_back import roll_back
from slm_assets.gates.watch import Errors, Watched, watch
from slm_assets.registry.registry import Registry, Row
from slm_assets.registry.windows import newest_traffic
from slm_assets.stages.traffic import store

SEEN = timedelta(seconds=2)
"""After a flip, until every service has seen it: these turns count for nobody."""
BACK = timedelta(days=7)
"""How far back what was there before is compared, at most."""
BROKEN = ("error", "invalid", "release_refused")
"""Reasons for the oracle to stand in that are the version's fault; being unsure is none."""


def fresh_promotions(domain: Domain, registry: Registry, now: datetime) -> dict[str, Row]:
    """Role → the flag event of its promotion, of those that are watched still."""
    policy = domain.gates.watch
    if policy.status == "disabled":
        return {}
    last = {event["role"]: event for event in registry.flag_events(domain.name)}
    oldest = now - timedelta(hours=policy.hours)
    return {
        role: event
        for role, event in last.items()
        if event["action"] == "promote" and datetime.fromisoformat(event["at"]) >= oldest
    }


def watch_domain(
    domain: Domain, registry: Registry, *, actor: str, now: datetime | None = None, act: bool = True
) -> list[Watched]:
    """Look at every fresh promotion of a domain; roll back those that are WORSE, with all roles of their version.

    Without `act` nothing is flipped. Empty where nothing is fresh or no traffic was captured.
    """
    fresh = fresh_promotions(domain, registry, now or datetime.now(UTC))
    newest = newest_traffic(registry, domain.name)
    if not fresh or newest is None:
        return []
    found = _look(domain, registry, fresh, newest["traffic"])
    worse = {one.version for one in found if one.verdict == "WORSE"}
    for version in sorted(worse) if act else ():
        roles = sorted(one.role for one in found if one.version == version)
        sentence = "; ".join(f"{one.role}: {one.sentence}" for one in found if one.verdict == "WORSE")
        roll_back(registry, domain.name, roles=roles, to=None, reason=f"automatic: {sentence}"[:2_000], actor=actor)
        found = [replace(one, rolled_back=one.rolled_back or one.version == version) for one in found]
    return found


def _look(domain: Domain, registry: Registry, fresh: dict[str, Row], traffic: str) -> list[Watched]:
    since: dict[str, tuple[list[bool], list[str]]] = {role: ([], []) for role in fresh}
    before: dict[str, tuple[list[bool], list[str]]] = {role: ([], []) for role in fresh}
    at = {role: datetime.fromisoformat(event["at"]) for role, event in fresh.items()}
    from_ = {role: _from(registry, domain.name, event) for role, event in fresh.items()}
    oldest = min(from_.values()).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    with tempfile.TemporaryDirectory(prefix="slm-watch-") as scratch:
        folder = Path(scratch) / "traffic"
        registry.store.get(traffic, folder)
        for turn in store.turns(folder, since=oldest):
            when = datetime.fromisoformat(turn["at"])
            for role in fresh if turn["sampled"] else ():
                answer = turn["answers"].get(role)
                if answer is None:
                    continue
                own = since if when >= at[role] + SEEN else before if from_[role] <= when < at[role] else None
                if own is not None:
                    own[role][0].append(_wrong(answer, turn["outcomes"], role))
                    own[role][1].append(turn["conversation"] or turn["turn_id"])
    policy = domain.gates.watch
    return [
        watch(
            role, f"v{event['number']}", Errors(*since[role]), Errors(*before[role]),
            min_turns=policy.min_turns, worse_by=policy.worse_by, most=policy.most,
        )
        for role, event in sorted(fresh.items())
    ]  # fmt: skip


def _from(registry: Registry, domain: str, event: Row) -> datetime:
    """Since when what this promotion replaced had answered, or as far back as is looked."""
    at = datetime.fromisoformat(event["at"])
    earlier = [e for e in registry.flag_events(domain, event["role"]) if e["id"] < event["id"]]
    return max([at - BACK, *(datetime.fromisoformat(e["at"]) + SEEN for e in earlier[-1:])])


def _wrong(answer: Row, outcomes: list[Row], role: str) -> bool:
    """Whether a turn went wrong: no answer of the version's own that met its contract, or a bad outcome."""
    fallback = answer.get("fallback")
    reason = fallback.get("reason") if isinstance(fallback, dict) else fallback
    bad = any(o["signal"] not in GOOD and o.get("role") in (None, role) for o in outcomes)
    return bool(not answer["valid"] or answer.get("error") or reason in BROKEN or bad)
