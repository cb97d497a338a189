"""Reading the rows of a split together with their labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.errors import ArtifactError


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """A row of a split: `labels` role → output, `sources` role → where that label came from."""

    id: str
    turn: Json
    group: str
    source: str
    slices: tuple[str, ...]
    labels: dict[str, Json]
    sources: dict[str, str]


def labelled_rows(dataset: Path, labels: Path, split: str) -> Iterator[LabelledRow]:
    """Stream a split: the dataset's rows with the labels of the same line."""
    rows = canonical.read_jsonl(dataset / f"{split}.jsonl")
    for row, label in zip(rows, canonical.read_jsonl(labels / f"{split}.jsonl"), strict=True):
        if row["id"] != label["id"]:
            raise ArtifactError(f"labels and dataset disagree in {split}: {label['id']!r} is not {row['id']!r}")
        own: dict[str, Any] = label["labels"]
        yield LabelledRow(
            id=row["id"],
            turn=row["input"],
            group=row["group"],
            source=row["source"],
            slices=tuple(row["slices"]),
            labels={role: value["output"] for role, value in own.items()},
            sources={role: value["source"] for role, value in own.items()},
        )
