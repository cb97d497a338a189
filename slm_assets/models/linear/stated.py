"""Listed values that laid-out texts state: by their own name, or by a word or sign that goes with one of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from slm_assets.models.linear.align import Occurrence
from slm_assets.models.linear.scan import WORDS_OF
from slm_assets.models.linear.spans import Document, Label

_WORDS: Final = (re.compile(r"[^\W\d_]+"), re.compile(r"[^\W\d_]+\."), re.compile(r"[^\w\s|]"))
COVERED: Final = 0.97
_PRECISE: Final = 0.9
_LIFT: Final = 0.4
_ROWS: Final = 5
_MOST: Final = 40


def align_stated(docs: Sequence[Sequence[Document]], occurrences: Sequence[Occurrence], name: str) -> Label | None:
    """The label of listed strings, with the words that state them (`table`), and the places of these in the texts;
    None where the texts of some rows in a hundred state nothing."""
    values = {str(o.value).lower(): o.value for o in occurrences if isinstance(o.value, str)}
    if len(values) < 3 or not all(values):
        return None
    words = [_words(docs[o.row]) for o in occurrences]
    total: Counter[str] = Counter()
    joint: Counter[tuple[str, str]] = Counter()
    share = Counter(str(o.value).lower() for o in occurrences)
    for o, own in zip(occurrences, words, strict=True):
        total.update(own)
        joint.update((word, str(o.value).lower()) for word in own)
    table = dict(values)
    left = [
        (str(o.value).lower(), own)
        for o, own in zip(occurrences, words, strict=True)
        if str(o.value).lower() not in own
    ]
    while left and len(table) < _MOST:
        gain = Counter((word, value) for value, own in left for word in own if word not in table)
        sure = [
            (-n, pair)
            for pair, n in gain.items()
            if n >= _ROWS
            and joint[pair] >= max(_PRECISE, min(1.0, share[pair[1]] / len(occurrences) + _LIFT)) * total[pair[0]]
        ]
        if not sure:
            break
        word, value = min(sure)[1]
        table[word] = values[value]
        left = [(v, own) for v, own in left if v != value or word not in own]
    if len(left) > (1 - COVERED) * len(occurrences):
        return None
    label = Label(name, table=dict(sorted(table.items())), scanner=WORDS_OF + "|".join(sorted(table)))
    for o in occurrences:
        o.places = [
            (d, start, end)
            for d, document in enumerate(docs[o.row])
            for start, end in document.pieces(label.scanner)
            if table[document.page.norm[start:end]] == o.value
        ]
    return label


def _words(docs: Sequence[Document]) -> set[str]:
    """Words, also with the dot of an abbreviation, and signs."""
    return {word for document in docs for pattern in _WORDS for word in pattern.findall(document.page.norm)}
