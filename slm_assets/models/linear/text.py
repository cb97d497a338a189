"""Tokens of a text, and the casts that turn a piece of it into a value."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from typing import Any, Final, NamedTuple

from slm_assets.canonical import Json
from slm_assets.models.linear.paths import ABSENT

MAX_CHARS: Final = 20_000
_TOKEN = re.compile(r"\d+(?:[.,:/-]\d+)+(?!\w)|\w+(?:['’.@-]\w+)*|[^\w\s]")

_UNITS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
NUMBER_WORDS: Final = (
    {word: n for n, word in enumerate(_UNITS)}
    | {word: 10 * n for n, word in enumerate(_TENS, 2)}
    | {f"{ten}-{unit}": 10 * n + k for n, ten in enumerate(_TENS, 2) for k, unit in enumerate(_UNITS[1:10], 1)}
)
_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_MONTH = {name: n for n, name in enumerate(_MONTHS, 1)} | {name[:3]: n for n, name in enumerate(_MONTHS, 1)}
_INT = re.compile(r"[+-]?\d{1,15}")
_FLOAT = re.compile(r"[+-]?\d{1,15}(?:\.\d{1,9})?")
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_COMMA = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})*,\d{1,9}|[+-]?\d{1,15},\d{1,9}")
_DATE_PART = re.compile(r"\d+|[a-z]+")


class Token(NamedTuple):
    """A word, number or mark of a text: character offsets and its lower-case form."""

    start: int
    end: int
    low: str


def tokens(text: str) -> list[Token]:
    """The tokens of the first MAX_CHARS characters."""
    return [Token(m.start(), m.end(), m.group().lower()) for m in _TOKEN.finditer(text, 0, MAX_CHARS)]


def _whole(piece: str) -> Any:
    if _INT.fullmatch(piece):
        return int(piece)
    if _GROUPED.fullmatch(piece) and "." not in piece:
        return int(piece.replace(",", ""))
    return NUMBER_WORDS.get(piece.lower(), ABSENT)


def _real(piece: str) -> Any:
    if _FLOAT.fullmatch(piece):
        return float(piece)
    if _GROUPED.fullmatch(piece):
        return float(piece.replace(",", ""))
    if _COMMA.fullmatch(piece):
        return float(piece.replace(".", "").replace(",", "."))
    return ABSENT


def _digits(piece: str) -> Any:
    number = _whole(piece)
    return ABSENT if number is ABSENT else str(number)


def _calendar(piece: str, *, month_first: bool) -> Any:
    parts = _DATE_PART.findall(piece.lower())
    parts = [p for p in parts if p not in ("st", "nd", "rd", "th", "of")]
    if len(parts) != 3:
        return ABSENT
    named = [i for i, p in enumerate(parts) if p in _MONTH]
    if named and all(p.isdigit() for i, p in enumerate(parts) if i != named[0]):
        month = _MONTH[parts[named[0]]]
        rest = [int(p) for i, p in enumerate(parts) if i != named[0]]
        day, year = (rest[1], rest[0]) if rest[0] > 31 else (rest[0], rest[1])
    elif all(p.isdigit() for p in parts):
        a, b, c = (int(p) for p in parts)
        year, month, day = (a, b, c) if a > 31 else (c, a, b) if month_first else (c, b, a)
    else:
        return ABSENT
    year += 2000 if year < 100 else 0
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return ABSENT


CASTS: Final[dict[str, Callable[[str], Any]]] = {
    "same": lambda piece: piece,
    "lower": str.lower,
    "upper": str.upper,
    "title": str.title,
    "int": _whole,
    "float": _real,
    "digits": _digits,
    "day_first": lambda piece: _calendar(piece, month_first=False),
    "month_first": lambda piece: _calendar(piece, month_first=True),
}
"""Name → function from a piece of text to a value or ABSENT, simplest first."""

_STRING_CASTS = ("same", "lower", "upper", "title", "digits", "day_first", "month_first")


def casts_for(value: Json) -> tuple[str, ...]:
    """The casts that can yield a value of this type."""
    if isinstance(value, bool) or value is None:
        return ()
    if isinstance(value, int):
        return ("int",)
    if isinstance(value, float):
        return ("float",)
    return _STRING_CASTS if isinstance(value, str) else ()


@lru_cache(100_000)
def close(a: str, b: str) -> bool:
    """Whether two words differ by a typo: one edit (two from eight letters on), swaps counted once."""
    size = min(len(a), len(b))
    limit = 0 if size < 4 else 1 if size < 8 else 2
    if abs(len(a) - len(b)) > limit:
        return False
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        earlier, before, row = before, row, [i]
        for j, y in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
        if min(row) > limit:
            return False
    return row[-1] <= limit
