"""The outbox: what others are to be told, written with what it tells of, kept until it was told.

A handoff is written in the transaction of its materialisation or flip, so neither is there without the
other. Its id is the digest of what it tells: written again it is the same one. States: `waiting`, `sent`
(on its way; after a crash nobody knows whether it arrived), `delivered`, `dead` (refused; it and what
follows it in its domain wait for a person) and `skipped`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, insert, or_, select, update

from slm_assets import canonical
from slm_assets.errors import BadInputError
from slm_assets.registry import tables as t
from slm_assets.registry.database import now

if TYPE_CHECKING:
    from slm_assets.registry.registry import Registry

Row = Mapping[str, Any]
OPEN = ("waiting", "sent")
STATES = (*OPEN, "dead", "delivered", "skipped")
_BATCH = 400
"""Values in one IN (…)."""


@dataclass(frozen=True)
class Handoff:
    """One thing that happened. `identity` is what makes it this one and no other."""

    event: str
    domain: str
    number: int | None
    asset: str
    kind: str
    playbook: str
    code: str
    urn: str | None
    actor: str
    identity: list[Any]
    payload: dict[str, Any]


@dataclass(frozen=True)
class Told:
    """What came of one try. `places` adds to where the handoff is known already; `ref` is its URN there."""

    id: int
    state: str
    places: dict[str, str]
    ref: str | None = None
    error: str = ""
    wait_s: float = 0.0


def put(connection: Connection, scope: Mapping[str, str], handoff: Handoff) -> None:
    """Write a handoff on an open transaction, unless it is there."""
    name = canonical.digest([*scope.values(), handoff.event, *handoff.identity])
    columns = t.handoffs.c
    key = [columns.tenant == scope["tenant"], columns.project == scope["project"], columns.handoff == name]
    if connection.scalar(select(columns.id).where(*key)) is not None:
        return
    at = now()
    version = f"v{handoff.number}" if handoff.number else None
    head = {
        "handoff": name,
        "event": handoff.event,
        "asset": handoff.asset,
        "kind": handoff.kind,
        "domain": handoff.domain,
        "version": version,
        "partition": f"{handoff.domain}|{version}" if version else None,
        "playbook": {"path": handoff.playbook, "code_version": handoff.code},
        "actor": handoff.actor,
        "at": at,
    }
    connection.execute(
        insert(t.handoffs).values(
            **scope,
            at=at,
            actor=handoff.actor,
            handoff=name,
            event=handoff.event,
            domain=handoff.domain,
            number=handoff.number,
            asset=handoff.asset,
            kind=handoff.kind,
            playbook=handoff.playbook,
            code=handoff.code,
            urn=handoff.urn,
            payload={**head, **handoff.payload},
            state="waiting",
            attempts=0,
            due_at=at,
            error="",
            places={},
        )
    )


def rows(registry: Registry, *, domain: str | None = None, state: str | None = None, limit: int = 100) -> list[Row]:
    """Handoffs, newest first."""
    keys = {name: value for name, value in (("domain", domain), ("state", state)) if value is not None}
    query = select(t.handoffs).where(*registry._is(t.handoffs, **keys))
    return registry._all(query.order_by(t.handoffs.c.id.desc()).limit(limit))


def counts(registry: Registry, domain: str | None = None) -> dict[str, int]:
    """How many handoffs are in each state."""
    keys = {} if domain is None else {"domain": domain}
    query = select(t.handoffs.c.state, func.count().label("n")).where(*registry._is(t.handoffs, **keys))
    found = {row["state"]: row["n"] for row in registry._all(query.group_by(t.handoffs.c.state))}
    return {state: found[state] for state in STATES if state in found}


def domains(registry: Registry) -> list[str]:
    """The domains whose oldest open handoff is due: order holds within a domain, so only that one counts.

    One with a dead letter is not among them.
    """
    columns = t.handoffs.c
    held = select(columns.domain).where(*registry._is(t.handoffs, state="dead"))
    first = select(func.min(columns.id)).where(*registry._is(t.handoffs), columns.state.in_(OPEN))
    first = first.where(columns.domain.not_in(held)).group_by(columns.domain)
    query = select(columns.domain, columns.due_at).where(*registry._is(t.handoffs), columns.id.in_(first))
    return sorted(row["domain"] for row in registry._all(query) if row["due_at"] <= now())


def take(registry: Registry, domain: str, limit: int) -> list[Row]:
    """The oldest open handoffs of a domain, marked as sent before anything is sent; each row as it was."""
    columns = t.handoffs.c
    query = select(t.handoffs).where(*registry._is(t.handoffs, domain=domain), columns.state.in_(OPEN))

    def work(connection: Connection) -> list[Row]:
        found: list[Row] = [dict(row) for row in connection.execute(query.order_by(columns.id).limit(limit)).mappings()]
        marked = update(t.handoffs).where(*registry._is(t.handoffs), columns.id.in_([row["id"] for row in found]))
        first = func.coalesce(columns.tried_at, now())
        connection.execute(marked.values(state="sent", attempts=columns.attempts + 1, tried_at=first))
        return found

    return registry._write(work) if limit else []


def settle(registry: Registry, told: Iterable[Told], unsent: Iterable[Row] = ()) -> None:
    """Record what came of a batch; `unsent` rows were never tried and are as they were before."""
    outcomes, untouched = list(told), list(unsent)
    columns = t.handoffs.c

    def work(connection: Connection) -> None:
        for one in outcomes:
            at = now()
            values: dict[str, Any] = {"state": one.state, "places": one.places, "ref": one.ref, "error": one.error}
            values |= {"due_at": _later(at, one.wait_s)}
            values |= {"delivered_at": at} if one.state == "delivered" else {}
            connection.execute(update(t.handoffs).where(*registry._is(t.handoffs, id=one.id)).values(**values))
        for row in untouched:
            same = {name: row[name] for name in ("state", "attempts", "tried_at")}
            connection.execute(
                update(t.handoffs).where(*registry._is(t.handoffs), columns.id == row["id"]).values(**same)
            )

    registry._write(work)


def refs(registry: Registry, urns: Iterable[str]) -> dict[str, str]:
    """The registry's URN → the server's, for what was delivered."""
    wanted, found = sorted(set(urns)), dict[str, str]()
    for start in range(0, len(wanted), _BATCH):
        some = t.handoffs.c.urn.in_(wanted[start : start + _BATCH])
        query = select(t.handoffs.c.urn, t.handoffs.c.ref).where(*registry._is(t.handoffs), some)
        query = query.where(t.handoffs.c.ref.is_not(None)).order_by(t.handoffs.c.id)
        found |= {row["urn"]: row["ref"] for row in registry._all(query)}
    return found


def retry(registry: Registry, names: Iterable[str] | None, *, actor: str) -> list[str]:
    """Let dead or delayed handoffs be tried at once: those whose ids begin so, or all. Returns their ids."""
    return _change(registry, names, actor, "handoffs.retry", ("dead", *OPEN), {"due_at": now(), "tried_at": None})


def skip(registry: Registry, names: Iterable[str], *, actor: str, reason: str) -> list[str]:
    """Never deliver some handoffs, so that what follows them can go on. Returns their ids."""
    values = {"state": "skipped", "error": reason}
    return _change(registry, names, actor, "handoffs.skip", ("dead", *OPEN), values)


def prune(registry: Registry, days: int) -> int:
    """Empty the payloads of handoffs that were delivered longer ago; ids and URNs stay, lineage needs them."""
    before = _later(now(), -days * 86_400)
    old = update(t.handoffs).where(*registry._is(t.handoffs, state="delivered"), t.handoffs.c.delivered_at < before)
    old = old.where(t.handoffs.c.attempts > 0)

    def work(connection: Connection) -> int:
        return int(connection.execute(old.values(payload={}, attempts=0)).rowcount)

    return registry._write(work)


def _change(
    registry: Registry, names: Iterable[str] | None, actor: str, action: str, states: tuple[str, ...],
    values: dict[str, Any],
) -> list[str]:  # fmt: skip
    columns = t.handoffs.c
    query = select(columns.id, columns.handoff, columns.state, columns.domain, columns.number)
    query = query.where(*registry._is(t.handoffs), columns.state.in_(states))
    if names is not None:
        wanted = list(names)
        for name in wanted:
            if not 6 <= len(name) <= 64 or not set(name) <= set("0123456789abcdef"):
                raise BadInputError(f"{name!r} is no handoff", cure="give 6 or more characters of an id of the list")
        query = query.where(or_(*(columns.handoff.startswith(name, autoescape=True) for name in wanted)))

    def work(connection: Connection) -> list[str]:
        found = connection.execute(query.order_by(columns.id)).mappings().all()
        for row in found:
            # A dead letter may have arrived all the same, so it is looked for before it is sent again.
            state = {"state": "sent"} if row["state"] == "dead" else {}
            connection.execute(update(t.handoffs).where(columns.id == row["id"]).values(**{**state, **values}))
            registry._audit(connection, actor, action, row["domain"], row["number"], {"handoff": row["handoff"]})
        return [row["handoff"] for row in found]

    return registry._write(work)


def _later(at: str, seconds: float) -> str:
    moment = datetime.fromisoformat(at) + timedelta(seconds=seconds)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
