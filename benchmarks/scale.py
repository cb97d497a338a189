"""Rows per second, CPU seconds and peak memory of dataset, label and evaluate, on generated rows.

    python benchmarks/scale.py                              10^4, 10^5 and 10^6 rows
    python benchmarks/scale.py --group-by none 100000       without group keys
    python benchmarks/scale.py --json scale.json 1000000

The rows are short requests. One in ten repeats an earlier one exactly, one in ten repeats the words of
an earlier one but for one (a planted near-duplicate where four fifths of all words are shared), one in
ten fills a template (more than half of them the same one: from 100,000 rows on a bucket of over 5,000
in the near-duplicate search), one in twenty says one of a few short things. Four rows share a
conversation, the group key. Every stage of every size runs in a process of its own; its peak is the
resident memory of that process and its children, its CPU time theirs too.

`evaluate` judges on all rows but 2,000. Its challenger is the rules oracle, so that the stage is measured
and not the model; with `--challenger linear` it is a small linear model, trained on those 2,000.

Of the planted pairs the table says how many were *handled*: one was dropped, or both lie on one side
of the split. Pairs that lie on one side by chance count there, so beside it stands the *recall*: with
group keys, of the pairs that the keys put on two sides, those of which one was dropped; without, of all
kept pairs, those that were put into one group.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SIZES = (10_000, 100_000, 1_000_000)
STAGES = ("dataset", "label", "evaluate")
TRAIN_ROWS = 2_000
SAMPLE_SECONDS = 0.1
COLUMNS = ("size", "stage", "rows", "rows_per_s", "seconds", "cpu_seconds", "peak_mb")
ROW = "{:>9} {:9} {:>9} {:>8} {:>8} {:>7} {:>8}"
INTENTS = ["order", "refund", "delivery", "account", "invoice", "complaint", "question", "other"]
CONFIG = """\
slm_domain:
  name: generated
  roles:
    - id: route
      input_schema: contracts/message.schema.json
      output_schema: contracts/route.schema.json
      deterministic_oracle: {kind: rules, path: oracle/route.rules.yaml}
  data:
    seed_corpus: datasets/seed
    split: {eval_ratio: 0.2, validation_ratio: 0.1, group_by: [GROUP_BY]}
"""
INPUT = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "text": {"type": "string", "minLength": 1, "maxLength": 2000},
        "channel": {"enum": ["chat", "mail"]},
        "open": {"type": "integer", "minimum": 0},
    },
    "required": ["text", "channel", "open"],
    "additionalProperties": False,
}
OUTPUT = {
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


def generate(path: Path, count: int, seed: int = 7) -> Iterator[tuple[Any, Any]]:
    """Write `count` rows; yields the inputs of each planted pair of near-duplicates."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnoprstuvw", k=draw.randint(3, 9))) for _ in range(20_000)]
    templates = [" ".join(draw.choices(words, k=11)) for _ in range(max(1, count // 100_000) * 3)]
    shorts = [" ".join(draw.choices(words, k=draw.randint(1, 2))) for _ in range(20)]
    originals: list[dict[str, Any]] = []
    with path.open("w") as out:
        for number in range(count):
            kind = draw.random()
            original = draw.choice(originals) if originals else _message("a first row", 0)
            found = original
            if 0.1 <= kind < 0.2:
                parts = original["text"].split(" ")
                parts[draw.randrange(len(parts))] = draw.choice(words)
                found = original | {"text": " ".join(parts)}
                if len(parts) >= 4 and 0.8 <= _jaccard(original["text"], found["text"]) < 1:
                    yield original, found
            elif 0.2 <= kind < 0.3:
                template = templates[0] if draw.random() < 0.6 else draw.choice(templates)
                found = _message(f"{template} {draw.choice(words)}", 0)
            elif 0.3 <= kind < 0.35:
                found = _message(draw.choice(shorts), draw.randrange(5))
            elif kind >= 0.35:
                found = _message(" ".join(draw.choices(words, k=draw.randint(3, 18))), draw.randrange(5))
                if len(originals) < 200_000:
                    originals.append(found)
            intent = "other" if len(found["text"]) % 10 == 0 else INTENTS[found["open"]]
            row = {
                "id": f"r{number:07d}",
                "input": found,
                "labels": {"route": {"intent": intent}},
                "conversation": f"c{draw.randrange(count // 4 + 1)}",
            }
            out.write(json.dumps(row) + "\n")


def _message(text: str, detail: int) -> dict[str, Any]:
    return {"text": text, "channel": "mail" if detail % 2 else "chat", "open": detail}


def _jaccard(left: str, right: str) -> float:
    first, second = set(left.split()), set(right.split())
    return len(first & second) / len(first | second)


def make_domain(folder: Path, group_by: str) -> None:
    """A domain folder around the generated rows."""
    for name in ("contracts", "oracle", "datasets/seed"):
        (folder / name).mkdir(parents=True)
    (folder / "slm.config.yaml").write_text(CONFIG.replace("GROUP_BY", "" if group_by == "none" else group_by))
    (folder / "contracts/message.schema.json").write_text(json.dumps(INPUT))
    (folder / "contracts/route.schema.json").write_text(json.dumps(OUTPUT))
    (folder / "oracle/route.rules.yaml").write_text(RULES)


def prepare(base: Path, count: int, group_by: str) -> None:
    """Rows, domain and the list of planted pairs in a new folder."""
    make_domain(base / "domain", group_by)
    (base / "seed" / "seed").mkdir(parents=True)
    with (base / "planted.jsonl").open("w") as out:
        for pair in generate(base / "seed" / "seed" / "rows.jsonl", count):
            out.write(json.dumps(pair) + "\n")


def run_stage(stage: str, base: Path, challenger: str) -> dict[str, Any]:
    """Run one stage in this process, on what `prepare` and the stages before it left in the folder."""
    from slm_assets.domain.loading import load_domain

    domain = load_domain(base / "domain")
    work: dict[str, Callable[[], tuple[Callable[[], Any], str]]] = {
        "dataset": lambda: _dataset(domain, base),
        "label": lambda: _label(domain, base),
        "evaluate": lambda: _evaluate(domain, base, challenger),
    }
    call, kind = work[stage]()
    wall, cpu = time.perf_counter(), _cpu()
    result = call()
    wall, cpu = time.perf_counter() - wall, _cpu() - cpu
    shown = {"duplicates", "near_duplicates", "decontaminated", "leakage", "disagreements"}
    numbers = {name: value for name, value in result.summary.items() if name in shown}
    return {"rows": result.rows[kind], "seconds": round(wall, 1), "cpu_seconds": round(cpu, 1), **numbers}


def _cpu() -> float:
    """Seconds of processor time of this process and its ended children."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _context(domain: Any, base: Path, inputs: dict[str, Path], output: str, **params: Any) -> Any:
    for folder in (base / f"scratch-{output}", base / output):
        folder.mkdir()
    return SimpleNamespace(
        request=SimpleNamespace(params={"epoch": 1, **params}, domain=domain.name, version="v1"),
        domain=domain,
        inputs=inputs,
        out={output: base / output},
        scratch=base / f"scratch-{output}",
        progress=lambda share, note: None,
    )


def _dataset(domain: Any, base: Path) -> tuple[Callable[[], Any], str]:
    import daft
    import scipy.sparse.csgraph

    from slm_assets.stages import dataset

    assert daft and scipy  # imported before the clock starts, as in a service that runs many builds
    context = _context(domain, base, {"seed": base / "seed"}, "dataset")
    return lambda: dataset.run(context), "dataset"


def _label(domain: Any, base: Path) -> tuple[Callable[[], Any], str]:
    from slm_assets.stages import label

    context = _context(domain, base, {"dataset": base / "dataset"}, "labels")
    return lambda: label.run(context), "labels"


def _evaluate(domain: Any, base: Path, challenger: str) -> tuple[Callable[[], Any], str]:
    from slm_assets.models import ladder
    from slm_assets.models.oracle import load_oracle
    from slm_assets.stages import evaluate
    from slm_assets.stages.rows_io import labelled_rows

    judged, report = base / "judged", {}
    _regroup(base, judged)
    (judged / "model").mkdir()
    if challenger == "oracle":
        ladder.load = lambda _folder, role, _schema: load_oracle(domain, role)
    else:
        train = list(labelled_rows(judged, judged / "labels", "train"))
        pairs = [(row.turn, row.labels["route"]) for row in train]
        groups = [row.group for row in train]
        rung = ladder.rung("linear")
        model = rung.train(ladder.Training(pairs, domain.output_schema("route"), groups=groups))
        rung.save(model, judged / "model" / "route")
        ladder.seal(judged / "model", {"route": "linear"})
        report = model.report
    (judged / "model" / "training.json").write_text(json.dumps({"route": report}))
    inputs = {"dataset": judged, "labels": judged / "labels", "model": judged / "model"}
    context = _context(domain, base, inputs, "eval", look=1, first=["route"])
    return lambda: evaluate.run(context), "eval"


def _regroup(base: Path, judged: Path) -> None:
    """The dataset and its labels once more: TRAIN_ROWS rows to train on, all others to be judged on."""
    for folder, target in ((base / "dataset", judged), (base / "labels", judged / "labels")):
        target.mkdir(parents=True)
        with (target / "train.jsonl").open("wb") as train, (target / "eval.jsonl").open("wb") as held_out:
            number = 0
            for split in ("train", "validation", "eval"):
                with (folder / f"{split}.jsonl").open("rb") as lines:
                    for line in lines:
                        (train if number < TRAIN_ROWS else held_out).write(line)
                        number += 1


def planted(base: Path, grouped: bool) -> dict[str, Any]:
    """What became of the planted pairs, by their inputs: a repeated row stands for the one it repeats."""
    kept: dict[str, tuple[bool, str]] = {}
    for split in ("train", "validation", "eval", "reserve"):
        with (base / "dataset" / f"{split}.jsonl").open() as lines:
            for row in map(json.loads, lines):
                kept[json.dumps(row["input"], sort_keys=True)] = (split in ("eval", "reserve"), row["group"])
    total = handled = asked = found = 0
    with (base / "planted.jsonl").open() as lines:
        for pair in map(json.loads, lines):
            first, second = (kept.get(json.dumps(one, sort_keys=True)) for one in pair)
            total += 1
            dropped = first is None or second is None
            apart = first is not None and second is not None and first[0] != second[0]
            handled += not apart
            if grouped:
                asked += dropped or apart
                found += dropped
            elif not dropped:
                asked += 1
                found += first[1] == second[1] if first and second else 0
    return {"planted": total, "handled": round(handled / max(total, 1), 4), "recall": round(found / max(asked, 1), 4)}


def peak_of(process: subprocess.Popen[bytes]) -> int:
    """Watch a process and its children until it ends; the most memory they held together, in bytes."""
    import psutil

    peak = 0
    try:
        root = psutil.Process(process.pid)
        while process.poll() is None:
            sizes = []
            for one in [root, *root.children(recursive=True)]:
                try:
                    sizes.append(one.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue
            peak = max(peak, sum(sizes))
            time.sleep(SAMPLE_SECONDS)
    except psutil.NoSuchProcess:
        return peak
    return peak


def measure(base: Path, stage: str, count: int, challenger: str) -> dict[str, Any]:
    """One stage in a process of its own, watched."""
    command = [sys.executable, __file__, "--stage", stage, "--folder", str(base), "--challenger", challenger]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    peaks: list[int] = []
    watcher = threading.Thread(target=lambda: peaks.append(peak_of(process)))
    watcher.start()
    output, _ = process.communicate()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{stage} of {count} rows ended with {process.returncode}")
    found: dict[str, Any] = json.loads(output)
    # Every row counts that a stage reads: the dataset's result holds fewer.
    rows = count if stage == "dataset" else found["rows"]
    peak = max(peaks[0], found.pop("peak_bytes"))
    speeds = {"rows_per_s": round(rows / max(found["seconds"], 0.1))}
    speeds["rows_per_cpu_s"] = round(rows / max(found["cpu_seconds"], 0.1))
    return {"size": count, "stage": stage, **found, "rows": rows, **speeds, "peak_mb": peak >> 20}


def main() -> None:
    """Every stage of every size in a process of its own, so that peaks are its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", type=int, default=SIZES)
    parser.add_argument("--group-by", default="/conversation", help="a JSON pointer, or none")
    parser.add_argument("--stages", default=",".join(STAGES), help="the first few of dataset,label,evaluate")
    parser.add_argument("--challenger", choices=("oracle", "linear"), default="oracle", help="whom evaluate judges")
    parser.add_argument("--json", type=Path, help="write the lines to this file too")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        found = run_stage(arguments.stage, arguments.folder, arguments.challenger)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps(found | {"peak_bytes": peak}))
        return
    load = os.getloadavg()
    print(f"load average {load[0]:.1f} on {os.cpu_count()} cores: timings of a busy machine are too long")
    print(ROW.format("size", "stage", "rows", "rows/s", "seconds", "CPU s", "peak MB"))
    lines = []
    for count in arguments.rows:
        base = Path(tempfile.mkdtemp(prefix="slm-scale-"))
        try:
            prepare(base, count, arguments.group_by)
            for stage in arguments.stages.split(","):
                line = measure(base, stage, count, arguments.challenger) | {"group_by": arguments.group_by}
                if stage == "dataset":
                    line |= planted(base, arguments.group_by != "none")
                lines.append(line)
                columns = [line[key] for key in COLUMNS]
                rest = {key: value for key, value in line.items() if key not in COLUMNS}
                print(ROW.format(*columns), json.dumps(rest), flush=True)
        finally:
            shutil.rmtree(base)
    if arguments.json:
        arguments.json.write_text(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
