"""Whether a retrain that was asked for may start now: a pure function of what is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from slm_assets.domain.triggers import RetrainTriggers
from slm_assets.registry.retrains import DEFERRED, LAUNCHED, REFUSED

WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Situation:
    """What is known when a retrain is decided.

    `by_trigger`: asked for by traffic or an erasure; a schedule knows no cooldown. `needless`: why it is needed no
    more, "" where it is. `launches`: when retrains of this domain were
    launched, and `by_triggers` those of them by triggers. `under_way`: the version that is being made, "" for none.
    `unseen`: what serves now was judged by no window yet. `over`: what the budget does not allow.
    """

    now: datetime
    enabled: bool
    by_trigger: bool
    policy: RetrainTriggers
    launches: Sequence[datetime] = ()
    by_triggers: Sequence[datetime] = ()
    needless: str = ""
    under_way: str = ""
    unseen: bool = False
    over: Sequence[str] = ()


@dataclass(frozen=True)
class Decision:
    """launched, deferred or refused, and why; `budget` says that the budget alone forbids it."""

    state: str
    note: str = ""
    budget: bool = False


def decide(known: Situation) -> Decision:
    """The first reason against it counts; a deferred retrain is decided again until none is left."""
    return next(_against(known), Decision(LAUNCHED))


def _against(known: Situation) -> Iterator[Decision]:
    if not known.enabled:
        yield Decision(REFUSED, "improvement.status is deferred: nothing is retrained by itself")
    if known.needless:
        yield Decision(REFUSED, known.needless)
    if known.under_way and not known.by_trigger:
        yield Decision(REFUSED, f"{known.under_way} is being made already")
    if known.under_way:
        yield Decision(DEFERRED, f"{known.under_way} is still being made")
    if known.by_trigger and known.unseen:
        yield Decision(DEFERRED, "waits for a window of what serves now: the one that fired was of another version")
    until = free_at(known) if known.by_trigger else None
    if until is not None and until > known.now:
        yield Decision(DEFERRED, f"{_why(known)} until {until.isoformat(timespec='minutes')}")
    if known.over:
        yield Decision(DEFERRED, f"over budget: {'; '.join(known.over)}", budget=True)


def free_at(known: Situation) -> datetime | None:
    """When cooldown and weekly limit let a trigger launch again; None where nothing was launched."""
    return max((at for at in (_cool_at(known), _week_at(known)) if at is not None), default=None)


def _cool_at(known: Situation) -> datetime | None:
    return max(known.launches) + timedelta(hours=known.policy.cooldown_hours) if known.launches else None


def _week_at(known: Situation) -> datetime | None:
    most = known.policy.max_per_week
    lately = sorted(at for at in known.by_triggers if at > known.now - WEEK)
    return lately[-most] + WEEK if len(lately) >= most else None


def _why(known: Situation) -> str:
    week = _week_at(known)
    if week is not None and week == free_at(known):
        return f"{known.policy.max_per_week} retrains in seven days are the most,"
    return f"cooldown of {known.policy.cooldown_hours:g} hours,"
