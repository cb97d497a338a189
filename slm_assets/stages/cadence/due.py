"""Whether a domain's traffic is to be looked at now: by what waits, by what serves, or by the clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from slm_assets import canonical
from slm_assets.domain.triggers import Watch
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry, Row
from slm_assets.stages.traffic.intake import EVENT_LOG, capture_folder, drop_folder, listed

HOUR_S = 3600.0


@dataclass(frozen=True)
class Waiting:
    """A file that the service wrote or somebody dropped: `grown` by so many bytes since it was last read."""

    source: str
    name: str
    size: int
    grown: int


@dataclass(frozen=True)
class Due:
    """Why a domain is due, and the key under which it is looked at once."""

    why: str
    key: str


def waiting(
    home: Home, registry: Registry, domain: str, newest: Row | None, replayed: str | None = None
) -> list[Waiting]:
    """What is new since the newest window, by names and sizes: no file is opened. `replayed`: when an event log was
    read last."""
    read = {(entry["source"], entry["name"]): entry["stamp"] for entry in (newest["taken"] if newest else [])}
    folders = (capture_folder(home, registry, domain), drop_folder(home, registry, domain))
    found = []
    for source, name, size in listed(*folders):
        before = read.get((source, name))
        # A segment's stamp is its size. A dropped file's is its digest: once read it is gone, unless it is new.
        known = int(before) if before is not None and before.isdigit() and len(before) < 20 else 0
        if size != known:
            found.append(Waiting(source, name, size, max(size - known, 0)))
    if replayed is not None and (newest is None or replayed > newest["opened_at"]):
        found.append(Waiting(EVENT_LOG, replayed, 0, 0))
    return found


def due(
    new: Sequence[Waiting], newest: Row | None, serving: Row, watch: Watch, now: datetime, *, every_s: float | None
) -> Due | None:
    """Why the domain is to be looked at now; None where it is not. `every_s` goes before the policy's minutes."""
    every = watch.every_minutes * 60 if every_s is None else every_s
    since = (now - datetime.fromisoformat(newest["opened_at"])).total_seconds() if newest else None
    long_ago = since is None or since >= every
    at = f"w{newest['number']}" if newest else "w0"
    # A look that fails is tried again, no sooner than the next one would be.
    turn = int(now.timestamp() // max(every, 60))
    if new and (long_ago or sum(one.grown for one in new) >= watch.at_once_mb * 1e6):
        seen = canonical.digest([[one.source, one.name, one.size] for one in new])[:16]
        return Due("traffic", f"{at}-{seen}-{turn}")
    if newest and unfinished(newest) and since is not None and since >= max(every, 60):
        return Due("unfinished", f"{at}-again-{int(now.timestamp() // HOUR_S)}")
    if not serving:
        return None
    if newest and long_ago and newest["serving"] != serving:
        return Due("another version serves", f"{at}-{canonical.digest(serving)[:16]}")
    if since is None or since >= watch.at_least_hours * HOUR_S:
        return Due("by the clock", f"{at}-{now:%Y-%m-%d}")
    return None


def unfinished(newest: Row) -> bool:
    """Whether the newest window was opened and not judged: a run of it was killed, or failed."""
    return not newest["capture"] == newest["drift"] == "succeeded"
