"""What near-duplicates are judged on: the words of a row's texts, and its structured part."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.stages.rows.fields import hash64

_WORDS = re.compile(r"\w+")
_BLANK = "\0"


@dataclass(frozen=True, slots=True)
class Texts:
    """`text`: its words, folded, joined by spaces; `structure`: hash of the input with texts blanked.

    `unit` is equal where both are equal; `words` counts distinct words, `chars` characters.
    """

    text: str
    structure: int
    unit: int
    words: int
    chars: int


def texts_of(value: Json) -> Texts:
    """Take an input apart. A text is a string with a space; other strings belong to the structure."""
    found: list[str] = []
    structure = canonical.dumps(_blank(value, found))
    text = normalise(" ".join(found))
    words = len(set(text.split(" "))) if text else 0
    unit = hash64(structure + b"\n" + text.encode())
    return Texts(text, _hash_of_structure(structure), unit, words, sum(map(len, found)))


@lru_cache(maxsize=10_000)
def _hash_of_structure(structure: bytes) -> int:
    return hash64(structure)


def normalise(text: str) -> str:
    """Words in lower case without accents and punctuation. Digits stay: flight 101 is not flight 202."""
    if not text.isascii():
        folded = unicodedata.normalize("NFKD", text)
        text = "".join(mark for mark in folded if not unicodedata.combining(mark))
    return " ".join(_WORDS.findall(text.casefold()))


def _blank(value: Json, found: list[str]) -> Json:
    kind = type(value)
    if kind is str:
        if " " in value:
            found.append(value)
            return _BLANK
        return value
    if kind is dict:
        return {key: _blank(value[key], found) for key in sorted(value)}
    if kind is list:
        return [_blank(item, found) for item in value]
    return value
