"""Which rows are train, validation, eval: whole groups, by hash, and never against an earlier decision."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.config import Split
from slm_assets.stages.rows.corpus import Corpus, Hashes, Ints, Mask
from slm_assets.stages.rows.fields import hash64
from slm_assets.stages.rows.names import REVIEWED

DROPPED, TRAIN, VALIDATION, EVAL, RESERVE = range(5)
NAMES = {TRAIN: "train", VALIDATION: "validation", EVAL: "eval", RESERVE: "reserve"}
NEW_EPOCH_SHARE = 0.2
LARGE_GROUP_SHARE = 0.05


@dataclass(frozen=True)
class Parent:
    """What an earlier dataset decided: its folder's eval rows, eval groups, and ids it trained on."""

    folder: Path
    epoch: int
    eval_rows: int
    eval_groups: Hashes
    trained: Hashes
    contract: str

    @classmethod
    def load(cls, folder: Path, epoch: int) -> Parent:
        """Read what a later dataset must respect."""
        manifest = canonical.read_json(folder / "manifest.json")
        eval_rows = canonical.read_jsonl(folder / "eval.jsonl")
        groups = [int(row["group"], 16) for row in eval_rows if row["source"] != REVIEWED]
        trained = [
            hash64(row["id"].encode())
            for name in ("train", "validation")
            for row in canonical.read_jsonl(folder / f"{name}.jsonl")
        ]
        return cls(
            folder,
            epoch,
            len(groups),
            np.unique(np.array(groups, dtype=np.uint64)),
            np.unique(np.array(trained, dtype=np.uint64)),
            manifest["contract"],
        )


@dataclass
class Assignment:
    """`split` and `group` of each row, shape (rows,), and what was noted on the way."""

    split: Ints
    group: Hashes
    epoch: int
    notes: dict[str, Json] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def drop_duplicates(corpus: Corpus, always_eval: Mask) -> tuple[Mask, dict[str, Json]]:
    """Keep one row of each input: an eval row if there is one, then one with the label most of them
    have, then the smallest id. Returns the rows kept, and counts with the first conflicts."""
    inputs = corpus.hashes("input")
    order = np.argsort(inputs, kind="stable")
    ordered = inputs[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    ends = np.append(starts[1:], len(order))
    rank = 2 - always_eval.astype(np.int64) - corpus.frozen_mask()
    kept = np.ones(len(corpus), dtype=np.bool_)
    names = list(corpus.ids)
    labels = corpus.hashes("labels")
    conflicts: list[Json] = []
    for at in np.flatnonzero(ends - starts > 1).tolist():
        members = order[starts[at] : ends[at]]
        given = labels[members].tolist()
        votes = Counter(label for label in given if label)
        # A row without an id has another one when it was rewritten for a new contract: it takes the old one's place.
        order_of = [
            (3 if votes and row in corpus.outdated else place, -votes[label], names[row], row)
            for place, label, row in zip(rank[members].tolist(), given, members.tolist(), strict=True)
        ]
        keep = min(order_of)[-1]
        kept[members] = False
        kept[keep] = True
        if len(votes) > 1:
            conflicts.append({"ids": sorted(entry[2] for entry in order_of)[:10], "kept": names[keep]})
    conflicts.sort(key=lambda conflict: str(conflict["kept"]))
    return kept, {
        "duplicates": int(len(corpus) - kept.sum()),
        "conflicts": {"inputs": len(conflicts), "examples": conflicts[:20]},
    }


def group_rows(corpus: Corpus, kept: Mask, component: Ints) -> Hashes:
    """A key per row, equal within a group: rows that share a declared value, however indirectly.

    A row without any declared value is grouped with its near-duplicates among such rows. `component`
    numbers the near-duplicates of each row. The key is the smallest hash of the group's values (or
    inputs), so that a group keeps its key while rows come and go.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(corpus)
    rows, hashes = corpus.keys()
    used = kept[rows]
    rows, hashes = rows[used], hashes[used]
    keyed = np.zeros(count, dtype=np.bool_)
    keyed[rows] = True
    values, value = np.unique(hashes, return_inverse=True)
    alone = np.flatnonzero(~keyed & kept)
    nodes = count + len(values) + int(component.max(initial=0)) + 1
    left = np.concatenate([rows, alone])
    right = np.concatenate([count + value, count + len(values) + component[alone]])
    links = (np.ones(len(left), dtype=np.int8), (left, right))
    _, found = connected_components(coo_array(links, shape=(nodes, nodes)), directed=False)
    found = found[:count]
    smallest = np.full(int(found.max(initial=0)) + 1, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(smallest, found[rows], hashes)
    np.minimum.at(smallest, found[alone], corpus.hashes("input")[alone])
    return np.asarray(smallest[found], dtype=np.uint64)


def _below(seed: str, purpose: str, keys: Hashes, ratio: float) -> Mask:
    """Which keys fall under a share of the hash's range."""
    limit = int(ratio * 2**64)
    unique, inverse = np.unique(keys, return_inverse=True)
    prefix = f"{seed}\0{purpose}\0".encode()
    chosen = [hash64(prefix + b"%016x" % key) < limit for key in unique.tolist()]
    return np.array(chosen, dtype=np.bool_)[inverse]


def assign(
    corpus: Corpus,
    kept: Mask,
    group: Hashes,
    always_eval: Mask,
    cases: Mask,
    split: Split,
    parent: Parent | None,
    contract: str,
) -> Assignment:
    """Assign whole groups by hash; a parent's eval groups stay eval, its train rows never become eval.

    `cases`: regression cases, which are judged by themselves and wait for no epoch.

    Rows that a new version adds to eval wait in reserve until they are a fifth of the parent's eval
    set, or until the contract changes: then a new epoch takes them in.
    """
    result = Assignment(np.full(len(corpus), DROPPED, dtype=np.int64), group.copy(), 1)
    held_out = always_eval & kept
    eval_groups = group[held_out]
    frozen = corpus.frozen_mask()
    trained = np.zeros(len(corpus), dtype=np.bool_)
    if parent:
        eval_groups = np.concatenate([eval_groups, parent.eval_groups])
        ids = np.array([hash64(name.encode()) for name in corpus.ids], dtype=np.uint64)
        trained = np.isin(ids, parent.trained) & ~frozen
    taken = np.isin(group, eval_groups)
    by_hash = _below(split.seed, "eval", group, split.eval_ratio) & ~np.isin(group, group[trained])
    to_eval = ((taken | by_hash) & kept & ~trained) | held_out
    bridged = taken & trained & kept
    validation = _below(split.seed, "validation", group, split.validation_ratio)
    result.split[kept & ~to_eval] = TRAIN
    result.split[kept & ~to_eval & validation] = VALIDATION
    result.split[to_eval] = EVAL
    result.split[bridged & ~held_out] = DROPPED
    result.notes["bridged"] = int((bridged & ~held_out).sum())
    if parent:
        new = to_eval & ~frozen & ~cases
        changed = contract != parent.contract
        opened = int(new.sum()) >= NEW_EPOCH_SHARE * parent.eval_rows or changed
        result.epoch = parent.epoch + (1 if changed or (opened and new.any()) else 0)
        if not opened:
            result.split[new] = RESERVE
    for row, name in corpus.frozen.items():
        if kept[row]:
            result.group[row] = np.uint64(int(name, 16))
    _warn_of_large_groups(result, kept)
    return result


def assign_fixed(corpus: Corpus, group: Hashes, always_eval: Mask, split: Split) -> Assignment:
    """The given files as they are: holdout and golden are eval, the rest train; validation is carved
    from train by group."""
    result = Assignment(np.full(len(corpus), TRAIN, dtype=np.int64), group, 1)
    result.split[_below(split.seed, "validation", group, split.validation_ratio)] = VALIDATION
    result.split[always_eval] = EVAL
    return result


def thin_out(corpus: Corpus, result: Assignment, fraction: float) -> None:
    """Keep a share of the train rows, by the hash of their ids: a smaller share is part of a larger."""
    limit = int(fraction * 2**64)
    names = list(corpus.ids)
    train = np.flatnonzero(result.split == TRAIN).tolist() if fraction < 1 else []
    cut = [row for row in train if hash64(b"fraction\0" + names[row].encode()) >= limit]
    result.split[cut] = DROPPED
    result.notes["left_out_by_fraction"] = len(cut)


def _warn_of_large_groups(result: Assignment, kept: Mask) -> None:
    keys, sizes = np.unique(result.group[kept], return_counts=True)
    total = int(kept.sum())
    if len(keys) == 1 and total > 1:
        result.warnings.append("all rows form one group: data.split.group_by separates nothing")
    elif total >= 100:
        for at in np.flatnonzero(sizes > LARGE_GROUP_SHARE * total).tolist():
            result.warnings.append(
                f"group {int(keys[at]):016x} holds {int(sizes[at])} of {total} rows: "
                "a group_by value that many rows share leaves little to split"
            )
