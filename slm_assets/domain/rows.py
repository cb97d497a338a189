"""Counting the rows of a corpus without reading them as rows."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Protocol

from slm_assets.canonical import CHUNK
from slm_assets.domain.domain import Domain
from slm_assets.errors import BadInputError


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


def eval_rows(domain: Domain) -> int:
    """About how many rows will be judged on: given eval rows, and the split's share of the others."""
    counts = {"seed": 0, "adversarial": 0, "holdout": 0, "golden": 0}
    for key, path in domain.data_files().items():
        counts[key.partition("/")[0]] += count(path)
    given = counts["holdout"] + counts["golden"]
    split = domain.config.data.split
    shared = 0 if split.kind == "fixed" else counts["seed"] + counts["adversarial"]
    return given + round(shared * split.eval_ratio)


def count(path: Path) -> int:
    """Rows of a data file: lines that are not empty, or what Parquet's footer says."""
    try:
        if path.name.endswith(".parquet"):
            from pyarrow import ArrowException
            from pyarrow.parquet import read_metadata

            try:
                return int(read_metadata(path).num_rows)
            except ArrowException as error:
                raise OSError(str(error).splitlines()[0]) from None
        with path.open("rb") as plain:
            return _lines(gzip.GzipFile(fileobj=plain) if path.name.endswith(".gz") else plain)
    except (OSError, EOFError) as error:
        raise BadInputError(f"{path.name} cannot be read: {error}") from None


def _lines(handle: _Reader) -> int:
    total, last = 0, b"\n"
    while chunk := handle.read(CHUNK):
        total += chunk.count(b"\n") - chunk.count(b"\n\n")
        last = chunk[-1:]
    return total + (last != b"\n")
