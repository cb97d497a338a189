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
    FIRST,
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
from slm_assets.models.linear.page import Cell, Page
from slm_assets.models.linear.scan import IN_CELLS, Piece
from slm_assets.models.linear.spans import Document

_ZEROS: Final = re.compile("0{2,}")
_LETTERS: Final = re.compile(r"[^\W\d_]+")
_MARK: Final = re.compile(r"\D")
_UNIT: Final = re.compile(r"\W*((?:[^\W\d_]{2,3}|fr\.)?\s?[^\w\s]*)\s?$")
_LONGEST: Final = 60
_RIGHT: Final = 24
_CACHE: Final = 50_000
_TOPS: Final = 6
_ENDS: Final = 3
_NONE: Final = "-"


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


def _is_amount(text: str) -> bool:
    """Whether a number has two decimals: those are compared with each other, as cents."""
    return len(text) > 3 and text[-3] in ".,"


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
    """A piece of a cell: where; the blocks of what stands left and right of it inside, −1 for nothing, with their
    words; where it stands in the cell; the blocks of how it is written."""

    start: int
    end: int
    left: int
    left_words: str
    right: int
    right_words: str
    place: int
    own: tuple[int, ...]


class Text:
    """What a cell holds: its characters, its pieces by kind, and the blocks of it as a neighbour by template."""

    __slots__ = ("blocks", "norm", "spots")

    def __init__(self, norm: str) -> None:
        self.norm = norm
        self.spots: dict[str, list[Spot]] = {}
        self.blocks: list[tuple[int, str] | None] = [None] * len(TEMPLATES)


class Beside(NamedTuple):
    """Of a cell: the blocks and words of what stands left of it and over its column, the block of the line above,
    its place."""

    left: int
    left_words: str
    head: int
    head_words: str
    above: int
    place: int


class Cells:
    """The cells of a page: their texts, and what was found out about them."""

    def __init__(self, page: Page, texts: list[Text]) -> None:
        self.page = page
        self.texts = texts
        self.beside: list[Beside | None] = [None] * len(texts)
        self.right: list[tuple[int, str] | None] = [None] * len(texts)


class Describer:
    """Numbers the blocks of pieces. `make`: the number of a block not seen before; `barren`: kind → forms of pieces
    that are none."""

    def __init__(self, make: Callable[[int, str], int], barren: Mapping[str, frozenset[str]]) -> None:
        self.block = [Numbers(partial(make, template)) for template in range(len(TEMPLATES))]
        self._barren = barren
        self._texts: dict[str, Text] = {}
        self._nothing = Text(_NONE)
        self._places: dict[int, int] = {}
        self._ranks: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def cells(self, page: Page) -> Cells:
        """The cells of a page. They share a text where also the characters around them are equal."""
        known, zeros, norm = self._texts, page.zeros, page.norm
        out = []
        for start, end, _, _, _ in page.cells:
            text = known.get(around := zeros[start : end + 2])
            if text is None:
                text = known[around] = Text(norm[start:end])
            out.append(text)
        return Cells(page, out)

    def describe(self, document: Document, cells: Cells, kind: str) -> tuple[list[Piece], Rows, list[int]]:
        """The pieces of a kind that are not barren, the blocks of each, those of silence. `cells`: of the text."""
        page = document.page
        spots = self._in_cells(cells, kind) if kind in IN_CELLS else self._found(page, kind, document.pieces(kind))
        pieces = [(page.cells[at].start + spot.start, page.cells[at].start + spot.end) for at, spot in spots]
        lefts, heads, rights = [], [], []
        rows: Rows = []
        numbers = kind == "number"
        last, shared = -1, list[int]()
        for (at, spot), rank in zip(spots, self._rank(page, pieces, kind), strict=True):
            beside = cells.beside[at] or self._beside(cells, at)
            if at != last:
                last, shared = at, self._shared(cells, at, kind)
            right, right_words = spot.right, spot.right_words
            if right < 0:
                right, right_words = cells.right[at] or self._right(cells, at)
            left, left_words = (spot.left, spot.left_words) if spot.left >= 0 else beside[:2]
            place = beside.place + spot.place
            places = self._places.get(place)
            if places is None:
                places = self._place(place)
            rows.append([*shared, left, right, spot.own[0], rank, places, *spot.own[1:]])
            if numbers:
                lefts.append(left_words)
                heads.append(beside.head_words)
                rights.append(right_words)
        return pieces, rows, self._alike(rows, (lefts, heads, rights))

    def _in_cells(self, cells: Cells, kind: str) -> list[tuple[int, Spot]]:
        page, out = cells.page, []
        for at, text in enumerate(cells.texts):
            spots = text.spots.get(kind)
            if spots is None:
                cell = page.cells[at]
                own = [(cell.start + start, cell.start + end) for start, end in IN_CELLS[kind](text.norm)]
                spots = text.spots[kind] = [spot for _, spot in self._found(page, kind, own)]
            if spots:
                out += [(at, spot) for spot in spots]
        return out

    def _found(self, page: Page, kind: str, pieces: Sequence[Piece]) -> list[tuple[int, Spot]]:
        """The spots of pieces that are not barren, each with the place of its cell."""
        barren = self._barren.get(kind, frozenset())
        out = []
        for piece, form in zip(pieces, forms(page, pieces, kind), strict=True):
            if form not in barren:
                cell = page.cell_at(piece[0])
                out.append((cell.at, self._spot(page, cell, piece, form, kind)))
        return out

    def _spot(self, page: Page, cell: Cell, piece: Piece, form: str, kind: str) -> Spot:
        norm, block = page.norm, self.block
        start, end = piece
        own = [block[OWN][form]]
        inside = norm[max(cell.start, start - _LONGEST) : start]
        unit = _UNIT.match(inside) if kind == "number" else None
        left = right = -1
        if unit is None and inside and not inside.isspace() and (kind[:5] != "words" or _LETTERS.search(inside)):
            left = block[LEFT][inside]
        after = norm[end : min(end + _RIGHT, cell.end)].strip() if end < cell.end else ""
        if after:
            right = block[RIGHT][after]
        if kind == "number":
            own.append(block[UNIT][unit.group(1) if unit else ""])
        elif kind == "part":
            own.append(block[WORDS][norm[start:end]])
        place = 2 * (start > cell.start) + (end < cell.end)
        return Spot(
            start - cell.start, end - cell.start, left, _letters(inside), right, _letters(after), place, tuple(own)
        )

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

    def _right(self, cells: Cells, at: int) -> tuple[int, str]:
        after = cells.page.beside(cells.page.cells[at], 1)
        known = cells.right[at] = (
            (self.block[RIGHT]["$"], "") if after is None else self._side(cells.texts[after.at], RIGHT)
        )
        return known

    def _beside(self, cells: Cells, at: int) -> Beside:
        page, texts, nothing = cells.page, cells.texts, self._nothing
        cell = page.cells[at]
        line = page.lines[cell.line]
        before, above = at - line[0].at, page.above(cell)
        over = texts[above.at] if above is not None else nothing
        left, left_words = self._side(texts[at - 1] if before else over, LEFT)
        heading = page.heading(cell)
        column = texts[heading.at] if heading is not None and heading is not above else nothing
        head, head_words = self._side(column, HEAD)
        end = len(page.lines) - 1 - cell.line
        place = min(cell.line, _TOPS) * (_TOPS + 1) + min(end, _TOPS)
        place = (place * 4 + min(before, 3)) * 5 + min(len(line), 4)
        known = cells.beside[at] = Beside(
            left, left_words, head, head_words, self._side(over, ABOVE)[0], 8 * place + 4 * page.after_gap[cell.line]
        )
        return known

    def _shared(self, cells: Cells, at: int, kind: str) -> list[int]:
        """The blocks that all pieces of a kind in a cell have."""
        page, texts = cells.page, cells.texts
        beside = cells.beside[at] or self._beside(cells, at)
        if kind == "part":
            under = page.below(page.cells[at])
            return [beside.above, self._side(texts[under.at] if under is not None else self._nothing, BELOW)[0]]
        if kind == "number":
            first = page.lines[page.cells[at].line][0].at
            return [
                beside.above, beside.head, self._side(texts[first] if first < at - 1 else self._nothing, FIRST)[0]
            ]  # fmt: skip
        return [beside.above, beside.head]

    def _place(self, key: int) -> int:
        known = self._places.get(key)
        if known is None:
            rest, out = divmod(key, 2)
            rest, inside = divmod(rest, 2)
            rest, gap = divmod(rest, 2)
            rest, size = divmod(rest, 5)
            rest, before = divmod(rest, 4)
            top, end = divmod(rest, _TOPS + 1)
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
            amounts = {text: int(_MARK.sub("", text)) for text in times if _is_amount(text)}
            tops = sorted(set(amounts.values()), reverse=True)[: _ENDS + 1]
            size = {text: 1 + tops.index(n) for text, n in amounts.items() if n in tops}
        out = []
        for k, text in enumerate(texts):
            often = min(times[text], _ENDS)
            key = -often
            if kind != "part":
                key = ((min(k, _ENDS) * 4 + min(last - k, _ENDS)) * 4 + often) * 6 + size.get(text, 0)
            known = ranks.get(key)
            if known is None:
                top = f"t{size[text] - 1}" if text in size else ""
                place = ":" if kind == "part" else f"{min(k, _ENDS)}:{min(last - k, _ENDS)}"
                known = ranks[key] = self.block[RANK][f":{place}:{often}:{top}"]
            out.append(known)
        return out

    def _alike(self, rows: Rows, keys: tuple[list[str], list[str], list[str]]) -> list[int]:
        """Add to the pieces how many have the like left of them and over them; return the blocks of silence."""
        block = self.block
        silence = [block[SILENCE][""]]
        if not keys[0]:
            return silence
        for side, own in zip("lhr", keys, strict=True):
            times = Counter(own)
            if side != "r":
                for row, key in zip(rows, own, strict=True):
                    row.append(block[ALIKE][f"{side}{min(times[key], 3)}{key}" if key else side])
            silence += [block[SILENCE][f"{side}{min(n, 3)}{key}"] for key, n in times.items() if key]
        return silence
