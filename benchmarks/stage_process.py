"""What it costs to start a stage: `slm stage run` in a fresh process, and NoETL's local runtime around it.

    python benchmarks/stage_process.py               the tiny domain of the tests, 9 of each, taken in turn

`libraries` is what every such process imports of others and nothing of ours. A hit finds its cell made; `package`
and `deploy` are executed for real. Seconds of processor and of wall, whole processes with their children: least,
median and most. Each kind's first run is not counted: it writes the bytecode.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

from slm_assets.engines import noetl_local
from slm_assets.engines.handed_over import hand_over
from slm_assets.engines.in_process import make_cell
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Plan, Registry
from slm_assets.stages.contract import Envelope, StageRequest
from slm_assets.stages.plans import open_domain, open_version, request_for
from slm_assets.stages.runtime import silent
from slm_assets.stages.table import STAGES

DOMAINS = Path(__file__).parents[1] / "tests" / "fixtures" / "domains"
LIBRARIES = "import typer, pydantic, yaml, fsspec, filelock, sqlalchemy.dialects.sqlite"
LIGHT = ("package", "deploy")


def python(*arguments: str) -> None:
    """A fresh process of this interpreter; CalledProcessError where it fails."""
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


class Cells:
    """A version whose cells are made, and the same requests to be executed again."""

    def __init__(self, registry: Registry, plan: Plan) -> None:
        self._registry, self._plan = registry, plan

    def _asked(self, stage: str, engine: str) -> tuple[StageRequest, Envelope, Path]:
        request = request_for(self._registry, self._plan, stage)
        scope = {"tenant": self._registry.tenant, "project": self._registry.project}
        envelope = Envelope(run_id=uuid.uuid4().hex, engine=engine, actor="bench", **scope)
        return request, envelope, self._registry.home.root / f"bench-{engine}-{stage}"

    def hit(self, stage: str) -> None:
        cell = ("--domain", self._plan.domain, "--version", self._plan.version)
        folder = self._registry.home.root / "bench-hit"
        python("-m", "slm_assets.cli", "stage", "run", stage, "--driver", "conductor", *cell, "--run-dir", str(folder))

    def directly(self, stage: str) -> None:
        request, envelope, folder = self._asked(stage, "in_process")
        hand_over(request, envelope, folder)
        cell = ("--domain", self._plan.domain, "--version", self._plan.version)
        python("-m", "slm_assets.cli", "stage", "run", stage, "--driver", "engine", *cell, "--run-dir", str(folder))

    def by_noetl(self, stage: str) -> None:
        request, envelope, folder = self._asked(stage, "noetl")
        (folder / "receipt.json").unlink(missing_ok=True)
        receipt = noetl_local.launch(request, envelope, self._registry, folder, silent, timeout_s=300)
        assert receipt.status == "succeeded", receipt.error


def taken(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds of processor of all children, and of wall."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    work()
    after, ended = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, ended - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=9)
    count = parser.parse_args().n
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with tempfile.TemporaryDirectory(prefix="slm-bench-") as folder:
        shutil.copytree(DOMAINS, Path(folder) / "domains")
        home = Home.from_env(Path(folder) / "home")
        os.environ |= home.environment() | {"SLM_DOMAINS": f"{folder}/domains"}
        domain, registry = open_domain(Home.from_env(), "tiny")
        plan = open_version(domain, registry, actor="bench")
        for stage in STAGES:
            receipt = make_cell(registry, plan, stage.name, actor="bench").receipt
            assert receipt.status == "succeeded", receipt.error
        cells = Cells(registry, plan)
        kinds: dict[str, Callable[[], None]] = {
            "interpreter": partial(python, "-c", "pass"),
            "libraries": partial(python, "-c", LIBRARIES),
            "hit of deploy": partial(cells.hit, "deploy"),
        }
        for name in LIGHT:
            kinds[f"{name}, directly"] = partial(cells.directly, name)
            kinds[f"{name}, by noetl"] = partial(cells.by_noetl, name)
        times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
        for turn in range(count + 1):
            for kind, work in kinds.items():
                one = taken(work)
                if turn:
                    times[kind].append(one)
    print(f"n = {count} each, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for kind, rows in times.items():
        cpu, wall = (sorted(column) for column in zip(*rows, strict=True))
        spread = "  ".join(f"{c[0]:.2f} {statistics.median(c):.2f} {c[-1]:.2f}" for c in (cpu, wall))
        print(f"{kind:20} cpu and wall, least median most: {spread}")
    for name in LIGHT:
        pairs = list(zip(times[f"{name}, by noetl"], times[f"{name}, directly"], strict=True))
        for column, clock in enumerate(("cpu", "wall")):
            over = sorted(noetl[column] - own[column] for noetl, own in pairs)
            print(f"{name}: noetl's overhead, {clock}: {over[0]:.2f} {statistics.median(over):.2f} {over[-1]:.2f}")


if __name__ == "__main__":
    main()
