"""How far each source of live turns was read, and the artifact that holds what was read so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import delete, insert, select

from slm_assets.registry import tables as t
from slm_assets.registry.database import now
from slm_assets.registry.registry import Registry

EVENT_LOG = "event_log"


@dataclass(frozen=True)
class Mark:
    """`watermark`: executions with ids up to it were read, but for those `pending`: id → its last event read.

    `artifact` is the digest of the captured turns' files, None before the first.
    """

    watermark: str = "0"
    turns: int = 0
    artifact: str | None = None
    read_at: str = ""
    pending: dict[str, str] = field(default_factory=dict)


def mark(registry: Registry, domain: str, source: str = EVENT_LOG) -> Mark:
    """How far a source was read; from the beginning where it never was."""
    query = select(t.captures).where(*registry._is(t.captures, domain=domain, source=source))
    row = registry._first(query)
    names = ("watermark", "turns", "artifact", "read_at", "pending")
    return Mark(**{name: row[name] for name in names}) if row else Mark()


def advance(registry: Registry, domain: str, to: Mark, *, actor: str, source: str = EVENT_LOG) -> None:
    """Keep a reading: its artifact and how far it came, in one transaction."""
    keys = {"domain": domain, "source": source}
    row = {"watermark": to.watermark, "turns": to.turns, "artifact": to.artifact, "pending": to.pending}
    with registry._database.write(f"{registry.tenant}/{registry.project}") as connection:
        connection.execute(delete(t.captures).where(*registry._is(t.captures, **keys)))
        connection.execute(insert(t.captures).values(**registry._scope, **keys, **row, read_at=now()))
        told = {"source": source, "watermark": to.watermark, "turns": to.turns, "artifact": to.artifact}
        registry._audit(connection, actor, "capture", domain, None, told)
