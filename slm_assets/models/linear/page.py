"""A text as it is laid out: lines, cells between runs of spaces, what stands beside, above and below each."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Final, NamedTuple

from slm_assets.models.linear.text import MAX_CHARS

_CELL: Final = re.compile(r"[^ \t\r]+(?: [^ \t\r]+)*")
_DIGIT: Final = re.compile(r"\d")
_LETTERS: Final = re.compile(r"[^\W\d_]+")
_FEW_LETTERS: Final = 4
_CACHE: Final = 20_000


class Cell(NamedTuple):
    """A run of words that single spaces join: offsets, its line, its column, its place among all cells."""

    start: int
    end: int
    line: int
    column: int
    at: int


_cell: Final = partial(tuple.__new__, Cell)  # without the constructor in Python


class Written(NamedTuple):
    """A line by itself: every digit a 0; that in lower case, of equal length; where its cells start and end; which of
    them are figures."""

    zeros: str
    norm: str
    cells: tuple[tuple[int, int], ...]
    figures: tuple[bool, ...]


@lru_cache(_CACHE)
def _written(line: str) -> Written:
    zeros = _DIGIT.sub("0", line)
    norm = "İ".join(map(str.lower, zeros.split("İ")))  # the one letter whose lower case is two
    cells = tuple(found.span() for found in _CELL.finditer(zeros))
    return Written(zeros, norm, cells, tuple(is_figure(norm[start:end]) for start, end in cells))


class Page:
    """The first MAX_CHARS characters of a text. `norm`: in lower case with every digit 0, of equal length;
    `zeros`: as it is but for the digits, between two line breaks; `lines`: the cells of those that have any,
    `written`: what stands in them, `begins`: where; `over`: of each cell the one that the line above holds over it,
    `heads`: the nearest above it that is no figure, with nothing but figures between, both −1 for none."""

    def __init__(self, text: str) -> None:
        self.text = text[:MAX_CHARS]
        known = [_written(line) for line in self.text.replace("\f", "\n").replace("\v", "\n").split("\n")]
        self.zeros = "\n".join(["", *[line.zeros for line in known], ""])
        self.norm = "\n".join([line.norm for line in known])
        self.cells: list[Cell] = []
        self.lines: list[list[Cell]] = []
        self.written: list[Written] = []
        self.begins: list[int] = []
        self.after_gap: list[bool] = []
        self.over: list[int] = []
        self.heads: list[int] = []
        figures: list[bool] = []
        above: list[Cell] = []
        at, gap = 0, False
        for line in known:
            if line.cells:
                first, n = len(self.cells), len(self.lines)
                own = [_cell((at + a, at + b, n, a, k)) for k, (a, b) in enumerate(line.cells, first)]
                self.cells += own
                figures += line.figures
                for cell in own:
                    over = _overlapping(cell, above, len(own))
                    self.over.append(over)
                    self.heads.append(self.heads[over] if over >= 0 and figures[over] else over)
                above = own
                self.lines.append(own)
                self.written.append(line)
                self.begins.append(at)
                self.after_gap.append(gap)
            gap = not line.cells
            at += len(line.zeros) + 1
        self.size = len(self.cells)
        self._starts = [cell.start for cell in self.cells]

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
        over = self.over[cell.at]
        return self.cells[over] if over >= 0 else None

    def below(self, cell: Cell) -> int:
        """What the line below holds under it, −1 for nothing."""
        if cell.line + 1 == len(self.lines):
            return -1
        return _overlapping(cell, self.lines[cell.line + 1], len(self.lines[cell.line]))


def _overlapping(cell: Cell, others: Sequence[Cell], count: int) -> int:
    """The first cell of another line that shares a column with a cell of a line of `count`, −1 for none. What stands
    alone in both lines belongs together."""
    if count == 1 and len(others) == 1:
        return others[0].at
    left, right = cell.column, cell.column + cell.end - cell.start
    for start, end, _, column, at in others:
        if column < right and column + end - start > left:
            return at
    return -1


@lru_cache(_CACHE)
def is_figure(norm: str) -> bool:
    """Whether a cell is a number, with a sign or a short unit perhaps."""
    return "0" in norm and sum(map(len, _LETTERS.findall(norm))) < _FEW_LETTERS
