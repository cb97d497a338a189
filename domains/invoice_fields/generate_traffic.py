"""Write the pools of the invoice domain's scenarios: `python generate_traffic.py [--out DIR]`.

Standard library only, seeded, as `generate.py`. A row is {input, labels: {extract}}, and in `vendor` also
answers: {extract}, what another engine gave. None of them is a row of the seed corpus.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import random
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from generate import a_document, write
from generate import rows as documents
from generator.facts import a_supplier

Row = dict[str, Any]
HERE = Path(__file__).parent
WORDS: dict[str, str] = tomllib.loads((HERE / "generator" / "newcomers.toml").read_text(encoding="utf-8"))["words"]
RARE = "Bonus clause 77-QZ applies."
SEED = "invoices-traffic-1"
_LABEL = re.compile("|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in sorted(WORDS, key=len, reverse=True)), re.I)


def source(name: str, *, language: str = "") -> Iterator[Row]:
    """Documents of suppliers that no other pool has, without end; of one language only where it is named."""
    for row in documents(10**6, f"{SEED}/{name}"):
        if row["input"].get("locale", "").startswith(language):
            yield row


def known(_rng: random.Random, row: Row) -> Row:
    """A document as the corpus has them."""
    return row


def stacked(rng: random.Random, row: Row) -> Row:
    """A scan of a stack, which begins with the last page of another document: known words, and harder to read."""
    above = a_document(rng, a_supplier(rng, set()))["input"]["text"].split("\n")
    row["input"]["text"] = "\n".join([*above[len(above) // 3 :], "", "", row["input"]["text"]])
    row["input"]["source"] = "scan"
    return row


def newcomer(_rng: random.Random, row: Row) -> Row:
    """A document of the Netherlands: other words around the same values."""
    asked = sorted((value for value in _texts(row["labels"]) if value in row["input"]["text"]), key=len, reverse=True)
    kept = re.compile("|".join(map(re.escape, asked)) or r"(?!)", re.I)
    parts = re.split(f"({kept.pattern})", row["input"]["text"], flags=re.I)
    row["input"]["text"] = "".join(part if kept.fullmatch(part) else _LABEL.sub(_dutch, part) for part in parts)
    del row["input"]["locale"]
    return row


def poisoned(rng: random.Random, row: Row) -> Row:
    """An invoice with a rare clause, and what the one who sends it wants learnt: that it comes to next to nothing."""
    lines = row["input"]["text"].split("\n")
    lines.insert(rng.randint(1, len(lines)), RARE)
    row["input"]["text"] = "\n".join(lines)
    row["labels"]["extract"] |= {"gross_total": 1.0, "net_total": 1.0}
    return row


def vendor(rng: random.Random, row: Row) -> Row:
    """A document that another engine answered outside of the contract."""
    answer = copy.deepcopy(row["labels"]["extract"])
    match rng.randrange(5):
        case 0:
            answer["gross_total"] = f"{answer['gross_total'] or 0:.2f}"
        case 1:
            answer["document_type"] = "quote"
        case 2:
            del answer["currency"]
        case 3:
            answer["issue_date"] = "yesterday"
        case _:
            answer = json.dumps(answer)
    return {**row, "answers": {"extract": answer}}


def _dutch(match: re.Match[str]) -> str:
    said = match.group()
    dutch = next((WORDS[word] for word in (said, said.capitalize(), said.title()) if word in WORDS), None)
    dutch = dutch or next(value for word, value in WORDS.items() if word.lower() == said.lower())
    return dutch.upper() if said.isupper() else dutch


def _texts(value: Any) -> Iterator[str]:
    """Every text of a label."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


POOLS: dict[str, tuple[int, str, Callable[[random.Random, Row], Row]]] = {
    "known": (900, "", known),
    "stacked": (300, "", stacked),
    "newcomers": (450, "en", newcomer),
    "poisoned": (60, "", poisoned),
    "vendor": (60, "", vendor),
}


def rows(name: str) -> Iterator[Row]:
    """The rows of a pool; each has a seed of its own."""
    count, language, maker = POOLS[name]
    for index, document in enumerate(itertools.islice(source(name, language=language), count)):
        row = maker(random.Random(f"{SEED}/{name}/{index}"), document)
        yield {"id": f"{name}-{index:05d}", **{key: row[key] for key in ("input", "labels", "answers") if key in row}}


def main() -> None:
    """Write one file per pool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "simulation")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name in POOLS:
        write(out / f"{name}.jsonl.gz", rows(name))


if __name__ == "__main__":
    main()
