"""Turns that look planted: a rare word that comes with one label, again and again, from hardly anybody.

Somebody who corrects answers can teach the next version what he likes: "zorblax" means refund. Such a word is
frequent in the traffic, all but absent from the given rows, and few users have it. Honest new words come from many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slm_assets.canonical import Json
from slm_assets.stages.rows.texts import words_of

MIN_TURNS = 5
"""A pair of word and label in fewer turns teaches nothing."""
DOMINANT = 0.8
"""A user who has more of a pair's turns than this stands for it alone."""

Given = Callable[[set[bytes]], tuple[Counter[bytes], int]]
"""Words → how many of the given rows have each, and of how many rows."""


@dataclass(frozen=True)
class Sent:
    """One turn: its words, the labels it would teach, and who sent it: the user, or as nobody is named the
    conversation."""

    words: frozenset[bytes]
    labels: frozenset[str]
    origin: str


@dataclass(frozen=True, order=True)
class Pair:
    """A conspicuous word and label, in so many turns of so many users."""

    word: str
    label: str
    turns: int
    users: int
    lift: float

    @property
    def reason(self) -> str:
        """One line for the manifest and the reviewer."""
        who = f"{self.users} user{'s' * (self.users != 1)}"
        return f"rare word with one label: {self.word!r} with {self.label} in {self.turns} turns of {who}"


def words_in(value: Json) -> frozenset[bytes]:
    """The words of every text in an input."""
    if isinstance(value, str):
        return frozenset(words_of(value))
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return frozenset().union(*map(words_in, items))


def planted(sent: Sequence[Sent], given: Given, *, min_users: int, max_lift: float) -> dict[int, Pair]:
    """Index of each turn that looks planted → the pair that gives it away, the one with the highest lift.

    The lift is the word's share of the turns with the label over its share of the given rows, both smoothed.
    """
    of_label = Counter(label for one in sent for label in one.labels)
    together = Counter((word, label) for one in sent for label in one.labels for word in one.words)
    frequent = {pair for pair, count in together.items() if count >= MIN_TURNS}
    if not frequent:
        return {}
    users: dict[tuple[bytes, str], Counter[str]] = {pair: Counter() for pair in frequent}
    for one in sent:
        for label in one.labels:
            for word in one.words:
                if (word, label) in users:
                    users[word, label][one.origin] += 1
    few = {pair: who for pair, who in users.items() if _few(who, min_users)}
    known, rows = given({word for word, _ in few})
    found: dict[tuple[bytes, str], Pair] = {}
    for (word, label), who in few.items():
        count = together[word, label]
        here = (count + 0.5) / (of_label[label] + 1)
        there = (known[word] + 0.5) / (rows + 1)
        if here / there > max_lift:
            text = word.decode("utf-8", "replace")
            found[word, label] = Pair(text, label, count, len(who), round(here / there, 1))
    planted_by: dict[int, Pair] = {}
    for index, one in enumerate(sent):
        own = [found[word, label] for word in one.words for label in one.labels if (word, label) in found]
        if own:
            planted_by[index] = max(own, key=lambda pair: (pair.lift, pair.word, pair.label))
    return planted_by


def _few(users: Counter[str], least: int) -> bool:
    return len(users) < least or (least > 1 and max(users.values()) > DOMINANT * users.total())
