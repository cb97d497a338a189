"""Measure, and keep what was measured in benchmarks/results/, one JSON file each; then write docs/results.md.

    python benchmarks/measure.py                       everything but final looks
    python benchmarks/measure.py domain:travel gates   these
    python benchmarks/measure.py final:travel_v3       scores the test file: a look, counted in looks.jsonl
    python benchmarks/measure.py --list

A benchmark whose data is not here (SLM_BENCH_DATA) is skipped, and its earlier result stays.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import report

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "results"
SLM = (sys.executable, "-m", "slm_assets.cli")
RUNGS = {"banking77": ("encoder",), "snips": ("encoder",)}
"""Benchmark → the rungs that are measured on it beside its config's."""


class MeasurementError(Exception):
    """A measurement ended with an exit code other than 0."""


def commands() -> dict[str, list[str]]:
    """Every measurement: its name → the command; OUT in it is the file that it writes, else it prints JSON."""
    found: dict[str, list[str]] = {}
    for domain in sorted(path.parent.name for path in ROOT.glob("domains/*/slm.config.yaml")):
        found[f"domain:{domain}"] = [sys.executable, "benchmarks/domains.py", domain, "--json", "OUT"]
    for bench in sorted(path.parent.name for path in HERE.glob("*/slm.config.yaml")):
        found[f"cv:{bench}"] = [*SLM, "bench", bench, "--json"]
        found[f"permuted:{bench}"] = [*SLM, "bench", bench, "--permute-labels", "--json"]
        found[f"final:{bench}"] = [*SLM, "bench", bench, "--final", "--json"]
        rungs = RUNGS.get(bench, ())
        for rung in rungs:
            own = [*SLM, "bench", bench, "--recipe", rung]
            found[f"cv:{bench}:{rung}"] = [*own, "--json"]
            found[f"final:{bench}:{rung}"] = [*own, "--final", "--json"]
        if rungs:
            asked = [word for rung in ("linear", *rungs) for word in ("--recipe", rung)]
            found[f"curve:{bench}"] = [*SLM, "bench", bench, "--curve", *asked, "--json"]
    simulation = [sys.executable, "benchmarks/gates_simulation.py", "--json", "OUT"]
    found["gates"] = simulation
    found["gates:bound-alone"] = [*simulation, "--bound-alone", "--only", "margin", "target"]
    for script in ("scale", "many_domains", "many_versions", "redaction"):
        if (HERE / f"{script}.py").is_file() and "--json" in (HERE / f"{script}.py").read_text():
            found[script] = [sys.executable, f"benchmarks/{script}.py", "--json", "OUT"]
    if "scale" in found:
        found["scale:no-groups"] = [*found["scale"], "--group-by", "none", "--stages", "dataset"]
    return found


def measure(name: str, command: list[str]) -> dict[str, Any]:
    """Run one measurement; returns its record: what, when, where, how long, and what it found.
    `load`: the higher of the load averages before and after."""
    load, started = os.getloadavg()[0], time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="slm-measure-") as folder:
        out = Path(folder) / "out.json"
        filled = [str(out) if word == "OUT" else word for word in command]
        writes = "OUT" in command
        done = subprocess.run(filled, cwd=ROOT, text=True, check=False, stdout=None if writes else subprocess.PIPE)
        if done.returncode:
            raise MeasurementError(f"{name} ended with {done.returncode}")
        result = json.loads(out.read_text() if writes else done.stdout)
    return {
        "name": name,
        "command": _shown(command),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "machine": _machine(),
        "load": round(max(load, os.getloadavg()[0]), 2),
        "seconds": round(time.perf_counter() - started, 1),
        "result": result,
    }


def file_of(name: str) -> Path:
    """Where the record of a measurement lies."""
    return RESULTS / f"{name.replace(':', '-')}.json"


def _shown(command: list[str]) -> str:
    """The command as a reader types it."""
    words = " ".join(command).replace(" ".join(SLM), "slm").replace(sys.executable, "python")
    return words.replace(" --json OUT", "").removesuffix(" --json")


def _machine() -> dict[str, Any]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(memory),
        "python": platform.python_version(),
    }


def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "--short=12", "HEAD")
    own = [":!benchmarks/results", ":!benchmarks/looks.jsonl", ":!docs/results.md"]
    return f"{commit}-dirty" if commit and git("status", "--porcelain", "--", ".", *own) else commit or "none"


def _skipped(name: str) -> str:
    """Why a measurement cannot run here, or nothing."""
    kind, bench, *_ = f"{name}:".split(":")
    if (
        kind in ("cv", "permuted", "final", "curve")
        and not (Path(os.environ.get("SLM_BENCH_DATA", "")) / bench / "train.jsonl").is_file()
    ):
        return f"the data of {bench} is not here: set SLM_BENCH_DATA"
    return ""


def _chosen(names: list[str], known: dict[str, list[str]]) -> Iterator[str]:
    for name in names or [name for name in known if not name.startswith("final:")]:
        if name not in known:
            raise SystemExit(f"no measurement {name!r}; there are {', '.join(known)}")
        yield name


def main() -> None:
    """Measure what is named, keep it, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--list", action="store_true", help="name what can be measured")
    arguments = parser.parse_args()
    known = commands()
    if arguments.list:
        print("\n".join(known))
        return
    RESULTS.mkdir(exist_ok=True)
    failures = []
    for name in _chosen(arguments.names, known):
        if why := _skipped(name):
            print(f"{name} skipped: {why}", flush=True)
            continue
        print(f"{name}: {_shown(known[name])}", flush=True)
        try:
            record = measure(name, known[name])
        except MeasurementError as failed:
            failures.append(str(failed))
            continue
        file_of(name).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        report.write()
    if failures:
        raise SystemExit("; ".join(failures))


if __name__ == "__main__":
    main()
