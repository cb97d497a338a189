"""Training of the span finder: where each value stands in the texts, aliases, and the tagger's weights."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import orjson

from slm_assets.canonical import Json
from slm_assets.models.linear.learner import fit_svm
from slm_assets.models.linear.paths import Path, text_of
from slm_assets.models.linear.spans import (
    BIAS,
    Document,
    Label,
    Tagger,
    alias_of,
    gazetteer,
    outline,
    spans_up_to,
    token_features,
)
from slm_assets.models.linear.text import CASTS, casts_for, close

Place = tuple[int, int, int]
"""Document, first token, last token (inclusive)."""

_ALIAS_TOKENS: Final = 4
_FORMS: Final = 8
_ALIASES: Final = 6
_UNSEEN: Final = -2.0
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass
class Occurrence:
    """One value of the output to be found in the texts of its row."""

    row: int
    path: Path
    value: Json
    places: list[Place] = field(default_factory=list)


def locate(docs: Sequence[Document], value: Json) -> list[tuple[Place, str]]:
    """Places where a text holds the value, each with the cast that yields it."""
    casts = casts_for(value)
    if not casts or value == "":
        return []
    found: list[tuple[Place, str]] = []
    for d, document in enumerate(docs):
        low = document.text.lower()
        if isinstance(value, str) and len(low) == len(document.text):
            starts = {t.start: i for i, t in enumerate(document.tokens)}
            ends = {t.end: i for i, t in enumerate(document.tokens)}
            wanted = value.lower()
            at = low.find(wanted)
            while at >= 0:
                first, last = starts.get(at), ends.get(at + len(wanted))
                if first is not None and last is not None:
                    piece = document.text[at : at + len(wanted)]
                    cast = next((c for c in casts[:4] if CASTS[c](piece) == value), None)
                    if cast:
                        found.append(((d, first, last), cast))
                at = low.find(wanted, at + 1)
        others = casts if not isinstance(value, str) else casts[4:]
        if isinstance(value, str) and not (value.isdigit() or _DATE.fullmatch(value)):
            continue
        if any(place[0] == d for place, _ in found):
            continue
        longest = 5 if isinstance(value, str) and not value.isdigit() else 1
        text = text_of(value)
        for i, j in spans_up_to(document, longest):
            piece = document.piece(i, j)
            cast = next((c for c in others if text_of_made(CASTS[c](piece)) == text), None)
            if cast:
                found.append(((d, i, j), cast))
    return found


def text_of_made(value: Any) -> str | None:
    """Canonical text of a cast's result; None where it yields none."""
    return text_of(value) if isinstance(value, (str, int, float)) else None


def learn_aliases(docs: Sequence[Sequence[Document]], occurrences: Sequence[Occurrence]) -> dict[str, Json]:
    """Alias → value: short word sequences that stand for one value in the rows of these occurrences.

    An alias is right in at least 60 % of the rows that contain it (and 40 points more often than the value
    occurs at all: a value of half of the rows is a default, no name), and in at least three rows (two where
    that is half of the value's rows). Each value takes as few aliases as cover its rows.
    """
    total: Counter[str] = Counter()
    joint: Counter[tuple[str, str]] = Counter()
    grams: list[set[str]] = []
    keys = [text_of(o.value) or "" for o in occurrences]
    rows_of: dict[str, list[int]] = defaultdict(list)
    for k, occurrence in enumerate(occurrences):
        found = _grams(docs[occurrence.row])
        grams.append(found)
        total.update(found)
        joint.update((gram, keys[k]) for gram in found)
        rows_of[keys[k]].append(k)
    least = {key: max(0.6, len(rows) / len(keys) + 0.4) for key, rows in rows_of.items()}
    precise = {gram for (gram, key), n in joint.items() if n >= least[key] * total[gram]}
    by_key: dict[str, list[str]] = defaultdict(list)
    for (gram, key), n in joint.items():
        if n >= 2 and n >= least[key] * total[gram] and 2 * len(rows_of[key]) < len(keys):
            by_key[key].append(gram)
    table: dict[str, Json] = {}
    for key in sorted(rows_of):
        left = set(rows_of[key])
        order = sorted(by_key[key], key=lambda g: _preference(g, joint[g, key], total[g], precise))
        chosen: list[str] = []
        for gram in order:
            gain = [k for k in left if gram in grams[k]]
            if len(gain) < (2 if 2 * len(gain) >= len(rows_of[key]) else 3):
                continue
            chosen.append(gram)
            left.difference_update(gain)
            if 2 * len(left) <= len(rows_of[key]):
                typos = {g for k in left for g in grams[k] if g[:1] == gram[:1] and close(g, gram)}
                left = {k for k in left if not grams[k] & typos}
        for gram in chosen:
            table.setdefault(gram, orjson.loads(key))
    return dict(sorted(table.items()))


def _preference(gram: str, joint: int, total: int, precise: set[str]) -> tuple[float, int, int, str]:
    words = gram.split(" ")
    vague = sum(word not in precise for word in words)
    return (-joint * joint / total, vague, -len(words), gram)


def _grams(docs: Sequence[Document]) -> set[str]:
    found: set[str] = set()
    for document in docs:
        for i, j in spans_up_to(document, _ALIAS_TOKENS):
            if document.tokens[i].low[0].isalnum() and document.tokens[j].low[-1].isalnum():
                found.add(alias_of(document, i, j))
    return found


def align(docs: Sequence[Sequence[Document]], occurrences: Sequence[Occurrence], name: str, *, lookup: bool) -> Label:
    """Find the places of the occurrences (set on them) and return the label that describes them."""
    casts: Counter[str] = Counter()
    longest = 1
    pending: list[Occurrence] = []
    for occurrence in occurrences:
        hits = locate(docs[occurrence.row], occurrence.value)
        occurrence.places = [place for place, _ in hits]
        if hits:
            casts[hits[0][1]] += 1
            longest = max(longest, *(j - i + 1 for _, i, j in occurrence.places[:1]))
        else:
            pending.append(occurrence)
    least = max(1, len(occurrences) // 100)
    kept = [cast for cast in CASTS if casts[cast] >= least]
    label = Label(name, tuple(sorted(kept, key=lambda c: (-casts[c], c))), {}, longest, _forms(docs, occurrences))
    if lookup and len(pending) >= 2 and len(pending) > 0.02 * len(occurrences):
        table = learn_aliases(docs, pending)
        few = len(table) <= _ALIASES * len({text_of(o.value) for o in pending})
        label.table = table if few else {}  # many for each value: words of a topic, no names
        label.longest = max([longest, *(len(alias.split(" ")) for alias in label.table)])
        aliases: dict[str | None, list[str]] = defaultdict(list)
        for alias, value in label.table.items():
            aliases[text_of(value)].append(alias)
        for occurrence in pending:
            wanted = aliases.get(text_of(occurrence.value), [])
            occurrence.places = _by_alias(docs[occurrence.row], wanted, label.longest) if wanted else []
    return label


def _forms(docs: Sequence[Sequence[Document]], occurrences: Sequence[Occurrence]) -> tuple[str, ...]:
    """The outlines of the pieces that were found, where these are few."""
    counts: Counter[str] = Counter()
    for occurrence in occurrences:
        for d, i, j in occurrence.places[:1]:
            counts[outline(docs[occurrence.row][d].piece(i, j))] += 1
    total = counts.total()
    kept = [form for form, n in counts.most_common() if n >= max(2, 0.005 * total)]
    few = len(kept) <= _FORMS and total >= 20 and sum(counts[form] for form in kept) >= 0.97 * total
    return tuple(sorted(kept)) if few else ()


def _by_alias(docs: Sequence[Document], aliases: Sequence[str], longest: int) -> list[Place]:
    exact, firsts = set(aliases), {alias[:1] for alias in aliases}
    places: list[Place] = []
    loose: list[Place] = []
    for d, document in enumerate(docs):
        for i, j in spans_up_to(document, longest):
            written = alias_of(document, i, j)
            if written in exact:
                places.append((d, i, j))
            elif written[:1] in firsts and any(close(written, alias) for alias in aliases):
                loose.append((d, i, j))
    return places or loose


def _clash(items: Sequence[Occurrence]) -> bool:
    used: set[tuple[int, int]] = set()
    for occurrence in items:
        if len(occurrence.places) > 1:
            return True
        for d, i, j in occurrence.places:
            spot = {(d, t) for t in range(i, j + 1)}
            if used & spot:
                return True
            used |= spot
    return False


def _choose(
    tagger: Tagger, docs: Sequence[Document], items: Sequence[tuple[int, Occurrence]]
) -> list[tuple[int, Place]]:
    scores = [tagger.scores(document) for document in docs]
    ranked = [
        (float(scores[d][i, 1 + 2 * k] - scores[d][i, 0]), n, k, (d, i, j))
        for n, (k, occurrence) in enumerate(items)
        for d, i, j in occurrence.places
    ]
    ranked.sort(key=lambda item: (-item[0], item[1], item[3]))
    done: set[int] = set()
    used: set[tuple[int, int]] = set()
    chosen: list[tuple[int, Place]] = []
    for _, n, k, (d, i, j) in ranked:
        spot = {(d, t) for t in range(i, j + 1)}
        if n not in done and not used & spot:
            done.add(n)
            used |= spot
            chosen.append((k, (d, i, j)))
    return chosen


class Examples:
    """Token features and places of all rows, worked out once for every tagger that is fitted on them."""

    def __init__(
        self, docs: Sequence[Sequence[Document]], labels: list[Label], found: Sequence[Sequence[Occurrence]]
    ) -> None:
        """`found`: the aligned occurrences of each label, in the order of `labels`."""
        self.docs = docs
        self.labels = labels
        self.by_row: dict[int, list[tuple[int, Occurrence]]] = defaultdict(list)
        for k, occurrences in enumerate(found):
            for occurrence in occurrences:
                self.by_row[occurrence.row].append((k, occurrence))
        words = gazetteer(labels)
        named = [[token_features(document, words) for document in row] for row in docs]
        df: Counter[str] = Counter()
        for row in named:
            for document in row:
                for token in document:
                    df.update(token)
        least = 2 if len(docs) >= 200 else 1
        self.names = sorted({BIAS, *(name for name, n in df.items() if n >= least)})
        index = {name: i for i, name in enumerate(self.names)}
        self.ids = [
            [[tuple(sorted({index[n] for n in token if n in index})) for token in document] for document in row]
            for row in named
        ]

    def train(self, skip: set[int], *, seed: int) -> Tagger:
        """A tagger from the rows outside `skip`.

        Rows with several places for a value wait for a second pass, where a first tagger chooses.
        """
        rows = [row for row in self.by_row if row not in skip]
        unclear = {row for row in rows if _clash([o for _, o in self.by_row[row]])}
        if len(rows) - len(unclear) < max(5, len(rows) // 10):
            unclear = set()
        chosen = {row: [(k, o.places[0]) for k, o in self.by_row[row] if o.places] for row in rows}
        tagger = self._fit(chosen, skip | unclear, seed)
        if unclear:
            for row in sorted(unclear):
                chosen[row] = _choose(tagger, self.docs[row], self.by_row[row])
            tagger = self._fit(chosen, skip, seed)
        return tagger

    def _fit(self, chosen: dict[int, list[tuple[int, Place]]], skip: set[int], seed: int) -> Tagger:
        """Weights of one pass; equal tokens with equal tags are one weighted example."""
        from scipy import sparse

        counts: Counter[tuple[tuple[int, ...], int]] = Counter()
        for row, named in enumerate(self.ids):
            if row in skip:
                continue
            tags = [[0] * len(document) for document in named]
            for k, (d, i, j) in chosen.get(row, []):
                tags[d][i] = 1 + 2 * k
                for t in range(i + 1, j + 1):
                    tags[d][t] = 2 + 2 * k
            for document, line in zip(named, tags, strict=True):
                counts.update(zip(document, line, strict=True))
        examples = sorted(counts)
        indptr = np.cumsum([0, *(len(ids) for ids, _ in examples)])
        indices = np.asarray([i for ids, _ in examples for i in ids], np.int64)
        x = sparse.csr_matrix((np.ones(len(indices)), indices, indptr), shape=(len(examples), len(self.names)))
        y = np.asarray([tag for _, tag in examples])
        weight = np.sqrt(np.asarray([counts[e] for e in examples], np.float64))
        full = np.zeros((len(self.names), 1 + 2 * len(self.labels)), np.float32)
        bias = self.names.index(BIAS)
        full[bias, 1:] = _UNSEEN
        if examples:
            classes, w, b = fit_svm(x, y, c=0.5, seed=seed, weight=weight)
            full[:, classes] = w
            full[bias, classes] += b
        used = np.union1d(np.flatnonzero(np.abs(full).max(axis=1) > 1e-4), [bias])
        weights = full[used].astype(np.float16).astype(np.float32)
        return Tagger(self.labels, [self.names[i] for i in used], weights)
