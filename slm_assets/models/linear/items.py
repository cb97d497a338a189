"""Arrays of flat objects that a text lists: which pieces of it make one item.

Either each item has a line of the text, or a new item starts where one of its fields comes again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from slm_assets.canonical import Json
from slm_assets.models.linear.align import Occurrence, Place, align
from slm_assets.models.linear.context import forms
from slm_assets.models.linear.laid import align_laid
from slm_assets.models.linear.paths import Path
from slm_assets.models.linear.spans import Document, Label

LAID_OUT: Final = 0.8
_LENGTHS: Final = 3
_LEAST: Final = 10
_LIKELY: Final = 0.5

Row = list[dict[str, Json]]


@dataclass(frozen=True)
class Items:
    """How an array is read. `fields`: field → name of its label; `constants`: fields that never vary;
    `nulls`: fields that are null where the text has none (others are left out); `always`: fields without
    which there is no item; `by_line`: an item has a line, else it ends where a field comes again."""

    name: str
    fields: dict[str, str]
    constants: dict[str, Json]
    nulls: tuple[str, ...]
    always: tuple[str, ...]
    by_line: bool

    def to_json(self) -> Json:
        """A list that `from_json` reads."""
        return [self.name, self.fields, self.constants, list(self.nulls), list(self.always), self.by_line]

    @classmethod
    def from_json(cls, value: Json) -> Items:
        """The inverse of `to_json`."""
        name, fields, constants, nulls, always, by_line = value
        return cls(name, fields, constants, tuple(nulls), tuple(always), by_line)

    def read(self, pieces: Sequence[tuple[int, str, Any, float]]) -> list[tuple[dict[str, Any], dict[str, int]]]:
        """The items of some pieces in the order of the text, each (line, field, value, chance): the item, and which
        piece each field is. What is likelier than not makes items; what one of them lacks is the likeliest of the
        other pieces between its neighbours."""
        groups: list[dict[str, int]] = []
        line = -1
        for k, (at, name, _, chance) in enumerate(pieces):
            if chance <= _LIKELY:
                continue
            if not groups or name in groups[-1] or (self.by_line and at != line):
                groups.append({})
            groups[-1][name] = k
            line = at
        self._complete(groups, pieces)
        out = []
        for group in groups:
            if all(name in group for name in self.always):
                item = {name: pieces[k][2] for name, k in group.items()}
                item |= {name: None for name in self.nulls if name not in group}
                out.append(({**item, **self.constants}, group))
        return out

    def _complete(self, groups: Sequence[dict[str, int]], pieces: Sequence[tuple[int, str, Any, float]]) -> None:
        ends = [-1, *(max(group.values()) for group in groups)]
        starts = [*(min(group.values()) for group in groups), len(pieces)]
        for n, group in enumerate(groups):
            for name in self.always:
                if name not in group:
                    near = [
                        k
                        for k in range(ends[n] + 1, starts[n + 1])
                        if pieces[k][1] == name and k not in group.values() and pieces[k][3] <= _LIKELY
                        and (not self.by_line or pieces[k][0] == pieces[starts[n]][0])
                    ]  # fmt: skip
                    if near:
                        group[name] = max(near, key=lambda k: (pieces[k][3], -k))


@dataclass
class Listed:
    """What training finds of an array: how it is read, the rows where that yields it, its labels with where
    their values stand."""

    items: Items
    rows: set[int]
    labels: list[tuple[Label, list[Occurrence]]] = field(default_factory=list)


def learn_items(
    docs: Sequence[Sequence[Document]],
    name: str,
    arrays: Sequence[tuple[int, Path, Json]],
    forms: Mapping[str, str | None],
    months: Mapping[str, int],
    *,
    laid_out: bool = False,
) -> Listed | None:
    """How the arrays (row, path, value) are read from the texts of their rows, or None: where they are no flat
    objects, of few lengths, or less than LAID_OUT of them are made of pieces of the text."""
    rows = [(row, path, value) for row, path, value in arrays if isinstance(value, list) and docs[row]]
    items = [item for _, _, value in rows for item in value]
    flat = all(isinstance(item, dict) and not any(isinstance(v, (dict, list)) for v in item.values()) for item in items)
    filled = [row for row in rows if row[2]]
    if not flat or len(filled) < _LEAST or len({len(value) for _, _, value in arrays}) < _LENGTHS:
        return None
    constants: dict[str, Json] = {}
    wanted: dict[str, list[Occurrence]] = {}
    for key in sorted({key for item in items for key in item}):
        occurrences = [
            Occurrence(row, (*path, k, key), item[key])
            for row, path, value in filled
            for k, item in enumerate(value)
            if item.get(key) is not None
        ]
        if len({str(item.get(key)) for item in items}) == 1 and occurrences:
            constants[key] = occurrences[0].value
        elif occurrences:
            wanted[key] = occurrences
    labels = _pieces(docs, name, wanted, forms, months) if laid_out else {}
    if not labels:
        for key, occurrences in wanted.items():
            label = align(docs, occurrences, f"{name}/*/{key}", lookup=False, form=forms.get(key), months=months)
            if label.casts:
                labels[key] = label
    if any(label.scanner for label in labels.values()):
        _likely_places(docs, labels, wanted)
    places = {(o.row, int(o.path[-2]), key): o.places for key in labels for o in wanted[key]}
    if not labels:
        return None
    chosen, by_line = _layouts(docs, filled, labels, places, laid_out=any(label.scanner for label in labels.values()))
    if len(chosen) < max(_LEAST, LAID_OUT * len(filled)):
        return None
    found: dict[str, list[Occurrence]] = {key: [] for key in labels}
    for row, path, value in filled:
        for (k, key), place in chosen.get(row, {}).items():
            found[key].append(Occurrence(row, (*path, k, key), value[k][key], [place]))
    listed = Items(
        name=name,
        fields={key: label.name for key, label in labels.items()},
        constants=constants,
        nulls=tuple(key for key in labels if any(key in item and item[key] is None for item in items)),
        always=tuple(key for key in labels if all(item.get(key) is not None for item in items)),
        by_line=by_line,
    )
    laid = {row for row, _, value in rows if not value or row in chosen}
    return Listed(listed, laid, [(labels[key], found[key]) for key in labels])


def _pieces(
    docs: Sequence[Sequence[Document]],
    name: str,
    wanted: Mapping[str, Sequence[Occurrence]],
    forms: Mapping[str, str | None],
    months: Mapping[str, int],
) -> dict[str, Label]:
    """The labels of all fields, where each is read from pieces of laid-out texts; else none."""
    labels = {}
    for key, occurrences in wanted.items():
        label = align_laid(docs, occurrences, f"{name}/*/{key}", forms.get(key), months)
        if label is None:
            return {}
        labels[key] = label
    return labels


def _likely_places(
    docs: Sequence[Sequence[Document]], labels: Mapping[str, Label], wanted: Mapping[str, Sequence[Occurrence]]
) -> None:
    """Keep of several places of a value those that are written as the field's values are where there is no choice:
    a rate of 0 is not the tax of 0.00 beside it."""

    def written(occurrence: Occurrence, key: str) -> list[str]:
        pages = docs[occurrence.row]
        return [forms(pages[d].page, [(i, j)], labels[key].scanner)[0] for d, i, j in occurrence.places]

    votes: dict[str, Counter[str]] = {key: Counter() for key in labels}
    for key in labels:
        for occurrence in wanted[key]:
            if len(occurrence.places) == 1:
                votes[key].update(written(occurrence, key))
    for key in labels:
        for occurrence in wanted[key]:
            if len(occurrence.places) > 1:
                own = written(occurrence, key)
                shares = [(votes[key][w] + 0.5) / (sum(votes[k][w] for k in labels) + 1) for w in own]
                least = 0.5 * max(shares)
                kept = [place for place, share in zip(occurrence.places, shares, strict=True) if share >= least]
                occurrence.places = kept


Layout = dict[tuple[int, str], Place]


def _layouts(
    docs: Sequence[Sequence[Document]],
    filled: Sequence[tuple[int, Path, Json]],
    labels: Mapping[str, Label],
    places: Mapping[tuple[int, int, str], list[Place]],
    *,
    laid_out: bool,
) -> tuple[dict[int, Layout], bool]:
    """The rows that can be laid out, by lines or by order, whichever does more of them."""
    both: list[dict[int, Layout]] = []
    for by_line in (True, False):
        chosen = {}
        for row, _, value in filled:
            wanted = [
                {key: places.get((row, k, key), []) for key in labels if item.get(key) is not None}
                for k, item in enumerate(value)
            ]
            empty = not all(wanted)  # an item of which the text says nothing
            layout = None if empty else _by_line(docs[row], wanted, laid_out=laid_out) if by_line else _by_order(wanted)
            if layout is not None:
                chosen[row] = layout
        both.append(chosen)
    lines, order = both
    return (lines, True) if len(lines) >= 0.9 * len(order) else (order, False)  # a line is the better evidence


def _by_line(docs: Sequence[Document], wanted: Sequence[Mapping[str, list[Place]]], *, laid_out: bool) -> Layout | None:
    layout: Layout = {}
    after = (-1, -1)
    for k, fields in enumerate(wanted):
        by_line: dict[tuple[int, int], dict[str, list[Place]]] = {}
        for key, spots in fields.items():
            for place in spots:
                document = docs[place[0]]
                line = document.page.cell_at(place[1]).line if laid_out else document.line_of[place[1]]
                at = (place[0], line)
                by_line.setdefault(at, {}).setdefault(key, []).append(place)
        for at in sorted(at for at in by_line if at > after):
            taken = _apart(by_line[at]) if len(by_line[at]) == len(fields) else None
            if taken is not None:
                layout |= {(k, key): place for key, place in taken.items()}
                after = at
                break
        else:
            return None
    return layout


def _by_order(wanted: Sequence[Mapping[str, list[Place]]]) -> Layout | None:
    layout: Layout = {}
    after: tuple[int, int] = (-1, -1)
    for k, fields in enumerate(wanted):
        left = {key: [p for p in spots if (p[0], p[1]) > after] for key, spots in fields.items()}
        taken = _together(left) if all(left.values()) else None
        if taken is None:
            return None
        layout |= {(k, key): place for key, place in taken.items()}
        after = max((d, j) for d, _, j in taken.values())
    return layout


def _together(fields: Mapping[str, list[Place]]) -> dict[str, Place] | None:
    """One place for each field, as near to each other as can be: around each place of the rarest field the
    others take their nearest."""
    rarest = min(fields, key=lambda key: (len(fields[key]), key))
    best: tuple[int, dict[str, Place]] | None = None
    for d, i, j in fields[rarest]:
        near = {
            key: sorted((p for p in spots if p[0] == d), key=lambda p: (abs(p[1] - i), p))
            for key, spots in fields.items()
        }
        near[rarest] = [(d, i, j)]
        taken = _apart(near)
        if taken is None:
            continue
        extent = max(last for _, _, last in taken.values()) - min(first for _, first, _ in taken.values())
        if best is None or extent < best[0]:
            best = (extent, taken)
    return None if best is None else best[1]


def _apart(fields: Mapping[str, list[Place]]) -> dict[str, Place] | None:
    """One place for each field, the first that is free; fields of the fewest places choose first."""
    used: set[tuple[int, int]] = set()
    taken: dict[str, Place] = {}
    for key in sorted(fields, key=lambda key: (len(fields[key]), key)):
        for d, i, j in fields[key]:
            spot = {(d, t) for t in range(i, j + 1)}
            if not used & spot:
                used |= spot
                taken[key] = (d, i, j)
                break
        else:
            return None
    return taken
