"""Markdown tables for people: metrics with their intervals, gates with their numbers and reasons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SUBJECTS = ("challenger", "incumbent", "floor", "majority")


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; cells are escaped, floats shown with up to four digits."""
    lines = [head, ["---"] * len(head), *([cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def metrics(values: Sequence[Mapping[str, Any]]) -> str:
    """Every metric over all rows: one line per role, metric and mode, one column per subject; "" where
    there are none."""
    whole = [value for value in values if not value.get("slice")]
    lines: dict[tuple[str, str, str], dict[str, Mapping[str, Any]]] = {}
    for value in whole:
        key = (value.get("role", ""), value["metric"], value.get("mode", ""))
        lines.setdefault(key, {})[value.get("subject", "challenger")] = value
    known = {value.get("subject", "challenger") for value in whole}
    subjects = [subject for subject in SUBJECTS if subject in known]
    subjects += sorted(known - set(subjects))
    rows = []
    for (role, metric, mode), by_subject in sorted(lines.items()):
        n = next(iter(by_subject.values())).get("n", 0)
        numbers = [_interval(by_subject.get(subject)) for subject in subjects]
        rows.append([role or "whole turn", metric, mode.replace("_", " "), *numbers, n])
    return table(["role", "metric", "mode", *subjects, "n"], rows) if rows else ""


def slices(values: Sequence[Mapping[str, Any]]) -> str:
    """The same per slice, challenger and incumbent side by side; "" where there are none."""
    lines: dict[tuple[str, str, str, str], dict[str, Mapping[str, Any]]] = {}
    for value in values:
        if value.get("slice"):
            key = (value["slice"], value.get("role", ""), value["metric"], value.get("mode", ""))
            lines.setdefault(key, {})[value.get("subject", "challenger")] = value
    rows: list[list[Any]] = []
    for key, by_subject in sorted(lines.items()):
        n = next(iter(by_subject.values())).get("n", 0)
        numbers = [_interval(by_subject.get(subject)) for subject in SUBJECTS[:2]]
        rows.append([*key[:3], key[3].replace("_", " "), *numbers, n])
    return table(["slice", "role", "metric", "mode", *SUBJECTS[:2], "n"], rows) if rows else ""


def verdicts(rows: Iterable[Mapping[str, Any]], *, gate: bool = True) -> str:
    """Verdicts with value, interval, threshold, n and reason; `gate` False leaves the gate's name out."""
    head = ["gate"] if gate else []
    head += ["role", "verdict", "metric", "value", "low", "high", "threshold", "n", "n needed", "reason"]
    return table(head, [[_field(row, name) for name in head] for row in rows])


def cell(value: Any) -> str:
    """A value as the text of a table cell."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _field(row: Mapping[str, Any], name: str) -> Any:
    value = row.get(name.replace(" ", "_"))
    if name == "role":
        return value or "all"
    if name == "verdict" and not row.get("blocking", True):
        return f"{value} (warning)"
    if name == "metric" and row.get("slice"):
        return f"{value} in {row['slice']}"
    return value


def _interval(value: Mapping[str, Any] | None) -> str:
    if value is None or value.get("value") is None:
        return "–"
    shown = cell(float(value["value"]))
    if value.get("low") is None or value.get("high") is None:
        return shown
    return f"{shown} [{cell(float(value['low']))}, {cell(float(value['high']))}]"
