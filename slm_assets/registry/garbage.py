"""What the store of a namespace holds and nothing refers to any more: found, and deleted when it is old.

A stored tree is kept when its digest is mentioned anywhere in the registry: in a plan, a receipt, an entry, a flag
or its history, a window, a capture, a review, a job, a handoff; and with it its files. Only the audit log, which
tells of what was, keeps nothing. What is written now is young, and what is stored again becomes young
(registry/artifacts.py); between the last look at an object and its deletion nobody can store it again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import JSON, String, Table, Text, TypeDecorator, cast, select

from slm_assets.errors import BadInputError, SlmError
from slm_assets.registry import jobs
from slm_assets.registry import tables as t
from slm_assets.registry.artifacts import FRESH
from slm_assets.registry.objects import Found
from slm_assets.registry.registry import Registry

LEAST_GRACE = 2 * FRESH
"""Whoever stores something has as long as this is longer than FRESH until it must be referred to."""
_TELLS_NOTHING = ("audit", t.tombstones.name)
_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_THREADS = 8
_BATCH = 200


@dataclass(frozen=True)
class Garbage:
    """What nothing refers to, and was written before `before`. `kept` objects of `kept_bytes` stay, of them
    `young` although nothing refers to them yet."""

    before: datetime
    objects: list[Found] = field(default_factory=list)
    unfinished: list[Found] = field(default_factory=list)
    kept: int = 0
    kept_bytes: int = 0
    young: int = 0

    @property
    def bytes(self) -> int:
        """The bytes of all objects and of what uploads left behind, as far as the store tells."""
        return sum(found.bytes for found in (*self.objects, *self.unfinished))


def namespaces(registry: Registry) -> list[tuple[str, str]]:
    """Every (tenant, project) in which something was ever done in this registry's database."""
    query = select(t.audit.c.tenant, t.audit.c.project).distinct()
    return sorted((row["tenant"], row["project"]) for row in registry._all(query))


def find(registry: Registry, *, grace: timedelta, now: datetime | None = None) -> Garbage:
    """What may go; deletes nothing. Nothing that is younger than the oldest job in flight is in it.

    Errors: BadInputError for a shorter grace than is safe; SlmError where the registry knows nothing of what the
    store holds, so that they do not belong together; ArtifactError where the manifest of a kept tree cannot be read.
    """
    if grace < LEAST_GRACE:
        days = LEAST_GRACE.days
        raise BadInputError(f"garbage younger than {days} days may still be referred to", cure=f"give {days} days")
    before = (now or datetime.now(UTC)) - grace
    for job in jobs.in_flight(registry):
        before = min(before, datetime.fromisoformat(job["submitted_at"]) - FRESH)
    store = registry.store
    trees = list(store.objects.listed(f"{store.root}/trees"))
    blobs = list(store.objects.listed(f"{store.root}/blobs"))
    notes = list(store.objects.listed(f"{store.root}/notes/handed"))  # `before` spares those of jobs in flight
    # Looked up after the store was listed: what is referred to in between is in it.
    roots = mentioned(registry)
    held = roots & {_digest(found.key) for found in trees}
    if trees and not held:
        raise SlmError(
            f"registry {registry._database.place} mentions none of the {len(trees)} artifacts of {store.root}",
            cure="see that SLM_REGISTRY and SLM_ARTIFACTS belong together; a store without its registry is left alone",
        )
    held |= _in_their_place(registry, held)
    with ThreadPoolExecutor(_THREADS) as pool:
        files = {sha for tree in pool.map(store.describe, sorted(held)) for sha in tree.files.values()}
    keep = held | files | roots
    idle = [found for found in (*trees, *blobs) if (digest := _digest(found.key)) and digest not in keep]
    old = [found for found in (*idle, *notes) if found.modified < before]
    gone = {found.key for found in old}
    kept = [found for found in (*trees, *blobs, *notes) if found.key not in gone]
    young = sum(found.modified >= before for found in idle)
    left = [found for found in store.objects.unfinished(store.root) if found.modified < before]
    return Garbage(before, old, left, len(kept), sum(found.bytes for found in kept), young)


def collect(registry: Registry, garbage: Garbage, *, actor: str) -> Garbage:
    """Delete what was found, trees before the files that they name; returns what was deleted. What was stored again
    since is left. An audit event says so, also where it was cut off."""
    objects = registry.store.objects
    deleted: list[Found] = []

    def delete(found: Found) -> Found | None:
        there = objects.find(found.key)
        if there is None or there.modified >= garbage.before:
            return None
        objects.remove(found.key)
        return found

    try:
        with ThreadPoolExecutor(_THREADS) as pool:
            for start in range(0, len(garbage.objects), _BATCH):
                with registry.collecting():
                    gone = pool.map(delete, garbage.objects[start : start + _BATCH])
                    deleted += [found for found in gone if found is not None]
            list(pool.map(objects.discard, garbage.unfinished))
    finally:
        done = Garbage(garbage.before, deleted, garbage.unfinished, garbage.kept, garbage.kept_bytes, garbage.young)
        told = {"objects": len(deleted), "bytes": done.bytes, "unfinished": len(done.unfinished)}
        with registry._database.write(f"{registry.tenant}/{registry.project}") as connection:
            registry._audit(connection, actor, "gc", "", None, told | {"before": garbage.before.isoformat()})
    return done


def mentioned(registry: Registry) -> set[str]:
    """Every digest in any row of the namespace, wherever it stands."""
    return {digest for table in _tables() for text in _texts(registry, table) for digest in _DIGEST.findall(text)}


def _tables() -> list[Table]:
    return [table for table in t.METADATA.sorted_tables if table.name not in _TELLS_NOTHING]


def _texts(registry: Registry, table: Table) -> Iterator[str]:
    columns = [cast(c, Text) if isinstance(c.type, JSON) else c for c in table.columns if _may_hold(c.type)]
    if not columns:
        return
    query = select(*columns).where(*registry._is(table))
    with registry._database.read() as connection:
        for row in connection.execution_options(yield_per=1000).execute(query):
            yield from (text for text in row if text)


def _may_hold(kind: object) -> bool:
    return isinstance(kind, JSON | Text | TypeDecorator) or (isinstance(kind, String) and (kind.length or 64) >= 64)


def _in_their_place(registry: Registry, trees: Iterable[str]) -> set[str]:
    """The trees that stand in the place of those that an erasure thinned out, and in the place of those."""
    rows = registry._all(select(t.tombstones).where(*registry._is(t.tombstones)))
    instead = {row["sha256"]: row["manifest"] for row in rows}
    found: set[str] = set()
    for tree in trees:
        while (tree := instead.get(tree, "")) and tree not in found:
            found.add(tree)
    return found


def _digest(key: str) -> str:
    """The digest that a key is made of; "" for a key of another kind, which nobody here wrote."""
    name = key.rpartition("/")[2].removesuffix(".json")
    return name if _DIGEST.fullmatch(name) else ""
