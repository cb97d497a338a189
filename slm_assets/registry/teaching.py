"""What teachers answered: each request once, durable together with what it cost.

An answer and its payment are one transaction, so that a kill leaves either both or, of what was in flight, a
reservation that nobody took up. That one counts as spent: the teacher may have been at work.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from slm_assets.domain.budget import Budget
from slm_assets.registry import budget
from slm_assets.registry import tables as t
from slm_assets.registry.budget import Drawn, Over
from slm_assets.registry.database import now
from slm_assets.registry.registry import Registry

_BATCH = 400


@dataclass(frozen=True)
class Cost:
    """Tokens read and written, and US dollars."""

    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0

    @property
    def resources(self) -> dict[str, float]:
        """As a budget counts it."""
        return {"tokens": float(self.tokens_in + self.tokens_out), "usd": self.usd}

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.tokens_in + other.tokens_in, self.tokens_out + other.tokens_out, self.usd + other.usd)


@dataclass(frozen=True)
class Told:
    """The text that a model answered to a request, as it came, and why it ended."""

    request: str
    role: str
    turn: str
    model: str
    answer: str
    finish: str
    cost: Cost


class Purse:
    """What one stage of one version may still pay its teacher, kept in the registry's ledger.

    `budget`: only its limits on tokens and usd matter here; without one everything is allowed and nothing is kept.
    """

    def __init__(self, registry: Registry, domain: str, what: str, limits: Budget, *, actor: str) -> None:
        self._registry, self._domain, self.what, self._actor = registry, domain, what, actor
        self._limits = Budget(tokens=limits.tokens, usd=limits.usd)
        self.close()  # what a kill left in flight: nobody knows whether it was answered, so it counts

    def draw(self, most: Cost) -> Drawn | list[Over]:
        """Set aside the most that a request can cost; or what does not allow it."""
        if not self._limits.limits():
            return Drawn({})
        return budget.draw(self._registry, self._domain, self.what, most.resources, self._limits, actor=self._actor)

    def pay(self, drawn: Drawn, cost: Cost) -> None:
        """Settle a request that brought no answer."""
        if drawn.parts:
            self._registry._write(lambda connection: budget.pay(connection, drawn, cost.resources))

    def keep(self, told: Told, drawn: Drawn) -> None:
        """Settle a request and keep its answer, at once."""

        def work(connection: Connection) -> None:
            budget.pay(connection, drawn, told.cost.resources)
            _insert(connection, self._registry, self._domain, told, self.what)

        self._registry._write(work)

    def close(self) -> None:
        """Nothing more is paid under this name; what is still in flight counts as spent."""
        budget.settle(self._registry, self._domain, self.what, None)


def known(registry: Registry, domain: str, requests: Collection[str]) -> dict[str, Told]:
    """The answers that are there: request → what was told."""
    found: dict[str, Told] = {}
    names = sorted(requests)
    for start in range(0, len(names), _BATCH):
        some = t.teacher_answers.c.request.in_(names[start : start + _BATCH])
        for row in registry._all(
            select(t.teacher_answers).where(*registry._is(t.teacher_answers, domain=domain), some)
        ):
            cost = Cost(row["tokens_in"], row["tokens_out"], row["usd"])
            told = {name: row[name] for name in ("request", "role", "turn", "model", "answer", "finish")}
            found[row["request"]] = Told(**told, cost=cost)
    return found


def paid(registry: Registry, domain: str, what: str) -> dict[str, tuple[int, Cost]]:
    """Model → how many answers it gave for this, in all runs of it, and what they cost."""
    found: dict[str, tuple[int, Cost]] = {}
    for row in registry._all(
        select(t.teacher_answers).where(*registry._is(t.teacher_answers, domain=domain, paid_by=what))
    ):
        count, cost = found.get(row["model"], (0, Cost()))
        found[row["model"]] = count + 1, cost + Cost(row["tokens_in"], row["tokens_out"], row["usd"])
    return found


def forget(registry: Registry, domain: str, turns: Iterable[str]) -> None:
    """Delete the answers to these turns: an erasure."""
    names = sorted(turns)

    def work(connection: Connection) -> None:
        for start in range(0, len(names), _BATCH):
            some = t.teacher_answers.c.turn.in_(names[start : start + _BATCH])
            connection.execute(delete(t.teacher_answers).where(*registry._is(t.teacher_answers, domain=domain), some))

    registry._write(work)


def _insert(connection: Connection, registry: Registry, domain: str, told: Told, what: str) -> None:
    there = registry._is(t.teacher_answers, domain=domain, request=told.request)
    if connection.scalar(select(t.teacher_answers.c.request).where(*there)) is None:
        row = {
            **registry._scope, "domain": domain, "request": told.request, "role": told.role, "turn": told.turn,
            "model": told.model, "answer": told.answer, "finish": told.finish, "tokens_in": told.cost.tokens_in,
            "tokens_out": told.cost.tokens_out, "usd": told.cost.usd, "paid_by": what, "at": now(),
        }  # fmt: skip
        connection.execute(insert(t.teacher_answers).values(**row))
