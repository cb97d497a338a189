"""All rows of a build: what decides about them as columns in memory, their text and JSON on disk."""

from __future__ import annotations

import mmap
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.stages.rows.fields import Parts, hash64
from slm_assets.stages.rows.texts import texts_of

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]


class Row(NamedTuple):
    """One good row on its way into the corpus; `facts` are what the manifest counts it under."""

    id: str
    parts: Parts
    source: str
    slices: tuple[str, ...]
    facts: tuple[str, ...]
    input_bytes: bytes
    label_bytes: bytes
    label_hash: int
    group: str = ""


class Spool:
    """Byte strings in one file of the scratch folder, read back by offset."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._write: IO[bytes] | None = path.open("wb", buffering=1 << 20)
        self._read: bytes | mmap.mmap = b""
        self.size = 0

    def add(self, data: bytes) -> tuple[int, int]:
        """Append; returns start and end."""
        assert self._write is not None
        start = self.size
        self._write.write(data)
        self.size += len(data)
        return start, self.size

    def seal(self) -> None:
        """Stop writing, start reading."""
        if self._write is None:
            return
        self._write.close()
        self._write = None
        if self.size:
            with self._path.open("rb") as handle:
                self._read = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)

    def get(self, start: int, end: int) -> bytes:
        """The bytes between two offsets."""
        return bytes(self._read[start:end])

    def close(self) -> None:
        """Release the file and remove it."""
        self.seal()
        if isinstance(self._read, mmap.mmap):
            self._read.close()
        self._path.unlink(missing_ok=True)


RECORD = np.dtype(
    [
        ("input", "<u8"),
        ("labels", "<u8"),
        ("structure", "<u8"),
        ("unit", "<u8"),
        ("row_start", "<u8"),
        ("row_end", "<u8"),
        ("text_start", "<u8"),
        ("text_end", "<u8"),
        ("words", "<u4"),
        ("chars", "<u4"),
        ("facts", "<u4"),
        ("source", "<u4"),
    ]
)
"""What is held of one row. Hashes are 64 bits of blake2b; `labels` is 0 where a row has none."""

_PACK = struct.Struct("<8Q4I")
_INPUT, _LABELS, _SOURCE = 0, 1, 11


@dataclass
class Corpus:
    """The rows of one build. `ids` maps an id to its row; `facts` lists the distinct tuples of facts."""

    scratch: Path
    ids: dict[str, int] = field(default_factory=dict)
    records: bytearray = field(default_factory=bytearray)
    facts: dict[tuple[str, ...], int] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    key_row: array[int] = field(default_factory=lambda: array("Q"))
    key_hash: array[int] = field(default_factory=lambda: array("Q"))
    columns: dict[str, Any] = field(default_factory=dict)
    frozen: dict[int, str] = field(default_factory=dict)
    """Rows of the parent's eval set, with the group they had there."""

    def __post_init__(self) -> None:
        self.rows = Spool(self.scratch / "rows.spool")
        self.texts = Spool(self.scratch / "texts.spool")

    def __len__(self) -> int:
        return len(self.ids)

    def put(self, row: Row) -> int:
        """Add a row, or replace the one with its id; returns its index."""
        texts = texts_of(row.parts.input)
        facts = self.facts
        record = _PACK.pack(
            hash64(row.input_bytes),
            row.label_hash,
            texts.structure,
            texts.unit,
            *self.rows.add(_tail(row)),
            *self.texts.add(texts.text),
            texts.words,
            texts.chars,
            facts.setdefault(row.facts, len(facts)),
            self._source(row.source),
        )
        index = self.ids.setdefault(row.id, len(self.ids))
        start = index * _PACK.size
        if start == len(self.records):
            self.records += record
        else:
            self.records[start : start + _PACK.size] = record
        for key in row.parts.keys:
            self.key_row.append(index)
            self.key_hash.append(key)
        if row.group:
            self.frozen[index] = row.group
        return index

    def same_input(self, index: int, row: Row) -> bool:
        """Whether a row of the corpus has this one's input."""
        return self._record(index)[_INPUT] == hash64(row.input_bytes)

    def same(self, index: int, row: Row) -> bool:
        """Whether a row of the corpus has this one's input and labels."""
        return self.same_input(index, row) and self._record(index)[_LABELS] == row.label_hash

    def source_of(self, index: int) -> str:
        """The source of a row."""
        return self.sources[self._record(index)[_SOURCE]]

    def _record(self, index: int) -> tuple[int, ...]:
        return _PACK.unpack_from(self.records, index * _PACK.size)

    def frozen_mask(self) -> Mask:
        """Which rows are in the parent's eval set, shape (rows,)."""
        mask = np.zeros(len(self), dtype=np.bool_)
        mask[list(self.frozen)] = True
        return mask

    def seal(self) -> None:
        """All rows are in: from now on they are read."""
        self.rows.seal()
        self.texts.seal()
        table = np.frombuffer(self.records, dtype=RECORD)
        self.columns = {name: np.ascontiguousarray(table[name]) for name in RECORD.names or ()}
        self.records = bytearray()

    def close(self) -> None:
        """Remove what lies in the scratch folder."""
        self.rows.close()
        self.texts.close()

    def hashes(self, name: str) -> Hashes:
        """A column of hashes, shape (rows,)."""
        return np.asarray(self.columns[name], dtype=np.uint64)

    def ints(self, name: str) -> Ints:
        """A column of numbers, shape (rows,)."""
        return np.asarray(self.columns[name], dtype=np.int64)

    def keys(self) -> tuple[Ints, Hashes]:
        """Group values: the row of each and its hash, both of shape (values,)."""
        rows = np.frombuffer(self.key_row, dtype=np.uint64).astype(np.int64)
        return rows, np.frombuffer(self.key_hash, dtype=np.uint64)

    def text(self, row: int) -> bytes:
        """The words of a row, joined by spaces, in UTF-8."""
        return self.texts.get(int(self.columns["text_start"][row]), int(self.columns["text_end"][row]))

    def texts_at(self, rows: Ints) -> tuple[bytes, Ints]:
        """The texts of some rows, joined, and their offsets, shape (rows + 1,)."""
        starts, ends = self.columns["text_start"][rows], self.columns["text_end"][rows]
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(ends - starts, out=offsets[1:])
        return b"".join(map(self.texts.get, starts.tolist(), ends.tolist())), offsets

    def lines(self, rows: list[int], groups: Hashes) -> Iterator[bytes]:
        """The canonical JSON of some rows in a split file; `groups` has the shape (all rows,)."""
        starts, ends = self.columns["row_start"][rows].tolist(), self.columns["row_end"][rows].tolist()
        for start, end, group in zip(starts, ends, groups[rows].tolist(), strict=True):
            yield b'{"group":"%016x",%s' % (group, self.rows.get(start, end))

    def by_id(self) -> list[tuple[str, int]]:
        """All ids in order, with their rows."""
        return sorted(self.ids.items())

    def _source(self, name: str) -> int:
        if name not in self.sources:
            self.sources.append(name)
        return self.sources.index(name)


def _tail(row: Row) -> bytes:
    """The row's canonical JSON after its group, which sorts first and is known last."""
    return b'"id":%s,"input":%s,"label_source":"%s","labels":%s,"slices":%s,"source":"%s"}' % (
        canonical.dumps(row.id),
        row.input_bytes,
        row.parts.label_source.encode(),
        row.label_bytes,
        canonical.dumps(list(row.slices)),
        row.source.encode(),
    )


def content_id(parts: Parts) -> str:
    """The id of a row that brings none: the digest of its input and labels."""
    body: Json = {"input": parts.input, "labels": parts.labels, "source": parts.label_source}
    return canonical.digest(body)[:24]


def batches(items: Sequence[int] | Ints, size: int) -> Iterator[Ints]:
    """Cut into pieces of at most `size`."""
    values = np.asarray(items, dtype=np.int64)
    for start in range(0, len(values), size):
        yield values[start : start + size]
