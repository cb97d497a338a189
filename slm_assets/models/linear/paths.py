"""Places inside a JSON value: paths, reading, writing, walking."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import orjson

from slm_assets.canonical import Json

Path = tuple[str | int, ...]

MAX_DEPTH: Final = 24
MAX_NODES: Final = 4_000


class _Absent:
    """The value of a place that does not exist (JSON null exists)."""

    def __repr__(self) -> str:
        return "ABSENT"

    def __bool__(self) -> bool:
        return False


ABSENT: Final = _Absent()


def get(value: Json, path: Path) -> Any:
    """The value at `path`, or ABSENT."""
    for step in path:
        if isinstance(value, dict):
            if step not in value:
                return ABSENT
            value = value[step]
        elif isinstance(value, list):
            if not isinstance(step, int) or step >= len(value):
                return ABSENT
            value = value[step]
        else:
            return ABSENT
    return value


def _escaped(step: str | int) -> str:
    return str(step).replace("~", "~0").replace("/", "~1")


@lru_cache(4_096)
def pointer(path: Path) -> str:
    """RFC 6901 pointer of a path."""
    return "".join("/" + _escaped(step) for step in path)


def general(path: Path) -> str:
    """The pointer with `*` for every array index: the name that items of one array share."""
    return "".join("/*" if isinstance(step, int) else "/" + _escaped(step) for step in path)


def walk(value: Json, start: Path = ()) -> Iterator[tuple[Path, Json]]:
    """Every node, parents before children, keys sorted; bounded in depth and number."""
    stack: list[tuple[Path, Json]] = [(start, value)]
    for _ in range(MAX_NODES):
        if not stack:
            return
        path, node = stack.pop()
        yield path, node
        if len(path) >= MAX_DEPTH:
            continue
        if isinstance(node, dict):
            stack.extend(((*path, key), node[key]) for key in sorted(node, reverse=True))
        elif isinstance(node, list):
            stack.extend(((*path, i), node[i]) for i in range(min(len(node), MAX_NODES) - 1, -1, -1))


def text_of(value: Json) -> str | None:
    """Canonical text of a value, or None where it has none (an integer past 64 bits, a lone surrogate)."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except (TypeError, ValueError):
        return None
