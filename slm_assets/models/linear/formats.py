"""Dates and amounts as people write them, for places whose contract asks for them (`format`).

What is written can be ambiguous (03/04, 1.234): each cast follows one convention, and training learns which
one a text follows. Month names of other languages come from dateparser's locale data at training. An
amount has one form a convention, so that reading it is leaving out its marks: prediction waits for no library.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from functools import lru_cache
from typing import Any, Final

from slm_assets.models.linear.paths import ABSENT

CONVENTIONS: Final = {
    "date": ("date:dmy", "date:mdy"),
    "money": ("money:point", "money:comma"),
}
"""Contract format → casts, one a convention."""

_ENGLISH: Final = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
MONTHS: Final = {name: n for n, name in enumerate(_ENGLISH, 1)} | {name[:3]: n for n, name in enumerate(_ENGLISH, 1)}

_PART = re.compile(r"\d+|[^\W\d_]+")
_GROUPING = re.compile(r"\D")
_SMALL_WORD: Final = 3
_LANGUAGES: Final = 60
_MOST_PARTS: Final = 8

_SIGN = r"(?:[A-Za-z]{1,3}\.?|[^\w\s.,+-])?"
_POINT = re.compile(rf"{_SIGN}\s?(\d{{1,3}}(?:[,'’\s]\d{{3}})+|\d{{1,12}})(?:\.(?:(\d{{1,4}})|[-–—]+))?\s?{_SIGN}")
_COMMA = re.compile(rf"{_SIGN}\s?(\d{{1,3}}(?:[.'’\s]\d{{3}})+|\d{{1,12}})(?:,(?:(\d{{1,4}})|[-–—]+))?\s?{_SIGN}")


def convention(cast: str) -> str:
    """What a cast assumes of its text, "" for nothing."""
    return cast.partition(":")[2]


def written_date(piece: str, months: Mapping[str, int], *, month_first: bool) -> Any:
    """The ISO date of a day, a month and a year, or ABSENT. A year in front settles the order; small words
    inside ("2nd of May", "1er mai") are passed over. `months`: names beside English ones."""
    parts = _PART.findall(piece.lower())
    if not 3 <= len(parts) <= _MOST_PARTS:
        return ABSENT
    called = {p: n for p in parts if not p.isdigit() and (n := months.get(p) or MONTHS.get(p))}
    kept = [p for p in parts if p.isdigit() or p in called]
    if any(len(p) > _SMALL_WORD for p in parts if not p.isdigit() and p not in called) or len(kept) != 3:
        return ABSENT
    if kept[0] != parts[0] or kept[2] != parts[-1]:
        return ABSENT
    named = [i for i, p in enumerate(kept) if p in called]
    if len(named) > 1 or any(len(p) > 4 or len(p) == 3 for p in kept if p.isdigit()):
        return ABSENT
    numbers = [called.get(p) or int(p) for p in kept]
    if len(kept[0]) == 4 and kept[0].isdigit():
        year, month, day = numbers
    elif named:
        month, year = numbers[named[0]], numbers[2]
        day = numbers[1 - named[0]] if named[0] < 2 else 0
    else:
        first, second, year = numbers
        month, day = (first, second) if month_first else (second, first)
    try:
        return date(year + 2000 if year < 100 else year, month, day).isoformat()
    except ValueError:
        return ABSENT


@lru_cache(20_000)
def written_amount(piece: str, separator: str) -> Any:
    """The number of an amount with or without its currency, by its decimal separator, or ABSENT."""
    found = (_POINT if separator == "." else _COMMA).fullmatch(piece)
    if found is None:
        return ABSENT
    whole, decimals = found.groups()
    return float(f"{_GROUPING.sub('', whole)}.{decimals or 0}")


def month_names(words: Iterable[str]) -> dict[str, int]:
    """Month names of the languages that occur among some words, beside English ones: name → number.

    A language counts where half of its months occur by names that are not English. Of two languages with
    one name for two months the more spoken wins.
    """
    from importlib import import_module

    from dateparser.data.languages_info import language_order

    seen = frozenset(words)
    out: dict[str, int] = {}
    for language in language_order[:_LANGUAGES]:
        info = import_module(f"dateparser.data.date_translation_data.{language}").info
        names = {
            name.lower().rstrip("."): number for number, month in enumerate(_ENGLISH, 1) for name in info.get(month, ())
        }
        foreign = {number for name, number in names.items() if name in seen and MONTHS.get(name) != number}
        if len(foreign) >= 6:
            for name, number in names.items():
                if name not in MONTHS and _PART.fullmatch(name):
                    out.setdefault(name, number)
    return dict(sorted(out.items()))
