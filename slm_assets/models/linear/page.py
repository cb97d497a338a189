"""A text as it is laid out: lines, cells between runs of spaces, what stands beside, above and below each."""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import lru_cache, partial
from typing import Final, NamedTuple

from slm_assets.models.linear.text import MAX_CHARS

_CELL: Final = re.compile(r"[^ \t\n\r\f\v]+(?: [^ \t\n\r\f\v]+)*|[\n\f\v]")
_DIGIT: Final = re.compile(r"\d")
_LETTERS: Final = re.compile(r"[^\W\d_]+")
_FEW_LETTERS: Final = 4
_CLIMB: Final = 40
_CACHE: Final = 20_000


class Cell(NamedTuple):
    """A run of words that single spaces join: offsets, its line, its column, its place among all cells."""

    start: int
    end: int
    line: int
    column: int
    at: int


_cell: Final = partial(tuple.__new__, Cell)  # without the constructor in Python


class Page:
    """The first MAX_CHARS characters of a text. `norm`: in lower case with every digit 0, of equal length;
    `zeros`: as it is but for the digits, between two line breaks."""

    def __init__(self, text: str) -> None:
        self.text = text[:MAX_CHARS]
        plain = _DIGIT.sub("0", self.text)
        self.zeros = f"\n{plain}\n"
        self.norm = "İ".join(map(str.lower, plain.split("İ")))  # the one letter whose lower case is two
        self.cells: list[Cell] = []
        self.lines: list[list[Cell]] = []
        self.after_gap: list[bool] = []
        begins, breaks = 0, 1
        for start, end in [found.span() for found in _CELL.finditer(plain)]:
            if plain[start] in "\n\f\v":
                begins, breaks = end, breaks + 1
                continue
            if breaks:
                self.lines.append([])
                self.after_gap.append(breaks > 1)
                breaks = 0
            cell = _cell((start, end, len(self.lines) - 1, start - begins, len(self.cells)))
            self.lines[-1].append(cell)
            self.cells.append(cell)
        self.size = len(self.cells)
        self._starts = [cell.start for cell in self.cells]
        self._above: dict[int, Cell | None] = {}
        self._headings: dict[int, Cell | None] = {}

    def cell_at(self, offset: int) -> Cell:
        """The cell that holds an offset."""
        return self.cells[bisect_right(self._starts, offset) - 1]

    def beside(self, cell: Cell, step: int) -> Cell | None:
        """The cell before (−1) or after (1) it on its line."""
        at = cell.at + step
        if 0 <= at < self.size and self.cells[at].line == cell.line:
            return self.cells[at]
        return None

    def above(self, cell: Cell) -> Cell | None:
        """What the line above holds over it."""
        known = self._above.get(cell.at, cell)
        if known is cell:  # nothing stands over itself
            known = self._above[cell.at] = self._over(cell, cell.line - 1)
        return known

    def below(self, cell: Cell) -> Cell | None:
        """What the line below holds under it."""
        return self._over(cell, cell.line + 1)

    def _over(self, cell: Cell, line: int) -> Cell | None:
        if not 0 <= line < len(self.lines):
            return None
        own = self.lines[line]
        if len(own) == 1 and len(self.lines[cell.line]) == 1:
            return own[0]
        left, right = cell.column, cell.column + cell.end - cell.start
        for other in own:
            if other.column < right and other.column + other.end - other.start > left:
                return other
        return None

    def heading(self, cell: Cell) -> Cell | None:
        """The nearest cell above it that is no figure, with nothing but figures between."""
        passed = []
        found: Cell | None = cell
        for _ in range(_CLIMB):
            assert found is not None
            if found.at in self._headings:
                found = self._headings[found.at]
                break
            passed.append(found.at)
            found = self.above(found)
            if found is None or not is_figure(self.norm[found.start : found.end]):
                break
        else:
            found = None
        for index in passed:
            self._headings[index] = found
        return found


@lru_cache(_CACHE)
def is_figure(norm: str) -> bool:
    """Whether a cell is a number, with a sign or a short unit perhaps."""
    return "0" in norm and sum(map(len, _LETTERS.findall(norm))) < _FEW_LETTERS
