"""All rows of a build: what decides about them as columns in memory, their text and JSON on disk."""

from __future__ import annotations

import mmap
import struct
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


class Kind(NamedTuple):
    """What many rows share: `facts` that the manifest counts them under, the hash of their labels, and
    `tail`, the end of their line in a split file."""

    source: str
    facts: tuple[str, ...]
    label_hash: int
    tail: bytes


class Row(NamedTuple):
    """One good row on its way into the corpus. `data` is its input in canonical form."""

    id: str
    input: Json
    keys: tuple[int, ...]
    kind: Kind
    data: bytes
    group: str = ""


class Spool:
    """Byte strings in one file of the scratch folder, read back by offset."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._write: IO[bytes] | None = path.open("wb", buffering=1 << 20)
        self._read: bytes | mmap.mmap = b""
        self.size = 0

    def add(self, data: bytes) -> int:
        """Append; returns where it starts."""
        assert self._write is not None
        start = self.size
        self._write.write(data)
        self.size = start + len(data)
        return start

    def seal(self) -> None:
        """Stop writing, start reading."""
        if self._write is None:
            return
        self._write.close()
        self._write = None
        if self.size:
            with self._path.open("rb") as handle:
                self._read = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)

    @contextmanager
    def so_far(self) -> Iterator[bytes | mmap.mmap]:
        """All bytes that were added until now, while more may follow."""
        assert self._write is not None
        self._write.flush()
        if not self.size:
            yield b""
            return
        with self._path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data

    def gather(self, starts: list[int], sizes: list[int]) -> Iterator[bytes]:
        """The byte strings at these offsets."""
        data = self._read
        return (data[start : start + size] for start, size in zip(starts, sizes, strict=True))

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
        ("text_start", "<u8"),
        ("row_size", "<u4"),
        ("text_size", "<u4"),
        ("words", "<u4"),
        ("chars", "<u4"),
        ("facts", "<u4"),
        ("source", "<u4"),
    ]
)
"""What is held of one row. Hashes are 64 bits of blake2b; `labels` is 0 where a row has none."""

_PACK = struct.Struct("<6Q6I")
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
    outdated: set[int] = field(default_factory=set)
    """Those of them with a label that the contract does not take any more as it is."""

    def __post_init__(self) -> None:
        self.rows = Spool(self.scratch / "rows.spool")
        self.texts = Spool(self.scratch / "texts.spool")

    def __len__(self) -> int:
        return len(self.ids)

    def put(self, row: Row) -> int:
        """Add a row, or replace the one with its id; returns its index."""
        text, structure, unit, words, chars = texts_of(row.input)
        kind = row.kind
        line = b'"id":%b,"input":%b%b' % (canonical.dumps(row.id), row.data, kind.tail)
        record = _PACK.pack(
            hash64(row.data),
            kind.label_hash,
            structure,
            unit,
            self.rows.add(line),
            self.texts.add(text),
            len(line),
            len(text),
            words,
            chars,
            self.facts.setdefault(kind.facts, len(self.facts)),
            self._source(kind.source),
        )
        index = self.ids.setdefault(row.id, len(self.ids))
        start = index * _PACK.size
        if start == len(self.records):
            self.records += record
        else:
            self.records[start : start + _PACK.size] = record
        for key in row.keys:
            self.key_row.append(index)
            self.key_hash.append(key)
        if row.group:
            self.frozen[index] = row.group
        return index

    def same_input(self, index: int, row: Row) -> bool:
        """Whether a row of the corpus has this one's input."""
        return self._record(index)[_INPUT] == hash64(row.data)

    def same(self, index: int, row: Row) -> bool:
        """Whether a row of the corpus has this one's input and labels."""
        return self.same_input(index, row) and self.same_labels(index, row.kind.label_hash)

    def same_labels(self, index: int, label_hash: int) -> bool:
        """Whether a row of the corpus has labels of this hash."""
        return self._record(index)[_LABELS] == label_hash

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
        # Views: a copy of each column would hold everything twice.
        table = np.frombuffer(self.records, dtype=RECORD)
        self.columns = {name: table[name] for name in RECORD.names or ()}

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

    def texts_at(self, rows: Ints) -> tuple[bytes, Ints]:
        """The words of some rows, joined by spaces, in UTF-8: all in one, and their offsets, shape (rows + 1,)."""
        sizes = self.columns["text_size"][rows]
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(sizes, out=offsets[1:])
        return b"".join(self.texts.gather(self.columns["text_start"][rows].tolist(), sizes.tolist())), offsets

    def lines(self, rows: Ints, groups: Hashes) -> Iterator[bytes]:
        """The lines of some rows in a split file; `groups` has the shape (all rows,)."""
        for part in batches(rows, 10_000):
            found = self.rows.gather(self.columns["row_start"][part].tolist(), self.columns["row_size"][part].tolist())
            for line, group in zip(found, groups[part].tolist(), strict=True):
                yield b'{"group":"%016x",%b' % (group, line)

    def by_id(self) -> Ints:
        """All rows in the order of their ids."""
        ids = self.ids
        return np.fromiter((ids[name] for name in sorted(ids)), dtype=np.int64, count=len(ids))

    def _source(self, name: str) -> int:
        if name not in self.sources:
            self.sources.append(name)
        return self.sources.index(name)


def tail_of(label_source: str, labels: bytes, slices: Sequence[str], source: str, previous: Json = None) -> bytes:
    """The end of a row's canonical JSON: what follows its input. Its group sorts first and is known last."""
    before = b',"previous":%b' % canonical.dumps(previous) if previous else b""
    parts = (label_source.encode(), labels, before, canonical.dumps(list(slices)), source.encode())
    return b',"label_source":"%b","labels":%b%b,"slices":%b,"source":"%b"}' % parts


def content_id(parts: Parts) -> str:
    """The id of a row that brings none: the digest of its input and labels."""
    body: Json = {"input": parts.input, "labels": parts.labels, "source": parts.label_source}
    return canonical.digest(body)[:24]


def batches(items: Ints, size: int) -> Iterator[Ints]:
    """Cut into pieces of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
