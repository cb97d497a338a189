"""What the labels show of places that a contract leaves open: which types, keys, lengths, decimals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from slm_assets import canonical
from slm_assets.canonical import Json

_LISTS = 64


@dataclass
class Seen:
    """One place (an RFC 6901 pointer in which `*` is each item): how often, and what stood there."""

    types: dict[str, int] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    longest: int = 0
    most: int = 0
    decimals: int = 0
    lists: dict[str, Json] = field(default_factory=dict)


Observed = dict[str, Seen]


def observe(outputs: Iterable[Json]) -> Observed:
    """What stood where in some outputs."""
    found: Observed = {}
    for output in outputs:
        _look(output, "", found)
    return found


def step(key: str) -> str:
    """A key as a pointer has it."""
    return "/" + key.replace("~", "~0").replace("/", "~1")


def _look(value: Json, at: str, found: Observed) -> None:
    seen = found.setdefault(at, Seen())
    kind = type_of(value)
    seen.types[kind] = seen.types.get(kind, 0) + 1
    if isinstance(value, str):
        seen.longest = max(seen.longest, len(value))
    elif isinstance(value, float):
        written = canonical.text(value)
        seen.decimals = max(seen.decimals, len(written.partition(".")[2]) if "e" not in written else 0)
    elif isinstance(value, list):
        seen.most = max(seen.most, len(value))
        if len(seen.lists) < _LISTS:
            seen.lists.setdefault(canonical.text(value), value)
        for item in value:
            _look(item, f"{at}/*", found)
    elif isinstance(value, dict):
        for key, child in value.items():
            seen.keys[key] = seen.keys.get(key, 0) + 1
            _look(child, at + step(key), found)


def type_of(value: Json) -> str:
    """JSON Schema's name of a value's type; a whole number is an integer."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    kinds = ((float, "number"), (str, "string"), (list, "array"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "object")
