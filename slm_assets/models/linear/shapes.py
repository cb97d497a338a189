"""The output without its holes: units (places decided as one), their shapes, and factors (units decided together)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.models.linear.holes import Corpus
from slm_assets.models.linear.paths import ABSENT, MAX_DEPTH, Path, general, get

MERGE: Final = 1.25
_MAX_ITEMS: Final = 12
_MAX_SIBLINGS: Final = 40
_MAX_KEYS: Final = 400

Codes = NDArray[np.int64]

ABSENT_SHAPE: Final = ""
PRESENT: Final = "+"


@dataclass(frozen=True)
class Unit:
    """A place of the output with its own classes. `parent`: index of the unit that holds it, −1 for none;
    it is decided only where the parent made a container. `member`: canonical JSON of the item whose
    presence in the array at `path` this unit decides, "" for none."""

    path: Path
    parent: int = -1
    member: str = ""


@dataclass(frozen=True)
class Shape:
    """A class of a unit: the value with null at its holes, and the holes' paths below the unit."""

    tree: Json
    holes: tuple[Path, ...]


@dataclass
class Layout:
    """How outputs are taken apart. `units` stand in the order in which they are filled."""

    units: list[Unit]
    factors: list[list[int]]
    cuts: set[Path]
    sets: set[Path]


def shape_key(value: Any, path: Path, holes: set[str], layout: Layout) -> str:
    """Canonical text of the shape of a unit's value, ABSENT_SHAPE where there is none."""
    if value is ABSENT:
        return ABSENT_SHAPE
    found: list[list[str | int]] = []
    tree = _tree(value, path, (), holes, layout, found)
    return canonical.text([tree, found])


def read_shape(key: str) -> Shape | None:
    """The shape behind a key, None for absence."""
    if key in (ABSENT_SHAPE, PRESENT):
        return None
    tree, holes = orjson.loads(key)
    return Shape(tree, tuple(tuple(path) for path in holes))


def _tree(value: Json, start: Path, below: Path, holes: set[str], layout: Layout, found: list[list[str | int]]) -> Json:
    path = (*start, *below)
    if value is not None and general(path) in holes:
        found.append(list(below))
        return None
    if not isinstance(value, (dict, list)) or len(below) > MAX_DEPTH:
        return value
    whole = bool(below) or path not in layout.cuts
    if isinstance(value, dict):
        items = sorted(value.items()) if whole else []
        return {k: _tree(v, start, (*below, k), holes, layout, found) for k, v in items}
    if not below and path in layout.sets:
        return []
    if not whole:
        return [None] * len(value)
    return [_tree(v, start, (*below, i), holes, layout, found) for i, v in enumerate(value)]


def unit_rows(unit: Unit, outputs: Sequence[Json]) -> list[tuple[int, Any]]:
    """(row, value) of the rows in which the unit is decided; the value may be ABSENT."""
    out: list[tuple[int, Any]] = []
    for row, output in enumerate(outputs):
        if unit.member:
            array = get(output, unit.path)
            if isinstance(array, list):
                out.append((row, array))
            continue
        if not unit.path:
            out.append((row, output))
            continue
        holder = get(output, unit.path[:-1])
        step = unit.path[-1]
        if isinstance(step, str) and isinstance(holder, dict):
            out.append((row, holder.get(step, ABSENT)))
        elif isinstance(step, int) and isinstance(holder, list) and step < len(holder):
            out.append((row, holder[step]))
    return out


def unit_keys(unit: Unit, outputs: Sequence[Json], holes: set[str], layout: Layout) -> dict[int, str]:
    """Row → class key of the unit, in the rows in which it is decided."""
    if unit.member:
        return {
            row: PRESENT if unit.member in {canonical.text(item) for item in array} else ABSENT_SHAPE
            for row, array in unit_rows(unit, outputs)
        }
    return {row: shape_key(value, unit.path, holes, layout) for row, value in unit_rows(unit, outputs)}


def plan(corpus: Corpus, holes: set[str], textual: set[str], *, max_shapes: int) -> tuple[Layout, list[dict[int, str]]]:
    """Take the outputs apart: one unit a top key, split where the shapes are too many or too rare.

    `textual`: holes that only texts fill; a unit that is such a hole or absent is decided with others only
    where these leave no doubt about it. Returns the layout and, per unit, row → class key.
    """
    layout = Layout([], [], set(), set())
    keys: list[dict[int, str]] = []

    def add(unit: Unit) -> None:
        index = len(layout.units)
        layout.units.append(unit)
        keys.append({})
        whole = bool(unit.member) or general(unit.path) in holes
        above = bool(corpus.keys) and unit.path == corpus.base[: len(unit.path)]
        if above and not whole:
            layout.cuts.add(unit.path)
            names: list[str] = corpus.keys
            if len(unit.path) < len(corpus.base):
                names = [str(corpus.base[len(unit.path)])]
            keys[index] = unit_keys(unit, corpus.outputs, holes, layout)
            for name in names:
                add(Unit((*unit.path, name), index))
            return
        classes = unit_keys(unit, corpus.outputs, holes, layout)
        for child in _split(unit, index, classes, corpus, layout, textual, max_shapes) if not whole else []:
            add(child)
        keys[index] = (
            unit_keys(unit, corpus.outputs, holes, layout) if unit.path in layout.cuts | layout.sets else classes
        )

    add(Unit(()))
    alone = {u for u, unit in enumerate(layout.units) if not unit.member and general(unit.path) in textual}
    layout.factors = _merge(layout, keys, alone)
    return layout, keys


def _split(
    unit: Unit,
    index: int,
    classes: dict[int, str],
    corpus: Corpus,
    layout: Layout,
    textual: set[str],
    max_shapes: int,
) -> list[Unit]:
    """The children of a unit whose shapes explode, or differ by what texts hold; marks the unit as cut. Empty:
    leave it whole."""
    counts = Counter(classes.values())
    rare_below = 5 if len(classes) >= 500 else 2
    rare = sum(n for n in counts.values() if n < rare_below)
    if len(counts) <= 2 or len(unit.path) > MAX_DEPTH:
        return []
    values = [value for _, value in unit_rows(unit, corpus.outputs)]
    objects = [v for v in values if isinstance(v, dict)]
    arrays = [v for v in values if isinstance(v, list)]
    present = Counter(name for v in objects for name in v)
    told = sum(n < len(objects) and general((*unit.path, name)) in textual for name, n in present.items())
    if told < 2 and len(counts) <= max_shapes and rare <= 0.05 * len(classes):
        return []
    members = _members(arrays) if not objects else []
    if members:
        layout.sets.add(unit.path)
        return [Unit(unit.path, index, member) for member in members]
    steps = _steps(objects, arrays)
    if steps:
        layout.cuts.add(unit.path)
    return [Unit((*unit.path, step), index) for step in steps]


def _steps(objects: Sequence[dict[str, Json]], arrays: Sequence[list[Json]]) -> list[str | int]:
    """Keys or indices under which a container is decided apart; empty where it stays whole."""
    if objects and not arrays:
        names = sorted({name for value in objects for name in value})
        return list(names) if len(names) <= _MAX_KEYS else []
    longest = max((len(value) for value in arrays), default=0)
    deep = any(isinstance(item, (dict, list)) for value in arrays for item in value)
    return list(range(longest)) if deep and not objects and longest <= _MAX_ITEMS else []


def _members(arrays: Sequence[list[Json]]) -> list[str]:
    """The items of arrays that are sets of few scalars always in one order, in that order; else empty."""
    after: Counter[tuple[str, str]] = Counter()
    position: dict[str, list[int]] = {}
    for array in arrays:
        if any(isinstance(item, (dict, list)) for item in array):
            return []
        texts = [canonical.text(item) for item in array]
        if len(set(texts)) != len(texts):
            return []
        for i, text in enumerate(texts):
            position.setdefault(text, []).append(i)
            after.update((text, later) for later in texts[i + 1 :])
        if len(position) > 60:
            return []
    order = sorted(position, key=lambda t: (sum(a == t for a, _ in after) * -1, t))
    place = {text: i for i, text in enumerate(order)}
    wrong = sum(n for (a, b), n in after.items() if place[a] > place[b])
    return order if wrong <= 0.02 * max(1, sum(after.values())) else []


def _merge(layout: Layout, keys: Sequence[dict[int, str]], alone: set[int]) -> list[list[int]]:
    """Join siblings whose joint classes are hardly more than the larger one's (those `alone`: no more): they
    belong together."""
    by_parent: dict[tuple[int, bytes], list[tuple[list[int], Codes]]] = {}
    for i, unit in enumerate(layout.units):
        rows = np.asarray(sorted(keys[i]), np.int64)
        names = {key: code for code, key in enumerate(sorted(set(keys[i].values())))}
        codes = np.asarray([names[keys[i][row]] for row in rows.tolist()], np.int64)
        by_parent.setdefault((unit.parent, rows.tobytes()), []).append(([i], codes))
    out: list[list[int]] = []
    for siblings in by_parent.values():
        groups = siblings
        while 1 < len(groups) <= _MAX_SIBLINGS:
            best = _best_pair(groups, alone)
            if best is None:
                break
            a, b, joint = best
            merged = (sorted(groups[a][0] + groups[b][0]), joint)
            groups = sorted([*(g for i, g in enumerate(groups) if i not in (a, b)), merged], key=lambda g: g[0])
        out.extend(units for units, _ in groups)
    return sorted(out)


def _best_pair(groups: Sequence[tuple[list[int], Codes]], alone: set[int]) -> tuple[int, int, Codes] | None:
    best: tuple[float, int, int, Codes] | None = None
    sizes = [int(codes.max()) + 1 if len(codes) else 0 for _, codes in groups]
    for a in range(len(groups)):
        for b in range(a + 1, len(groups)):
            if min(sizes[a], sizes[b]) < 2:
                continue
            joint = np.unique(groups[a][1] * sizes[b] + groups[b][1], return_inverse=True)
            ratio = len(joint[0]) / max(sizes[a], sizes[b])
            limit = MERGE if alone.isdisjoint(groups[a][0]) and alone.isdisjoint(groups[b][0]) else 1.0
            if ratio <= limit and (best is None or (ratio, a, b) < best[:3]):
                best = (ratio, a, b, joint[1].astype(np.int64))
    return None if best is None else best[1:]
