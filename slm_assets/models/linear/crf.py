"""A linear-chain CRF in numpy: the likeliest tagging (Viterbi 1967), and the probability of a span
(forward-backward, Rabiner 1989). Chains of one text are worked through side by side, so that the cost
grows with the longest chain and not with the text. Nothing of the training library is needed here."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from slm_assets.models.linear.lexicon import Ids, Lexicon

Floats = NDArray[np.float32]
Bounds = Sequence[tuple[int, int]]
"""Chains of a text: first token, and the one past the last."""


@dataclass
class Layer:
    """One chain of tags: O, then B and I of each of `labels` (indices of the tagger's). `transitions` [tags,
    tags]: from the row's to the column's; `start`: its first column in the CRF's weights."""

    labels: list[int]
    transitions: Floats
    start: int

    @property
    def columns(self) -> slice:
        """Its columns in the CRF's weights."""
        return slice(self.start, self.start + len(self.transitions))


@dataclass
class Crf:
    """Weights of features [features, tags of all layers]. Layers tag one text independently of each other,
    so that a piece of it may stand for several labels."""

    lexicon: Lexicon
    weights: Floats
    layers: list[Layer]

    def emissions(self, rows: Sequence[Ids]) -> Floats:
        """Scores [tokens, tags] of tokens by the ids of their features."""
        out = np.zeros((len(rows), self.weights.shape[1]), np.float32)
        full = [i for i, ids in enumerate(rows) if ids]
        if full:
            starts = [0]
            for i in full[:-1]:
                starts.append(starts[-1] + len(rows[i]))
            taken = self.weights.take([i for ids in rows for i in ids], axis=0)
            out[full] = np.add.reduceat(taken, starts, axis=0)
        return out


def _side_by_side(bounds: Bounds) -> list[NDArray[np.int64]]:
    """Per step, the token at which each chain is that goes on so far."""
    spans = sorted((b for b in bounds if b[0] < b[1]), key=lambda b: (b[0] - b[1], b[0]))
    first = np.asarray([start for start, _ in spans], np.int64)
    sizes = [end - start for start, end in spans]
    steps = []
    active = len(sizes)
    for t in range(sizes[0] if sizes else 0):
        while sizes[active - 1] <= t:
            active -= 1
        steps.append(first[:active] + t)
    return steps


def viterbi(scores: Floats, bounds: Bounds, transitions: Floats) -> list[int]:
    """The likeliest tags of all tokens; the lower tag where two are equally good."""
    best = scores.copy()
    for rows in _side_by_side(bounds)[1:]:
        best[rows] += (best[rows - 1][:, :, None] + transitions).max(axis=1)
    tags = [0] * len(scores)
    columns = np.ascontiguousarray(transitions.T)
    for start, end in bounds:
        if start == end:
            continue
        tag = tags[end - 1] = int(best[end - 1].argmax())
        for t in range(end - 2, start - 1, -1):
            tag = tags[t] = int((best[t] + columns[tag]).argmax())
    return tags


@dataclass
class Lattice:
    """What probabilities of spans are made of. `forward`, `backward` [tokens, tags] are scaled so that their
    product is each token's marginal; `step` [tokens, tags]: the factor by which a token adds to a path."""

    forward: Floats
    backward: Floats
    step: Floats
    jumps: Floats
    chain_end: list[int]

    @cached_property
    def marginals(self) -> Floats:
        """The probability [tokens, tags] of each tag of each token."""
        return self.forward * self.backward

    def spans(self, tag: int, start: int, longest: int) -> list[float]:
        """The probability that a span that begins with `tag` and goes on with the next covers exactly 1, 2, …
        tokens from `start` on, up to `longest` or the end of its chain."""
        inside = tag + 1
        path = float(self.forward[start, tag])
        reach = [path * float(self.backward[start, tag])]
        stop = min(self.chain_end[start], start + longest + 1)
        last = tag
        for t in range(start + 1, stop):
            path *= float(self.jumps[last, inside]) * float(self.step[t, inside])
            reach.append(path * float(self.backward[t, inside]))
            last = inside
        if stop == self.chain_end[start] and len(reach) <= longest:
            reach.append(0.0)
        return [max(0.0, a - b) for a, b in itertools.pairwise(reach)]


def lattice(scores: Floats, bounds: Bounds, transitions: Floats) -> Lattice:
    """Forward and backward passes over all chains."""
    step = np.exp(scores - scores.max(axis=1, keepdims=True)) if len(scores) else scores
    jumps = np.exp(transitions)
    forward = step.copy()
    backward = np.ones_like(step)
    steps = _side_by_side(bounds)
    for t, rows in enumerate(steps):
        own = step[rows]
        if t:
            own = own * np.add.reduce(forward[rows - 1][:, :, None] * jumps, axis=1)
        total = np.add.reduce(own, axis=1, keepdims=True)
        forward[rows] = own / total
        step[rows] /= total
    turned = np.ascontiguousarray(jumps.T)
    for rows in reversed(steps[1:]):
        backward[rows - 1] = np.add.reduce((step[rows] * backward[rows])[:, :, None] * turned, axis=1)
    chain_end = [0] * len(scores)
    for start, end in bounds:
        chain_end[start:end] = [end] * (end - start)
    return Lattice(forward, backward, step, jumps, chain_end)
