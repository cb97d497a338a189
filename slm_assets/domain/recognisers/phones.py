"""Phone numbers: by how they are written, valid or not, and by their country's plan where the form says too little."""

from __future__ import annotations

import re
from collections.abc import Iterator

from slm_assets.domain.recognisers.spans import DIGIT, Find, Span, alone, digits_in

FEWEST, FEWEST_PLAIN = 7, 9
"""Digits of a national number, and of one that does not begin with its zero."""
MOST = 15
"""Digits of a number with its country: E.164."""
_TIME = r"(?:[T ][0-2]?[0-9]:[0-5][0-9](?::[0-5][0-9])?)?"
_YEAR = r"(?:[12][0-9])?[0-9]{2}"
_DATE = re.compile(
    # A hyphen also joins groups of a phone number; after dots and slashes it is a range's.
    rf"(?<![0-9])(?<![0-9][./-])(?:[12][0-9]{{3}}-[01]?[0-9]-[0-3]?[0-9]|[0-3]?[0-9]-[0-3]?[0-9]-{_YEAR}){_TIME}"
    rf"(?![./-]?[0-9])"
    rf"|(?<![0-9])(?<![0-9][./])(?:[12][0-9]{{3}}([./])[01]?[0-9]\1[0-3]?[0-9]|[0-3]?[0-9]([./])[0-3]?[0-9]\2{_YEAR})"
    rf"{_TIME}(?![./]?[0-9])"
)
_RUN = re.compile(r"\+?\(?\+?[0-9]+(?: ?[()./-]{0,2} ?[0-9]+)*")
_GROUP = re.compile(r"[0-9]+")
_EXTENSION = re.compile(r" ?(?:x|ext\.?|Ext\.?) ?[0-9]{1,6}\b")
_NUMBERED = re.compile(
    r"(?i)(?:order|booking|invoice|ticket|ref(?:erence)?|account|case|serial|article|item|id|quote|auftrag|rechnung"
    r"|bestellung|commande|facture|pedido|factura)(?:s?[- ]?(?:no|nr|number|nummer|id|num|n°)?)?[.:# =]*$"
)
_CALLED = re.compile(r"(?i)phone|tel|call|mobile|handy|ring|fax|móvil|whatsapp|sms")


def phones(regions: list[str]) -> Find:
    """Phone numbers as people write them, and the national ones of some countries (ISO 3166)."""
    among: list[str | None] = [*regions] or [None]

    def find(text: str) -> Iterator[Span]:
        if digits_in(text) < FEWEST:
            return
        shown = _DATE.sub(lambda date: "\0" * len(date.group()), text)
        for run in _RUN.finditer(shown):
            if digits_in(run.group()) >= FEWEST:
                found = [*_written(shown, run)]
                yield from found or _planned(shown, run, among)
        if "+" in text and shown != text:
            # What looks like a date may be the end of a number.
            yield from _matched(text, 0, [None])

    return find


def _written(text: str, run: re.Match[str]) -> Iterator[Span]:
    """Numbers in a run of groups, the longest first from the left, by their form."""
    groups = [(match.start() + run.start(), match.end() + run.start()) for match in _GROUP.finditer(run.group())]
    at = 0
    while at < len(groups):
        for stop in range(min(len(groups), at + 8), at, -1):
            start, end = _opened(text, groups[at][0], run.start()), groups[stop - 1][1]
            extension = _EXTENSION.match(text, end)
            end = extension.end() if extension else end
            if alone(text, start, end) and _is_written(text, start, [text[a:b] for a, b in groups[at:stop]]):
                yield start, end
                at = stop
                break
        else:
            at += 1


def _opened(text: str, start: int, first: int) -> int:
    """Where a number begins whose first digit is at `start`: at its plus or its bracket."""
    while start > first and text[start - 1] in "+(":
        start -= 1
    return start


def _is_written(text: str, start: int, groups: list[str]) -> bool:
    digits = "".join(groups)
    sizes = [len(group) for group in groups]
    if text[start : start + 2].lstrip("(").startswith("+"):
        return FEWEST <= len(digits) <= MOST + 1
    bare = len(groups) == 1
    if bare and _is_numbered(text, start):
        return False
    if digits.startswith("0") or text[start] == "(":
        most = MOST + 2 if digits.startswith("00") else 12
        return 9 <= len(digits) <= most and min(sizes) > 1
    # North America: with its 1 before, in its groups, or ten digits of which area and exchange begin with 2 to 9.
    return (
        (sizes in ([1, 3, 3, 4], [1, 10]) and digits.startswith("1"))
        or sizes == [3, 3, 4]
        or (bare and len(digits) == 10 and digits[0] > "1" and digits[3] > "1")
    )


def _is_numbered(text: str, start: int) -> bool:
    """Whether the words before call it the number of an order or the like."""
    before = text[max(0, start - 24) : start]
    return bool(_NUMBERED.search(before)) and not _CALLED.search(before)


def _matched(text: str, low: int, regions: list[str | None]) -> Iterator[Span]:
    """What the plans of the regions (None: international numbers) find in a text that begins at `low` of another."""
    from phonenumbers import PhoneNumberMatcher

    for region in regions:
        for match in PhoneNumberMatcher(text, region):
            yield low + match.start, low + match.end


def _planned(text: str, run: re.Match[str], regions: list[str | None]) -> Iterator[Span]:
    """Valid numbers of the regions in a run; the matcher sees what stands beside it, and no more."""
    digits = "".join(DIGIT.findall(run.group()))
    if len(digits) < FEWEST_PLAIN and digits[0] != "0":
        return
    if run.group().isdigit() and _is_numbered(text, run.start()):
        return
    low = max(0, run.start() - 2)
    yield from _matched(text[low : run.end() + 2], low, regions)
