"""Canonical JSON and digests: one byte form for equal content, on every machine.

Objects are written with sorted keys, without white space, floats in their shortest round-trip form
(orjson). Files are JSON Lines of such objects.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

Json = Any
"""A JSON value: None, bool, int, float, str, list or dict with string keys."""

_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY
CHUNK = 1 << 20


def dumps(value: Json) -> bytes:
    """Canonical bytes of a JSON value, without a final newline."""
    return orjson.dumps(value, option=_OPTIONS)


def text(value: Json) -> str:
    """Canonical JSON as text: the key under which equal values are equal."""
    return dumps(value).decode()


def digest(value: Json) -> str:
    """sha256 (hex) of a JSON value's canonical bytes."""
    return hashlib.sha256(dumps(value)).hexdigest()


def digest_bytes(data: bytes) -> str:
    """sha256 (hex) of bytes."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """sha256 (hex) of a file, read in chunks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically: beside, fsynced, renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: Json) -> None:
    """Write one canonical JSON value and a newline, atomically."""
    write_bytes(path, dumps(value) + b"\n")


def read_json(path: Path) -> Json:
    """Read one JSON value."""
    return orjson.loads(path.read_bytes())


def write_jsonl(path: Path, rows: Iterable[Json]) -> int:
    """Stream rows to a canonical JSON Lines file, atomically; returns the number of rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    count = 0
    try:
        with beside.open("wb") as handle:
            for row in rows:
                handle.write(orjson.dumps(row, option=_OPTIONS | orjson.OPT_APPEND_NEWLINE))
                count += 1
            handle.flush()
            os.fsync(handle.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return count


def read_jsonl(path: Path) -> Iterator[Json]:
    """Stream the rows of a JSON Lines file that this project wrote."""
    with path.open("rb") as handle:
        for line in handle:
            if line.strip():
                yield orjson.loads(line)
