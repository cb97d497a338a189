"""A linear-chain CRF in numpy: the likeliest tagging (Viterbi 1967), and the probability of a span
(forward-backward, Rabiner 1989). Chains of one text are worked through side by side, so that the cost
grows with the longest chain and not with the text. Nothing of the training library is needed here."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slm_assets.models.linear.emit import Emitter
from slm_assets.models.linear.lexicon import Lexicon

_SURE: Final = 1e-4
"""Below this chance of being part of a span, a token is taken for none."""

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

    @cached_property
    def emitter(self) -> Emitter:
        """What scores the tokens of texts."""
        return Emitter(self.lexicon, self.weights)


class _Packed(NamedTuple):
    """Tokens in the order in which runs are worked through side by side: all first ones, all second ones, …
    `order`: their places in the text; `steps`: per step, where its tokens begin and how many there are (those
    of the step before begin with the same runs); `runs`: first token and the one past the last, the longest
    run first."""

    order: NDArray[np.int64]
    steps: list[tuple[int, int]]
    runs: list[tuple[int, int]]


def _packed(runs: list[tuple[int, int]]) -> _Packed:
    runs.sort(key=lambda run: (run[0] - run[1], run[0]))
    order: list[int] = []
    steps: list[tuple[int, int]] = []
    active = len(runs)
    for t in range(runs[0][1] - runs[0][0] if runs else 0):
        while runs[active - 1][1] - runs[active - 1][0] <= t:
            active -= 1
        steps.append((len(order), active))
        order += [start + t for start, _ in runs[:active]]
    return _Packed(np.asarray(order, np.int64), steps, runs)


def odds(scores: Floats, transitions: Floats) -> Floats:
    """Upper bounds [tokens, tags − 1] of what a token gains by any other tag than O, in logarithms: whatever
    its neighbours have, taking O instead changes a path by at least as much."""
    come = np.maximum((transitions - transitions[:, :1]).max(axis=0), 0)  # 0: nothing stands before
    go = np.maximum((transitions - transitions[:1]).max(axis=1), 0)
    gains: Floats = scores[:, 1:] - scores[:, :1] + (come + go)[1:]
    return gains


def _open(scores: Floats, bounds: Bounds, transitions: Floats, sure: NDArray[np.bool_]) -> tuple[_Packed, Floats]:
    """The runs of tokens that are not `sure` to be O, each within its chain, and the scores of their tokens in
    the packing's order; a run's ends know of the O beside them."""
    runs: list[tuple[int, int]] = []
    after_o, before_o = [], []
    begins = {start for start, _ in bounds}
    first = last = -2
    for at in [*np.flatnonzero(~sure).tolist(), len(scores) + 1]:
        if at == last + 1 and at not in begins:
            last = at
            continue
        if first >= 0:
            runs.append((first, last + 1))
            if first not in begins:
                after_o.append(first)
            if last + 1 < len(scores) and last + 1 not in begins:
                before_o.append(last)
        first = last = at
    packed = _packed(runs)
    own = scores.copy()
    own[after_o] += transitions[0]
    own[before_o] += transitions[:, 0]
    return packed, own.take(packed.order, axis=0)


def viterbi(scores: Floats, bounds: Bounds, transitions: Floats, gains: Floats) -> list[int]:
    """The likeliest tags of all tokens; the lower tag where two are equally good. `gains`: their `odds`."""
    tags = [0] * len(scores)
    sure = gains.max(axis=1) < 0
    if sure.all():
        return tags
    (_, steps, runs), best = _open(scores, bounds, transitions, sure)
    came = np.empty(best.shape, np.int64)
    into = np.ascontiguousarray(transitions.T)
    for (before, _), (at, count) in itertools.pairwise(steps):
        ways = best[before : before + count, None, :] + into
        came[at : at + count] = ways.argmax(axis=2)
        best[at : at + count] += ways.max(axis=2)
    lasts: list[int] = best.argmax(axis=1).tolist()
    backward: Any = came.tolist()
    for run, (start, end) in enumerate(runs):
        tag = lasts[steps[end - start - 1][0] + run]
        for t in range(end - start - 1, 0, -1):
            tags[start + t] = tag
            tag = backward[steps[t][0] + run][tag]
        tags[start] = tag
    return tags


@dataclass
class Lattice:
    """What probabilities of spans are made of. `forward`, `backward` [tokens, tags] are scaled so that their
    product is each token's marginal; `step` [tokens, tags]: the factor by which a token adds to a path."""

    forward: Floats
    backward: Floats
    step: Floats
    jumps: Floats
    run_end: list[int]

    @cached_property
    def marginals(self) -> Floats:
        """The probability [tokens, tags] of each tag of each token."""
        return self.forward * self.backward

    def spans(self, tag: int, start: int, longest: int) -> list[float]:
        """The probability that a span that begins with `tag` and goes on with the next covers exactly 1, 2, …
        tokens from `start` on, up to `longest` or to where O is sure."""
        inside = tag + 1
        path = float(self.forward[start, tag])
        reach = [path * float(self.backward[start, tag])]
        stop = min(self.run_end[start], start + longest + 1)
        last = tag
        for t in range(start + 1, stop):
            path *= float(self.jumps[last, inside]) * float(self.step[t, inside])
            reach.append(path * float(self.backward[t, inside]))
            last = inside
        if stop == self.run_end[start] and len(reach) <= longest:
            reach.append(0.0)
        return [max(0.0, a - b) for a, b in itertools.pairwise(reach)]


def lattice(scores: Floats, bounds: Bounds, transitions: Floats, gains: Floats) -> Lattice:
    """Forward and backward passes over all chains. A token that is anything but O with a chance below _SURE
    is taken for O, which cuts its chain. `gains`: their `odds`."""
    sure = np.exp(np.minimum(gains, 0)).sum(axis=1) < _SURE
    (order, steps, runs), packed = _open(scores, bounds, transitions, sure)
    if len(packed):
        packed = np.exp(packed - packed.max(axis=1, keepdims=True))
    jumps = np.exp(transitions)
    into = np.ascontiguousarray(jumps.T)
    forward = np.empty_like(packed)
    for t, (at, count) in enumerate(steps):
        own = packed[at : at + count]
        if t:
            before = steps[t - 1][0]
            own = own * np.add.reduce(forward[before : before + count, :, None] * jumps, axis=1)
        total = np.add.reduce(own, axis=1, keepdims=True)
        forward[at : at + count] = own / total
        packed[at : at + count] /= total
    backward = np.ones_like(packed)
    for (before, _), (at, count) in reversed(list(itertools.pairwise(steps))):
        follows = packed[at : at + count] * backward[at : at + count]
        backward[before : before + count] = np.add.reduce(follows[:, :, None] * into, axis=1)
    whole = np.zeros((3, *scores.shape), np.float32)
    whole[:, :, 0] = 1
    whole[:, order] = forward, backward, packed
    run_end = list(range(1, len(scores) + 1))
    for start, end in runs:
        run_end[start:end] = [end] * (end - start)
    return Lattice(whole[0], whole[1], whole[2], jumps, run_end)
