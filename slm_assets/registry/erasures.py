"""Who asked to be forgotten, and which stored trees were thinned out for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, delete, func, insert, select, update

from slm_assets.registry import retrains
from slm_assets.registry import tables as t
from slm_assets.registry.database import now
from slm_assets.registry.registry import Registry, Row

Kind = Literal["user", "conversation"]
ASKED, BEGUN, DONE = "asked", "begun", "done"


@dataclass(frozen=True)
class Thinned:
    """What an erasure changes in the store: tree → the tree in its place, and the files to forget. `versions`: those
    whose dataset held such a turn."""

    trees: dict[str, str] = field(default_factory=dict)
    blobs: list[str] = field(default_factory=list)
    turns: int = 0
    versions: list[str] = field(default_factory=list)


def ask(registry: Registry, domain: str, kind: Kind, pseudonym: str, *, actor: str) -> int:
    """Write down who is to be forgotten; returns the erasure's id. From here on nothing of theirs that is older is
    taken in, and services let go of what they hold."""
    at, detail = now(), {"state": ASKED}
    with registry._database.write(f"{registry.tenant}/{registry.project}") as connection:
        values = {"at": at, "actor": actor, "domain": domain, "kind": kind, "pseudonym": pseudonym, "detail": detail}
        query = insert(t.erasures).values(**registry._scope, **values).returning(t.erasures.c.id)
        number: int = connection.execute(query).scalar_one()
        registry._audit(connection, actor, "erase", domain, None, {"erasure": number, "kind": kind})
    return number


def begin(registry: Registry, erasure: Row, found: Thinned) -> None:
    """Write what will change and the tombstones of the trees in one transaction, and take the person's review items
    away."""
    detail = {"state": BEGUN, "trees": sorted(found.trees), **_told(found), "blobs": found.blobs}
    with registry._database.write(f"{registry.tenant}/{registry.project}") as connection:
        for sha256, manifest in found.trees.items():
            connection.execute(delete(t.tombstones).where(*registry._is(t.tombstones, sha256=sha256)))
            row = {"sha256": sha256, "manifest": manifest, "at": now()}
            connection.execute(insert(t.tombstones).values(**registry._scope, **row))
        items = t.review_items
        of = items.c.user if erasure["kind"] == "user" else items.c.conversation
        where = (*registry._is(items, domain=erasure["domain"]), of == erasure["pseudonym"])
        connection.execute(delete(items).where(*where))
        _update(registry, connection, erasure, detail)


def finish(registry: Registry, erasure: Row, due: str = "") -> None:
    """Say that the bytes are gone too, and ask for a retrain where one is `due`: the reason, "" for none."""
    detail = {key: value for key, value in erasure["detail"].items() if key not in ("blobs", "trees")}
    with registry._database.write(f"{registry.tenant}/{registry.project}") as connection:
        _update(registry, connection, erasure, detail | {"state": DONE})
        told = {"erasure": erasure["id"], **detail}
        registry._audit(connection, erasure["actor"], "erased", erasure["domain"], None, told)
        if due:
            retrains.ask_within(
                registry, connection, erasure["domain"], f"erasure-{erasure['id']}", triggers=[retrains.ERASURE],
                reason=due, actor=erasure["actor"],
            )  # fmt: skip


def _update(registry: Registry, connection: Connection, erasure: Row, detail: dict[str, Any]) -> None:
    where = (*registry._is(t.erasures), t.erasures.c.id == erasure["id"])
    connection.execute(update(t.erasures).where(*where).values(detail=detail))


def _told(found: Thinned) -> dict[str, Any]:
    return {"turns": found.turns, "files": len(found.blobs), "versions": found.versions}


def erasures(registry: Registry, domain: str) -> list[Row]:
    """Every erasure of a domain, oldest first."""
    query = select(t.erasures).where(*registry._is(t.erasures, domain=domain))
    return registry._all(query.order_by(t.erasures.c.id))


def last(registry: Registry) -> int:
    """The number of the newest erasure of the namespace; 0 where there is none."""
    found = registry._first(select(func.max(t.erasures.c.id).label("id")).where(*registry._is(t.erasures)))
    return int(found["id"] or 0) if found else 0


def forgotten(erased: list[Row], turn: Any) -> bool:
    """Whether a turn is one that was to be forgotten: of such a user or conversation, and from before that."""
    return any(turn.get(row["kind"]) == row["pseudonym"] and turn["at"] <= row["at"] for row in erased)
