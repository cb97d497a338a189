"""Features of tokens as small integers: one way to them for training, which makes new ones, and prediction."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from slm_assets.models.linear.text import Token

WORD: Final = ("w", "p", "n", "pp", "nn")
"""A token itself; as the one before, after, two before, two after."""

AFFIX: Final = ("form", "head", "tail")
PAIR: Final = ("pw", "wn", "ppp", "nnn")
"""Two neighbours: seen from the second, the first, the one after them, the one before them."""

OTHER: Final = "other"
TEMPLATES: Final = (*WORD, *AFFIX, *PAIR, OTHER)
BIAS: Final = "bias"

Ids = list[int]
Kept = TypeVar("Kept")

_DIGIT = re.compile(r"\d")
_CACHE: Final = 50_000
EDGES: Final = ("<<", "<", ">", ">>")
"""What stands before the first and after the last token."""


def outline(word: str) -> str:
    """The form of a word: letters A/a, digits 0, runs longer than two cut."""
    out = ""
    for char in word[:24]:
        kind = "0" if char.isdigit() else "A" if char.isupper() else "a" if char.isalpha() else char
        if not out.endswith(kind * 2):
            out += kind
    return out


def masked(low: str) -> str:
    """A word with every digit a 0."""
    return _DIGIT.sub("0", low)


def affixes(surface: str) -> tuple[str, str, str]:
    """The form, the beginning and the end of a word."""
    low = masked(surface.lower())
    return outline(surface), low[:3], low[-3:]


class Lexicon:
    """Template → name → id. Without tables it grows: every name gets the next id."""

    def __init__(self, tables: dict[str, dict[str, int]] | None = None) -> None:
        self.grows = tables is None
        self.size = sum(len(table) for table in tables.values()) if tables else 0
        self.tables: dict[str, dict[str, int]] = {t: (tables or {}).get(t, {}) for t in TEMPLATES}
        self._words: dict[str, tuple[Ids, ...]] = {}
        self._affixes: dict[str, Ids] = {}
        self._pairs: dict[str, tuple[Ids, ...]] = {}

    def names(self) -> dict[str, list[str]]:
        """Template → names in the order of their ids, as `from_names` takes them."""
        return {template: sorted(table, key=table.__getitem__) for template, table in self.tables.items() if table}

    @classmethod
    def from_names(cls, names: dict[str, list[str]]) -> Lexicon:
        """The inverse of `names`, for ids that count through the templates in their order."""
        tables: dict[str, dict[str, int]] = {}
        start = 0
        for template in TEMPLATES:
            listed = names.get(template, [])
            tables[template] = {name: start + i for i, name in enumerate(listed)}
            start += len(listed)
        return cls(tables)

    def kept(self, ids: Iterable[int]) -> tuple[Lexicon, Ids]:
        """The lexicon of some ids alone, counted anew, and the old id of each new one."""
        wanted = set(ids)
        left = {
            template: sorted(name for name, i in table.items() if i in wanted)
            for template, table in self.tables.items()
        }
        return Lexicon.from_names(left), [self.tables[t][name] for t in TEMPLATES for name in left[t]]

    def rows(self, text: str, tokens: Sequence[Token], others: Sequence[Sequence[str]]) -> list[Ids]:
        """The ids of each token's features; `others`: further names for each token."""
        lows = [masked(token.low) for token in tokens]
        words = [self._word(low) for low in (*EDGES[:2], *lows, *EDGES[2:])]
        bounded = (*EDGES[:2], *lows, *EDGES[2:])
        pairs = [self._pair(f"{a} {b}") for a, b in itertools.pairwise(bounded)]
        get = self._other
        out = []
        for i, token in enumerate(tokens):
            ids = [
                *words[i + 2][0],
                *words[i + 1][1],
                *words[i + 3][2],
                *words[i][3],
                *words[i + 4][4],
                *self._affix(text[token.start : token.end]),
                *pairs[i + 1][0],
                *pairs[i + 2][1],
                *pairs[i][2],
                *pairs[i + 3][3],
                *get(BIAS),
            ]
            for name in others[i]:
                ids += get(name)
            out.append(ids)
        return out

    def others(self, names: Iterable[str]) -> Ids:
        """The ids of further names of a token."""
        return [i for name in names for i in self._id(OTHER, name)]

    def _id(self, template: str, name: str) -> Ids:
        table = self.tables[template]
        found = table.get(name)
        if found is None:
            if not self.grows:
                return []
            found = table[name] = self.size
            self.size += 1
        return [found]

    def _other(self, name: str) -> Ids:
        return self._id(OTHER, name)

    def _word(self, low: str) -> tuple[Ids, ...]:
        known = self._words.get(low)
        if known is None:
            known = tuple(self._id(template, low) for template in WORD)
            _remember(self._words, low, known)
        return known

    def _pair(self, pair: str) -> tuple[Ids, ...]:
        known = self._pairs.get(pair)
        if known is None:
            known = tuple(self._id(template, pair) for template in PAIR)
            _remember(self._pairs, pair, known)
        return known

    def _affix(self, surface: str) -> Ids:
        known = self._affixes.get(surface)
        if known is None:
            parts = zip(AFFIX, affixes(surface), strict=True)
            known = [i for template, name in parts for i in self._id(template, name)]
            _remember(self._affixes, surface, known)
        return known


def _remember(cache: dict[str, Kept], key: str, value: Kept) -> None:
    if len(cache) >= _CACHE:
        cache.clear()
    cache[key] = value
