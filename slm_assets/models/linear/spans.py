"""Finding values in texts: a linear tagger scores tokens, the best piece that casts to a value is taken."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slm_assets.canonical import Json
from slm_assets.models.linear.paths import ABSENT, Path
from slm_assets.models.linear.text import CASTS, Token, close, tokens

_DIGIT = re.compile(r"\d")
_TRIES: Final = 300

BIAS: Final = "bias"
"""The feature that every token has, and every tagger knows: so no token is without features."""

_FUZZY_TRIES: Final = 12


@dataclass
class Label:
    """A place of the output that is filled from texts. `table`: alias (lower case) → value; `casts` are
    tried in order on pieces of the given `forms` (outlines; none: any); `longest` in tokens."""

    name: str
    casts: tuple[str, ...] = ()
    table: dict[str, Json] = field(default_factory=dict)
    longest: int = 1
    forms: tuple[str, ...] = ()

    def to_json(self) -> Json:
        """A list that `from_json` reads."""
        return [self.name, list(self.casts), self.table, self.longest, list(self.forms)]

    @classmethod
    def from_json(cls, value: Json) -> Label:
        """The inverse of `to_json`."""
        name, casts, table, longest, forms = value
        return cls(name, tuple(casts), table, longest, tuple(forms))


class Found(NamedTuple):
    """A value read from a text: where, and the tagger's margin for it."""

    value: Any
    path: Path
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Document:
    """One text of an input with its tokens."""

    path: Path
    text: str
    tokens: list[Token]

    def piece(self, i: int, j: int) -> str:
        """The text of tokens i to j (inclusive)."""
        return self.text[self.tokens[i].start : self.tokens[j].end]


def documents(texts: Sequence[tuple[str, Path, str]]) -> list[Document]:
    """Tokenise the texts of an input."""
    return [Document(path, text, tokens(text)) for _, path, text in texts]


def outline(word: str) -> str:
    """The form of a word: letters A/a, digits 0, runs longer than two cut."""
    out = ""
    for char in word[:24]:
        kind = "0" if char.isdigit() else "A" if char.isupper() else "a" if char.isalpha() else char
        if not out.endswith(kind * 2):
            out += kind
    return out


def token_features(document: Document, gazetteer: Sequence[frozenset[str]]) -> list[list[str]]:
    """Names of the features of each token: itself, its form, its neighbours, and known aliases."""
    lows = [_DIGIT.sub("0", t.low) for t in document.tokens]
    known = ["".join(str(k) for k, words in enumerate(gazetteer) if t.low in words) for t in document.tokens]
    size = len(lows)
    padded = ["<<", "<", *lows, ">", ">>"]
    out = []
    for i in range(size):
        before2, before, low, after, after2 = padded[i : i + 5]
        names = [
            BIAS,
            "w=" + low,
            "f=" + outline(document.text[document.tokens[i].start : document.tokens[i].end]),
            "a=" + low[:3],
            "z=" + low[-3:],
            "-1=" + before,
            "+1=" + after,
            "-2=" + before2,
            "+2=" + after2,
            f"-21={before2} {before}",
            f"+12={after} {after2}",
            f"-10={before} {low}",
            f"+01={low} {after}",
        ]
        if known[i]:
            names.append("g=" + known[i])
        if i and known[i - 1]:
            names.append("-g=" + known[i - 1])
        if i + 1 < size and known[i + 1]:
            names.append("+g=" + known[i + 1])
        out.append(names)
    return out


class Tagger:
    """Weights [features, 1 + 2 · labels] in the order O, B and I of each label."""

    def __init__(self, labels: list[Label], names: Sequence[str], weights: NDArray[np.float32]) -> None:
        self.labels = labels
        self.names = list(names)
        self.weights = weights
        self._index = {name: i for i, name in enumerate(names)}
        self.gazetteer = gazetteer(labels)

    def scores(self, document: Document) -> NDArray[np.float32]:
        """Margins [tokens, 1 + 2 · labels]."""
        index = self._index
        rows: list[int] = []
        starts: list[int] = []
        for names in token_features(document, self.gazetteer):
            starts.append(len(rows))
            rows += [index[name] for name in names if name in index]
        if not starts:
            return np.zeros((0, self.weights.shape[1]), np.float32)
        taken = self.weights.take(rows, axis=0)
        summed: NDArray[np.float32] = np.add.reduceat(taken, starts, axis=0)
        return summed

    def mentions(self, docs: Sequence[Document], scores: Sequence[NDArray[np.float32]]) -> list[str]:
        """Names of structured features: which labels the tagger sees, how often, and whether as a value."""
        counts: dict[str, int] = {}
        for document, margins in zip(docs, scores, strict=True):
            best = margins.argmax(axis=1).tolist() if len(margins) else []
            for i, tag in enumerate(best):
                if tag % 2 == 1:
                    label = tag // 2
                    j = i
                    while j + 1 < len(best) and best[j + 1] == tag + 1:
                        j += 1
                    spec = self.labels[label]
                    known = cast_span(spec, document, i, j) is not ABSENT or fuzzy(spec, document, i, j) is not ABSENT
                    name = f"tag:{spec.name}{'' if known else '?'}"
                    counts[name] = counts.get(name, 0) + 1
        return [*counts, *(f"{name}#{min(n, 4)}" for name, n in counts.items())]

    def find(
        self, docs: Sequence[Document], scores: Sequence[NDArray[np.float32]], label: int, most: int
    ) -> list[Found]:
        """Up to `most` values for a label, the best first; they may overlap."""
        spec = self.labels[label]
        spans = _ranked(docs, scores, label, spec.longest)
        found: list[Found] = []
        for score, d, i, j in spans[:_TRIES]:
            value = cast_span(spec, docs[d], i, j)
            if value is not ABSENT:
                found.append(_found(docs[d], i, j, value, score))
                if len(found) == most:
                    break
        if not found and spec.table:
            for score, d, i, j in spans[:_FUZZY_TRIES]:
                value = fuzzy(spec, docs[d], i, j)
                if value is not ABSENT:
                    return [_found(docs[d], i, j, value, score)]
        return found


def _found(document: Document, i: int, j: int, value: Any, score: float) -> Found:
    return Found(value, document.path, document.tokens[i].start, document.tokens[j].end, score)


def gazetteer(labels: Sequence[Label]) -> list[frozenset[str]]:
    """The words that stand in each label's aliases."""
    return [frozenset(word for alias in label.table for word in alias.split(" ")) for label in labels]


def alias_of(document: Document, i: int, j: int) -> str:
    """Tokens i to j (inclusive) as an alias."""
    return " ".join(token.low for token in document.tokens[i : j + 1])


def cast_span(label: Label, document: Document, i: int, j: int) -> Any:
    """The value that tokens i to j (inclusive) stand for, or ABSENT."""
    if label.table:
        known = label.table.get(alias_of(document, i, j), ABSENT)
        if known is not ABSENT:
            return known
    if label.casts:
        piece = document.piece(i, j)
        for cast in label.casts if not label.forms or outline(piece) in label.forms else ():
            value = CASTS[cast](piece)
            if value is not ABSENT:
                return value
    return ABSENT


def fuzzy(label: Label, document: Document, i: int, j: int) -> Any:
    """The value of the first alias that tokens i to j misspell, or ABSENT."""
    written = alias_of(document, i, j)
    for alias, value in label.table.items():
        if alias[:1] == written[:1] and close(written, alias):
            return value
    return ABSENT


def _ranked(
    docs: Sequence[Document], scores: Sequence[NDArray[np.float32]], label: int, longest: int
) -> list[tuple[float, int, int, int]]:
    """(score, document, first token, last token) of all spans up to a length, the best first.

    A span scores the margin of its B over O, plus those of I over O inside, less the next token's I.
    """
    spans: list[tuple[float, int, int, int]] = []
    for d, margins in enumerate(scores):
        size = len(margins)
        if not size:
            continue
        begin = margins[:, 1 + 2 * label] - margins[:, 0]
        inside = margins[:, 2 + 2 * label] - margins[:, 0]
        after = np.maximum(np.append(inside[1:], np.float32(0)), 0)
        total = begin
        for length in range(1, min(longest, size) + 1):
            if length > 1:
                total = total[:-1] + inside[length - 1 :]
            final = total - after[length - 1 :]
            spans += zip(final.tolist(), [d] * len(final), range(size), range(length - 1, size), strict=False)
    spans.sort(key=lambda span: (-span[0], span[1], span[2], span[3]))
    return spans


def in_order(found: Sequence[Found], count: int) -> list[Found]:
    """The best `count` spans that do not overlap, in the order of the text."""
    chosen: list[Found] = []
    for item in found:
        if all(item.path != c.path or item.end <= c.start or item.start >= c.end for c in chosen):
            chosen.append(item)
            if len(chosen) == count:
                break
    return sorted(chosen, key=lambda item: ([str(s) for s in item.path], item.start))


def spans_up_to(document: Document, longest: int) -> Iterator[tuple[int, int]]:
    """(first, last) token of every span up to a length."""
    size = len(document.tokens)
    for i in range(size):
        for j in range(i, min(size, i + longest)):
            yield i, j
