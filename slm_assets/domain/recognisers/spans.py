"""What a recogniser is, and what several of them need."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

Span = tuple[int, int]
"""From and to, in characters."""
Find = Callable[[str], Iterable[Span]]

DIGIT = re.compile(r"[0-9]")
_GROUPS = re.compile(r"[A-Za-z0-9]+")


def digits_in(text: str) -> int:
    """How many digits a text has."""
    return len(DIGIT.findall(text))


def alone(text: str, start: int, end: int) -> bool:
    """Whether a number is not a piece of a longer word or number."""
    before, after = text[start - 1 : start], text[end : end + 1]
    return not (before.isalnum() or after.isalnum() or "_" in (before, after))


def pieces(text: str, fewest: int) -> Iterator[Span]:
    """Where numbers in groups may begin and end: at groups, the longest first, of so many characters or more."""
    groups = [match.span() for match in _GROUPS.finditer(text)]
    for count in range(len(groups), 0, -1):
        for first in range(len(groups) - count + 1):
            start, end = groups[first][0], groups[first + count - 1][1]
            if sum(high - low for low, high in groups[first : first + count]) >= fewest:
                yield start, end
