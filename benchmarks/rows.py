"""Rows per second and peak memory of the row stages, on generated rows with skewed duplicates.

    python benchmarks/rows.py 10000 100000
    python benchmarks/rows.py --group-by none 1000000

The rows are short requests. One in ten repeats an earlier one exactly, one in ten repeats the words
of an earlier one but for one (a planted near-duplicate), and a few templates are filled thousands of
times, so that some buckets of the near-duplicate search are large. Each size runs in its own process.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIZES = (10_000, 100_000)
INTENTS = ["order", "refund", "delivery", "account", "invoice", "complaint", "question", "other"]
CONFIG = """\
slm_domain:
  name: generated
  roles:
    - id: route
      output_schema: contracts/route.schema.json
      deterministic_oracle: {kind: rules, path: oracle/route.rules.yaml}
  data:
    seed_corpus: datasets/seed
    split: {eval_ratio: 0.2, validation_ratio: 0.1, group_by: [GROUP_BY]}
"""
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"intent": {"enum": INTENTS}},
    "required": ["intent"],
    "additionalProperties": False,
}
RULES = """\
rules: []
default: {intent: other}
"""


def generate(path: Path, count: int, seed: int = 7) -> list[tuple[str, str]]:
    """Write `count` rows; returns the planted pairs of near-duplicates (original, copy)."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnoprstuvw", k=draw.randint(3, 9))) for _ in range(20_000)]
    templates = [" ".join(draw.choices(words, k=11)) for _ in range(max(1, count // 100_000) * 3)]
    originals: list[tuple[str, str, int]] = []
    planted = []
    with path.open("w") as out:
        for number in range(count):
            name, kind = f"r{number:07d}", draw.random()
            original, text, detail = draw.choice(originals) if originals else ("", "a first row", 0)
            if kind < 0.1:
                pass
            elif kind < 0.2:
                base, parts = text, text.split(" ")
                parts[draw.randrange(len(parts))] = draw.choice(words)
                text = " ".join(parts)
                if len(parts) >= 4 and _jaccard(base, text) >= 0.8:
                    planted.append((original, name))
            elif kind < 0.25:
                text, detail = f"{draw.choice(templates)} {draw.choice(words)}", 0
            else:
                text, detail = " ".join(draw.choices(words, k=draw.randint(3, 18))), draw.randrange(5)
                if len(originals) < 200_000:
                    originals.append((name, text, detail))
            row = {
                "id": name,
                "input": {"text": text, "channel": "mail" if detail % 2 else "chat", "open": detail},
                "labels": {"route": {"intent": INTENTS[len(text) % len(INTENTS)]}},
                "conversation": f"c{draw.randrange(count // 4 + 1)}",
            }
            out.write(json.dumps(row) + "\n")
    return planted


def _jaccard(left: str, right: str) -> float:
    first, second = set(left.split()), set(right.split())
    return len(first & second) / len(first | second)


def make_domain(folder: Path, group_by: str) -> None:
    """A domain folder around the generated rows."""
    for name in ("contracts", "oracle", "datasets/seed"):
        (folder / name).mkdir(parents=True)
    keys = "" if group_by == "none" else group_by
    (folder / "slm.config.yaml").write_text(CONFIG.replace("GROUP_BY", keys))
    (folder / "contracts/route.schema.json").write_text(json.dumps(SCHEMA))
    (folder / "oracle/route.rules.yaml").write_text(RULES)


def measure(count: int, group_by: str) -> None:
    """Run the stages on `count` rows in this process and print one JSON line each."""
    from types import SimpleNamespace

    import daft
    import scipy.sparse.csgraph

    from slm_assets.domain.loading import load_domain
    from slm_assets.stages import dataset, label

    assert daft and scipy  # imported before the clock starts, as in a service that runs many builds
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        make_domain(base / "domain", group_by)
        (base / "seed" / "seed").mkdir(parents=True)
        planted = generate(base / "seed" / "seed" / "rows.jsonl", count)
        domain = load_domain(base / "domain")

        def context(inputs: dict[str, Path], output: str) -> Any:
            for folder in (base / f"scratch-{output}", base / output):
                folder.mkdir()
            return SimpleNamespace(
                request=SimpleNamespace(params={"epoch": 1}),
                domain=domain,
                inputs=inputs,
                out={output: base / output},
                scratch=base / f"scratch-{output}",
                progress=lambda share, note: None,
            )

        seconds = time.perf_counter()
        result = dataset.run(context({"seed": base / "seed"}, "dataset"))
        seconds = time.perf_counter() - seconds
        numbers = {name: value for name, value in result.summary.items() if name != "warnings"}
        _print("dataset", count, seconds, **_planted(base / "dataset", planted), **numbers)
        seconds = time.perf_counter()
        labelled = label.run(context({"dataset": base / "dataset"}, "labels")).rows["labels"]
        _print("label", labelled, time.perf_counter() - seconds)


def _print(stage: str, count: int, seconds: float, **more: Any) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    numbers = {"rows_per_s": round(count / seconds), "seconds": round(seconds, 1), "peak_mb": peak}
    print(json.dumps({"stage": stage, "rows": count, **numbers, **more}), flush=True)


def _planted(folder: Path, planted: list[tuple[str, str]]) -> dict[str, int]:
    """What became of the planted pairs: how many lie in one group, and how many on both sides."""
    from slm_assets import canonical

    split, group = {}, {}
    for part in ("train", "validation", "eval"):
        for row in canonical.read_jsonl(folder / f"{part}.jsonl"):
            split[row["id"]], group[row["id"]] = part, row["group"]
    both = [pair for pair in planted if pair[0] in split and pair[1] in split]
    return {
        "planted": len(planted),
        "planted_kept": len(both),
        "planted_in_one_group": sum(group[one] == group[two] for one, two in both),
        "planted_across_splits": sum(_leaks(split[one], split[two]) for one, two in both),
    }


def _leaks(first: str, second: str) -> bool:
    return {first, second} in ({"train", "eval"}, {"validation", "eval"})


def main() -> None:
    """Each size in its own process, so that peaks are its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", type=int, default=SIZES)
    parser.add_argument("--group-by", default="/conversation", help="a JSON pointer, or none")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for count in arguments.rows:
        if arguments.here:
            measure(count, arguments.group_by)
        else:
            command = [sys.executable, __file__, "--here", "--group-by", arguments.group_by, str(count)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
