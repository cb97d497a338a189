"""What near-duplicates are judged on: the words of a row's texts, and its structured part."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.stages.rows.fields import hash64

_WORDS = re.compile(r"\w+")
_ASCII = bytes(ord(chr(i).lower()) if chr(i).isalnum() or i == ord("_") else 32 for i in range(128)) * 2
_BLANK = "\0"


class Texts(NamedTuple):
    """`text`: its words, folded, joined by spaces, in UTF-8; `structure`: hash of the input with texts
    blanked. `unit` is equal where both are equal; `words` counts distinct words, `chars` characters.
    """

    text: bytes
    structure: int
    unit: int
    words: int
    chars: int


def texts_of(value: Json) -> Texts:
    """Take an input apart. A text is a string with a space; other strings belong to the structure."""
    found: list[str] = []
    structure = _hash_of_structure(canonical.dumps(_blank(value, found)))
    joined = found[0] if len(found) == 1 else " ".join(found)
    words = words_of(joined)
    text = b" ".join(words)
    unit = hash64(b"%d\n%b" % (structure, text))
    return Texts(text, structure, unit, len(set(words)), len(joined))


def words_of(text: str) -> list[bytes]:
    """Words in lower case without accents and punctuation. Digits stay: flight 101 is not flight 202."""
    if text.isascii():
        return text.encode().translate(_ASCII).split()
    folded = unicodedata.normalize("NFKD", text)
    bare = "".join(mark for mark in folded if not unicodedata.combining(mark))
    return [word.encode() for word in _WORDS.findall(bare.casefold())]


@lru_cache(maxsize=10_000)
def _hash_of_structure(structure: bytes) -> int:
    return hash64(structure)


def _blank(value: Json, found: list[str]) -> Json:
    """The value with its texts taken out; they are found in the order of the keys."""
    if isinstance(value, dict):
        blank = {}
        for key in sorted(value):
            item = value[key]
            # Leaves are looked at here: a call for each would be most of the work.
            if isinstance(item, str):
                if " " in item:
                    found.append(item)
                    item = _BLANK
            elif isinstance(item, dict | list):
                item = _blank(item, found)
            blank[key] = item
        return blank
    if isinstance(value, list):
        return [_blank(item, found) for item in value]
    if isinstance(value, str) and " " in value:
        found.append(value)
        return _BLANK
    return value
