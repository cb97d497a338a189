"""Where a row of the corpus keeps its parts: JSON pointers, templates and the parts they yield."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.config import RowFields

Steps = tuple[str, ...]
MAX_ID = 200
_ABSENT: Any = object()
"""Stands where a pointer leads nowhere: null is a value."""

_blake2b = hashlib.blake2b
SOURCES_OF_LABELS = ("gold", "reviewed", "outcome")
"""Where a given label may come from; `outcome`: what became of the turn names or confirms it."""


class RowError(ValueError):
    """Why one row cannot be used: what, where (`path`, a JSON path or pointer), what was expected."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(f"{message} at {path}" if path else message)


class Parts(NamedTuple):
    """A row of the corpus, taken apart. `keys` are hashes of its group values."""

    id: str | None
    input: Json
    labels: dict[str, Json]
    label_source: str
    keys: tuple[int, ...]


def hash64(data: bytes) -> int:
    """The first eight bytes of blake2b as an unsigned integer: equal on every machine."""
    return int.from_bytes(_blake2b(data, digest_size=8).digest(), "little")


def steps(pointer: str) -> Steps:
    """The unescaped reference tokens of a JSON pointer (RFC 6901); "" gives none."""
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])


def values_at(value: Json, path: Sequence[str]) -> list[Json]:
    """All values at a pointer; `*` stands for each item. Empty when nothing is there."""
    for position, step in enumerate(path):
        if isinstance(value, dict):
            if step in value:
                value = value[step]
                continue
            items = [value[key] for key in sorted(value)]
        elif isinstance(value, list):
            if step.isdecimal() and int(step) < len(value):
                value = value[int(step)]
                continue
            items = value
        else:
            return []
        if step != "*":
            return []
        return [leaf for item in items for leaf in values_at(item, path[position + 1 :])]
    return [value]


class _Place:
    """A pointer into rows, which are objects."""

    def __init__(self, pointer: str) -> None:
        self.pointer = pointer
        self._path = steps(pointer)
        self._many = "*" in self._path
        self._key = self._path[0] if len(self._path) == 1 and not self._many else None

    def all(self, row: dict[str, Json]) -> list[Json]:
        """Every value there."""
        if self._key is not None:
            return [row[self._key]] if self._key in row else []
        return values_at(row, self._path)

    def get(self, row: dict[str, Json]) -> Json:
        """What is there (`*`: a list of it), or _ABSENT."""
        if self._key is not None:
            return row.get(self._key, _ABSENT)
        found = values_at(row, self._path)
        if not found:
            return _ABSENT
        return found if self._many else found[0]


class RowShape:
    """Takes rows apart as `data.fields` and `data.split.group_by` say."""

    def __init__(self, fields: RowFields, group_by: Sequence[str]) -> None:
        self._id = _place(fields.id)
        self._source = _place(fields.label_source)
        self._input = _places(fields.input)
        self._labels = _places(fields.labels)
        self._keys = [(f"{pointer}\0".encode(), _Place(pointer)) for pointer in group_by]

    def take(self, row: Json) -> Parts:
        """The parts of one row. Errors: RowError names the pointer where something is missing."""
        if not isinstance(row, dict):
            raise RowError(f"found {_kind(row)}, expected an object", "$")
        found = _build(row, self._input)
        if found is _ABSENT:
            raise RowError("no input", _names(self._input))
        labels = _build(row, self._labels)
        given: dict[str, Json] = {}
        if labels is not _ABSENT:
            if not isinstance(labels, dict):
                raise RowError(f"found {_kind(labels)}, expected role: output", _names(self._labels))
            given = {role: label for role, label in labels.items() if label is not None}
        return Parts(self._row_id(row), found, given, self._label_source(row, given), self._groups(row))

    def _row_id(self, row: Json) -> str | None:
        found = self._id.get(row) if self._id else None
        if found is None or found is _ABSENT:
            return None
        if isinstance(found, bool) or not isinstance(found, str | int):
            raise RowError(f"id is {_kind(found)}, expected a string or an integer", _names(self._id))
        name = str(found)
        if not 0 < len(name) <= MAX_ID:
            raise RowError(f"id has {len(name)} characters, expected 1 to {MAX_ID}", _names(self._id))
        return name

    def _label_source(self, row: Json, labels: dict[str, Json]) -> str:
        if not labels:
            return ""
        found = self._source.get(row) if self._source else None
        if found is None or found is _ABSENT:
            return "gold"
        if found not in SOURCES_OF_LABELS:
            shown = canonical.text(found)[:60]
            raise RowError(f"label source is {shown}, expected {', '.join(SOURCES_OF_LABELS)}", _names(self._source))
        return str(found)

    def _groups(self, row: Json) -> tuple[int, ...]:
        found = []
        for prefix, place in self._keys:
            for value in place.all(row):
                if value is not None:
                    found.append(hash64(prefix + canonical.dumps(value)))
        return tuple(found)


def _place(pointer: str | None) -> _Place | None:
    return None if pointer is None else _Place(pointer)


def _places(template: Any) -> Any:
    """A template with its pointers parsed: a string that starts with "/" (or a bare "") is a pointer."""
    if isinstance(template, str):
        return _Place(template)
    if isinstance(template, dict):
        return {key: _inner(value) for key, value in template.items()}
    return template


def _inner(template: Any) -> Any:
    if isinstance(template, str) and template.startswith("/"):
        return _Place(template)
    if isinstance(template, dict):
        return {key: _inner(value) for key, value in template.items()}
    if isinstance(template, list):
        return [_inner(value) for value in template]
    return template


def _build(row: Json, template: Any) -> Json:
    """The template filled from a row, or _ABSENT when none of its pointers is there."""
    if isinstance(template, _Place):
        return template.get(row)
    if isinstance(template, dict):
        parts = {key: _build(row, value) for key, value in template.items()}
        filled = {key: part for key, part in parts.items() if part is not _ABSENT}
        pointed = any(_has_place(template[key]) for key in filled)
        return filled if pointed or not _has_place(template) else _ABSENT
    if isinstance(template, list):
        parts_of = [(_build(row, value), value) for value in template]
        items = [item for item, _ in parts_of if item is not _ABSENT]
        pointed = any(item is not _ABSENT and _has_place(value) for item, value in parts_of)
        return items if pointed or not _has_place(template) else _ABSENT
    return template


def _has_place(template: Any) -> bool:
    if isinstance(template, dict):
        return any(_has_place(value) for value in template.values())
    if isinstance(template, list):
        return any(_has_place(value) for value in template)
    return isinstance(template, _Place)


def _names(template: Any) -> str:
    if isinstance(template, _Place):
        return template.pointer or "the whole row"
    if isinstance(template, dict):
        return ", ".join(_names(value) for value in template.values() if _has_place(value))
    return ""


def _kind(value: Json) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
