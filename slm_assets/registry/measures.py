"""What operators watch, for all domains of a namespace at once: one grouped query each, whose answer grows with the
domains and never with their versions, turns or runs."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import case, func, select

from slm_assets.registry import budget, jobs, outbox, retrains
from slm_assets.registry import tables as t
from slm_assets.registry.registry import Registry, Row


def cells(registry: Registry) -> list[Row]:
    """domain, stage, outcome, cells and finished_at (of the newest). outcome: succeeded, or the receipt's kind of
    error: fault, bad_input, held, deferred, submitted."""
    c = t.cells.c
    # CASE spares the database the parsing of receipts that succeeded.
    why = case((c.status.in_(("failed", "deferred")), c.receipt["error_kind"].as_string()), else_=c.status)
    counted = (func.count().label("cells"), func.max(c.finished_at).label("finished_at"))
    query = select(c.domain, c.stage, why.label("outcome"), *counted).where(*registry._is(t.cells))
    return registry._all(query.group_by(c.domain, c.stage, "outcome"))


def jobs_in_flight(registry: Registry) -> list[Row]:
    """stage, state, jobs and oldest (submitted_at) of what runs elsewhere."""
    c = t.jobs.c
    counted = (func.count().label("jobs"), func.min(c.submitted_at).label("oldest"))
    query = select(c.stage, c.state, *counted).where(*registry._is(t.jobs), c.state != jobs.ENDED)
    return registry._all(query.group_by(c.stage, c.state))


def waiting_handoffs(registry: Registry) -> list[Row]:
    """state, handoffs and oldest (at) of what others were not told yet, the refused ones too."""
    c = t.handoffs.c
    counted = (func.count().label("handoffs"), func.min(c.at).label("oldest"))
    query = select(c.state, *counted).where(*registry._is(t.handoffs), c.state.in_((*outbox.OPEN, "dead")))
    return registry._all(query.group_by(c.state))


def unfinished_retrains(registry: Registry) -> list[Row]:
    """domain, state and retrains of those that were asked for and are not done."""
    c = t.retrains.c
    query = select(c.domain, c.state, func.count().label("retrains"))
    query = query.where(*registry._is(t.retrains), c.state.in_(retrains.UNFINISHED))
    return registry._all(query.group_by(c.domain, c.state))


def spent(registry: Registry, since: datetime) -> list[Row]:
    """domain, resource, reserved and spent of what was set aside since then."""
    c = t.budget.c
    held = func.sum(case((c.state.in_(budget.OPEN), c.reserved), else_=0.0)).label("reserved")
    paid = func.sum(case((c.state == budget.SETTLED, c.spent), else_=0.0)).label("spent")
    begun = since.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    query = select(c.domain, c.resource, held, paid).where(*registry._is(t.budget), c.at >= begun)
    return registry._all(query.group_by(c.domain, c.resource))


def newest_triggers(registry: Registry) -> list[Row]:
    """domain, number, trigger, verdict, value, bound and threshold of each domain's newest judged window."""
    c = t.triggers.c
    newest = select(c.domain, func.max(c.number).label("number")).where(*registry._is(t.triggers))
    last = newest.group_by(c.domain).subquery()
    columns = [c[name] for name in ("domain", "number", "trigger", "verdict", "value", "bound", "threshold")]
    query = select(*columns).join(last, (c.domain == last.c.domain) & (c.number == last.c.number))
    return registry._all(query.where(*registry._is(t.triggers)))


def flags(registry: Registry) -> list[Row]:
    """domain, role, engine, number and since of everything that was ever flipped."""
    columns = [t.flags.c[name] for name in ("domain", "role", "engine", "number", "since")]
    return registry._all(select(*columns).where(*registry._is(t.flags)))
