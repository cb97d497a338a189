"""Pieces of a laid-out text that may be values: dates, numbers, codes, and what stands between separators."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

from slm_assets.models.linear.page import Page

Piece = tuple[int, int]
"""Start and end in the text."""

_WORD = r"[^\W\d_]{3,12}+"
_DATE: Final = re.compile(
    rf"""(?<![\w.,/-])(?:
        \d{{1,4}}(?P<mark>[./-])\s?\d{{1,2}}(?P=mark)\s?\d{{2,4}}
      | \d{{1,2}}(?:\.|er|e|st|nd|rd|th|º|ª)?(?:\s{{1,4}}(?:of|de|d['’])?\s*|-)
        {_WORD}\.?,?(?:\s{{1,4}}(?:of|de)?\s*|-)\d{{2,4}}
      | {_WORD}\.?\s{{1,4}}\d{{1,2}}(?:st|nd|rd|th)?,?\s{{1,4}}\d{{4}}
    )(?!\w)""",
    re.VERBOSE | re.IGNORECASE,
)
_SPACE = " \u00a0\u202f"
_NUMBER: Final = re.compile(
    rf"(?<!\d)(?<![^\W_]\d)(?<!\d[.,])(?:\d{{1,3}}(?:[.,'’{_SPACE}]\d{{3}})+(?!\d)(?:[.,]\d{{1,4}})?|\d+(?:[.,]\d{{1,4}})?)(?!\d)"
)
_CODE: Final = re.compile(r"[^\W_](?:[\w./#&+-]*[^\W_])?")
_SEPARATOR: Final = re.compile(r"\s[-–—]\s|\s?[:;]\s|,\s|\s\(|[·|<>]|:$|\s\.\.\.\s")
_LETTER: Final = re.compile(r"[^\W\d_]")
_JOINS: Final = (" ", " / ", " - ")
_CACHE: Final = 20_000
_RUN: Final = 4
_SHORT: Final = 3
_PARTS: Final = 4
_MOST_PARTS: Final = 10


@lru_cache(_CACHE)
def dates(norm: str) -> tuple[Piece, ...]:
    """Day, month and year in figures or with the month as a word."""
    return tuple(found.span() for found in _DATE.finditer(norm)) if "0" in norm else ()


@lru_cache(_CACHE)
def numbers(norm: str) -> tuple[Piece, ...]:
    """Figures with their separators, without sign and unit."""
    return tuple(found.span() for found in _NUMBER.finditer(norm)) if "0" in norm else ()


@lru_cache(_CACHE)
def codes(norm: str) -> tuple[Piece, ...]:
    """Words with a digit; short words before or between them may belong to it ("R 2026 / 117")."""
    if "0" not in norm:
        return ()
    words = [found.span() for found in _CODE.finditer(norm)]
    figure = ["0" in norm[a:b] for a, b in words]
    out = []
    for i, (start, end) in enumerate(words):
        if figure[i]:
            out.append((start, end))
        elif end - start > _SHORT:
            continue
        for j in range(i + 1, min(i + _RUN, len(words))):
            a, b = words[j]
            if norm[words[j - 1][1] : a] not in _JOINS or not (figure[j] or b - a <= _SHORT):
                break
            if figure[j]:
                out.append((start, b))
    return tuple(out)


@lru_cache(_CACHE)
def parts(norm: str) -> tuple[Piece, ...]:
    """What stands between separators of a cell; up to four neighbours as one."""
    bounds = []
    at = 0
    for found in _SEPARATOR.finditer(norm):
        bounds.append((at, found.start()))
        at = found.end()
    bounds.append((at, len(norm)))
    kept = [trimmed for a, b in bounds if (trimmed := _trimmed(norm, a, b))][:_MOST_PARTS]
    return tuple((start, end) for i, (start, _) in enumerate(kept) for _, end in kept[i : i + _PARTS])


def _trimmed(text: str, start: int, end: int) -> Piece | None:
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    end -= len(piece) - len(piece.rstrip())
    return (start, end) if _LETTER.search(text, start, end) else None


_IN_CELLS: Final[dict[str, Callable[[str], tuple[Piece, ...]]]] = {
    "date": dates,
    "number": numbers,
    "code": codes,
    "part": parts,
}

_FIGURES: Final = ("date", "number", "code")

WORDS_OF: Final = "words:"
"""A scanner that looks for words: `words:eur|usd`."""


def may_hold(scanner: str, norm: str) -> bool:
    """Whether a scanner may find anything in a string."""
    return "0" in norm if scanner in _FIGURES else True


def pieces_of(scanner: str, norm: str) -> Sequence[Piece]:
    """The pieces of a cell that a scanner finds, in order, each once."""
    if scanner.startswith(WORDS_OF):
        return _stated(norm, scanner.removeprefix(WORDS_OF).split("|"))
    return _IN_CELLS[scanner](norm)


def scan(page: Page, scanner: str) -> list[Piece]:
    """The pieces of a text that a scanner finds."""
    norm = page.norm
    return [
        (cell.start + start, cell.start + end)
        for cell in page.cells
        for start, end in pieces_of(scanner, norm[cell.start : cell.end])
    ]


def _stated(norm: str, words: Sequence[str]) -> list[Piece]:
    """Where words stand by themselves; of two that overlap the first, the longer where both start alike."""
    found = []
    for word in words:
        at = norm.find(word)
        while at >= 0:
            end = at + len(word)
            inside = word[0].isalnum() and norm[at - 1 : at].isalnum()
            if not inside and not (word[-1].isalnum() and norm[end : end + 1].isalnum()):
                found.append((at, end))
            at = norm.find(word, at + 1)
    kept: list[Piece] = []
    for start, end in sorted(found, key=lambda piece: (piece[0], -piece[1])):
        if not kept or start >= kept[-1][1]:
            kept.append((start, end))
    return kept


def kinds_for(values: list[Any], casts: tuple[str, ...]) -> tuple[str, ...]:
    """The scanners that may find values like these, the narrowest first."""
    if casts and casts[0].startswith("date:"):
        return ("date",)
    if all(isinstance(value, (int, float)) for value in values):
        return ("number",)
    figures = sum(any(map(str.isdigit, str(value))) for value in values)
    return ("code", "part") if 2 * figures > len(values) else ("part", "code")
