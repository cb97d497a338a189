"""What is known of a corpus while rows still come in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from slm_assets.stages.rows.corpus import RECORD, Corpus


def fact_counts(corpus: Corpus) -> Counter[str]:
    """Rows under each fact."""
    kinds = Counter(_table(corpus)["facts"].tolist())
    found: Counter[str] = Counter()
    for facts, number in corpus.facts.items():
        found.update(dict.fromkeys(facts, kinds[number]))
    return found


def texts(corpus: Corpus) -> Iterator[bytes]:
    """The words of each row's texts, joined by spaces."""
    table = _table(corpus)
    with corpus.texts.so_far() as data:
        for start, size in zip(table["text_start"].tolist(), table["text_size"].tolist(), strict=True):
            yield data[start : start + size]


def _table(corpus: Corpus) -> np.ndarray:
    # A copy: a view would keep the records from growing.
    return np.frombuffer(bytes(corpus.records), dtype=RECORD)
