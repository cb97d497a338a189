"""What the outbox costs and carries: its share of a materialisation, delivery per second, and whether all arrives.

    python benchmarks/handoffs.py                    1,000 handoffs, a fifth of all calls failing, ten kills

The server is the tests' fake one, in this process, so delivery shares the processor with what it delivers
to. Overhead is the fastest of some commits with the outbox, less that without it.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

TESTS = Path(__file__).parents[1] / "tests" / "noetl"
sys.path.insert(0, str(TESTS))

from fake_server import FakeServer, random_faults

from slm_assets.noetl.address import Address
from slm_assets.noetl.handoffs import deliver
from slm_assets.noetl.server import Server
from slm_assets.registry import outbox
from slm_assets.registry.home import Home
from slm_assets.registry.registry import CellRecord, Registry


def cell(domain: str, number: int) -> CellRecord:
    """A cell with as many numbers as a small domain's evaluation has."""
    entry = {"kind": "eval", "name": domain, "version": number, "sha256": f"{number:064x}", "bytes": 1, "rows": 1}
    numbers = {"role": "r", "subject": "challenger", "mode": "", "slice": "", "value": 0.5, "low": 0.4, "high": 0.6}
    metrics = [{**numbers, "metric": f"metric{n}", "n": 100, "epoch": 1} for n in range(20)]
    request = {"stage": "evaluate", "domain": domain, "version": f"v{number}", "inputs": {}, "params": {}}
    return CellRecord(
        domain=domain, number=number, stage="evaluate", request=f"{number:064x}", status="succeeded",
        receipt={"request": request, "code_version": "0"}, run_id="run", engine="in_process", actor="bench",
        entries=[entry | {"request": "r" * 64}], parents=[f"registry://local/default/model/{domain}/{number}"],
        metrics=metrics, asset="eval_report", playbook="automation/mlops/slm/eval",
    )  # fmt: skip


def overhead(folder: Path, commits: int) -> dict[str, float]:
    """Median milliseconds of CPU and wall time of a commit, without the outbox and with it, taken in turn."""
    home = Home.from_env(folder)
    registry = Registry(home)
    taken: dict[str, list[float]] = {"without": [], "with": [], "without cpu": [], "with cpu": []}
    for number in range(1, commits + 1):
        for name in ("without", "with"):
            without = mock.patch.object(outbox, "put") if name == "without" else nullcontext()
            with without:
                wall, cpu = time.perf_counter(), time.process_time()
                registry.commit(cell(name, number))
                taken[name].append(1e3 * (time.perf_counter() - wall))
                taken[f"{name} cpu"].append(1e3 * (time.process_time() - cpu))
    return {name: statistics.median(values) for name, values in taken.items()}


def rate(folder: Path, total: int) -> tuple[float, float]:
    """Handoffs a second of wall time, and milliseconds of this process's CPU for each, server included."""
    registry = Registry(Home.from_env(folder))
    for number in range(total):
        registry.commit(cell(f"d{number % 10}", number + 1))
    with FakeServer() as fake, Server(Address(fake.url, internal_token="internal")) as server:
        wall, cpu = time.perf_counter(), time.process_time()
        while outbox.counts(registry).keys() & set(outbox.OPEN):
            deliver(registry, server)
        took = time.perf_counter() - wall
        spent = time.process_time() - cpu
        assert len(fake.state.entries) == total
    return total / took, 1e3 * spent / total


def killed(folder: Path, total: int, kills: int, share: float) -> dict[str, int]:
    """Deliver with faults and kills; how many arrived, arrived twice, or are out of order."""
    registry = Registry(Home.from_env(folder))
    for number in range(total):
        registry.commit(cell(f"d{number % 10}", number + 1))
    chance = random.Random(1)
    with FakeServer(faults=random_faults(share, seed=2)) as fake:
        own = {"SLM_HOME": str(folder), "NOETL_SERVER_URL": fake.url, "NOETL_INTERNAL_API_TOKEN": "internal"}
        done = 0
        while outbox.counts(registry).keys() & set(outbox.OPEN):
            child = subprocess.Popen(
                [sys.executable, str(TESTS / "delivering.py")], env={**os.environ, **own}, stdout=subprocess.DEVNULL
            )
            goal = (done + 1) * total // (kills + 1) - chance.randrange(total // 20) if done < kills else total + 1
            while child.poll() is None and len(fake.state.entries) < goal:
                time.sleep(0.002)
            if child.poll() is None:
                os.kill(child.pid, signal.SIGKILL)
                done += 1
            child.wait()
        there = Counter(entry["metadata"]["handoff"] for entry in fake.state.entries)
        names: dict[str, list[int]] = {}
        for entry in fake.state.entries:
            names.setdefault(entry["name"], []).append(int(entry["metadata"]["urn"].rpartition("/")[2]))
    return {
        "handoffs": total,
        "kills": done,
        "arrived": len(there),
        "twice": sum(count > 1 for count in there.values()),
        "out of order": sum(numbers != sorted(numbers) for numbers in names.values()),
    }


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--total", type=int, default=1_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--commits", type=int, default=300)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="slm-handoffs-") as name:
        folder = Path(name)
        costs = overhead(folder / "overhead", asked.commits)
        for kind in ("", " cpu"):
            before, after = costs[f"without{kind}"], costs[f"with{kind}"]
            print(f"commit, ms{kind:5} without {before:.2f}, with {after:.2f}: {after - before:+.2f}")
        per_second, each = rate(folder / "rate", asked.total)
        print(f"delivery          {per_second:.0f} handoffs/s, {each:.2f} ms of CPU each, the server's included")
        for what, number in killed(folder / "killed", asked.total, asked.kills, asked.share).items():
            print(f"{what:17} {number}")


if __name__ == "__main__":
    main()
