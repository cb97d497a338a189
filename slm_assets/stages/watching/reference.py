"""What a window's drift is held against, as inputs: the profiles of what serves, and what reviewers decided."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import select

from slm_assets import canonical
from slm_assets.registry import tables as t
from slm_assets.registry.registry import Plan, Registry
from slm_assets.registry.windows import Window
from slm_assets.stages.plans import output_of

REFERENCE, REVIEWS = "reference", "reviews"
PROFILE = "profile.json"
SAMPLE = "sample.jsonl"
"""Of an eval artifact: what the version was trained on and how it did, and some of its rows (see profile.py)."""


def drift_inputs(registry: Registry, window: Window) -> dict[str, str]:
    """The inputs of a window's drift beside its traffic, each only where there is something: `reference` holds
    profile.json and sample.jsonl of each serving version in a folder of its number, `reviews` what was decided by the
    time at which the window was opened."""
    plans = _plans(registry, window)
    with tempfile.TemporaryDirectory(prefix="slm-drift-") as scratch:
        profiles, decided = Path(scratch) / REFERENCE, Path(scratch) / REVIEWS
        for number, plan in plans.items():
            if registry.entry("eval", plan.domain, number) is None:
                continue  # nothing is known of how it was: the triggers say so
            evaluated = output_of(registry, plan, "evaluate")
            for name in sorted({PROFILE, SAMPLE} & registry.store.describe(evaluated).files.keys()):
                canonical.write_bytes(profiles / str(number) / name, registry.store.read(evaluated, name))
        found = {REFERENCE: registry.store.put(profiles).sha256} if profiles.exists() else {}
        reviews = _reviews(registry, window)
        if reviews is not None:
            return found | {REVIEWS: reviews}
        rows = _decided(registry, window)
        if rows:
            canonical.write_jsonl(decided / "reviews.jsonl", rows)
            found[REVIEWS] = registry.store.put(decided).sha256
        return found


def drift_params(registry: Registry, window: Window) -> dict[str, Any]:
    """role → the version that serves it: its number, since when, when it was opened, and the last window whose
    traffic its dataset took."""
    plans = _plans(registry, window)
    serving = {
        role: {
            "number": own["number"],
            "since": _since(registry, window, role),
            "opened_at": plans[own["number"]].opened_at,
            "cut": (plans[own["number"]].window or {"number": 0})["number"],
        }
        for role, own in sorted(window.serving.items())
    }
    return {"window": window.number, "serving": serving}


def _plans(registry: Registry, window: Window) -> dict[int, Plan]:
    found = {}
    for number in sorted({own["number"] for own in window.serving.values()}):
        plan = registry.plan(window.domain, number)
        assert plan is not None, "a flag names a version that was never opened"
        found[number] = plan
    return found


def _since(registry: Registry, window: Window, role: str) -> str:
    release = window.serving[role]["release"]
    times = [
        str(event["at"])
        for event in registry.flag_events(window.domain, role)
        if event["release"] == release and event["at"][:23] <= window.as_of[:23]
    ]
    return max(times, default="")


def _reviews(registry: Registry, window: Window) -> str | None:
    """What a finished cell was made from: a decision taken again later must not change its request."""
    cell = registry.cell(window.domain, window.number, "drift")
    if cell is None or cell["status"] != "succeeded":
        return None
    found: str | None = cell["receipt"]["request"]["inputs"].get(REVIEWS)
    return found


def _decided(registry: Registry, window: Window) -> list[dict[str, Any]]:
    table = t.review_items
    query = select(table.c.turn, table.c.role, table.c.label, table.c.changed_at)
    rows = registry._all(query.where(*registry._is(table, domain=window.domain)).order_by(table.c.item))
    return [
        {key: row[key] for key in ("turn", "role", "label")}
        for row in rows
        if row["label"] is not None and row["changed_at"][:23] <= window.as_of[:23]
    ]
