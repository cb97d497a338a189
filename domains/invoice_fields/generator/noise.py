"""What a scanner misreads: letters of longer words, never a value that is asked for."""

from __future__ import annotations

import random
import re

_SLIPS = {
    "m": ["rn"], "l": ["1", "I"], "o": ["0"], "e": ["c"], "i": ["l", "!"], "u": ["ii", "v"], "ü": ["u"], "ä": ["a"],
    "t": ["f"], "n": ["ri"], "a": ["o"], "é": ["e"], "h": ["b"], "g": ["q"], "I": ["l"], "B": ["8"], "S": ["5"],
}  # fmt: skip
_WORD = re.compile(r"[^\W\d_]{4,}")


def scanned(rng: random.Random, text: str, kept: set[str]) -> str:
    """The text with slips in some of its longer words; `kept`: words (in lower case) that stay as they are."""
    share = rng.choice([0.02, 0.05, 0.1])

    def slip(match: re.Match[str]) -> str:
        word = match.group()
        places = [at for at, letter in enumerate(word) if letter in _SLIPS]
        if rng.random() >= share or not places or word.lower() in kept:
            return word
        at = rng.choice(places)
        return word[:at] + rng.choice(_SLIPS[word[at]]) + word[at + 1 :]

    return _WORD.sub(slip, text)
