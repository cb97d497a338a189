"""The request of a version's shadow cell: the newest traffic until it is decided, and from then on what decided it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import select

from slm_assets import canonical
from slm_assets.registry import tables as t
from slm_assets.registry import windows
from slm_assets.registry.registry import Plan, Registry, Row

TRAFFIC = ("traffic", "reviews")
"""Inputs that grow while the version waits."""
Parts = tuple[dict[str, str], dict[str, Any]]


def shadow_parts(registry: Registry, plan: Plan, first: list[str]) -> Parts:
    """(inputs beside those of the stages before, params). `first`: roles that no release serves.

    A cell that waits is asked for again with the newest traffic. One that is decided, or runs elsewhere, keeps its
    own; so does one that somebody approved as it was: the approval is of that traffic and no other.
    """
    served = {f"incumbent_{role}": version["release"] for role, version in plan.incumbents.items()}
    cell = registry.cell(plan.domain, plan.number, "shadow")
    approved = approved_as_is(registry, cell)
    if cell is not None and (_stays(cell) or approved):
        made = cell["receipt"]["request"]
        frozen = {name: made["inputs"][name] for name in TRAFFIC if name in made["inputs"]}
        return {**served, **frozen}, {**made["params"], "approved": sorted({*made["params"]["approved"], *approved})}
    newest = windows.newest_traffic(registry, plan.domain)
    params: dict[str, Any] = {
        "cut": plan.window["number"] if plan.window else 0, "window": None, "as_of": None, "first": first,
        "approved": [],
    }  # fmt: skip
    if newest is None:
        return served, params
    window = windows.window(registry, plan.domain, newest["number"])
    assert window is not None, "its traffic was captured"
    reviews = _reviews(registry, plan.domain)
    params |= {"window": window.number, "as_of": window.as_of}
    return {**served, "traffic": newest["traffic"], **({"reviews": reviews} if reviews else {})}, params


def approved_as_is(registry: Registry, cell: Row | None) -> set[str]:
    """Roles whose undecided verdict in a cell that waits was approved by name: by the digest of its request."""
    if cell is None or cell["status"] != "deferred":
        return set()
    rows = registry.approvals(cell["domain"], cell["number"])
    return {row["role"] for row in rows if row["evidence"] == cell["request"]}


def waiting_shadows(registry: Registry) -> list[tuple[str, int, int]]:
    """(domain, version, newest captured window) of the newest version of each domain, where it waits for live turns
    and some were captured since it was last asked."""
    query = select(t.cells.c.domain, t.cells.c.number, t.cells.c.receipt)
    found = []
    for cell in registry._all(query.where(*registry._is(t.cells, stage="shadow", status="deferred"))):
        receipt, domain, number = cell["receipt"], cell["domain"], cell["number"]
        newest = windows.newest_traffic(registry, domain)
        seen = receipt["request"]["params"]["window"] or 0
        superseded = registry.plan(domain, number + 1) is not None
        if receipt["error_kind"] == "deferred" and newest and newest["number"] > seen and not superseded:
            found.append((domain, number, int(newest["number"])))
    return sorted(found)


def _stays(cell: Row) -> bool:
    elsewhere = cell["status"] == "deferred" and cell["receipt"]["error_kind"] == "submitted"
    return bool(cell["status"] == "succeeded" or elsewhere)


def _reviews(registry: Registry, domain: str) -> str | None:
    """What reviewers decided so far, as an artifact; its digest, or None where there is nothing."""
    columns = (t.review_items.c[name] for name in ("item", "role", "turn", "input", "label"))
    query = select(*columns).where(*registry._is(t.review_items, domain=domain, state="decided"))
    rows = registry._all(query.order_by(t.review_items.c.item))
    if not rows:
        return None
    with tempfile.TemporaryDirectory(prefix="slm-reviews-") as folder:
        lines = (
            {"role": row["role"], "turn": row["turn"], "input": row["input"], "output": row["label"]} for row in rows
        )
        canonical.write_jsonl(Path(folder) / "reviews.jsonl", lines)
        return registry.store.put(Path(folder)).sha256
