"""Write the seed corpus of the invoice domain: `python generate.py [--out DIR] [--suppliers N] [--seed TEXT]`.

Standard library only, seeded: the same call writes the same rows on every machine. A row is
{id, input: {text, locale?, source?}, labels: {extract}, layout, group}. The labels are gold: a document's facts
are drawn first, then written down, and a label is what was written. `group` is the supplier in its layout, which
the split keeps together. All names are invented.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from generator.facts import Supplier, a_supplier, some_facts
from generator.layouts import LAYOUTS, finished
from generator.noise import scanned
from generator.paper import Paper
from generator.written import WORDING

SUPPLIERS = 1700
DOCUMENTS = 3
SEED = "invoices-1"
SOURCES = {"email": "email", "receipt": "receipt"}


def a_document(rng: random.Random, supplier: Supplier) -> dict[str, Any]:
    """One row without its id."""
    paper = Paper(supplier, some_facts(rng, supplier), rng)
    text = finished(LAYOUTS[supplier.family](paper))
    is_scan = bool(supplier.traits["scanned"])
    if is_scan:
        text = scanned(rng, text, _asked(supplier))
    given: dict[str, Any] = {"text": text}
    if rng.random() < 0.8:
        given["locale"] = supplier.hand.locale
    if rng.random() < 0.85:
        given["source"] = "scan" if is_scan else SOURCES.get(supplier.family, "pdf")
    return {
        "input": given,
        "labels": {"extract": paper.gold},
        "layout": supplier.family,
        "group": supplier.key,
    }


def _asked(supplier: Supplier) -> set[str]:
    """Words that are part of asked values (the supplier's name, months, currencies), of mails and accounts."""
    words = WORDING[supplier.hand.language]
    texts = [supplier.name, supplier.currency, *words["months"], *words["short_months"], "example west aibk"]
    return {word.lower() for text in texts for word in re.findall(r"\w+", text)}


def rows(suppliers: int, seed: str = SEED) -> Iterator[dict[str, Any]]:
    """The documents of the first suppliers; each has a seed of its own, so any prefix is stable."""
    taken: set[str] = set()
    for index in range(suppliers):
        supplier = a_supplier(random.Random(f"{seed}/{index}"), taken)
        for number in range(DOCUMENTS):
            document = a_document(random.Random(f"{seed}/{index}/{number}"), supplier)
            yield {"id": f"doc-{index:04d}-{number}", **document}


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as packed JSON Lines; equal rows are equal bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", mtime=0) as packed:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
            packed.write(line.encode() + b"\n")
    path.write_bytes(buffer.getvalue())


def main() -> None:
    """Write the corpus."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "datasets" / "seed")
    parser.add_argument("--suppliers", type=int, default=SUPPLIERS)
    parser.add_argument("--seed", default=SEED)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    write(arguments.out / "documents.jsonl.gz", rows(arguments.suppliers, arguments.seed))


if __name__ == "__main__":
    main()
