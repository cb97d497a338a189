"""Live turns that people decide: each item once, in exactly one state, every decision with its author.

An item is one input of one role. It is open, decided, skipped or withdrawn; each change is a new revision of it, in
one transaction with its audit event, and the item keeps what was decided before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, get_args

from sqlalchemy import func, insert, select, update

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.errors import BadInputError
from slm_assets.registry import tables as t
from slm_assets.registry.database import now
from slm_assets.registry.registry import Registry, Row

State = Literal["open", "decided", "skipped", "withdrawn"]
STATES: tuple[State, ...] = get_args(State)
FROM: dict[State, frozenset[str]] = {
    "decided": frozenset({"open", "skipped", "decided"}),
    "skipped": frozenset({"open"}),
    "withdrawn": frozenset({"open", "skipped", "decided"}),
    "open": frozenset({"skipped", "withdrawn"}),
}
"""State \u2192 those that it can be reached from."""
AT_RANDOM = frozenset({"audit", "need"})
"""Items that were drawn at random, whose labels say how good a version is; the others were picked for a fault."""
_BATCH = 400


class DecidedError(BadInputError):
    """An item is not what it was when it was looked at."""


def item_id(domain: str, role: str, turn_input: Json) -> str:
    """The id of an item: the same for the same input of a role, however often it is found."""
    return canonical.digest([domain, role, turn_input])[:32]


def offer(
    registry: Registry, domain: str, items: Iterable[dict[str, Any]], *, actor: str, most: int | None = None
) -> int:
    """Open the first `most` items that were never there; returns how many. Keys: role, turn, why, input, candidates,
    user, conversation."""
    wanted = {item_id(domain, item["role"], item["input"]): item for item in items}
    with registry._database.write(f"{registry.tenant}/{registry.project}") as connection:
        known: set[str] = set()
        names = sorted(wanted)
        for start in range(0, len(names), _BATCH):
            some = t.review_items.c.item.in_(names[start : start + _BATCH])
            query = select(t.review_items.c.item).where(*registry._is(t.review_items, domain=domain), some)
            known.update(connection.scalars(query))
        at = now()
        fixed: dict[str, Any] = {**registry._scope, "domain": domain, "state": "open", "label": None}
        fixed |= {"author": "", "revision": 0, "history": [], "opened_at": at, "changed_at": at}
        rows = [{**fixed, "item": name, **item} for name, item in wanted.items() if name not in known][:most]
        if rows:
            connection.execute(insert(t.review_items), rows)
            registry._audit(connection, actor, "review.open", domain, None, {"items": len(rows)})
    return len(rows)


def items(
    registry: Registry, domain: str, *, state: str | None = None, role: str | None = None, limit: int = 1_000
) -> list[Row]:
    """Items, the oldest first."""
    keys = {"domain": domain} | ({"state": state} if state else {}) | ({"role": role} if role else {})
    query = select(t.review_items).where(*registry._is(t.review_items, **keys))
    return registry._all(query.order_by(t.review_items.c.opened_at, t.review_items.c.item).limit(limit))


def item(registry: Registry, domain: str, name: str) -> Row:
    """One item, by its id or the beginning of it. BadInputError where that is none, or several."""
    is_hex = 4 <= len(name) <= 32 and all(c in "0123456789abcdef" for c in name)
    begins = t.review_items.c.item.between(name, f"{name}g")
    query = select(t.review_items).where(*registry._is(t.review_items, domain=domain), begins).limit(2)
    found = registry._all(query) if is_hex else []
    if len(found) != 1:
        raise BadInputError(
            f"{domain}: {'several review items begin with' if found else 'no review item is'} {name[:40]!r}",
            cure=f"see `slm review {domain} --list`",
        )
    return found[0]


def counts(registry: Registry, domain: str) -> dict[str, int]:
    """State \u2192 items in it."""
    column = t.review_items.c.state
    query = select(column, func.count().label("n")).where(*registry._is(t.review_items, domain=domain))
    found = {row["state"]: row["n"] for row in registry._all(query.group_by(column))}
    return {state: found.get(state, 0) for state in STATES}


def change(
    registry: Registry, domain: str, name: str, to: State, *, revision: int, actor: str, label: Json = None
) -> Row:
    """Bring an item into a state, with its label where it is decided; `revision` is the one that was looked at.

    DecidedError where somebody else was faster, or where there is no way from its state.
    """
    with registry._database.write(f"{registry.tenant}/{registry.project}") as connection:
        where = registry._is(t.review_items, domain=domain, item=name)
        row = connection.execute(select(t.review_items).where(*where)).mappings().first()
        if row is None:
            raise BadInputError(f"{domain}: no review item is {name[:40]!r}", cure=f"see `slm review {domain} --list`")
        if row["revision"] != revision:
            raise DecidedError(
                f"{domain}: item {name[:12]} was {row['state']} by {row['author'] or 'somebody'} in the meantime",
                cure="look at it again; deciding once more replaces that decision, and both stay on record",
            )
        if row["state"] not in FROM[to]:
            raise DecidedError(f"{domain}: item {name[:12]} is {row['state']} and cannot become {to}")
        values = {"state": to, "author": actor, "revision": revision + 1, "label": label}
        at = now()
        # With the item, and not in the audit, which is for ever: labels may hold words of users.
        values["history"] = [*row["history"], {"at": at, **values}]
        connection.execute(update(t.review_items).where(*where).values(**values, changed_at=at))
        told = {"item": name, "role": row["role"], "revision": revision + 1}
        registry._audit(connection, actor, f"review.{to}", domain, None, told)
        return {**row, **values, "changed_at": at}


def decided_rows(registry: Registry, domain: str) -> tuple[list[Json], list[Json]]:
    """Rows of all decided turns, one for each input with the labels of its roles, in order of their ids: those that
    were drawn at random, and those of which any role was picked for a fault."""
    turns: dict[str, list[Row]] = {}
    for row in sorted(_decided(registry, domain), key=lambda row: (row["opened_at"], row["item"])):
        turns.setdefault(canonical.digest(row["input"]), []).append(row)
    at_random: list[Json] = []
    picked: list[Json] = []
    for rows in turns.values():
        labels = {row["role"]: row["label"] for row in rows}
        line = {"id": rows[0]["turn"], "input": rows[0]["input"], "labels": labels, "label_source": "reviewed"}
        line["turn"] = rows[0]["turn"]  # by which an erasure finds it, whatever its id becomes
        (at_random if all(row["why"] in AT_RANDOM for row in rows) else picked).append(line)
    return _distinct(at_random), _distinct(picked)


def _decided(registry: Registry, domain: str) -> Iterator[Row]:
    query = select(t.review_items).where(*registry._is(t.review_items, domain=domain, state="decided"))
    yield from registry._all(query)


def _distinct(rows: list[Json]) -> list[Json]:
    """Rows in order of their ids; the second of an id (a turn asked with several inputs) gets one of its own."""
    seen: set[str] = set()
    for row in sorted(rows, key=lambda row: (row["id"], canonical.dumps(row["input"]))):
        if row["id"] in seen:
            row["id"] = f"{row['id'][:160]}~{canonical.digest(row['input'])[:12]}"
        seen.add(row["id"])
    return sorted(rows, key=lambda row: str(row["id"]))
