"""Windows of live traffic: the immutable row that a reading of the traffic begins with, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, select

from slm_assets.registry import tables as t
from slm_assets.registry.database import now
from slm_assets.registry.registry import Registry, Row


@dataclass(frozen=True)
class Window:
    """What a reading of a domain's traffic was opened with; immutable. Digests name artifacts.

    `incoming`: what was new, redacted; `previous`: the captured traffic before it; None where there is none.
    `taken`: where `incoming` came from, [{"source", "name", "bytes"}]. `serving`: role → {"number", "release"} of
    what answered when the window was opened. `as_of`: the time that counts as now for its stages.
    """

    domain: str
    number: int
    config: str
    previous: str | None
    incoming: str | None
    taken: list[dict[str, Any]]
    serving: dict[str, dict[str, Any]]
    as_of: str
    reason: str
    opener: str
    opened_at: str

    @property
    def version(self) -> str:
        """The window's name: w1, w2, …"""
        return f"w{self.number}"


def open_window(registry: Registry, domain: str, *, actor: str, make: Callable[[int], dict[str, Any]]) -> Window:
    """Mint the next window and write its row; `make(number)` gives its columns."""
    with registry._database.write(f"{registry.tenant}/{registry.project}") as connection:
        last = connection.scalar(select(func.max(t.windows.c.number)).where(*registry._is(t.windows, domain=domain)))
        number = (last or 0) + 1
        row = {"domain": domain, "number": number, "opener": actor, "opened_at": now(), **make(number)}
        connection.execute(insert(t.windows).values(**registry._scope, **row))
        registry._audit(connection, actor, "window", domain, None, {"window": number, "reason": row["reason"]})
    return Window(**row)


def window(registry: Registry, domain: str, number: int) -> Window | None:
    """One window, or None where it was never opened."""
    row = registry._first(select(t.windows).where(*registry._is(t.windows, domain=domain, number=number)))
    return _window(row) if row else None


def latest(registry: Registry, domain: str) -> Window | None:
    """The newest window of a domain."""
    query = select(t.windows).where(*registry._is(t.windows, domain=domain))
    row = registry._first(query.order_by(t.windows.c.number.desc()).limit(1))
    return _window(row) if row else None


def traffic_of(registry: Registry, window: Window) -> str | None:
    """The digest of the traffic up to a window; None where it has not been captured yet."""
    cell = registry.cell(window.domain, window.number, "capture")
    if cell is None or cell["status"] != "succeeded":
        return None
    digest: str = cell["receipt"]["outputs"]["traffic"]["sha256"]
    return digest


def newest_traffic(registry: Registry, domain: str) -> dict[str, Any] | None:
    """{"number", "traffic"} of the newest window whose traffic was captured; None where there is none."""
    newest = latest(registry, domain)
    while newest is not None:
        digest = traffic_of(registry, newest)
        if digest is not None:
            return {"number": newest.number, "traffic": digest}
        newest = window(registry, domain, newest.number - 1)
    return None


def triggers(registry: Registry, domain: str, *, since: int = 1) -> list[Row]:
    """What the triggers said in each window from `since` on, oldest first."""
    query = select(t.triggers).where(*registry._is(t.triggers, domain=domain), t.triggers.c.number >= since)
    return registry._all(query.order_by(t.triggers.c.number, t.triggers.c.trigger))


def live_metrics(registry: Registry, domain: str, *, since: int = 1) -> list[Row]:
    """The live numbers of each window from `since` on, oldest first."""
    query = select(t.live_metrics).where(*registry._is(t.live_metrics, domain=domain), t.live_metrics.c.number >= since)
    return registry._all(query.order_by(t.live_metrics.c.number, t.live_metrics.c.role, t.live_metrics.c.metric))


def _window(row: Row) -> Window:
    return Window(**{name: value for name, value in row.items() if name not in ("tenant", "project")})
