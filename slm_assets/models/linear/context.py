"""What surrounds a piece of a laid-out text, as blocks of features: a template and a string ("left of it stands
`total due`"). Pieces share blocks, so that each is worked out once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Final, NamedTuple

from slm_assets.models.linear.naming import (
    ABOVE,
    ALIKE,
    BELOW,
    HEAD,
    LEFT,
    OWN,
    PLACE,
    RANK,
    RIGHT,
    SILENCE,
    TEMPLATES,
    UNIT,
    WORDS,
)  # fmt: skip
from slm_assets.models.linear.page import Page, Written
from slm_assets.models.linear.scan import Piece, may_hold, pieces_of

_ZEROS: Final = re.compile("0{2,}")
_LETTERS: Final = re.compile(r"[^\W\d_]+")
_MARK: Final = re.compile(r"\D")
_UNIT: Final = re.compile(r"\W*((?:[^\W\d_]{2,3}|fr\.)?\s?[^\w\s]*)\s?$")
_LONGEST: Final = 60
_RIGHT: Final = 24
_CACHE: Final = 50_000
_TOPS: Final = 6
_ENDS: Final = 3
_SPOTS: Final = 80
_NONE: Final = "-"
_BEYOND: Final = {"number": HEAD, "part": BELOW}
_RANKED: Final = ("number", "date")
"""What else tells pieces of a kind: what stands beyond the next line or under it; which of their kind they are. Other
kinds gain nothing by it."""


def forms(page: Page, pieces: Sequence[Piece], kind: str) -> list[str]:
    """How each piece is written, with the characters around it."""
    zeros = page.zeros
    return [_form(kind, zeros[start : end + 2]) for start, end in pieces]


@lru_cache(_CACHE)
def _form(kind: str, around: str) -> str:
    """The form of a piece by itself between its neighbours, every digit a 0."""
    written = around[1:-1]
    size = len(written)
    if kind == "number":
        mark = max(written.rfind("."), written.rfind(","))
        decimals = min(size - 1 - mark, 4) if mark >= 0 else 0
        shape = f"{decimals}:{min(size - decimals, 6)}"
    elif kind == "part":
        shape = f"{'0' in written:d}{written.isupper():d}:{min(written.count(' '), 6)}"
    else:
        shape = f"{_ZEROS.sub('0', _LETTERS.sub('a', written))}:{min(size, 12)}{written.isupper():d}"
    return f"{shape}:{around[0]}:{around[-1]}"


@lru_cache(_CACHE)
def _cents(text: str) -> int | None:
    """A number that has two decimals, without them being marked: those are compared with each other."""
    return int(_MARK.sub("", text)) if len(text) > 3 and text[-3] in ".," else None


@lru_cache(_CACHE)
def _letters(text: str) -> str:
    """The words of a string alone: what rows of a table or labels of one sort have in common."""
    return " ".join(_LETTERS.findall(text)) or ("%" if "%" in text else "")


Rows = list[list[int]]
"""The blocks of each piece."""


class Numbers(dict[str, int]):
    """String → number of the block of one template; what is missing is made."""

    def __init__(self, make: Callable[[str], int]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, text: str) -> int:
        number = self[text] = self._make(text)
        return number


class Spot(NamedTuple):
    """A piece of a line: where in it, in which cell; the block of what stands left of it on the line, −1 for nothing,
    with its words; where it stands in the line; the blocks that it has wherever the line stands."""

    start: int
    end: int
    cell: int
    left: int
    words: str
    place: int
    own: tuple[int, ...]


class Text:
    """What a cell holds, and the blocks of it as a neighbour by template with its words."""

    __slots__ = ("blocks", "norm")

    def __init__(self, norm: str) -> None:
        self.norm = norm
        self.blocks: list[tuple[int, str] | None] = [None] * len(TEMPLATES)


class Line:
    """What a line holds: its cells, and their pieces by kind."""

    __slots__ = ("spots", "texts", "written")

    def __init__(self, written: Written, texts: list[Text]) -> None:
        self.written = written
        self.texts = texts
        self.spots: dict[str, list[Spot]] = {}


class Around(NamedTuple):
    """Of a cell: the block and the words of what stands over it, which go for what stands left of the first piece of a
    line; the block of it as the line above; the place of its line."""

    left: int
    words: str
    above: int
    place: int


class Lines:
    """The lines of a page and their cells, and what was found out about them."""

    def __init__(self, page: Page, lines: list[Line]) -> None:
        self.page = page
        self.lines = lines
        self.texts = [text for line in lines for text in line.texts]
        self.firsts = [own[0].at for own in page.lines]
        self.around: list[Around | None] = [None] * page.size
        self.beyond: dict[int, dict[int, int]] = {template: {} for template in _BEYOND.values()}


class Describer:
    """Numbers the blocks of pieces. `make`: the number of a block not seen before; `barren`: kind → forms of pieces
    that are none."""

    def __init__(self, make: Callable[[int, str], int], barren: Mapping[str, frozenset[str]]) -> None:
        self.block = [Numbers(partial(make, template)) for template in range(len(TEMPLATES))]
        self._barren = barren
        self._lines: dict[str, Line] = {}
        self._texts: dict[str, Text] = {}
        self._nothing = Text(_NONE)
        self._places: dict[int, int] = {}
        self._ranks: dict[int, int] = {}
        self._alike: dict[tuple[str, int], tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def lines(self, page: Page) -> Lines:
        """The lines of a page; those that differ by digits alone are one."""
        known = self._lines
        return Lines(page, [known.get(written.zeros) or self._line(written) for written in page.written])

    def _line(self, written: Written) -> Line:
        texts = []
        for start, end in written.cells:
            norm = written.norm[start:end]
            text = self._texts.get(norm)
            if text is None:
                text = self._texts[norm] = Text(norm)
            texts.append(text)
        line = self._lines[written.zeros] = Line(written, texts)
        return line

    def describe(self, lines: Lines, kind: str) -> tuple[list[Piece], Rows, list[int]]:
        """The pieces of a kind that are not barren, the blocks of each, those of silence."""
        page, around = lines.page, lines.around
        beyond = _BEYOND.get(kind)
        pieces: list[Piece] = []
        rows: Rows = []
        lefts: list[str] = []
        for line, first, at in zip(lines.lines, lines.firsts, page.begins, strict=True):
            spots = line.spots.get(kind)
            if spots is None:
                spots = line.spots[kind] = self._spots(line, kind)
            for start, end, cell, beside, inside, edges, own in spots:
                over = around[first + cell] or self._around(lines, first + cell)
                place = over.place + edges
                number = self._places.get(place)
                if number is None:
                    number = self._place(place)
                left, words = (beside, inside) if beside >= 0 else (over.left, over.words)
                row = [left, over.above, number, *own]
                if beyond is not None:
                    row.append(self._beyond(lines, first + cell, beyond))
                rows.append(row)
                pieces.append((at + start, at + end))
                lefts.append(words)
        if kind in _RANKED:
            for row, rank in zip(rows, self._rank(page, pieces, kind), strict=True):
                row.append(rank)
        return pieces, rows, self._silence(rows, lefts if kind == "number" else [])

    def _spots(self, line: Line, kind: str) -> list[Spot]:
        """The pieces of a line that are not barren."""
        barren, written = self._barren.get(kind, frozenset()), line.written
        out: list[Spot] = []
        if not may_hold(kind, written.norm):
            return out
        padded = f"\n{written.zeros}\n"
        for k, (start, end) in enumerate(written.cells):
            for a, b in pieces_of(kind, written.norm[start:end]):
                form = _form(kind, padded[start + a : start + b + 2])
                if form not in barren:
                    out.append(self._spot(line, k, (start + a, start + b), form, kind))
        return out

    def _spot(self, line: Line, k: int, piece: Piece, form: str, kind: str) -> Spot:
        norm, block, size = line.written.norm, self.block, len(line.texts)
        (first, last), (start, end) = line.written.cells[k], piece
        own = [block[OWN][form]]
        inside = norm[max(first, start - _LONGEST) : start]
        unit = _UNIT.match(inside) if kind == "number" else None
        left, words = self._side(line.texts[k - 1], LEFT) if k else (-1, "")
        if unit is None and inside and not inside.isspace() and (kind[:5] != "words" or _LETTERS.search(inside)):
            left, words = block[LEFT][inside], _letters(inside)
        after = norm[end : min(end + _RIGHT, last)].strip() if end < last else ""
        if after:
            own.append(block[RIGHT][after])
        else:
            own.append(self._side(line.texts[k + 1], RIGHT)[0] if k + 1 < size else block[RIGHT]["$"])
        if kind == "number":
            own.append(block[UNIT][unit.group(1) if unit else ""])
        elif kind == "part":
            own.append(block[WORDS][norm[start:end]])
        place = (min(k, 3) * 5 + min(size, 4)) * 4 + 2 * (start > first) + (end < last)
        return Spot(start, end, k, left, words, place, tuple(own))

    def _side(self, text: Text, template: int) -> tuple[int, str]:
        """The block of a text as a neighbour, and its words."""
        known = text.blocks[template]
        if known is None:
            norm = text.norm
            if template == RIGHT:
                part = f"|{norm[:_RIGHT]}"
            else:
                part = norm[-_LONGEST:] if template in (LEFT, ABOVE) else norm[:_LONGEST]
            known = text.blocks[template] = (self.block[template][part], _letters(part))
        return known

    def _around(self, lines: Lines, at: int) -> Around:
        page = lines.page
        line, above = page.cells[at].line, page.over[at]
        over = lines.texts[above] if above >= 0 else self._nothing
        place = (min(line, _TOPS) * (_TOPS + 1) + min(len(page.lines) - 1 - line, _TOPS)) * 2 + page.after_gap[line]
        left, words = self._side(over, LEFT)
        known = lines.around[at] = Around(left, words, self._side(over, ABOVE)[0], place * _SPOTS)
        return known

    def _beyond(self, lines: Lines, at: int, template: int) -> int:
        """The block of what stands under a cell, or over its column."""
        known = lines.beyond[template].get(at)
        if known is None:
            page = lines.page
            if template == BELOW:
                other = page.below(page.cells[at])
            else:
                other = page.heads[at] if page.heads[at] != page.over[at] else -1  # it is described as such
            text = lines.texts[other] if other >= 0 else self._nothing
            known = lines.beyond[template][at] = self._side(text, template)[0]
        return known

    def _place(self, key: int) -> int:
        """The block of a place: `Around.place` and `Spot.place` together."""
        line, spot = divmod(key, _SPOTS)
        rest, gap = divmod(line, 2)
        top, end = divmod(rest, _TOPS + 1)
        rest, edges = divmod(spot, 4)
        before, size = divmod(rest, 5)
        inside, out = divmod(edges, 2)
        text = f"{top}:{end}:{before}:{size}{'g' if gap else '.'}{'i' if inside else '.'}{'o' if out else '.'}"
        known = self._places[key] = self.block[PLACE][text]
        return known

    def _rank(self, page: Page, pieces: Sequence[Piece], kind: str) -> list[int]:
        """Per piece, which one it is from the top and from the end, how often it comes, how large it is."""
        texts = [page.text[start:end] for start, end in pieces]
        times = Counter(texts)
        ranks, last = self._ranks, len(pieces) - 1
        size: dict[str, int] = {}
        if kind == "number":
            amounts = {text: cents for text in times if (cents := _cents(text)) is not None}
            tops = sorted(set(amounts.values()), reverse=True)[: _ENDS + 1]
            size = {text: 1 + tops.index(n) for text, n in amounts.items() if n in tops}
        out = []
        for k, text in enumerate(texts):
            often = min(times[text], _ENDS)
            key = ((min(k, _ENDS) * 4 + min(last - k, _ENDS)) * 4 + often) * 6 + size.get(text, 0)
            known = ranks.get(key)
            if known is None:
                top = f"t{size[text] - 1}" if text in size else ""
                known = ranks[key] = self.block[RANK][f":{min(k, _ENDS)}:{min(last - k, _ENDS)}:{often}:{top}"]
            out.append(known)
        return out

    def _silence(self, rows: Rows, lefts: Sequence[str]) -> list[int]:
        """The blocks of silence, and added to the pieces' how many of them have the like left of them."""
        silence = [self.block[SILENCE][""]]
        times = Counter(lefts)
        times.pop("", None)
        alike = {}
        for words, n in times.items():
            key = words, min(n, _ENDS)
            known = self._alike.get(key)
            if known is None:
                text = f"{key[1]}{words}"
                known = self._alike[key] = self.block[ALIKE][text], self.block[SILENCE][text]
            alike[words] = known[0]
            silence.append(known[1])
        for row, words in zip(rows, lefts, strict=True) if alike else ():
            if words:
                row.append(alike[words])
        return silence
