"""Tokens of a text, and the casts that turn a piece of it into a value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

from slm_assets.canonical import Json
from slm_assets.models.linear.formats import CONVENTIONS, MONTHS, written_amount, written_date
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
_INT = re.compile(r"[+-]?\d{1,15}")
_FLOAT = re.compile(r"[+-]?\d{1,15}(?:\.\d{1,9})?")
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_COMMA = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})*,\d{1,9}|[+-]?\d{1,15},\d{1,9}")


class Token(NamedTuple):
    """A word, number or mark of a text: character offsets and its lower-case form."""

    start: int
    end: int
    low: str


_token: Final = partial(tuple.__new__, Token)  # without the constructor in Python, which is half of the time


def tokens(text: str) -> list[Token]:
    """The tokens of the first MAX_CHARS characters."""
    spans = [found.span() for found in _TOKEN.finditer(text, 0, MAX_CHARS)]
    return [_token((start, end, text[start:end].lower())) for start, end in spans]


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


CASTS: Final[dict[str, Callable[[str], Any]]] = {
    "same": lambda piece: piece,
    "lower": str.lower,
    "upper": str.upper,
    "title": str.title,
    "int": _whole,
    "float": _real,
    "digits": _digits,
    "date:dmy": lambda piece: written_date(piece, MONTHS, month_first=False),
    "date:mdy": lambda piece: written_date(piece, MONTHS, month_first=True),
    "money:point": lambda piece: written_amount(piece, "."),
    "money:comma": lambda piece: written_amount(piece, ","),
}
"""Name → function from a piece of text to a value or ABSENT, simplest first."""

_STRING_CASTS = ("same", "lower", "upper", "title", "digits")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def casts_for(value: Json, form: str | None = None) -> tuple[str, ...]:
    """The casts that can yield a value of this type, where the contract gives it this `format`."""
    if isinstance(value, bool) or value is None:
        return ()
    if isinstance(value, (int, float)):
        return CONVENTIONS["money"] if form == "money" else ("int",) if isinstance(value, int) else ("float",)
    if not isinstance(value, str):
        return ()
    return CONVENTIONS["date"] if form == "date" or _DATE.fullmatch(value) else _STRING_CASTS


def cast(name: str, piece: str, months: Mapping[str, int]) -> Any:
    """The value of a piece of text by a cast, or ABSENT. `months`: further names of months."""
    if months and name.startswith("date:"):
        return written_date(piece, months, month_first=name == "date:mdy")
    return CASTS[name](piece)


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
