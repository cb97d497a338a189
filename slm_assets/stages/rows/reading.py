"""Rows from files, one at a time: JSON Lines (plain or gzip) and Parquet, with limits on each row."""

from __future__ import annotations

import base64
import codecs
import datetime
import gzip
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.errors import BadInputError
from slm_assets.stages.rows.fields import RowError
from slm_assets.stages.rows.names import SOURCES

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
MAX_DEPTH = 64
HEAD = 200


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of the corpus and the part of the config that named it."""

    source: str
    name: str
    path: Path


class Line(NamedTuple):
    """One line as read: its 1-based number, its bytes, and the value or why there is none."""

    number: int
    raw: bytes
    value: Json
    error: str = ""


def source_files(folder: Path) -> list[SourceFile]:
    """The files below `<folder>/<source>/`, in reading order. Errors: BadInputError for another suffix."""
    files = []
    for source in SOURCES:
        root = folder / source
        for path in sorted(item for item in root.rglob("*") if item.is_file()):
            name = path.relative_to(folder).as_posix()
            if not name.endswith(SUFFIXES):
                raise BadInputError(
                    f"{name}: found a file of an unknown kind, expected one of {', '.join(SUFFIXES)}",
                    cure="convert the file to JSON Lines, or leave it out of data",
                )
            files.append(SourceFile(source, name, path))
    return files


def read_rows(file: SourceFile, max_row_bytes: int) -> Iterator[Line]:
    """Stream the rows of a file; a row that cannot be read carries its reason.

    Errors: BadInputError when the file itself is damaged (nobody could say how many rows are lost).
    """
    if file.name.endswith(".parquet"):
        yield from _parquet(file, max_row_bytes)
        return
    number = 0
    try:
        with ExitStack() as stack:
            handle: Any = stack.enter_context(file.path.open("rb"))
            if file.name.endswith(".gz"):
                handle = stack.enter_context(gzip.open(handle, "rb"))
            for line, size in _lines(handle, max_row_bytes):
                number += 1
                raw = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if raw.strip():
                    yield _parse(number, raw, size, max_row_bytes)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadInputError(
            f"{file.name}: the gzip data is damaged after line {number}: {error}",
            cure="copy or compress the file again",
        ) from error


def quarantined(file: str, line: Line, reason: str) -> Json:
    """The record of a refused row: where it stands, why, and enough to find it again."""
    head = line.raw[:HEAD].decode("utf-8", "backslashreplace")
    found = {"sha256": canonical.digest_bytes(line.raw), "head": head}
    return {"file": file, "line": line.number, "reason": reason, "bytes": found}


def _lines(handle: IO[bytes], limit: int) -> Iterator[tuple[bytes, int]]:
    """Lines without their newline and their sizes; of a line past `limit` only the beginning is kept."""
    while raw := handle.readline(limit + 2):
        size = len(raw)
        if size > limit and not raw.endswith(b"\n"):
            while rest := handle.readline(1 << 20):
                size += len(rest)
                if rest.endswith(b"\n"):
                    break
        yield raw.rstrip(b"\r\n"), size


def _parse(number: int, raw: bytes, size: int, limit: int) -> Line:
    if len(raw) > limit or size > limit + 2:
        return Line(number, raw[:HEAD], None, f"the row is longer than max_row_bytes ({limit})")
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return Line(number, raw, None, f"not JSON: {str(error).split(': line')[0]}")
    # Counting brackets is an upper bound of the depth that needs no walk.
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and depth(value, MAX_DEPTH + 1) > MAX_DEPTH:
        return Line(number, raw, None, f"nested deeper than {MAX_DEPTH} levels")
    return Line(number, raw, value)


def depth(value: Json, limit: int) -> int:
    """Levels of nesting, counted up to `limit`."""
    level, layer = 0, [value]
    while level < limit:
        layer = [item for item in layer if isinstance(item, dict | list)]
        if not layer:
            return level
        level += 1
        layer = [child for item in layer for child in (item.values() if isinstance(item, dict) else item)]
    return level


def _parquet(file: SourceFile, limit: int) -> Iterator[Line]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(file.path) as table:
            for batch in table.iter_batches(batch_size=2_000):
                for record in batch.to_pylist():
                    number += 1
                    try:
                        raw = canonical.dumps(_plain(record))
                    except (RowError, TypeError) as error:
                        yield Line(number, repr(record).encode()[:HEAD], None, f"not JSON: {error}")
                    else:
                        yield _parse(number, raw, len(raw), limit)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise BadInputError(
            f"{file.name}: the Parquet file is damaged after row {number}: {str(error)[:200]}",
            cure="write the file again",
        ) from error


def _plain(value: Any) -> Json:
    """A Parquet value as JSON: times in ISO 8601, decimals as text, bytes in base64, absent keys left out."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise RowError(f"a column of type {type(value).__name__} has no JSON form")
