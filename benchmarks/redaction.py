"""What redaction finds, what it leaves alone, what it costs, and what a model loses by it.

    python benchmarks/redaction.py                       all of it, with travel's model trained anew
    python benchmarks/redaction.py --domains --each 100  without a model

Found: values that Faker invents in five locales (`planted.py`), missed when any piece of one is left. Left alone: the
words of turns in which nothing is to be found, by how the corpus was made. Cost: CPU of one thread over inputs and
labels of a corpus, after the first turn. Lost: each metric of a domain on its eval turns, as they came and redacted.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import planted

from slm_assets.domain.loading import load_domain
from slm_assets.domain.redaction import Redactor
from slm_assets.engines.in_process import make_cell
from slm_assets.errors import SlmError
from slm_assets.gates.metrics import same, values_at
from slm_assets.models.chain import answer_turn
from slm_assets.registry.home import Home
from slm_assets.stages.clean_process import load_engines
from slm_assets.stages.plans import open_version, output_of, registry_for
from slm_assets.stages.rows_io import labelled_rows

ROOT = Path(__file__).resolve().parent.parent
SEED = 7
CLEAN_TURNS = 2000
COST_TURNS = 2000


def recall(each: int) -> list[dict[str, Any]]:
    """Per kind: values of each locale, and how many were missed in which."""
    redactor = Redactor()
    missed: Counter[tuple[str, str]] = Counter()
    values = planted.planted(each, SEED)
    for one in values:
        missed[one.kind, one.locale] += bool(one.left(str(redactor.redact(one.text)[0])))
    kinds = list(dict.fromkeys(one.kind for one in values))
    return [
        {"kind": kind, "of_each": each, **{locale: missed[kind, locale] for locale in planted.LOCALES}}
        for kind in kinds
    ]


def corpus(domain: str) -> Iterator[dict[str, Any]]:
    """The rows of a shipped domain's seed."""
    for path in sorted((ROOT / "domains" / domain / "datasets" / "seed").glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            yield from map(json.loads, file)


def clean() -> dict[str, Any]:
    """Words changed in travel's turns but for those of its goal `pii`, the only ones that hold such values."""
    redactor = Redactor()
    rows = [row for row in corpus("travel") if not row["template"].startswith("pii/")][:CLEAN_TURNS]
    tokens = changed = 0
    for row in rows:
        turn = [row["input"], row["labels"]]
        before, after = (Counter(re.findall(r"\w+", json.dumps(value))) for value in (turn, redactor.redact(turn)[0]))
        tokens += before.total()
        changed += (before - after).total()
    return {"turns": len(rows), "tokens": tokens, "changed": changed}


def cost(domain: str) -> dict[str, Any]:
    """CPU milliseconds a turn."""
    redactor = Redactor()
    turns = [[row["input"], *row["labels"].values()] for row in islice(corpus(domain), COST_TURNS)]
    redactor.redact(turns[0])
    started = time.process_time()
    for turn in turns:
        for value in turn:
            redactor.redact(value)
    return {
        "domain": domain,
        "turns": len(turns),
        "cpu_ms": round((time.process_time() - started) * 1e3 / len(turns), 3),
    }


def skew(name: str) -> dict[str, Any]:
    """A model trained on the domain's rows as they are, on its eval turns: right on raw ones, and on redacted ones by
    labels that were redacted likewise."""
    with tempfile.TemporaryDirectory(prefix="slm-redaction-") as scratch:
        base = Path(scratch)
        home = replace(Home.from_env(base / "home"), domains=ROOT / "domains")
        home = replace(home, registry_url=f"sqlite:///{base}/home/registry.db", artifacts_url=str(base / "store"))
        domain = load_domain(ROOT / "domains" / name)
        registry = registry_for(home, domain.config)
        plan = open_version(domain, registry, actor="bench", reason="benchmark")
        for stage in ("dataset", "label", "finetune"):
            outcome = make_cell(registry, plan, stage, actor="bench")
            if outcome.receipt.status != "succeeded":
                raise SlmError(f"{name}, {stage}: {outcome.receipt.error}")
            registry.store.get(output_of(registry, plan, stage), base / stage)
        engines = load_engines(domain, base / "finetune")
        rows = list(labelled_rows(base / "dataset", base / "label", "eval"))
    redactor = Redactor(domain.redaction)
    metrics = [m for m in domain.config.eval.metrics if m.path is not None and m.kind == "match"]
    right: Counter[tuple[str, str]] = Counter()
    changed = 0
    for row in rows:
        redacted = redactor.redact(row.turn)[0]
        hidden = {role: redactor.redact(label)[0] for role, label in row.labels.items()}
        changed += redacted != row.turn
        for kind, turn, wanted in (("raw", row.turn, row.labels), ("redacted", redacted, hidden)):
            answers = answer_turn(domain.config.roles, engines, turn)
            for m in metrics:
                role = m.role or domain.config.roles[0].id
                own, label = (values_at(v, str(m.path), m.absent) for v in (answers[role].output, wanted[role]))
                right[m.id, kind] += same(own, label)
    return {
        "domain": name,
        "turns": len(rows),
        "changed": changed,
        "metrics": {
            m.id: {kind: round(right[m.id, kind] / len(rows), 4) for kind in ("raw", "redacted")} for m in metrics
        },
    }


def main() -> None:
    """Print what was measured, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=400, help="values of each kind and locale")
    parser.add_argument("--domains", nargs="*", default=["travel"], help="whose model is trained and asked")
    parser.add_argument("--json", type=Path, help="write the result to this file too")
    arguments = parser.parse_args()
    names = sorted(path.parent.name for path in ROOT.glob("domains/*/slm.config.yaml"))
    result = {
        "recall": recall(arguments.each),
        "clean": clean(),
        "cost": [cost(name) for name in names],
        "skew": [skew(name) for name in arguments.domains],
    }
    print(json.dumps(result, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
