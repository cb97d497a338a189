"""Feature rows in stages: the top keys of the output are decided in order, later ones see earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slm_assets.canonical import Json
from slm_assets.models.linear.features import Featurizer, Parts, Row, Tree, decoded_names, matrix
from slm_assets.models.linear.paths import ABSENT, Path, get

_MAX_TREE_FEATURES = 1_000


def stage_keys(base: Path, keys: Sequence[str]) -> list[Path]:
    """Path of what each stage decides: the top keys in order, or the whole output."""
    return [(*base, key) for key in keys] or [()]


def stage_of(path: Path, stages: Sequence[Path]) -> int:
    """The stage that decides a path; containers above the top keys belong to the first."""
    return next((k for k, stage in enumerate(stages) if path[: len(stage)] == stage), 0)


def names_of_stage(output: Json, stages: Sequence[Path], k: int) -> list[str]:
    """Structured names that a decided stage gives to the later ones."""
    value = get(output, stages[k])
    return [] if value is ABSENT else decoded_names(str(stages[k][-1]), value)


def activate(
    features: Featurizer,
    parts: Sequence[Parts],
    tags: Sequence[Sequence[str]],
    mentions: int,
    outputs: Sequence[Json],
    stages: Sequence[Path],
) -> list[list[list[int]]]:
    """Per stage and row: sorted indices of the structured features, those of earlier stages included.

    `tags`: what the tagger sees in a row, known from stage `mentions` on.
    """
    known = [features.known(p.names) for p in parts]
    out = []
    for k in range(len(stages)):
        fresh = [names_of_stage(output, stages, k - 1) if k else [] for output in outputs]
        if k == mentions:
            fresh = [[*names, *own] for names, own in zip(fresh, tags, strict=True)]
        known = [sorted({*row, *features.known(names)}) for row, names in zip(known, fresh, strict=True)]
        out.append(known)
    return out


def grow_tree(features: Featurizer, active: Sequence[list[int]], classes: NDArray[np.int64], seed: int) -> Tree:
    """A tree that tells the classes apart by structured features alone."""
    from sklearn.tree import DecisionTreeClassifier

    counts = np.zeros(len(features.names), np.int64)
    for row in active:
        counts[row] += 1
    chosen = np.sort(np.argsort(-counts, kind="stable")[:_MAX_TREE_FEATURES])
    place = np.full(len(features.names), -1, np.int64)
    place[chosen] = np.arange(len(chosen))
    dense = np.zeros((len(active), max(1, len(chosen))), np.float32)
    for i, row in enumerate(active):
        columns = place[row]
        dense[i, columns[columns >= 0]] = 1
    leaf = min(10, max(2, len(active) // 400))
    model = DecisionTreeClassifier(min_samples_leaf=leaf, max_depth=24, random_state=seed % 2**32)
    grown = model.fit(dense, classes).tree_
    feature = [int(chosen[f]) if f >= 0 and len(chosen) else -1 for f in grown.feature]
    return Tree(feature, grown.children_left.tolist(), grown.children_right.tolist(), features.size)


def staged(features: Featurizer, parts: Sequence[Parts], active: list[list[list[int]]]) -> list[Any]:
    """A CSR matrix [rows, features.size] per stage."""
    s = features.settings
    texts = [features.row([], p) for p in parts]
    x = []
    for k, rows in enumerate(active):
        tree = features.trees[k] if k < len(features.trees) else None
        full: list[Row] = []
        for text, known in zip(texts, rows, strict=True):
            blocks = [features.flat(known, s.path_weight), text]
            if tree is not None:
                blocks.append(features.flat(tree.passed(set(known)), s.tree_weight))
            full.append((np.concatenate([b[0] for b in blocks]), np.concatenate([b[1] for b in blocks])))
        x.append(matrix(full, features.size))
    return x
