"""A shipped domain from nothing: versions on growing shares of its rows, each through every gate, then a rollback.

    python benchmarks/domains.py travel
    python benchmarks/domains.py --fractions 1.0 --json out.json support_triage

Each measurement has a home of its own. What passed its gates and waits for a first approval is approved.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry
from slm_assets.stages.plans import number_of, registry_of

FRACTIONS = (0.7, 0.01, 1.0)
SUBJECTS = ("challenger", "floor", "majority")


def measure(name: str, fractions: tuple[float, ...] = FRACTIONS) -> dict[str, Any]:
    """Everything that the results page says about a domain; CalledProcessError where a command faults."""
    with tempfile.TemporaryDirectory(prefix="slm-domain-") as folder:
        home = Path(folder) / "home"
        versions = [_version(home, name, fraction) for fraction in fractions]
        registry = registry_of(Home.from_env(home), name)
        for version in versions:
            version.update(_numbers(registry, name, version["version"]))
        started = time.perf_counter()
        slm(home, "run", name, "--train-fraction", str(fractions[-1]))
        return {
            "domain": name,
            "dataset": registry.cell(name, 1, "dataset")["receipt"]["result"]["summary"],
            "oracle_on_given_labels": registry.cell(name, 1, "label")["receipt"]["result"]["summary"].get(
                "oracle_on_given_labels", {}
            ),
            "versions": versions,
            "unchanged_run_seconds": round(time.perf_counter() - started, 2),
            "switch_seconds": _drill(home, name, versions),
        }


def slm(home: Path, *words: str) -> dict[str, Any]:
    """The JSON that a command prints. Exit codes of a verdict (3) and of waiting (4) are answers."""
    command = [sys.executable, "-m", "slm_assets.cli", *words, "--json"]
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    env = os.environ | {"SLM_HOME": str(home)} | one_thread
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3, 4):
        sys.stderr.write(done.stdout + done.stderr)
        raise subprocess.CalledProcessError(done.returncode, command)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _version(home: Path, name: str, fraction: float) -> dict[str, Any]:
    """Open a version and bring it as far as its gates let it."""
    started = time.perf_counter()
    result = slm(home, "run", name, "--new", "--train-fraction", str(fraction), "--reason", f"{fraction:g} of the rows")
    seconds = time.perf_counter() - started
    approved = result["outcome"] == "deferred"
    if approved:
        slm(home, "approve", name, result["version"], "--by", "benchmark")
        result = slm(home, "run", name, "--version", result["version"])
    return {
        "version": result["version"],
        "train_fraction": fraction,
        "outcome": result["outcome"],
        "approved": approved,
        "roles": result["roles"],
        "gates": [
            {key: gate[key] for key in ("gate", "role", "verdict", "metric", "slice", "n_needed", "reason")}
            for gate in result["gates"]
            if gate["blocking"] and gate["verdict"] in ("FAIL", "INSUFFICIENT")
        ],
        "run_seconds": round(seconds, 2),
    }


def _numbers(registry: Registry, name: str, version: str) -> dict[str, Any]:
    """Metrics end to end and what was measured in seconds and bytes, as the registry has them."""
    number = number_of(version)
    cells = {cell["stage"]: cell["receipt"]["result"] for cell in registry.cells(name, number)}
    measured = {key: value for result in cells.values() for key, value in result["measured"].items()}
    metrics = [
        {key: row[key] for key in ("role", "metric", "subject", "value", "low", "high", "n")}
        for row in registry.metrics(name, number)
        if row["subject"] in SUBJECTS and row["mode"] == "end_to_end" and not row["slice"] and ":" not in row["metric"]
    ]
    evaluated = cells.get("evaluate", {}).get("summary", {})
    return {
        "train_rows": cells["finetune"]["rows"]["model"],
        "eval": {key: evaluated.get(key) for key in ("n", "groups", "epoch", "look")},
        "measured": dict(sorted(measured.items())),
        "metrics": metrics,
    }


def _drill(home: Path, name: str, versions: list[dict[str, Any]]) -> list[float]:
    """Seconds of a rollback and of the way forward, where two versions were promoted."""
    promoted = [version["version"] for version in versions if version["outcome"] == "promoted"]
    if len(promoted) < 2:
        return []
    back = slm(home, "rollback", name, "--reason", "drill")
    forward = slm(home, "rollback", name, "--to", promoted[-1], "--reason", "drill over")
    return [back["seconds"], forward["seconds"]]


def main() -> None:
    """Measure the domains that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domain")
    parser.add_argument("--fractions", nargs="+", type=float, default=FRACTIONS, help="a version on each, in order")
    parser.add_argument("--json", type=Path, help="write the result to this file; default: print it")
    chosen = parser.parse_args()
    text = json.dumps(measure(chosen.domain, tuple(chosen.fractions)), indent=1) + "\n"
    if chosen.json:
        chosen.json.write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
