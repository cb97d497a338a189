"""Sources: ways to compute a value of the output from the input or from what was decoded before it.

A source is tried on all training rows at once: its column holds, per row, the code of the value that it
yields (equal codes = equal canonical JSON), −1 where it yields none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from slm_assets.canonical import Json
from slm_assets.models.linear.paths import ABSENT, Path, get, text_of, walk

Codes = NDArray[np.int32]

_SEPARATORS: Final = ":/_-|@#=,;."
_MAX_COLUMNS: Final = 4_000
_MAX_PART: Final = 80
_INT = re.compile(r"-?\d{1,15}")
_FLOAT = re.compile(r"-?\d{1,15}\.\d{1,9}")


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """One way. `kind`: in (the input), out (the output decoded so far), map (each item of an input array),
    items (an array that a text lists), table and otable (a learned table from a scalar of the input, or of
    the output so far), text (a span; `path` is empty, the tagger knows where), const.

    `part` of a string: "<separator><side>" with side a (before the first), b (after the first), c (before
    the last), d (after the last); `cast`: int, float, str, lower, upper, or the convention by which a text
    is read; `extra`: canonical JSON of a constant, of a map's template, or of a table {canonical key: value};
    the name of a label or of an array.
    """

    kind: str
    path: Path = ()
    part: str = ""
    cast: str = ""
    extra: str = ""

    def to_json(self) -> Json:
        """A list that `from_json` reads."""
        return [self.kind, list(self.path), self.part, self.cast, self.extra]

    @classmethod
    def from_json(cls, value: Json) -> Source:
        """The inverse of `to_json`."""
        kind, path, part, cast, extra = value
        return cls(kind, tuple(path), part, cast, extra)


def resolve(source: Source, value: Json, decoded: Json) -> Any:
    """What the source yields on an input and the output decoded so far, or ABSENT. Not for kind text."""
    if source.kind == "const":
        return orjson.loads(source.extra)
    found = get(decoded if source.kind[0] == "o" else value, source.path)
    if found is ABSENT:
        return ABSENT
    if source.kind in ("table", "otable"):
        known = _read_table(source.extra).get(text_of(found))
        return ABSENT if known is None else orjson.loads(known)
    if source.kind == "map":
        return apply_map(orjson.loads(source.extra), found)
    if source.part:
        found = take_part(found, source.part)
    return apply_cast(found, source.cast) if source.cast else found


@lru_cache(4096)
def _read_table(extra: str) -> dict[str | None, bytes]:
    return {key: orjson.dumps(value) for key, value in orjson.loads(extra).items()}


def take_part(value: Any, part: str) -> Any:
    """A piece of a string before or after a separator, or ABSENT."""
    if not isinstance(value, str) or part[0] not in value:
        return ABSENT
    separator, side = part[0], part[1]
    head, _, tail = value.partition(separator) if side in "ab" else value.rpartition(separator)
    return (head if side in "ac" else tail) or ABSENT


def apply_cast(value: Any, cast: str) -> Any:
    """The value in another type or case, or ABSENT."""
    if cast == "str":
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return str(value) if number else ABSENT
    if not isinstance(value, str):
        return ABSENT
    if cast == "int":
        return int(value) if _INT.fullmatch(value) else ABSENT
    if cast == "float":
        return float(value) if _FLOAT.fullmatch(value) else ABSENT
    return value.lower() if cast == "lower" else value.upper()


def apply_map(template: Json, items: Any) -> Any:
    """Each item of an array through a template: "" the item, "k" its key k, {…: "k"} an object of keys."""
    if not isinstance(items, list):
        return ABSENT
    out = []
    for item in items:
        made = _mapped(template, item)
        if made is ABSENT:
            return ABSENT
        out.append(made)
    return out


def _mapped(template: Json, item: Json) -> Any:
    if isinstance(template, str):
        if not template:
            return item
        return item.get(template, ABSENT) if isinstance(item, dict) else ABSENT
    made = {}
    for name, rule in template.items():
        value = rule["const"] if isinstance(rule, dict) else _mapped(rule, item)
        if value is ABSENT:
            return ABSENT
        made[name] = value
    return made


def learn_map(pairs: Sequence[tuple[list[Json], list[Json]]]) -> Json | None:
    """The template that turns each input array into its output array in the first pairs, or None."""
    items = [
        (a, b)
        for source, target in pairs[:40]
        if len(source) == len(target)
        for a, b in zip(source, target, strict=True)
    ][:200]
    if not items:
        return None
    if not all(isinstance(b, dict) for _, b in items):
        return _rule(items)
    names = sorted(items[0][1])
    if not names or any(sorted(b) != names for _, b in items):
        return None
    template: dict[str, Json] = {}
    for name in names:
        column = [(a, b[name]) for a, b in items]
        rule: Json = _rule(column)
        if rule is None:
            texts = {text_of(b) for _, b in column}
            if len(texts) > 1:
                return None
            rule = {"const": column[0][1]}
        template[name] = rule
    return template


def _rule(items: Sequence[tuple[Json, Json]]) -> str | None:
    if all(text_of(a) == text_of(b) for a, b in items):
        return ""
    first = items[0][0]
    for key in sorted(first) if isinstance(first, dict) else []:
        if key and all(isinstance(a, dict) and key in a and text_of(a[key]) == text_of(b) for a, b in items):
            return str(key)
    return None


def learn_table(keys: Codes, values: Codes) -> tuple[float, dict[int, int]]:
    """The table from codes to codes (−1: no key) that the rows follow, and the share of rows that the other
    rows alone foretell. Empty where it does not carry over: under 60 % foretold, a key with several values
    in more than 3 % of the rows, or one constant."""
    have = keys >= 0
    total = int(have.sum())
    pairs, counts = np.unique(np.stack([keys[have], values[have]]), axis=1, return_counts=True)
    best: dict[int, tuple[int, int]] = {}
    for (key, value), n in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        if n > best.get(key, (0, 0))[0]:
            best[key] = (n, value)
    foretold = sum(n for n, _ in best.values() if n > 1)
    followed = sum(n for n, _ in best.values())
    table = {key: value for key, (_, value) in best.items()}
    if foretold < 0.6 * total or followed < 0.97 * total or len(set(table.values())) < 2:
        return 0.0, {}
    return foretold / len(keys), table


class Interner:
    """Canonical texts ↔ small integers."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self.texts: list[str] = []

    def code(self, value: Any) -> int:
        """The code of a value; −1 for ABSENT and for what has no canonical text."""
        text = None if value is ABSENT else text_of(value)
        if text is None:
            return -1
        known = self._codes.get(text)
        if known is None:
            known = self._codes[text] = len(self.texts)
            self.texts.append(text)
        return known

    def value(self, code: int) -> Json:
        """The value of a code."""
        return orjson.loads(self.texts[code])


Step = tuple[str, str]
"""A part and a cast, each "" for none."""


def derived(node: Json) -> Iterator[tuple[Step, Any]]:
    """What can be made of a scalar: its parts around separators and its casts."""
    if isinstance(node, str) and 0 < len(node) <= _MAX_PART:
        yield from _casts("", node)
        for separator in _SEPARATORS:
            count = node.count(separator)
            for side in ("abcd" if count > 1 else "ab") if count else "":
                piece = take_part(node, separator + side)
                if piece is not ABSENT:
                    yield (separator + side, ""), piece
                    yield from _casts(separator + side, piece)
    elif isinstance(node, (int, float)) and not isinstance(node, bool):
        yield ("", "str"), str(node)


def _casts(part: str, text: str) -> Iterator[tuple[Step, Any]]:
    for cast in ("int",) if part else ("int", "float", "lower", "upper"):
        value = apply_cast(text, cast)
        if value is not ABSENT and value != text:
            yield (part, cast), value


def columns(kind: str, values: Sequence[Json], interner: Interner, prefix: Path = ()) -> dict[Source, Codes]:
    """The column of every source that starts inside the values; `prefix` is where they stand in the output.

    Rare sources (under 0.2 % of the rows, or past the first few thousand) are left out.
    """
    found: dict[Path, tuple[list[int], list[int]]] = {}
    for i, value in enumerate(values):
        if value is ABSENT:
            continue
        for path, node in walk(value, prefix):
            if isinstance(node, bool) or node is None:
                continue
            code = interner.code(node)
            if code >= 0:
                rows, codes = found.setdefault(path, ([], []))
                rows.append(i)
                codes.append(code)
    least = max(1, len(values) // 500)
    made: dict[int, list[tuple[Step, int]]] = {}
    scored: list[tuple[int, Source, Codes]] = []
    for path, (rows, codes) in found.items():
        if len(rows) < least:
            continue
        column = np.full(len(values), -1, np.int32)
        column[rows] = codes
        scored.append((len(rows), Source(kind, path), column))
        scored += [
            (int((new >= 0).sum()), Source(kind, path, *step), new) for step, new in _derive(column, made, interner)
        ]
    kept = sorted((item for item in scored if item[0] >= least), key=lambda item: (-item[0], _order(item[1])))
    return {source: column for _, source, column in kept[:_MAX_COLUMNS]}


def _derive(column: Codes, made: dict[int, list[tuple[Step, int]]], interner: Interner) -> Iterator[tuple[Step, Codes]]:
    """The columns derived from one; `made` remembers what each value yields."""
    distinct = np.unique(column[column >= 0]).tolist()
    tables: dict[Step, tuple[list[int], list[int]]] = {}
    for code in distinct:
        if code not in made:
            scalar = interner.texts[code][0] not in "{["
            made[code] = [(s, interner.code(v)) for s, v in derived(interner.value(code))] if scalar else []
        for step, value in made[code]:
            if value >= 0:
                keys, targets = tables.setdefault(step, ([], []))
                keys.append(code)
                targets.append(value)
    top = int(column.max()) + 2
    for step, (keys, targets) in tables.items():
        lookup = np.full(top, -1, np.int32)
        lookup[keys] = targets
        yield step, lookup[column]


def _order(source: Source) -> tuple[Any, ...]:
    """Simplest first: whole before part, no cast before cast, short paths, then by name."""
    path = tuple(str(step) for step in source.path)
    return (
        source.kind not in ("out", "otable"),
        source.kind.endswith("table"),
        bool(source.part),
        bool(source.cast),
        len(path),
        path,
        source.part,
        source.cast,
        source.extra,
    )


def rank(source: Source) -> tuple[Any, ...]:
    """Order among equally good sources."""
    return _order(source)
