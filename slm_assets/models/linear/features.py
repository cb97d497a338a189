"""Input JSON → sparse features: path=value of the structured part, word and character n-grams of texts."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil, log
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from slm_assets.canonical import Json
from slm_assets.models.linear.paths import MAX_DEPTH, MAX_NODES, Path
from slm_assets.models.linear.settings import LinearSettings
from slm_assets.models.linear.text import MAX_CHARS

_WORD = re.compile(r"\w+|[^\w\s]")
_DIGIT = re.compile(r"\d")
_CACHE: Final = 50_000
_LONG: Final = 200

Row = tuple[NDArray[np.int64], NDArray[np.float32]]


class Embedder(Protocol):
    """Texts as vectors of `size` numbers: one more block of features, whose weight is the vectors' length."""

    @property
    def size(self) -> int:
        """Numbers in a vector."""
        ...

    def embed(self, text: str) -> NDArray[np.float32]:
        """The vector of a text."""
        ...

    def forget(self) -> None:
        """Compute again what is remembered."""
        ...


@dataclass
class Parts:
    """What one input consists of: names of structured features, and texts by (place name, path, text)."""

    names: dict[str, None] = field(default_factory=dict)
    texts: list[tuple[str, Path, str]] = field(default_factory=list)
    nodes: int = 0


def split_parts(value: Json, text_names: frozenset[str]) -> Parts:
    """Walk an input once, bounded in depth and number of nodes."""
    parts = Parts()
    _collect(value, "", (), text_names, parts)
    if len(parts.texts) > 1:
        parts.texts.sort(key=lambda item: item[:2])  # independent of the order of keys
    return parts


def _collect(node: Json, name: str, path: Path, text_names: frozenset[str], parts: Parts) -> None:
    parts.nodes += 1
    if parts.nodes > MAX_NODES or len(path) > MAX_DEPTH:
        return
    names = parts.names
    if isinstance(node, str):
        if name in text_names:
            parts.texts.append((name, path, node))
            names[name] = None
            return
        if len(node) < 40:
            names[f"{name}={node}"] = None
        head, colon, _ = node.partition(":")
        if colon and len(head) < 40:
            names[f"{name}^{head}"] = None
        names[name] = None
    elif isinstance(node, dict):
        if path:
            names[name] = None
        for key, child in node.items():
            _collect(child, f"{name}/{key}", (*path, key), text_names, parts)
    elif isinstance(node, list):
        names[f"{name}#{min(len(node), 9)}"] = None
        for i, child in enumerate(node):
            _collect(child, f"{name}/*", (*path, i), text_names, parts)
    else:
        names[name] = None
        names[f"{name}={node}" if node is None or abs(node) < 1e12 else f"{name}~big"] = None


def find_texts(values: Sequence[Json]) -> frozenset[str]:
    """Names of the places that hold running text: strings with a space in more than 30 % of rows.

    Where no place qualifies, places whose strings are mostly distinct count, as single words may be the text.
    """
    seen: Counter[str] = Counter()
    spaced: Counter[str] = Counter()
    distinct: dict[str, set[str]] = {}
    for value in values:
        stack: list[tuple[str, Json, int]] = [("", value, 0)]
        for _ in range(MAX_NODES):
            if not stack:
                break
            name, node, depth = stack.pop()
            if isinstance(node, dict) and depth < MAX_DEPTH:
                stack.extend((f"{name}/{key}", child, depth + 1) for key, child in node.items())
            elif isinstance(node, list) and depth < MAX_DEPTH:
                stack.extend((f"{name}/*", child, depth + 1) for child in node[:MAX_NODES])
            elif isinstance(node, str):
                seen[name] += 1
                spaced[name] += " " in node.strip()
                distinct.setdefault(name, set()).add(node)
    found = {name for name, n in seen.items() if spaced[name] > 0.3 * n}
    if not found:
        found = {name for name, n in seen.items() if n >= 8 and len(distinct[name]) > 0.5 * n}
    return frozenset(found)


def texts_of(values: Sequence[Json], text_names: frozenset[str]) -> list[str]:
    """The distinct texts of inputs, in the order in which they come."""
    return list(dict.fromkeys(text for value in values for _, _, text in split_parts(value, text_names).texts))


@dataclass(frozen=True)
class Tree:
    """A decision tree over structured features, as conditions: the nodes that an input passes are features.

    `feature`: structured feature tested at each node, −1 at leaves; `absent`, `present`: the next node;
    `start`: index of the root's feature.
    """

    feature: list[int]
    absent: list[int]
    present: list[int]
    start: int

    def passed(self, active: set[int]) -> list[int]:
        """Features of the nodes on the way of an input, the root left out."""
        out: list[int] = []
        node = 0
        while self.feature[node] >= 0:
            node = (self.present if self.feature[node] in active else self.absent)[node]
            out.append(self.start + node)
        return out


class _Line(NamedTuple):
    """A line of a text: its words, n-grams of words and characters that are in the vocabulary; its first and last
    word, "" where it has none."""

    words: list[int]
    grams: list[int]
    chars: list[int]
    first: str
    last: str


class Featurizer:
    """A fitted vocabulary: structured names, words, character n-grams, embedding, trees, in this order of indices."""

    def __init__(self, settings: LinearSettings, text_names: Sequence[str], embedder: Embedder | None = None) -> None:
        self.settings = settings
        self.text_names = frozenset(text_names)
        self.embedder = embedder
        self.names: dict[str, int] = {}
        self.words: dict[str, int] = {}
        self.chars: dict[str, int] = {}
        self.trees: list[Tree] = []
        self.idf: NDArray[np.float32] = np.zeros(0, np.float32)
        self._pieces: dict[str, list[int]] = {}
        self._seen: dict[str, _Line] = {}

    @property
    def size(self) -> int:
        """Number of features."""
        return self._dense.stop + sum(len(tree.feature) for tree in self.trees)

    @property
    def _dense(self) -> range:
        """The indices of the embedding."""
        start = len(self.names) + len(self.words) + len(self.chars)
        return range(start, start + (self.embedder.size if self.embedder is not None else 0))

    def fit(self, rows: Sequence[Sequence[str]], texts: Sequence[Parts]) -> None:
        """Choose the vocabulary from each row's structured names and texts.

        Kept are words and n-grams in `min_df` rows, values (`place=value`) in 0.3 % of the rows, and one
        of structured names that always occur together; never what every row has.
        """
        word_df: Counter[str] = Counter()
        char_df: Counter[str] = Counter()
        grams: dict[str, list[str]] = {}
        for row in texts:
            words: set[str] = set()
            for _, _, text in row.texts:
                words.update(self._word_grams(_words(text)))
            word_df.update(words)
            chars: set[str] = set()
            for gram in words:
                if " " not in gram:
                    if gram not in grams:
                        grams[gram] = self._char_grams(gram)
                    chars.update(grams[gram])
            char_df.update(chars)
        s = self.settings
        least = s.min_df if len(texts) >= 200 else 1
        kept_words = _frequent(word_df, least, s.max_features) if s.word_weight else []
        kept_chars = _frequent(char_df, least, s.max_features) if s.char_weight else []
        names = _structured(rows, least, s.max_features) if s.path_weight else []
        idf = [0.0] * len(names)
        for df, kept in ((word_df, kept_words), (char_df, kept_chars)):
            idf += [log((1 + len(texts)) / (1 + df[name])) + 1 for name in kept]
        self.restore([names, kept_words, kept_chars], np.asarray(idf, np.float32), [])

    def restore(self, vocabulary: Sequence[Sequence[str]], idf: NDArray[np.float32], trees: list[Tree]) -> None:
        """Set the vocabulary: structured names, words and n-grams in index order, idf of all, trees."""
        start = 0
        tables: list[dict[str, int]] = []
        for names in vocabulary:
            tables.append({name: start + i for i, name in enumerate(names)})
            start += len(names)
        self.names, self.words, self.chars = tables
        self.idf = idf
        self.trees = trees
        self._pieces = {}
        self._seen = {}

    def vocabulary(self) -> list[list[str]]:
        """The names in index order, as `restore` takes them."""
        return [list(self.names), list(self.words), list(self.chars)]

    def parts(self, value: Json) -> Parts:
        """The named parts of one input."""
        return split_parts(value, self.text_names)

    def known(self, names: Iterable[str]) -> list[int]:
        """Indices of the structured names that are in the vocabulary, sorted."""
        table = self.names
        return sorted([table[name] for name in names if name in table])

    def row(self, active: list[int], parts: Parts) -> Row:
        """Feature indices and values of the structured features and the texts; repeated indices add up."""
        blocks = [self.flat(active, self.settings.path_weight)]
        for _, _, text in parts.texts:
            lines = self._lines(text)
            blocks.append(self._block(self._word_ids(lines), self.settings.word_weight))
            if self.chars:
                blocks.append(self._block([i for line in lines for i in line.chars], self.settings.char_weight))
            if self.embedder is not None:
                dense = self._dense
                blocks.append((np.arange(dense.start, dense.stop, dtype=np.int64), self.embedder.embed(text)))
        return np.concatenate([b[0] for b in blocks]), np.concatenate([b[1] for b in blocks])

    def flat(self, indices: list[int], weight: float) -> Row:
        """Features that all have one value."""
        return np.asarray(indices, np.int64), np.full(len(indices), weight, np.float32)

    def _block(self, ids: list[int], weight: float) -> Row:
        """TF-IDF with logarithmic counts, length 1 times `weight`."""
        if not ids:
            return self.flat([], weight)
        counts = Counter(ids)
        index = np.fromiter(counts, np.int64, len(counts))
        values = self.idf.take(index)
        if len(ids) != len(counts):
            values *= 1 + np.log(np.fromiter(counts.values(), np.float32, len(counts)))
        values *= np.float32(weight) / np.sqrt(np.add.reduce(values * values))
        return index, values

    def _lines(self, text: str) -> list[_Line]:
        """The lines of a text that hold words; forms and footers come again and again."""
        cache, out = self._seen, []
        text = text[:MAX_CHARS]
        for written in text.split("\n") if self.settings.word_ngrams < 3 else [text]:
            line = cache.get(written)
            if line is None:
                line = self._line(written)
                if len(written) <= _LONG:
                    if len(cache) >= _CACHE:
                        cache.clear()
                    cache[written] = line
            if line.first:
                out.append(line)
        return out

    def _line(self, written: str) -> _Line:
        words, table = _words(written), self.words
        if not words:
            return _Line([], [], [], "", "")
        grams = self._word_grams(words)
        single = [i for i in map(table.get, words) if i is not None]
        joint = [i for i in map(table.get, grams[len(words) :]) if i is not None]
        return _Line(single, joint, self._char_ids(words), words[0], words[-1])

    def _word_ids(self, lines: Sequence[_Line]) -> list[int]:
        ids = [i for line in lines for i in line.words]
        last = ""
        for line in lines:
            if last and self.settings.word_ngrams > 1:
                bridge = self.words.get(f"{last} {line.first}")
                if bridge is not None:
                    ids.append(bridge)
            ids += line.grams
            last = line.last
        return ids

    def _char_ids(self, words: list[str]) -> list[int]:
        ids: list[int] = []
        cache, table = self._pieces, self.chars
        for word in words if table else ():
            known = cache.get(word)
            if known is None:
                known = [table[gram] for gram in self._char_grams(word) if gram in table]
                if len(cache) >= _CACHE:
                    cache.clear()
                cache[word] = known
            ids += known
        return ids

    def _word_grams(self, words: list[str]) -> list[str]:
        grams = list(words)
        if self.settings.word_ngrams > 1:
            grams += [f"{a} {b}" for a, b in itertools.pairwise(words)]
        for n in range(3, self.settings.word_ngrams + 1):
            grams += [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
        return grams

    def _char_grams(self, word: str) -> list[str]:
        padded = f" {word[:40]} "
        return [padded[i : i + n] for n in range(2, self.settings.char_ngrams + 1) for i in range(len(padded) - n + 1)]


def _words(text: str) -> list[str]:
    return _WORD.findall(_DIGIT.sub("0", text[:MAX_CHARS].casefold()))


def decoded_names(key: str, value: Json) -> list[str]:
    """Structured names of a part of the output that was decoded before, under its top key."""
    parts = Parts()
    _collect(value, f"out:/{key}", ("",), frozenset(), parts)
    return list(parts.names)


def _structured(rows: Sequence[Sequence[str]], least: int, most: int) -> list[str]:
    where: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        for name in row:
            where.setdefault(name, []).append(i)
    rare = max(least, ceil(0.003 * len(rows)))
    first: dict[tuple[int, ...], str] = {}
    for name in sorted(where, key=lambda name: (len(name), name)):
        found = where[name]
        valued = "=" in name or "^" in name
        if (rare if valued else least) <= len(found) < len(rows):
            first.setdefault(tuple(found), name)
    kept = sorted(first.items(), key=lambda item: (-len(item[0]), item[1]))[:most]
    return sorted(name for _, name in kept)


def _frequent(df: Counter[str], least: int, most: int) -> list[str]:
    names = [name for name, n in df.items() if n >= least]
    if len(names) > most:
        names = sorted(names, key=lambda name: (-df[name], name))[:most]
    return sorted(names)


def matrix(rows: Sequence[Row], size: int) -> Any:
    """The rows as a scipy CSR matrix [rows, size], float64."""
    from scipy import sparse

    indptr = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row[0]) for row in rows], out=indptr[1:])
    indices = np.concatenate([row[0] for row in rows]) if rows else np.zeros(0, np.int64)
    values = np.concatenate([row[1] for row in rows]) if rows else np.zeros(0, np.float32)
    out = sparse.csr_matrix((values.astype(np.float64), indices, indptr), shape=(len(rows), size))
    out.sum_duplicates()
    return out
