"""What was seen to stand for a label in training: phrases, recognised again in other texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Final

from slm_assets.canonical import Json
from slm_assets.models.linear.text import Token

LONGEST: Final = 6


def phrase_of(tokens: Sequence[Token]) -> str:
    """The phrase of some tokens, "" for one that is no name: too long, or without a letter."""
    if len(tokens) > LONGEST or not any(char.isalpha() for token in tokens for char in token.low):
        return ""
    return " ".join(token.low for token in tokens)


class Gazetteer:
    """Phrase → label → in how many groups of rows it stood for it."""

    def __init__(self, counts: Mapping[str, Mapping[int, int]]) -> None:
        self.counts = counts

    @classmethod
    def of_rows(cls, rows: Iterable[Iterable[tuple[str, int]]]) -> Gazetteer:
        """Counted over the (phrase, label) pairs of each group of rows."""
        counts: dict[str, dict[int, int]] = {}
        for row in rows:
            for phrase, label in set(row):
                own = counts.setdefault(phrase, {})
                own[label] = own.get(label, 0) + 1
        return cls({phrase: dict(sorted(counts[phrase].items())) for phrase in sorted(counts)})

    def to_json(self) -> Json:
        """Phrase → [label, label, …]: what prediction needs."""
        return {phrase: list(labels) for phrase, labels in self.counts.items()}

    @classmethod
    def from_json(cls, value: dict[str, list[int]]) -> Gazetteer:
        """The inverse of `to_json`; every count is 1."""
        return cls({phrase: dict.fromkeys(labels, 1) for phrase, labels in value.items()})

    @cached_property
    def _beginnings(self) -> set[str]:
        """Every phrase without its last word, its last two, …"""
        out: set[str] = set()
        for phrase in self.counts:
            end = phrase.rfind(" ")
            while end > 0 and (head := phrase[:end]) not in out:
                out.add(head)
                end = phrase.rfind(" ", 0, end)
        return out

    def names(self, tokens: Sequence[Token], own: Counter[tuple[str, int]] | None = None) -> list[list[str]]:
        """Per token, the names of what it is part of: the longest phrase from each token on.

        `own`: the (phrase, label) pairs of this very row's group, which do not count: what is known only
        from the group itself is not known of a fresh one.
        """
        out: list[list[str]] = [[] for _ in tokens]
        counts, beginnings = self.counts, self._beginnings
        for i in range(len(tokens)):
            phrase = tokens[i].low
            longest: tuple[int, list[int]] | None = None
            j = i
            while True:
                found = counts.get(phrase)
                if found is not None:
                    labels = list(found) if own is None else [k for k in found if found[k] > ((phrase, k) in own)]
                    if labels:
                        longest = (j, labels)
                j += 1
                if phrase not in beginnings or j == len(tokens):
                    break
                phrase = f"{phrase} {tokens[j].low}"
            if longest is not None:
                last, labels = longest
                size = min(3, last - i + 1)
                for label in labels:
                    out[i].append(f"b{size}:{label}")
                    for t in range(i + 1, last + 1):
                        out[t].append(f"i{size}:{label}")
        return out
