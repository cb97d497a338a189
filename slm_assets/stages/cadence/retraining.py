"""From a trigger that fired, or a schedule that is due, to a version that is opened once and launched once.

The rows of `retrains` decide. Whoever comes here, a sensor after a restart or a person at a terminal, finds there what
was done; the version of a retrain is found again by its opener, so that a kill between two steps opens none twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from slm_assets.errors import BadInputError, BusyError, SlmError
from slm_assets.registry import budget, retrains, watching
from slm_assets.registry.registry import Plan, Registry, Row
from slm_assets.stages.cadence.costs import expected, of_machines, what_of
from slm_assets.stages.cadence.decision import Decision, Situation, decide
from slm_assets.stages.cadence.settings import Settings, settings_of
from slm_assets.stages.plans import open_domain, open_version
from slm_assets.stages.standing import Record, held_before, record_of
from slm_assets.stages.state import outcome
from slm_assets.stages.table import STAGES

MOST = 5
"""Versions opened in one go: a tick must end in time, and the others are there at the next one."""
_FINAL = ("promoted", "held", "deferred", "failed")


@dataclass(frozen=True)
class Launch:
    """A retrain whose version is open and paid for: its run is to be started, if it was not yet."""

    row: Row
    plan: Plan

    @property
    def run_key(self) -> str:
        """The same for every attempt to start it: `<domain>-w<n>`, or by its schedule's tick."""
        return f"{self.plan.domain}-{self.row['cause']}"


def ask_for_fired(registry: Registry, *, actor: str, domain: str | None = None) -> None:
    """Ask for a retrain for each domain whose newest judged window fired and was not asked for yet.

    One that waits already is brought up to date instead: it is asked for by what fires now, and no more where nothing
    does.
    """
    news = watching.judged(registry)
    rows: dict[str, list[Row]] = {}
    for row in retrains.by_trigger(registry):
        rows.setdefault(row["domain"], []).append(row)
    for name, window in news.items() if domain is None else [(domain, news[domain])] if domain in news else []:
        mine = rows.get(name, [])
        if window["number"] <= max((row["window"] for row in mine), default=0):
            continue
        fired, number = window["fired"], window["number"]
        pending = [row for row in mine if row["state"] in retrains.PENDING]
        for row in pending:
            if fired:
                retrains.renew(registry, row, number, sorted(fired), reason_of(fired))
            else:
                retrains.move(registry, row, retrains.REFUSED, note=f"w{number} does not fire any more")
        if fired and not pending:
            _ask(registry, name, number, fired, actor, last=mine[-1] if mine else None)


def _ask(registry: Registry, domain: str, number: int, fired: dict[str, str], actor: str, last: Row | None) -> None:
    try:
        enabled = settings_of(registry.home, domain).enabled
    except BadInputError:
        enabled = True  # that it is broken shows when it is opened
    if not enabled and last is not None and last["state"] == retrains.REFUSED and last["triggers"] == sorted(fired):
        return  # said once: nothing is retrained by itself
    reason = reason_of(fired)
    retrains.ask(registry, domain, f"w{number}", triggers=sorted(fired), reason=reason, actor=actor, window=number)


def reason_of(fired: dict[str, str]) -> str:
    """What the version is opened with: the sentences of the triggers."""
    return "; ".join(f"{name}: {sentence}" if sentence else name for name, sentence in sorted(fired.items()))


def advance(
    registry: Registry, held: ExitStack, *, actor: str, now: datetime | None = None, domain: str | None = None,
    note: str = "",
) -> list[Launch]:  # fmt: skip
    """Decide every retrain that waits; returns those launched now, with a `note` on them.

    Until `held` is closed nobody else starts their runs: so a run of this process is not started by a sensor too.
    """
    moment = now or datetime.now(UTC)
    waiting = retrains.in_states(registry, retrains.PENDING, domain)
    if not waiting:
        return []
    judged, serving = watching.judged(registry), watching.serving(registry)
    launched: list[Launch] = []
    for row in waiting:
        if len(launched) >= MOST:
            break
        with ExitStack() as own:
            if not own.enter_context(alone(registry, row["domain"])):
                continue
            window = judged.get(row["domain"])
            unseen = window is not None and window["serving"] != serving.get(row["domain"], {})
            found = _one(registry, row, moment, unseen=unseen, actor=actor, note=note)
            if found:
                launched.append(found)
                held.enter_context(own.pop_all())
    return launched


def alone(registry: Registry, domain: str) -> AbstractContextManager[bool]:
    """Whether this process alone decides on and starts a domain's retrains, until the end of the block."""
    return registry.alone(f"retrain {domain}")


def _one(registry: Registry, row: Row, now: datetime, *, unseen: bool, actor: str, note: str) -> Launch | None:
    try:
        settings = settings_of(registry.home, row["domain"])
        needs = _needs(registry, row["domain"])
        over = budget.over(registry, row["domain"], needs, settings.budget, at=now)
        known = situation(registry, row, settings, now, unseen=unseen, over=over)
        decision = decide(known)
        if decision.state == retrains.LAUNCHED:
            return _launch(registry, row, settings, needs, now, actor, note)
    except BusyError:
        return None  # somebody works on it: the next tick
    except SlmError as error:
        decision = Decision(retrains.DEFERRED, f"cannot be opened: {error.message}"[:500])
    _told(registry, row, decision)
    return None


def situation(
    registry: Registry, row: Row, settings: Settings, now: datetime, *, unseen: bool, over: Iterable[budget.Over]
) -> Situation:
    """What is known of a retrain that was asked for."""
    others = [one for one in retrains.of_domain(registry, row["domain"]) if one["id"] != row["id"]]
    under_way = [one for one in others if one["state"] == retrains.LAUNCHED]
    launched = [one for one in others if one["launched_at"]]
    return Situation(
        now=now,
        enabled=settings.enabled,
        by_trigger=_by_trigger(row),
        policy=settings.triggers,
        launches=[datetime.fromisoformat(one["launched_at"]) for one in launched],
        by_triggers=[datetime.fromisoformat(one["launched_at"]) for one in launched if _by_trigger(one)],
        needless=_needless(registry, row),
        under_way=f"v{under_way[0]['number']}" if under_way else "",
        unseen=unseen and row["window"] is not None,
        over=[str(one) for one in over],
    )


def _by_trigger(row: Row) -> bool:
    return bool(row["triggers"] != [retrains.SCHEDULE])


def _needless(registry: Registry, row: Row) -> str:
    """An erasure is done with once everything that serves was opened after it."""
    if row["triggers"] != [retrains.ERASURE]:
        return ""
    serving = {flag.number for flag in registry.flags(row["domain"]).values() if flag.number}
    plans = [plan for plan in registry.plans(row["domain"]) if plan.number in serving]
    if not plans or any(plan.opened_at < row["at"] for plan in plans):
        return ""
    return f"{', '.join(f'v{number}' for number in sorted(serving))} was opened after the erasure and serves"


def _launch(
    registry: Registry, row: Row, settings: Settings, needs: dict[str, dict[str, float]], now: datetime, actor: str,
    note: str,
) -> Launch | None:  # fmt: skip
    domain = row["domain"]
    plan = _opened(registry, row)
    if plan is None:
        loaded, _ = open_domain(registry.home, domain)
        plan = open_version(loaded, registry, reason=row["reason"], actor=opener_of(row))
    wanted = {what_of(plan.version, stage): of_machines(costs) for stage, costs in needs.items()}
    over = budget.reserve(registry, domain, wanted, settings.budget, actor=actor, at=now)
    if over:  # somebody else spent it in the meantime; the version stays open for when it is there again
        why = f"over budget: {'; '.join(map(str, over))}"
        _told(registry, row, Decision(retrains.DEFERRED, why, budget=True))
        return None
    if not retrains.move(registry, row, retrains.LAUNCHED, number=plan.number, note=note):
        return None
    launched = retrains.one(registry, domain, plan.number)
    assert launched is not None
    return Launch(launched, plan)


def opener_of(row: Row) -> str:
    """Who opens the version of a retrain; by it the version is found again."""
    return f"retrain {row['id']} ({row['actor']})"


def _opened(registry: Registry, row: Row) -> Plan | None:
    mine = opener_of(row)
    return next((plan for plan in reversed(registry.plans(row["domain"])) if plan.opener == mine), None)


def _needs(registry: Registry, domain: str) -> dict[str, dict[str, float]]:
    loaded, _ = open_domain(registry.home, domain)
    return expected(registry, domain, [stage.name for stage in STAGES], loaded.config.stages)


def _told(registry: Registry, row: Row, decision: Decision) -> None:
    if (row["state"], row["note"]) != (decision.state, decision.note):
        # A budget is over again and again, each time by another amount: it is said when it begins.
        again = decision.budget and row["note"].startswith("over budget")
        retrains.move(registry, row, decision.state, note=decision.note, audit=not again)


def under_way(registry: Registry, domain: str | None = None) -> list[Launch]:
    """The retrains that were launched and have not been finished: their runs may have been lost with the daemon."""
    found = []
    for row in retrains.in_states(registry, [retrains.LAUNCHED], domain):
        plan = registry.plan(row["domain"], row["number"])
        if plan is not None:
            found.append(Launch(row, plan))
    return found


def finish(registry: Registry, launch: Launch, *, ended: bool) -> str | None:
    """Close a retrain whose version came to an end, or whose run `ended` without bringing it to one; returns how it
    ended, None while it goes on. What it reserved and did not need is given back."""
    record = record_of(registry, launch.plan)
    result = outcome(record)
    if result not in _FINAL and not (ended and result == "open"):
        return None
    if result == "failed" and not ended:
        return None  # its run may try again
    note = _note(registry, launch.plan, result if result in _FINAL else "failed", held_why(record))
    retrains.move(registry, launch.row, retrains.DONE, note=note)
    _give_back(registry, launch.plan)
    return note


def held_why(record: Record[Plan]) -> str:
    """The first no of a version's gates, "" where there is none."""
    return next((why for stage in reversed(STAGES) if (why := held_before(record, stage.name))), "")


def _note(registry: Registry, plan: Plan, result: str, held: str) -> str:
    """promoted, or how else it ended and why."""
    errors = [
        cell["receipt"]["error"] for cell in registry.cells(plan.domain, plan.number) if cell["status"] != "succeeded"
    ]
    why = held or next(iter(errors), "" if result == "promoted" else "its run ended before the version did")
    return f"{result}: {why}"[:500] if result != "promoted" else result


def _give_back(registry: Registry, plan: Plan) -> None:
    prefix = f"{plan.version}/"
    for what in sorted({row["what"] for row in budget.open_reservations(registry, plan.domain)}):
        if what.startswith(prefix):
            budget.release(registry, plan.domain, what)


def summary(launch: Launch) -> dict[str, Any]:
    """What is shown of a launch."""
    return {"version": launch.plan.version, "reason": launch.row["reason"], "triggers": launch.row["triggers"]}
