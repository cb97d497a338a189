"""Which sources explain a place: right often enough not to be chance, and together right in most rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slm_assets.models.linear.sources import Codes, Source, rank

SHORTLIST: Final = 24


def shortlist(
    rows: NDArray[np.int64], codes: Codes, tables: Sequence[dict[Source, Codes]]
) -> list[tuple[Source, Codes]]:
    """The sources that are right most often, the best first; those right by chance are left out."""
    scored: list[tuple[int, Any, Source, Codes]] = []
    for table in tables:
        for source, column in table.items():
            taken = column[rows]
            right = int((taken == codes).sum())
            if right and _telling(taken, codes, right):
                scored.append((-right, rank(source), source, column))
    scored.sort(key=lambda item: item[:2])
    return [(source, column) for _, _, source, column in scored[:SHORTLIST]]


def _telling(taken: Codes, codes: Codes, right: int) -> bool:
    """Whether a source is right in half of the rows where it yields a value, or in a tenth and three times
    as often as when the values were dealt out at random (one of several items, say)."""
    have = taken >= 0
    count = int(have.sum())
    if 2 * right >= count:
        return True
    if 10 * right < count or right < 5:
        return False
    top = int(max(taken[have].max(), codes.max())) + 1
    yields, wanted = np.bincount(taken[have], minlength=top), np.bincount(codes[have], minlength=top)
    return right > 3 * float(yields @ wanted) / count


def cover(
    rows: NDArray[np.int64], codes: Codes, candidates: Sequence[tuple[Source, Codes]]
) -> tuple[NDArray[np.bool_], list[int]]:
    """Greedy cover by at most eight sources, each adding 1 % of the rows: who is covered, and by which."""
    covered = np.zeros(len(rows), bool)
    chosen: list[int] = []
    least = max(1, len(rows) // 100)
    hits = [column[rows] == codes for _, column in candidates]
    while len(chosen) < 8:
        gains = [int((hit & ~covered).sum()) for hit in hits]
        best = int(np.argmax(gains)) if gains else -1
        if best < 0 or gains[best] < least:
            break
        covered |= hits[best]
        chosen.append(best)
    return covered, chosen
