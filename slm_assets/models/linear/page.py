"""A text as it is laid out: lines, cells between runs of spaces, what stands beside, above and below each."""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cached_property
from typing import Final, NamedTuple

from slm_assets.models.linear.text import MAX_CHARS

_CELL: Final = re.compile(r"[^ \t\n\r\f\v]+(?: [^ \t\n\r\f\v]+)*|[\n\f\v]")
_DIGIT: Final = re.compile(r"\d")
_LETTERS: Final = re.compile(r"[^\W\d_]+")
_FEW_LETTERS: Final = 4
_CLIMB: Final = 40


class Cell(NamedTuple):
    """A run of words that single spaces join: offsets, its line, its column, its place among all cells."""

    start: int
    end: int
    line: int
    column: int
    at: int


class Page:
    """The first MAX_CHARS characters of a text. `norm`: in lower case with every digit 0, of equal length;
    `zeros`: as it is but for the digits, between two line breaks."""

    def __init__(self, text: str) -> None:
        self.text = text[:MAX_CHARS]
        low = self.text.lower()
        if len(low) != len(self.text):
            low = "".join(char if len(char.lower()) != 1 else char.lower() for char in self.text)
        self.zeros = f"\n{_DIGIT.sub('0', self.text)}\n"
        self.norm = _DIGIT.sub("0", low)
        self.cells: list[Cell] = []
        self.lines: list[list[Cell]] = []
        self.after_gap: list[bool] = []
        begins, breaks = 0, 1
        for found in _CELL.finditer(self.text):
            start, end = found.span()
            if self.text[start] in "\n\f\v":
                begins, breaks = end, breaks + 1
                continue
            if breaks:
                self.lines.append([])
                self.after_gap.append(breaks > 1)
                breaks = 0
            cell = Cell(start, end, len(self.lines) - 1, start - begins, len(self.cells))
            self.lines[-1].append(cell)
            self.cells.append(cell)
        self.size = len(self.cells)
        self._starts = [cell.start for cell in self.cells]
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
        return self._over(cell, cell.line - 1)

    def below(self, cell: Cell) -> Cell | None:
        """What the line below holds under it."""
        return self._over(cell, cell.line + 1)

    def _over(self, cell: Cell, line: int) -> Cell | None:
        if not 0 <= line < len(self.lines):
            return None
        own = self.lines[line]
        left, right = cell.column, cell.column + cell.end - cell.start
        for other in own:
            if other.column < right and other.column + other.end - other.start > left:
                return other
        return own[0] if len(own) == 1 and len(self.lines[cell.line]) == 1 else None

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
            if found is None or not self.is_figure[found.at]:
                break
        else:
            found = None
        for index in passed:
            self._headings[index] = found
        return found

    @cached_property
    def is_figure(self) -> list[bool]:
        """Per cell, whether it is a number, with a sign or a short unit perhaps."""
        norm = self.norm
        out = []
        for cell in self.cells:
            piece = norm[cell.start : cell.end]
            out.append("0" in piece and sum(map(len, _LETTERS.findall(piece))) < _FEW_LETTERS)
        return out
