"""The rows of two versions side by side, streamed: split files are sorted by id, so nothing is held."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import merge
from pathlib import Path
from typing import NamedTuple, TypeVar

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.errors import ArtifactError
from slm_assets.registry.registry import Registry
from slm_assets.stages.evaluation.common import leave_out
from slm_assets.stages.rows_io import LabelledRow, labelled_rows

T = TypeVar("T")
SPLITS = ("train", "validation", "eval")
EXAMPLES = 3


class Placed(NamedTuple):
    """A row and the split it is in."""

    row: LabelledRow
    split: str


@dataclass(frozen=True)
class SplitChange:
    """Rows of one split: `before` - `removed` + `added` = `after`; `changed` kept their id and got
    another input."""

    split: str
    before: int
    after: int
    added: int
    removed: int
    changed: int


@dataclass(frozen=True)
class LabelExample:
    """A row whose label changed."""

    id: str
    before: Json
    after: Json
    source_before: str
    source_after: str


@dataclass(frozen=True)
class LabelChange:
    """Labels of a role on rows that both versions have with the same input, in the later one's split.

    `changed`: another output; `added`, `removed`: only one version has a label; `resourced`: the same
    output from another source.
    """

    split: str
    role: str
    same: int
    changed: int
    added: int
    removed: int
    resourced: int
    examples: list[LabelExample]


@dataclass(frozen=True)
class DataChange:
    """What differs between two datasets and their labels. `moved`: "train → eval" → rows."""

    splits: list[SplitChange]
    moved: dict[str, int]
    labels: list[LabelChange]


def side_by_side(
    before: Iterable[T], after: Iterable[T], row_of: Callable[[T], LabelledRow]
) -> Iterator[tuple[T | None, T | None]]:
    """Two streams joined by the ids of their rows; None where a side has no such row."""
    old, new = _rising(before, row_of), _rising(after, row_of)
    left, right = next(old, None), next(new, None)
    while left is not None or right is not None:
        if right is None or (left is not None and row_of(left).id < row_of(right).id):
            yield left, None
            left = next(old, None)
        elif left is None or row_of(right).id < row_of(left).id:
            yield None, right
            right = next(new, None)
        else:
            yield left, right
            left, right = next(old, None), next(new, None)


def placed_rows(folders: Mapping[str, Path], splits: Sequence[str]) -> Iterator[Placed]:
    """The rows of some splits in order of id; `folders` has those of `dataset` and `labels`."""

    def one(split: str) -> Iterator[Placed]:
        return (Placed(row, split) for row in labelled_rows(folders["dataset"], folders["labels"], split))

    return merge(*map(one, splits), key=lambda placed: placed.row.id)


def same_input(left: LabelledRow, right: LabelledRow) -> bool:
    """Whether the inputs are equal in canonical form, as equal digests would say."""
    return bool(left.turn == right.turn) and canonical.dumps(left.turn) == canonical.dumps(right.turn)


def same_label(left: LabelledRow, right: LabelledRow, role: str, apart: Sequence[str] = ()) -> bool:
    """Whether both have the role's label, and the same but for the places `apart`."""
    if role not in left.labels or role not in right.labels:
        return False
    one, other = (leave_out(row.labels[role], apart) for row in (left, right))
    return canonical.dumps(one) == canonical.dumps(other)


@contextmanager
def fetched(registry: Registry, wanted: Mapping[str, tuple[str, Sequence[str] | None]]) -> Iterator[dict[str, Path]]:
    """Verified copies of artifacts, for as long as the block runs: name → (digest, files; None: all)."""
    with tempfile.TemporaryDirectory(prefix="slm-compare-") as root:
        folders = {}
        for name, (sha, files) in wanted.items():
            folders[name] = Path(root) / name
            registry.store.get(sha, folders[name], only=files)
        yield folders


def data_change(registry: Registry, before: Mapping[str, str], after: Mapping[str, str]) -> DataChange:
    """Compare two versions' rows and labels; each side names its `dataset` and `labels` artifacts.

    A split whose files are the same bytes on both sides is read once and only counted.
    """
    changed = [split for split in SPLITS if not _same_files(registry, before, after, split)]
    files = [f"{split}.jsonl" for split in SPLITS]
    kinds = ("dataset", "labels")
    tally = _Tally()
    with (
        fetched(registry, {kind: (before[kind], files) for kind in kinds}) as old,
        fetched(registry, {kind: (after[kind], files) for kind in kinds if changed}) as new,
    ):
        for same in placed_rows(old, [split for split in SPLITS if split not in changed]):
            tally.add(same, same)
        if changed:
            rows = placed_rows(old, changed), placed_rows(new, changed)
            for left, right in side_by_side(rows[0], rows[1], row_of=lambda placed: placed.row):
                tally.add(left, right)
    return tally.result()


@dataclass
class _Tally:
    splits: Counter[tuple[str, str]] = field(default_factory=Counter)
    moved: Counter[str] = field(default_factory=Counter)
    labels: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[LabelExample]] = field(default_factory=dict)

    def add(self, left: Placed | None, right: Placed | None) -> None:
        if left:
            self.splits[left.split, "before"] += 1
        if right:
            self.splits[right.split, "after"] += 1
        if left and right and left.split == right.split:
            self.splits[right.split, "changed"] += left is not right and not same_input(left.row, right.row)
        else:
            if left:
                self.splits[left.split, "removed"] += 1
            if right:
                self.splits[right.split, "added"] += 1
            if left and right:
                self.moved[f"{left.split} → {right.split}"] += 1
        if left and right and (left is right or same_input(left.row, right.row)):
            self._labels(left.row, right.row, right.split)

    def _labels(self, left: LabelledRow, right: LabelledRow, split: str) -> None:
        for role in left.labels.keys() | right.labels.keys():
            if role not in left.labels:
                kind = "added"
            elif role not in right.labels:
                kind = "removed"
            elif left is right or same_label(left, right, role):
                kind = "same" if left.sources[role] == right.sources[role] else "resourced"
            else:
                kind = "changed"
                examples = self.examples.setdefault((split, role), [])
                if len(examples) < EXAMPLES:
                    outputs = (one.labels[role] for one in (left, right))
                    sources = (one.sources[role] for one in (left, right))
                    examples.append(LabelExample(right.id, *outputs, *sources))
            self.labels[split, role, kind] += 1

    def result(self) -> DataChange:
        kinds = ("before", "after", "added", "removed", "changed")
        splits = [SplitChange(split, *(self.splits[split, kind] for kind in kinds)) for split in SPLITS]
        places = sorted({(split, role) for split, role, _ in self.labels}, key=lambda p: (SPLITS.index(p[0]), p[1]))
        labels = [
            LabelChange(
                split=split,
                role=role,
                same=self.labels[split, role, "same"],
                changed=self.labels[split, role, "changed"],
                added=self.labels[split, role, "added"],
                removed=self.labels[split, role, "removed"],
                resourced=self.labels[split, role, "resourced"],
                examples=self.examples.get((split, role), []),
            )
            for split, role in places
        ]
        return DataChange(splits, dict(sorted(self.moved.items())), labels)


def _same_files(registry: Registry, before: Mapping[str, str], after: Mapping[str, str], split: str) -> bool:
    name = f"{split}.jsonl"
    trees = ([registry.store.describe(side[kind]) for side in (before, after)] for kind in ("dataset", "labels"))
    return all(old.files.get(name) == new.files.get(name) for old, new in trees)


def _rising(items: Iterable[T], row_of: Callable[[T], LabelledRow]) -> Iterator[T]:
    last: str | None = None
    for item in items:
        own = row_of(item).id
        if last is not None and own <= last:
            raise ArtifactError(
                f"the rows of a split are not in order of their ids: {own!r} comes after {last!r}",
                cure="the dataset was not made by this release: open a new version and compare with that",
            )
        last = own
        yield item
