"""Pictures as Markdown: SVG in a data URI, which the Dagster UI shows in a metadata entry."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from math import sqrt
from typing import Any, NamedTuple

_CELL = 26
_RIGHT, _WRONG, _INK, _LINE = (37, 99, 168), (201, 79, 23), "#24292f", "#d0d7de"
_MAX_CLASSES = 40


def confusion(title: str, classes: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """A heat map of true class (rows) against answered class (columns), shaded by share of the row.

    Markdown; past 40 classes the rarest true classes are left out and the caption says so.
    """
    kept = sorted(sorted(range(len(classes)), key=lambda i: (-sum(counts[i]), i))[:_MAX_CLASSES])
    names = [str(classes[i]) for i in kept]
    label = 12 + 7 * min(26, max((len(name) for name in names), default=1))
    side = _CELL * len(names)
    width, height = label + side + 10, label + side + 10
    parts: list[str] = []
    left = top = label
    for row, i in enumerate(kept):
        y = top + row * _CELL
        parts.append(_text(left - 6, y + 17, _short(names[row]), anchor="end"))
        x = left + row * _CELL + 17
        parts.append(_text(x, top - 6, _short(names[row]), turn=-90))
        total = sum(counts[i])
        for column, j in enumerate(kept):
            if counts[i][j]:
                parts.append(_square(left + column * _CELL, y, counts[i][j], total, right=i == j))
    parts.append(f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="none" stroke="{_LINE}"/>')
    left_out = len(classes) - len(kept)
    note = f"Rows: true class, {sum(map(sum, counts))} turns. Columns: answered. Blue: right, orange: wrong."
    note += f" The {left_out} rarest classes are not drawn." if left_out else ""
    return f"{_image(title, width, height, parts)}\n\n{note}"


def calibration(title: str, bins: Sequence[Mapping[str, Any]], ece: float | None) -> str:
    """A reliability diagram: accuracy over mean confidence per bin, dots sized by the number of turns."""
    drawn = [b for b in bins if b.get("n") and b.get("confidence") is not None and b.get("accuracy") is not None]
    most = max((b["n"] for b in drawn), default=1)
    left, top, side = 44, 10, 240
    parts = [f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="none" stroke="{_LINE}"/>']
    parts.append(
        f'<path d="M{left} {top + side}L{left + side} {top}" stroke="{_INK}" stroke-dasharray="4 4" fill="none"/>'
    )
    points = [(left + side * float(b["confidence"]), top + side * (1 - float(b["accuracy"]))) for b in drawn]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    if path:
        parts.append(f'<path d="M{path}" stroke="rgb{_RIGHT}" fill="none" stroke-width="1.5"/>')
    for (x, y), b in zip(points, drawn, strict=True):
        radius = 2 + 6 * sqrt(b["n"] / most)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="rgb{_RIGHT}" opacity=".75"/>')
    for tick in (0.0, 0.5, 1.0):
        parts.append(_text(left + side * tick, top + side + 16, f"{tick:g}", anchor="middle"))
        parts.append(_text(left - 6, top + side * (1 - tick) + 4, f"{tick:g}", anchor="end"))
    parts.append(_text(left + side / 2, top + side + 34, "confidence", anchor="middle"))
    parts.append(_text(14, top + side / 2, "accuracy", anchor="middle", turn=-90))
    shown = "" if ece is None else f"Expected calibration error {ece:.3f}. "
    note = f"{shown}{sum(b['n'] for b in drawn)} turns; the dashed line is perfect."
    return f"{_image(title, left + side + 20, top + side + 44, parts)}\n\n{note}"


class Dot(NamedTuple):
    """A version's number and its interval, where it has one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


def trend(title: str, dots: Sequence[Dot]) -> str:
    """A number over versions: a line of dots with their intervals as bars."""
    bounds = [bound for dot in dots for bound in dot[1:] if bound is not None] or [0.0, 1.0]
    lowest, highest = min(bounds), max(bounds)
    spread = highest - lowest or 1.0
    left, top, step, side = 56, 12, 34, 160
    width = step * max(len(dots), 2)

    def height(value: float) -> float:
        return top + side * (1 - (value - lowest) / spread)

    parts = [f'<rect x="{left}" y="{top}" width="{width}" height="{side}" fill="none" stroke="{_LINE}"/>']
    placed = [(left + step * (i + 0.5), dot) for i, dot in enumerate(dots)]
    line = "L".join(f"{x:.1f} {height(dot.value):.1f}" for x, dot in placed)
    if line:
        parts.append(f'<path d="M{line}" stroke="rgb{_RIGHT}" fill="none" stroke-width="1.5"/>')
    for x, dot in placed:
        if dot.low is not None and dot.high is not None:
            ends = f"M{x:.1f} {height(dot.low):.1f}L{x:.1f} {height(dot.high):.1f}"
            parts.append(f'<path d="{ends}" stroke="rgb{_RIGHT}" opacity=".45" stroke-width="3"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{height(dot.value):.1f}" r="3.5" fill="rgb{_RIGHT}"/>')
        parts.append(_text(x, top + side + 16, dot.name, anchor="middle", size=10))
    for value in sorted({lowest, highest}):
        parts.append(_text(left - 6, height(value) + 4, f"{value:.4g}", anchor="end"))
    return f"{_image(title, left + width + 12, top + side + 28, parts)}\n\nBars: 95 % intervals."


def _square(x: int, y: int, count: int, total: int, *, right: bool) -> str:
    share = 0.12 + 0.88 * count / total
    red, green, blue = (round(255 - share * (255 - c)) for c in (_RIGHT if right else _WRONG))
    ink = "#fff" if share > 0.55 else _INK
    box = f'<rect x="{x}" y="{y}" width="{_CELL}" height="{_CELL}" fill="rgb({red},{green},{blue})"/>'
    return box + _text(x + _CELL / 2, y + 17, str(count), anchor="middle", size=9, colour=ink)


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", size: int = 11, turn: int = 0, colour: str = _INK
) -> str:
    drawable = "".join(c if c.isprintable() else "·" for c in words)  # XML takes no control characters
    where = f' transform="rotate({turn} {x:g} {y:g})"' if turn else ""
    style = f'font-size="{size}" text-anchor="{anchor}" fill="{colour}"{where}'
    return f'<text x="{x:g}" y="{y:g}" {style}>{escape(drawable)}</text>'


def _image(title: str, width: float, height: float, parts: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" font-family="sans-serif">'
    paper = f'<rect width="{width:g}" height="{height:g}" fill="#fff"/>'
    data = base64.b64encode(f"{head}{paper}{''.join(parts)}</svg>".encode()).decode()
    return f"![{title}](data:image/svg+xml;base64,{data})"


def _short(name: str) -> str:
    return name if len(name) <= 26 else f"{name[:25]}…"
