"""The shadow gate's answer for a role: read off the sequential test, with what is missing and when it is expected."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from slm_assets.gates.sequential import Sequential, conversations_needed, sequential, turns_of
from slm_assets.gates.types import Verdict
from slm_assets.gates.verdicts import Place, not_applicable, verdict_at
from slm_assets.stages.evaluation.scoring import Compared
from slm_assets.stages.shadowing.study import Tally

SECONDS_A_DAY = 86_400.0


@dataclass(frozen=True)
class Case:
    """What the domain asks for. `demanded`: an open question holds; else it is NOT_APPLICABLE, because of `why_not`.
    `as_of`: when the newest traffic was read, ISO 8601; `rate`: turns a day, None where unknown."""

    margin: float
    demanded: bool
    why_not: str
    as_of: str | None = None
    rate: float | None = None


def left_out(role: str) -> Verdict:
    """The policy does not ask for it."""
    return not_applicable(Place("shadow", role, blocking=False), "left out by the policy")


def nothing_serves(role: str) -> Verdict:
    """The role has neither a release nor an oracle so far."""
    return not_applicable(Place("shadow", role, blocking=False), "nothing serves this role so far: first promotion")


def of_role(role: str, tally: Tally, case: Case) -> list[Verdict]:
    """One verdict for each gated metric."""
    return [_of_metric(role, tally, metric, case) for metric in tally.metrics]


def outcome(found: Collection[Verdict], role: str, approved: Collection[str]) -> str:
    """pass, not_applicable, fail, insufficient, or approved for what was insufficient and somebody approved."""
    names = {verdict.verdict for verdict in found if verdict.role == role}
    if "FAIL" in names:
        return "fail"
    if "INSUFFICIENT" in names:
        return "approved" if role in approved else "insufficient"
    return "not_applicable" if "NOT_APPLICABLE" in names or not names else "pass"


def _of_metric(role: str, tally: Tally, metric: Compared, case: Case) -> Verdict:
    worst, best = tally.units(metric.id)
    found = sequential(worst, best, margin=case.margin, level=tally.level)
    turns, conversations = len(tally.keys), len(worst)
    place = Place("shadow", role, metric.id)
    numbers = (found.value, found.low, found.high) if turns else (None, None, None)
    seen = _seen(tally, metric, found, turns, conversations, case.margin)
    if found.outcome != "INSUFFICIENT":
        word = "not worse" if found.outcome == "PASS" else "worse"
        reason = f"{word} on live turns, decided after {found.n} conversations: {seen}"
        return verdict_at(place, found.outcome, reason, numbers=numbers, threshold=-case.margin, n=turns)
    unjudged = float(((best - worst) / 2).mean()) if conversations else 0.0
    differs = float((abs(best + worst) / 2).mean()) if conversations else 0.0
    needed = conversations_needed(differs, unjudged, margin=case.margin, level=tally.level)
    total = None if needed is None else turns_of(max(needed, conversations + 1), conversations, turns)
    reason = f"not decided: {seen}; {_missing(total, turns, case)}"
    if not case.demanded:
        undecided = f"{case.why_not}; {reason}" if turns else f"{case.why_not}, and no live turn came after the dataset"
        return not_applicable(Place("shadow", role, metric.id, blocking=False), undecided)
    return verdict_at(
        place, "INSUFFICIENT", reason, numbers=numbers, threshold=-case.margin, n=turns, n_needed=total
    )  # fmt: skip


def _seen(tally: Tally, metric: Compared, found: Sequential, turns: int, conversations: int, margin: float) -> str:
    if not turns:
        return "no live turn came after the dataset"
    agreed = tally.agreed[metric.id] / turns
    nobody = sum(low < high for low, high in zip(tally.worst[metric.id], tally.best[metric.id], strict=True))
    judged = f", {nobody} differences that nobody can judge" if nobody else ""
    return (
        f"{agreed:.1%} agree on {turns} turns in {conversations} conversations{judged}; difference between "
        f"{100 * found.low:+.1f} and {100 * found.high:+.1f} points, margin {-100 * margin:+.1f}"
    )


def _missing(total: int | None, turns: int, case: Case) -> str:
    if total is None:
        return "more turns alone do not decide: review where they differ (`slm review`)"
    when = expected(max(total - turns, 1), case.rate, case.as_of)
    return f"{total} turns would decide for an equal challenger" + (f", expected by {when}" if when else "")


def per_day(times: Sequence[str], as_of: str | None) -> float | None:
    """Turns a day from the first of them until the newest traffic was read."""
    if not times or as_of is None:
        return None
    span = (datetime.fromisoformat(as_of) - datetime.fromisoformat(min(times))).total_seconds()
    return len(times) * SECONDS_A_DAY / max(span, 1.0)


def expected(more: int, rate: float | None, as_of: str | None) -> str | None:
    """The day on which so many more turns will have come, at this rate."""
    if not rate or as_of is None:
        return None
    days = more / rate
    return None if days > 3_650 else (datetime.fromisoformat(as_of) + timedelta(days=days)).date().isoformat()
