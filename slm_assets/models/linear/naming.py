"""Features of blocks: what each template makes of a string."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

TEMPLATES: Final = (
    "left", "above", "head", "right", "below", "own", "place", "rank", "words", "unit", "alike", "silence",
)  # fmt: skip
LEFT, ABOVE, HEAD, RIGHT, BELOW, OWN, PLACE, RANK, WORDS, UNIT, ALIKE, SILENCE = range(len(TEMPLATES))
"""What stands left, else above; in the line above; over the column; right; in the line below; how
the piece is written; where it stands; which of its kind it is; its words; the unit before it; how many pieces have
the like left of them; and what the text holds if none of the pieces is meant."""

_WORD: Final = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*|[^\w\s]")
_ZEROS: Final = re.compile("0{2,}")
_AFFIX: Final = 4
_RECENT: Final = 2_000


def names(template: int, text: str) -> list[str]:
    """The features of a block, by names that hold within its template."""
    return _NAMES[template](text)


@lru_cache(_RECENT)
def _side(text: str, nearest_last: bool) -> list[str]:
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
    return [text[:1], *(text[:1] + word for word in text[1:].split(" ") if word)]


_NAMES: Final[dict[int, Callable[[str], list[str]]]] = {
    **dict.fromkeys((LEFT, ABOVE, HEAD), lambda text: _side(text, True)),
    **dict.fromkeys((RIGHT, BELOW), lambda text: _side(text, False)),
    **dict.fromkeys((OWN, PLACE, RANK), _fields),
    **dict.fromkeys((ALIKE, SILENCE), _each),
    WORDS: _inside,
    UNIT: lambda text: [text],
}
