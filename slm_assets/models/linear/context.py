"""What surrounds a piece of a laid-out text, as blocks of features: a template and a string ("left of it stands
`total due`"). Pieces share blocks, so that each is worked out once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from slm_assets.models.linear.page import Cell, Page
from slm_assets.models.linear.scan import Piece

TEMPLATES: Final = (
    "left", "first", "above", "head", "right", "below", "own", "place", "rank", "words", "unit", "alike", "silence",
)  # fmt: skip
LEFT, FIRST, ABOVE, HEAD, RIGHT, BELOW, OWN, PLACE, RANK, WORDS, UNIT, ALIKE, SILENCE = range(len(TEMPLATES))
"""What stands left, else above; first on the line; in the line above; over the column; right; in the line below; how
the piece is written; where it stands; which of its kind it is; its words; the unit before it; how many pieces have
the like beside or over them; and what the text holds if none of the pieces is meant."""

Lookup = Sequence[dict[str, int]]
"""Template → string → number of the block; a string that is missing gets one."""

_WORD: Final = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*|[^\w\s]")
_ZEROS: Final = re.compile("0{2,}")
_LETTERS: Final = re.compile(r"[^\W\d_]+")
_UNIT: Final = re.compile(r"\W*((?:[^\W\d_]{2,3}|fr\.)?\s?[^\w\s]*)\s?$")
_LONGEST: Final = 60
_RIGHT: Final = 24
_AFFIX: Final = 4
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


def describe(
    page: Page, pieces: Sequence[Piece], forms: Sequence[str], kind: str, block: Lookup
) -> tuple[list[list[int]], list[int]]:
    """The blocks of each piece, equally many, and those of silence."""
    norm = page.norm
    numbers = kind == "number"
    around: dict[int, tuple[str, str, str, list[int]]] = {}
    lefts, heads, rights = [], [], []
    out: list[list[int]] = []
    for (start, end), written, rank in zip(pieces, forms, _ranks(page, pieces, kind), strict=True):
        cell = page.cell_at(start)
        known = around.get(cell.at)
        if known is None:
            known = around[cell.at] = _around(page, cell, kind, block)
        left, head, place, shared = known
        inside = norm[max(cell.start, start - _LONGEST) : start]
        unit = _UNIT.match(inside) if numbers else None
        if unit is None and inside and not inside.isspace() and (kind[:5] != "words" or _LETTERS.search(inside)):
            left = inside
        right = norm[end : min(end + _RIGHT, cell.end)].strip() if end < cell.end else ""
        if not right:
            after = page.beside(cell, 1)
            right = f"|{norm[after.start : after.end][:_RIGHT]}" if after is not None else "$"
        rows = [
            *shared, block[LEFT][left], block[RIGHT][right], block[OWN][written], block[RANK][rank],
            block[PLACE][f"{place}{'i' if start > cell.start else '.'}{'.' if end >= cell.end else 'o'}"],
        ]  # fmt: skip
        if numbers:
            rows.append(block[UNIT][unit.group(1) if unit else ""])
            lefts.append(_letters(left))
            heads.append(_letters(head))
            rights.append(_letters(right))
        elif kind == "part":
            rows.append(block[WORDS][norm[start:end]])
        out.append(rows)
    return out, _alike(out, (lefts, heads, rights), block)


def _alike(rows: list[list[int]], keys: tuple[list[str], list[str], list[str]], block: Lookup) -> list[int]:
    """Add to the pieces how many have the like left of them and over them; return the blocks of silence."""
    silence = [block[SILENCE][""]]
    for side, own in zip("lhr", keys, strict=True):
        times = Counter(own)
        if side != "r":
            for row, key in zip(rows, own, strict=False):
                row.append(block[ALIKE][f"{side}{min(times[key], 3)}{key}" if key else side])
        silence += [block[SILENCE][f"{side}{min(n, 3)}{key}"] for key, n in times.items() if key]
    return silence


def _around(page: Page, cell: Cell, kind: str, block: Lookup) -> tuple[str, str, str, list[int]]:
    """Of a cell: what stands left of it, else above; over its column; where it is; the blocks of all its pieces."""
    norm = page.norm
    own = page.lines[cell.line]
    before, above, first = page.beside(cell, -1), page.above(cell), own[0]
    over = norm[above.start : above.end][-_LONGEST:] if above else _NONE
    left = norm[before.start : before.end][-_LONGEST:] if before else over
    place = (
        f"{min(cell.line, _TOPS)}:{min(len(page.lines) - 1 - cell.line, _TOPS)}:{min(cell.at - first.at, 3)}"
        f":{min(len(own), 4)}{'g' if page.after_gap[cell.line] else '.'}"
    )
    head = _NONE
    shared = [block[ABOVE][over]]
    if kind == "part":
        under = page.below(cell)
        shared.append(block[BELOW][norm[under.start : under.end][:_LONGEST] if under else _NONE])
    else:
        heading = page.heading(cell)
        if heading is not None and heading is not above:
            head = norm[heading.start : heading.end][:_LONGEST]
        shared.append(block[HEAD][head])
    if kind == "number":
        shared.append(block[FIRST][norm[first.start : first.end][:_LONGEST] if first.at < cell.at - 1 else _NONE])
    return left, head, place, shared


def _ranks(page: Page, pieces: Sequence[Piece], kind: str) -> list[str]:
    """Per piece, which one it is from the top and from the end, how often it comes, how large it is."""
    texts = [page.text[start:end] for start, end in pieces]
    times = Counter(texts)
    count = len(pieces)
    if kind == "part":
        return [f":::{min(times[text], _ENDS)}:" for text in texts]
    size = {}
    if kind == "number":
        amounts = {text: int("".join(filter(str.isdigit, text))) for text in times if _is_amount(text)}
        tops = sorted(set(amounts.values()), reverse=True)[: _ENDS + 1]
        size = {text: f"t{tops.index(n)}" for text, n in amounts.items() if n in tops}
    return [
        f":{min(k, _ENDS)}:{min(count - 1 - k, _ENDS)}:{min(times[text], _ENDS)}:{size.get(text, '')}"
        for k, text in enumerate(texts)
    ]


def _is_amount(text: str) -> bool:
    """Whether a number has two decimals: those are compared with each other, as cents."""
    return len(text) > 3 and text[-3] in ".,"


@lru_cache(_CACHE)
def _letters(text: str) -> str:
    """The words of a string alone: what rows of a table or labels of one sort have in common."""
    return " ".join(_LETTERS.findall(text)) or ("%" if "%" in text else "")


def names(template: int, text: str) -> list[str]:
    """The features of a block, by names that hold within its template."""
    return _NAMES[template](text)


def _side(text: str, *, nearest_last: bool) -> list[str]:
    words = _WORD.findall(_ZEROS.sub("0", text))
    bare = [word for word in words if word[0].isalnum()]
    found = ["=" + " ".join(words)]
    if words:
        found.append("1" + (words[-1] if nearest_last else words[0]))
    if bare:
        near, far = (bare[-1], bare[0]) if nearest_last else (bare[0], bare[-1])
        found += ["n" + near, "^" + far]
    if len(bare) > 1:
        found.append("2" + " ".join(bare[-2:] if nearest_last else bare[:2]))
    found += ["w" + word for word in dict.fromkeys(bare)]
    found += [part for word in bare if len(word) > _AFFIX for part in ("p" + word[:_AFFIX], "s" + word[-_AFFIX:])]
    return found


def _fields(text: str) -> list[str]:
    return ["=" + text, *(f"{k}{field}" for k, field in enumerate(text.split(":")))]


def _inside(text: str) -> list[str]:
    words = [word for word in _WORD.findall(_ZEROS.sub("0", text)) if word[0].isalnum()]
    if not words:
        return []
    return ["^" + words[0], "$" + words[-1], f"#{min(len(words), 6)}", *("w" + word for word in words)]


def _each(text: str) -> list[str]:
    return [text[:2], *(text[:2] + word for word in text[2:].split(" "))]


_NAMES: Final[dict[int, Callable[[str], list[str]]]] = {
    **dict.fromkeys((LEFT, ABOVE, HEAD), lambda text: _side(text, nearest_last=True)),
    **dict.fromkeys((FIRST, RIGHT, BELOW), lambda text: _side(text, nearest_last=False)),
    **dict.fromkeys((OWN, PLACE, RANK), _fields),
    **dict.fromkeys((ALIKE, SILENCE), _each),
    WORDS: _inside,
    UNIT: lambda text: [text],
}
