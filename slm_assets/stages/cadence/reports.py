"""What a person is shown of the loop: how fresh a domain is, what its triggers said, what it may spend."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from slm_assets.registry import budget, retrains, windows
from slm_assets.registry.registry import Registry, Row
from slm_assets.stages.cadence.settings import settings_of

_TRIGGER = ("trigger", "verdict", "value", "bound", "threshold", "n", "sentence")
_ENTRY = ("at", "what", "resource", "state", "reserved", "spent", "settled_at", "actor")
NEWEST = 20


def freshness(registry: Registry, domain: str, *, now: datetime | None = None) -> dict[str, Any] | None:
    """Of the newest window: its name, since when it is there, how old it is in hours, whether it was judged and what
    fired; and how old what serves is. None for a domain whose traffic was never looked at and that serves nothing."""
    window = windows.latest(registry, domain)
    since = max((flag.since for flag in registry.flags(domain).values()), default=None)
    if window is None and since is None:
        return None
    moment = now or datetime.now(UTC)
    judged = registry.cell(domain, window.number, "drift") if window else None
    fired = windows.triggers(registry, domain, since=window.number) if window else []
    return {
        "window": window.version if window else None,
        "window_at": window.opened_at if window else None,
        "window_hours": _hours(window.opened_at, moment) if window else None,
        "judged": bool(judged and judged["status"] == "succeeded"),
        "fired": [row["trigger"] for row in fired if row["verdict"] == "FIRED"],
        "deployed_at": since,
        "deployed_hours": _hours(since, moment) if since else None,
    }


def trigger_history(registry: Registry, domain: str, *, newest: int = NEWEST) -> dict[str, Any]:
    """What the triggers said in the newest windows and what became of it, and every retrain that was asked for."""
    last = windows.latest(registry, domain)
    since = max(1, last.number - newest + 1) if last else 1
    asked = retrains.of_domain(registry, domain)
    by_window: dict[int, list[Row]] = {}
    for row in windows.triggers(registry, domain, since=since):
        by_window.setdefault(row["number"], []).append(row)
    return {
        "domain": domain,
        "windows": [
            {
                "window": f"w{number}",
                "triggers": [{key: row[key] for key in _TRIGGER} for row in rows],
                "became": _became(number, rows, asked),
            }
            for number, rows in sorted(by_window.items())
        ],
        "retrains": [_retrain(row) for row in asked],
    }


def budget_report(registry: Registry, domain: str, *, now: datetime | None = None) -> dict[str, Any]:
    """Per limited resource what was reserved, spent and is left in this window, and the newest entries.

    BadInputError where the domain's config cannot be read.
    """
    limits = settings_of(registry.home, domain).budget
    return {
        "domain": domain,
        "resources": budget.standing(registry, domain, limits, at=now),
        "entries": [{key: row[key] for key in _ENTRY} for row in budget.entries(registry, domain, limit=NEWEST)],
        "waiting": [_retrain(row) for row in retrains.in_states(registry, retrains.PENDING, domain)],
    }


def _became(number: int, rows: list[Row], asked: list[Row]) -> str:
    """What became of the firing triggers of a window; "" where none fired."""
    if all(row["verdict"] != "FIRED" for row in rows):
        return ""
    for row in asked:
        first = int(row["cause"][1:]) if row["cause"].startswith("w") and row["cause"][1:].isdigit() else None
        if first is not None and first <= number <= row["window"]:
            version = f" v{row['number']}" if row["number"] else ""
            return f"{row['state']}{version}" + (f": {row['note']}" if row["note"] else "")
    return "not asked for"


def _retrain(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "asked_at": row["at"],
        "by": row["actor"],
        "cause": row["cause"],
        "triggers": row["triggers"],
        "reason": row["reason"],
        "state": row["state"],
        "version": f"v{row['number']}" if row["number"] else None,
        "launched_at": row["launched_at"],
        "note": row["note"],
    }


def _hours(at: str, now: datetime) -> float:
    return round((now - datetime.fromisoformat(at)).total_seconds() / 3600, 2)
