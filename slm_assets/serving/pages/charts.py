"""Charts as SVG in the page itself: colours by CSS classes, so that they follow the page's theme."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

WIDTH, HEIGHT = 340, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 8, 22


class Point(NamedTuple):
    """A number at a named place, with its interval where it has one."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0


def line(title: str, points: Sequence[Point], reference: float | None = None) -> Markup:
    """A line with its band of intervals; `reference` is a dashed level, such as the promoted score."""
    drawn = [(index, point) for index, point in enumerate(points) if point.value is not None]
    bounds = [b for _, p in drawn for b in (p.value, p.low, p.high) if b is not None]
    bounds += [] if reference is None else [reference]
    scale = _Scale(bounds, len(points))
    parts = [_frame(scale)]
    if reference is not None:
        y = scale.y(reference)
        parts.append(f'<path class="ref" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
    band = [(scale.x(i), scale.y(p.low), scale.y(p.high)) for i, p in drawn if p.low is not None and p.high is not None]
    if len(band) > 1:
        there = "L".join(f"{x:.1f} {high:.1f}" for x, _, high in band)
        back = "L".join(f"{x:.1f} {low:.1f}" for x, low, _ in reversed(band))
        parts.append(f'<path class="band" d="M{there}L{back}Z"/>')
    if len(drawn) > 1:
        path = "L".join(f"{scale.x(i):.1f} {scale.y(p.value or 0.0):.1f}" for i, p in drawn)
        parts.append(f'<path class="line" d="M{path}"/>')
    parts += [_dot(scale, index, point) for index, point in drawn]
    return _svg(title, [*parts, _names([point.name for point in points], scale)])


def bars(title: str, points: Sequence[Point]) -> Markup:
    """Bars from zero."""
    scale = _Scale([0.0, *(point.value or 0.0 for point in points)], len(points))
    wide = max(2.0, 0.7 * scale.step)
    parts = [_frame(scale)]
    for index, point in enumerate(points):
        if point.value:
            x, y = scale.x(index) - wide / 2, scale.y(point.value)
            box = f'x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{scale.y(0.0) - y:.1f}"'
            parts.append(f'<rect class="bar" {box}>{_title(point)}</rect>')
    return _svg(title, [*parts, _names([point.name for point in points], scale)])


class _Scale:
    """From numbers to pixels."""

    def __init__(self, values: Sequence[float], count: int) -> None:
        low, high = min(values, default=0.0), max(values, default=1.0)
        room = (high - low) * 0.06 or abs(high) * 0.05 or 0.5
        self.low, self.high = (low if low == 0 else low - room), high + room
        self.step = (WIDTH - _LEFT - _RIGHT) / max(count, 1)

    def x(self, index: int) -> float:
        return _LEFT + self.step * (index + 0.5)

    def y(self, value: float) -> float:
        inner = HEIGHT - _TOP - _BOTTOM
        return _TOP + inner * (1 - (value - self.low) / (self.high - self.low))


def _frame(scale: _Scale) -> str:
    ticks = [scale.low, (scale.low + scale.high) / 2, scale.high]
    lines = "".join(f'<path class="grid" d="M{_LEFT} {scale.y(t):.1f}H{WIDTH - _RIGHT}"/>' for t in ticks)
    words = "".join(
        f'<text class="tick" x="{_LEFT - 5}" y="{scale.y(t) + 3:.1f}" text-anchor="end">{number(t)}</text>'
        for t in ticks
    )
    return lines + words


def _names(names: Sequence[str], scale: _Scale) -> str:
    every = max(1, -(-len(names) * 30 // (WIDTH - _LEFT - _RIGHT)))
    return "".join(
        _tick(scale.x(i), HEIGHT - 6, name, "middle")
        for i, name in enumerate(names)
        if (len(names) - 1 - i) % every == 0
    )


def _tick(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _dot(scale: _Scale, index: int, point: Point) -> str:
    where = f'cx="{scale.x(index):.1f}" cy="{scale.y(point.value or 0.0):.1f}" r="3"'
    return f'<circle class="dot" {where}>{_title(point)}</circle>'


def _title(point: Point) -> str:
    interval = "" if point.low is None or point.high is None else f" [{number(point.low)}, {number(point.high)}]"
    size = f", n {point.n:,}" if point.n else ""
    return f"<title>{escape(point.name)}: {number(point.value)}{interval}{size}</title>"


def _svg(title: str, parts: Sequence[str]) -> Markup:
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
    return Markup(f"{head}{''.join(parts)}</svg>")  # noqa: S704  (every word in it went through escape)


def number(value: float | None) -> str:
    """A number as a person reads it: 12,300 or .952, few digits."""
    if value is None:
        return "–"
    if value == 0 or abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
