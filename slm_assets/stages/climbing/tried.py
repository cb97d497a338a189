"""What a climb tried, as the report of its training tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_KEPT = ("rung", "recipe", "n", "metrics", "bytes", "verdict", "why")


def tried_lines(role: str, climb: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """A line per rung, cheapest first; the one that was kept says why. None for a role that did not climb."""
    if climb is None:
        return []
    lines = []
    for line in climb["tried"]:
        kept = line["rung"] == climb["chosen"]
        told = {"role": role, "on": "validation", "kept": kept, **{key: line[key] for key in _KEPT}}
        lines.append(told | ({"why": climb["why"]} if kept else {}))
    return lines
