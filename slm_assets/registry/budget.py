"""What a domain has reserved and spent. Each write is one transaction, alone in its namespace: sums never race.

A reservation goes reserved → running → settled, or reserved → released when what it was for never ran. What is paid
piece by piece (`draw`) is one running row: `spent` so far, and `reserved` for the pieces in flight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from slm_assets.domain.budget import Budget, Limit, next_window, window_start
from slm_assets.registry import tables as t
from slm_assets.registry.database import now
from slm_assets.registry.registry import Registry, Row

RESERVED, RUNNING, SETTLED, RELEASED = "reserved", "running", "settled", "released"
OPEN = (RESERVED, RUNNING)
_EPSILON = 1e-9
"""Ten tenths are one: sums of floats may miss their limit by a rounding, and by no more."""


@dataclass(frozen=True)
class Over:
    """A resource that does not allow what was asked for until `opens` (ISO 8601)."""

    resource: str
    asked: float
    left: float
    limit: float
    window: str
    opens: str

    def __str__(self) -> str:
        return (
            f"{self.resource}: {self.asked:.4g} asked for, {max(self.left, 0):.4g} of {self.limit:.4g} left this "
            f"{self.window}, the next one opens at {self.opens[:16]}"
        )


Needs = Mapping[str, Mapping[str, float]]
"""What is to be paid for → resource → how much."""


def reserve(
    registry: Registry, domain: str, needs: Needs, budget: Budget, *, actor: str, begin: bool = False,
    at: datetime | None = None,
) -> list[Over]:  # fmt: skip
    """Set aside what is needed, all of it or nothing; what is open for the same already counts as set aside.

    `begin`: it starts now. Returns what does not allow it, empty where it was reserved.
    """
    moment = at or datetime.now(UTC)
    limits = budget.limits()

    def work(connection: Connection) -> list[Over]:
        open_ = _open(connection, registry, domain)
        new = [
            (what, resource, amounts.get(resource, 0.0))
            for what, amounts in needs.items()
            for resource in limits
            if (what, resource) not in open_
        ]
        over = _over(connection, registry, domain, new, limits, moment)
        if over:
            return over
        state = RUNNING if begin else RESERVED
        row = {**registry._scope, "at": _iso(moment), "actor": actor, "domain": domain, "state": state}
        if new:
            values = [{**row, "resource": r, "what": w, "reserved": amount} for w, r, amount in new]
            connection.execute(insert(t.budget), values)
        if begin:
            begun = update(t.budget).where(*_of(registry, domain), t.budget.c.what.in_(list(needs)))
            connection.execute(begun.where(t.budget.c.state == RESERVED).values(state=RUNNING))
        return []

    return registry._write(work)


def over(registry: Registry, domain: str, needs: Needs, budget: Budget, *, at: datetime | None = None) -> list[Over]:
    """What `reserve` would say now; nothing is reserved."""
    new = [(what, resource, amounts.get(resource, 0.0)) for what, amounts in needs.items() for resource in
           budget.limits()]  # fmt: skip
    with registry._database.read() as connection:
        return _over(connection, registry, domain, new, budget.limits(), at or datetime.now(UTC))


def settle(registry: Registry, domain: str, what: str, spent: Mapping[str, float] | None) -> int:
    """Replace what was reserved by what was spent; None: by as much as was reserved, where nobody can know.

    Returns how many rows were open: settling again changes nothing, and costs no transaction.
    """
    query = _open_rows(registry, domain).where(t.budget.c.what == what)
    if not registry._all(query):
        return 0

    def work(connection: Connection) -> int:
        rows = connection.execute(query).mappings().all()
        for row in rows:
            reserved = (row["spent"] or 0.0) + max(row["reserved"], 0.0)
            _close(connection, row, SETTLED, reserved if spent is None else float(spent.get(row["resource"], 0.0)))
        return len(rows)

    return registry._write(work)


@dataclass(frozen=True)
class Drawn:
    """A piece that was set aside: resource → (the row that holds it, how much)."""

    parts: Mapping[str, tuple[int, float]]


def draw(
    registry: Registry, domain: str, what: str, amounts: Mapping[str, float], budget: Budget, *, actor: str,
    at: datetime | None = None,
) -> Drawn | list[Over]:  # fmt: skip
    """Set one more piece aside for what is paid piece by piece, all of it or nothing; `pay` takes it up."""
    moment = at or datetime.now(UTC)
    limits = budget.limits()

    def work(connection: Connection) -> Drawn | list[Over]:
        wanted = [(what, resource, amounts.get(resource, 0.0)) for resource in limits]
        over = _over(connection, registry, domain, wanted, limits, moment)
        return over or Drawn({r: (_add(connection, registry, domain, what, r, amount, limits[r], moment, actor), amount)
                              for _, r, amount in wanted})  # fmt: skip

    return registry._write(work)


def pay(connection: Connection, drawn: Drawn, spent: Mapping[str, float]) -> None:
    """Put what a piece cost in the place of what was set aside for it; within a transaction of the caller's."""
    for resource, (number, amount) in drawn.parts.items():
        values = {
            "reserved": t.budget.c.reserved - amount,
            "spent": func.coalesce(t.budget.c.spent, 0.0) + float(spent.get(resource, 0.0)),
        }
        connection.execute(update(t.budget).where(t.budget.c.id == number).values(**values))


def _add(
    connection: Connection, registry: Registry, domain: str, what: str, resource: str, amount: float, limit: Limit,
    at: datetime, actor: str,
) -> int:  # fmt: skip
    """Add to the running row of this window, or begin one; returns its number."""
    since = t.budget.c.at >= _iso(window_start(limit.window, at))
    mine = (*registry._is(t.budget, domain=domain, what=what, resource=resource, state=RUNNING), since)
    number = connection.scalar(select(func.max(t.budget.c.id)).where(*mine))
    if number is None:
        row = {**registry._scope, "at": _iso(at), "actor": actor, "domain": domain, "resource": resource, "what": what}
        made = connection.execute(insert(t.budget).values(**row, reserved=amount, spent=0.0, state=RUNNING))
        number = made.inserted_primary_key[0] if made.inserted_primary_key else 0
    else:
        values = {"reserved": t.budget.c.reserved + amount}
        connection.execute(update(t.budget).where(t.budget.c.id == number).values(**values))
    return int(number)


def release(registry: Registry, domain: str, what: str) -> int:
    """Give back what was reserved and never begun; returns how many rows that were."""

    def work(connection: Connection) -> int:
        query = _open_rows(registry, domain).where(t.budget.c.what == what, t.budget.c.state == RESERVED)
        rows = connection.execute(query).mappings().all()
        for row in rows:
            _close(connection, row, RELEASED, 0.0)
        return len(rows)

    return registry._write(work)


def open_reservations(registry: Registry, domain: str | None = None) -> list[Row]:
    """What is reserved or running, oldest first; of one domain, or of all of the namespace."""
    return registry._all(_open_rows(registry, domain).order_by(t.budget.c.id))


def standing(registry: Registry, domain: str, budget: Budget, *, at: datetime | None = None) -> list[dict[str, Any]]:
    """Per limited resource: limit, window, since, reserved, spent, left and when the next window opens."""
    moment = at or datetime.now(UTC)
    found = []
    with registry._database.read() as connection:
        for resource, limit in budget.limits().items():
            since = _iso(window_start(limit.window, moment))
            held, spent = _sums(connection, registry, domain, resource, since)
            found.append(
                {
                    "resource": resource, "limit": limit.limit, "window": limit.window, "since": since,
                    "reserved": held, "spent": spent, "left": limit.limit - held - spent,
                    "opens": _iso(next_window(limit.window, moment)),
                }
            )  # fmt: skip
    return found


def entries(registry: Registry, domain: str, *, limit: int = 50) -> list[Row]:
    """The newest reservations, newest first."""
    query = select(t.budget).where(*_of(registry, domain)).order_by(t.budget.c.id.desc()).limit(limit)
    return registry._all(query)


def _over(
    connection: Connection, registry: Registry, domain: str, new: list[tuple[str, str, float]],
    limits: dict[str, Limit], at: datetime,
) -> list[Over]:  # fmt: skip
    found = []
    for resource in sorted({resource for _, resource, _ in new}):
        limit = limits[resource]
        asked = sum(amount for _, name, amount in new if name == resource)
        held, spent = _sums(connection, registry, domain, resource, _iso(window_start(limit.window, at)))
        left = limit.limit - held - spent
        if asked > left + _EPSILON * max(1.0, limit.limit) or left <= 0:
            opens = _iso(next_window(limit.window, at))
            found.append(Over(resource, asked, left, limit.limit, limit.window, opens))
    return found


def _sums(connection: Connection, registry: Registry, domain: str, resource: str, since: str) -> tuple[float, float]:
    """(set aside, spent) since a time."""
    mine = (*_of(registry, domain), t.budget.c.resource == resource, t.budget.c.at >= since)
    held = connection.scalar(select(func.sum(t.budget.c.reserved)).where(*mine, t.budget.c.state.in_(OPEN)))
    spent = connection.scalar(select(func.sum(t.budget.c.spent)).where(*mine))
    return float(held or 0.0), float(spent or 0.0)


def _open(connection: Connection, registry: Registry, domain: str) -> set[tuple[str, str]]:
    return {(r["what"], r["resource"]) for r in connection.execute(_open_rows(registry, domain)).mappings()}


def _open_rows(registry: Registry, domain: str | None) -> Any:
    own = registry._is(t.budget) if domain is None else _of(registry, domain)
    return select(t.budget).where(*own, t.budget.c.state.in_(OPEN))


def _of(registry: Registry, domain: str) -> list[Any]:
    return registry._is(t.budget, domain=domain)


def _close(connection: Connection, row: RowMapping, state: str, spent: float) -> None:
    values = {"state": state, "spent": spent, "settled_at": now()}
    connection.execute(update(t.budget).where(t.budget.c.id == row["id"]).values(**values))


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
