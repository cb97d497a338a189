"""Reading the rows of a split together with their labels, and writing the lines of one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.errors import ArtifactError


class LabelledRow(NamedTuple):
    """A row of a split: `labels` role → output, `sources` role → where that label came from, `completed` role →
    the places of a label that came from the oracle alone, where its rest did not."""

    id: str
    turn: Json
    group: str
    source: str
    slices: tuple[str, ...]
    labels: dict[str, Json]
    sources: dict[str, str]
    completed: Mapping[str, Sequence[str]] = MappingProxyType({})


def labelled_rows(dataset: Path, labels: Path, split: str) -> Iterator[LabelledRow]:
    """Stream a split: the dataset's rows with the labels of the same line."""
    rows = canonical.read_jsonl(dataset / f"{split}.jsonl")
    for row, label in zip(rows, canonical.read_jsonl(labels / f"{split}.jsonl"), strict=True):
        if row["id"] != label["id"]:
            raise ArtifactError(f"labels and dataset disagree in {split}: {label['id']!r} is not {row['id']!r}")
        own: dict[str, Any] = label["labels"]
        yield LabelledRow(
            row["id"],
            row["input"],
            row["group"],
            row["source"],
            tuple(row["slices"]),
            {role: value["output"] for role, value in own.items()},
            {role: value["source"] for role, value in own.items()},
            {role: value["completed"] for role, value in own.items() if "completed" in value},
        )


def write_lines(path: Path, lines: Iterable[bytes]) -> dict[str, Json]:
    """Stream lines (canonical JSON, without newline) to a file, atomically; returns its `rows` and `sha256`."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    hasher, rows, left = hashlib.sha256(), 0, iter(lines)
    try:
        with beside.open("wb") as handle:
            while some := list(islice(left, 2_000)):
                data = b"\n".join((*some, b""))
                hasher.update(data)
                handle.write(data)
                rows += len(some)
            handle.flush()
            os.fsync(handle.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return {"rows": rows, "sha256": hasher.hexdigest()}
