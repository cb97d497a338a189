"""Pieces of a laid-out text that may be values: dates, numbers, codes, and what stands between separators."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from slm_assets.models.linear.page import Page

Piece = tuple[int, int]
"""Start and end in the text."""

_WORD = r"[^\W\d_]{3,12}"
_DATE: Final = re.compile(
    rf"""(?<![\w.,/-])(?:
        \d{{1,4}}(?P<mark>[./-])\s?\d{{1,2}}(?P=mark)\s?\d{{2,4}}
      | \d{{1,2}}(?:\.|er|e|st|nd|rd|th|º|ª)?(?:\s{{1,4}}(?:of|de|d['’])?\s*|-){_WORD}\.?,?(?:\s{{1,4}}(?:of|de)?\s*|-)\d{{2,4}}
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
_RUN: Final = 4
_SHORT: Final = 3
_PARTS: Final = 4
_MOST_PARTS: Final = 10


def dates(page: Page) -> Iterator[Piece]:
    """Day, month and year in figures or with the month as a word."""
    for found in _DATE.finditer(page.text):
        yield found.span()


def numbers(page: Page) -> Iterator[Piece]:
    """Figures with their separators, without sign and unit."""
    for found in _NUMBER.finditer(page.text):
        yield found.span()


def codes(page: Page) -> Iterator[Piece]:
    """Words with a digit; short words before or between them may belong to it ("R 2026 / 117")."""
    text, norm = page.text, page.norm
    for cell in page.cells:
        if "0" not in norm[cell.start : cell.end]:
            continue
        words = [found.span() for found in _CODE.finditer(text, cell.start, cell.end)]
        figure = ["0" in norm[a:b] for a, b in words]
        for i, (start, end) in enumerate(words):
            if figure[i]:
                yield start, end
            elif end - start > _SHORT:
                continue
            has = figure[i]
            for j in range(i + 1, min(i + _RUN, len(words))):
                a, b = words[j]
                if text[words[j - 1][1] : a] not in (" ", " / ", " - ") or not (figure[j] or b - a <= _SHORT):
                    break
                has = has or figure[j]
                if figure[j]:
                    yield start, b


def parts(page: Page) -> Iterator[Piece]:
    """What stands between separators of a cell; up to four neighbours as one."""
    text = page.text
    for cell in page.cells:
        bounds = []
        at = cell.start
        for found in _SEPARATOR.finditer(text, cell.start, cell.end):
            bounds.append((at, found.start()))
            at = found.end()
        bounds.append((at, cell.end))
        kept = [trimmed for a, b in bounds if (trimmed := _trimmed(text, a, b))][:_MOST_PARTS]
        for i, (start, _) in enumerate(kept):
            for _, end in kept[i : i + _PARTS]:
                yield start, end


def _trimmed(text: str, start: int, end: int) -> Piece | None:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return (start, end) if any(map(str.isalpha, text[start:end])) else None


SCANNERS: Final[dict[str, Callable[[Page], Iterator[Piece]]]] = {
    "date": dates,
    "number": numbers,
    "code": codes,
    "part": parts,
}
"""Name → the pieces of a text, in order, that may be a value of the kind."""


def kinds_for(values: list[Any], casts: tuple[str, ...]) -> tuple[str, ...]:
    """The scanners that may find values like these, the narrowest first."""
    if casts and casts[0].startswith("date:"):
        return ("date",)
    if all(isinstance(value, (int, float)) for value in values):
        return ("number",)
    figures = sum(any(map(str.isdigit, str(value))) for value in values)
    return ("code", "part") if 2 * figures > len(values) else ("part", "code")
