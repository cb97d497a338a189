"""Finding values in texts: a CRF tags the tokens, the likeliest piece that casts to a value is taken.

Where an earlier part of the output decides which values a text may hold (an intent, a tool), there is one
CRF for each of its values.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np

from slm_assets.models.linear.choice import Choice, Ranker
from slm_assets.models.linear.crf import Crf, Floats, Lattice, lattice, odds, viterbi
from slm_assets.models.linear.gazetteer import Gazetteer
from slm_assets.models.linear.lexicon import Ids, Lexicon
from slm_assets.models.linear.paths import ABSENT, Path, get, text_of
from slm_assets.models.linear.ranker import Ranked
from slm_assets.models.linear.spans import Document, Found, Label, cast_span, fuzzy
from slm_assets.models.linear.text import MAX_CHARS

Tag = tuple[int, int]
"""Layer, and B-tag in it."""

_POSSIBLE: Final = 0.01
_STARTS: Final = 300
_FUZZY_TRIES: Final = 12
_CACHE: Final = 1_000


def token_ids(document: Document, lexicon: Lexicon, known: Sequence[Sequence[str]]) -> list[Ids]:
    """The features of a document's tokens. `known`: what the gazetteer says of each."""
    place = "@" + document.place
    others = [[place, *names] for names in known]
    return lexicon.rows(document.text, document.tokens, others)


class Tagger:
    """`labels` of all CRFs and of the `choices` among pieces; `split`: the place of the output whose value chooses the
    CRF (None: there is one),
    `groups`: canonical text of the value → index into `crfs`."""

    def __init__(
        self,
        labels: list[Label],
        gazetteer: Gazetteer,
        crfs: list[Crf],
        split: Path | None,
        groups: dict[str, int],
        choices: Sequence[Choice] = (),
    ) -> None:
        self.labels = labels
        self.gazetteer = gazetteer
        self.crfs = crfs
        self.split = split
        self.groups = groups
        self.choose(choices)
        self._known: dict[str, int] = {}

    def choose(self, choices: Sequence[Choice]) -> None:
        """Choose so among pieces from now on."""
        self.choices = list(choices)
        self._ranker = Ranker(self.labels, self.choices)

    def group(self, output: Any) -> int:
        """The CRF for an output made so far, −1 where there is none."""
        if self.split is None:
            return 0
        found = get(output, self.split)
        group = self._known.get(found) if isinstance(found, str) else None
        if group is None:
            group = -1 if found is ABSENT else self.groups.get(text_of(found) or "", -1)
            if isinstance(found, str) and len(self._known) < _CACHE:
                self._known[found] = group
        return group

    def rank(self, docs: Sequence[Document]) -> Ranked:
        """The pieces of the texts for the labels that are chosen so."""
        return Ranked(self.labels, self._ranker, docs)

    def read(self, docs: Sequence[Document], group: int, ranked: Ranked | None = None) -> Reading:
        """Tag the texts of an input. `ranked`: their pieces, where these were ranked before."""
        return Reading(self, self.crfs[group] if group >= 0 else None, docs, ranked or self.rank(docs))


class Reading:
    """The texts of one input under one CRF, which works on the tokens of all of them as one row. `tags`: label → its
    tag, for the labels that the CRF has."""

    def __init__(self, tagger: Tagger, crf: Crf | None, docs: Sequence[Document], ranked: Ranked) -> None:
        self._labels = tagger.labels
        self._ranked = ranked
        self._layers = crf.layers if crf is not None else []
        self._docs = docs if self._layers else []
        self.tags = {
            label: (at, 1 + 2 * k) for at, layer in enumerate(self._layers) for k, label in enumerate(layer.labels)
        }
        self._found: dict[tuple[int, str, bool], list[Found]] = {}
        self._first = [0]
        self._chains: list[tuple[int, int]] = []
        for document in self._docs:
            at = self._first[-1]
            self._chains += [(at + start, at + end) for start, end in document.chains]
            self._first.append(at + len(document.tokens))
        self._scored: list[tuple[Floats, Floats]] = []
        self._told: dict[int, list[tuple[int, int, int]]] = {}
        if crf is not None and self._docs:
            known = [tagger.gazetteer.names(document.tokens) for document in docs]
            scores = crf.emitter.scores(docs, known)
            for layer in self._layers:
                own = scores[:, layer.columns]
                gains = odds(own, layer.transitions)
                self._scored.append((own, gains))
                for label, i, j in pieces(viterbi(own, self._chains, layer.transitions, gains), self._chains):
                    d = bisect_right(self._first, i) - 1
                    place = (d, i - self._first[d], j - self._first[d])
                    self._told.setdefault(layer.labels[label], []).append(place)

    def __contains__(self, label: int) -> bool:
        """Whether values of the label may be found here."""
        return label in self.tags or label in self._ranked

    @cached_property
    def _lattices(self) -> list[Lattice]:
        """Per layer, of all texts."""
        return [
            lattice(scores, self._chains, layer.transitions, gains)
            for layer, (scores, gains) in zip(self._layers, self._scored, strict=True)
        ]

    def mentions(self) -> list[str]:
        """Names of structured features: which labels the texts hold, how often, and whether as a value."""
        counts: dict[str, int] = {}
        for label in sorted(self._told):
            spec = self._labels[label]
            for d, i, j in self._told[label]:
                value = cast_span(spec, self._docs[d], i, j)
                known = value is not ABSENT or fuzzy(spec, self._docs[d], i, j) is not ABSENT
                name = f"tag:{spec.name}{'' if known else '?'}"
                counts[name] = counts.get(name, 0) + 1
        return [*counts, *(f"{name}#{min(n, 4)}" for name, n in counts.items()), *self._ranked.mentions()]

    def possible(self, label: int) -> float:
        """The highest probability of a token to begin a value of the label."""
        if label in self._ranked:
            return self._ranked.possible(label)
        if label not in self.tags:
            return 0.0
        layer, tag = self.tags[label]
        return self._highest[layer][tag]

    @cached_property
    def _highest(self) -> list[list[float]]:
        """Per layer and tag, the highest probability that a token has it."""
        if not self._first[-1]:
            return [[0.0] * len(layer.transitions) for layer in self._layers]
        return [own.marginals.max(axis=0).tolist() for own in self._lattices]

    def find(self, label: int, reading: str = "", *, must: bool) -> list[Found]:
        """Values for a label, the likeliest first, which may overlap; those of the likeliest tagging alone
        unless there `must` be one. `reading`: the convention that the text follows, "" for any."""
        if label in self._ranked:
            return self._ranked.find(label, reading, must=must)
        known = self._found.get((label, reading, must))
        if known is None:
            there = label in self.tags and self._first[-1] > 0  # an input may have no text at all
            known = self._find(label, reading, must=must) if there else []
            self._found[label, reading, must] = known
        return known

    def _find(self, label: int, reading: str, *, must: bool) -> list[Found]:
        spec, tag = self._labels[label], self.tags[label]
        told = set(self._told.get(label, ()))
        if not must and not told:
            return []
        spans = [(self._probability(tag, *span), *span) for span in told]
        if must:
            spans += [span for span in self._others(tag, spec.longest, least=_POSSIBLE) if span[1:] not in told]
        found = self._cast(spec, reading, spans, told, len(spans))
        if not found and must:
            every = self._others(tag, spec.longest, least=0.0)
            found = self._cast(spec, reading, every, told, 1)
            if not found and spec.table:
                found = self._misspelt(spec, every, told)
        elif not found and spec.table:
            found = self._misspelt(spec, spans, told)
        return found

    def told(self, label: int) -> list[tuple[int, int, Found]]:
        """The values of a label in the likeliest tagging: text, its line (unlike those of other texts), value."""
        if label in self._ranked:
            return self._ranked.told(label)
        out = []
        for d, i, j in self._told.get(label, ()):
            value = cast_span(self._labels[label], self._docs[d], i, j)
            if value is not ABSENT:
                chance = self._probability(self.tags[label], d, i, j)
                out.append(
                    (d, d * MAX_CHARS + self._docs[d].line_of[i], self._made(value, d, i, j, chance, {(d, i, j)}))
                )
        return out

    def probability(self, label: int, place: tuple[int, int, int]) -> float:
        """That a value of the label stands at exactly this place: text, first token, last token."""
        return self._probability(self.tags[label], *place) if label in self.tags else 0.0

    def _probability(self, tag: Tag, d: int, i: int, j: int) -> float:
        chances = self._lattices[tag[0]].spans(tag[1], self._first[d] + i, j - i + 1)
        return chances[-1] if len(chances) == j - i + 1 else 0.0

    def _others(self, tag: Tag, longest: int, *, least: float) -> list[tuple[float, int, int, int]]:
        own = self._lattices[tag[0]]
        column = own.marginals[:, tag[1]]
        starts = sorted((-float(column[at]), at) for at in np.flatnonzero(column > least).tolist())
        spans = []
        for _, at in starts[:_STARTS]:
            d = bisect_right(self._first, at) - 1
            i = at - self._first[d]
            for length, chance in enumerate(own.spans(tag[1], at, longest)):
                if chance > least / 10:
                    spans.append((chance, d, i, i + length))
        return spans

    def _cast(
        self,
        spec: Label,
        reading: str,
        spans: list[tuple[float, int, int, int]],
        told: set[tuple[int, int, int]],
        most: int,
    ) -> list[Found]:
        spans.sort(key=lambda span: (-span[0], *span[1:]))
        found: list[Found] = []
        for chance, d, i, j in spans:
            value = cast_span(spec, self._docs[d], i, j, reading)
            if value is not ABSENT:
                found.append(self._made(value, d, i, j, chance, told))
                if len(found) == most:
                    break
        return found

    def _misspelt(
        self, spec: Label, spans: list[tuple[float, int, int, int]], told: set[tuple[int, int, int]]
    ) -> list[Found]:
        for chance, d, i, j in spans[:_FUZZY_TRIES]:
            value = fuzzy(spec, self._docs[d], i, j)
            if value is not ABSENT:
                return [self._made(value, d, i, j, chance, told)]
        return []

    def _made(self, value: Any, d: int, i: int, j: int, chance: float, told: set[tuple[int, int, int]]) -> Found:
        document = self._docs[d]
        start, end = document.tokens[i].start, document.tokens[j].end
        return Found(value, document.path, start, end, min(1.0, chance), (d, i, j) in told)


def pieces(tags: Sequence[int], chains: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """(label, first token, last token) of every span of a tagging, in order. An I without its B is none."""
    out = []
    for start, end in chains:
        i = start
        while i < end:
            tag = tags[i]
            j = i
            if tag % 2 == 1:
                while j + 1 < end and tags[j + 1] == tag + 1:
                    j += 1
                out.append((tag // 2, i, j))
            i = j + 1
    return out
