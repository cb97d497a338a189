"""Training of a CRF (crfsuite's L-BFGS with both norms) into plain arrays."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from slm_assets.models.linear.crf import Crf, Floats, Layer
from slm_assets.models.linear.lexicon import Ids, Lexicon

L1: Final = 0.3
L2: Final = 0.05
_SMALL: Final = 1e-3
_STILL: Final = 5e-3

Chain = tuple[list[Ids], list[int]]
"""Features of each token, tag of each token."""


def fit_crf(layers: Sequence[tuple[Sequence[int], Sequence[Chain]]], lexicon: Lexicon, *, iterations: int) -> Crf:
    """The CRF of some layers, each of labels and chains; `lexicon` made the features. Equal chains in equal
    order give equal weights."""
    fitted = [_layer(chains, len(labels), lexicon.size, iterations) for labels, chains in layers]
    small, old = lexicon.kept(feature for states, _ in fitted for feature, _ in states)
    new = {i: k for k, i in enumerate(old)}
    made: list[Layer] = []
    start = 0
    for (labels, _), (_, jumps) in zip(layers, fitted, strict=True):
        made.append(Layer(list(labels), _rounded(jumps), start))
        start += len(jumps)
    weights = np.zeros((len(old), start), np.float32)
    for layer, (states, _) in zip(made, fitted, strict=True):
        for (feature, tag), weight in states.items():
            weights[new[feature], layer.start + tag] = weight
    return Crf(small, _rounded(weights), made)


def _layer(
    chains: Sequence[Chain], labels: int, features: int, iterations: int
) -> tuple[dict[tuple[int, int], float], Floats]:
    """Weights of (feature, tag), and of neighbouring tags."""
    import pycrfsuite

    trainer = pycrfsuite.Trainer(algorithm="lbfgs", verbose=False)
    trainer.set_params({"max_iterations": iterations, "c1": L1, "c2": L2, "delta": _STILL})
    size = 1 + 2 * labels
    names = [str(i) for i in range(max(features, size))]
    seen = False
    for rows, tags in chains:
        trainer.append([[names[i] for i in ids] for ids in rows], [names[tag] for tag in tags])
        seen = seen or bool(rows)
    jumps = np.zeros((size, size), np.float32)
    if not seen:
        return {}, jumps
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "crf"
        trainer.train(str(file))
        tagger = pycrfsuite.Tagger()
        tagger.open(str(file))
        info = tagger.info()
        tagger.close()
    for (before, after), weight in info.transitions.items():
        jumps[int(before), int(after)] = weight
    weights = info.state_features.items()
    return {(int(feature), int(tag)): weight for (feature, tag), weight in weights if abs(weight) > _SMALL}, jumps


def _rounded(values: Floats) -> Floats:
    """To what a checkpoint keeps."""
    return values.astype(np.float16).astype(np.float32)
