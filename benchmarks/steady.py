"""How often a trigger fires on traffic through the service: every turn over HTTP to `slm serve`, with its capture on.

    SLM_HOME=… python benchmarks/steady.py [--domain travel] [--seeds 20] [--turns 10000] [--json]
    SLM_HOME=… python benchmarks/steady.py --scenario quality_loss

The home needs a promoted version of the domain; each seed gets a copy of it, without its traffic. A phase of the
scenario is sent in `--looks` parts, and after each the new traffic is captured and judged as the monitor does. Told
are the triggers that fired at each look: on `steady` all but volume are false alarms, on another scenario its own is
to be among those of the last phase. Turns of a scenario that another engine answered go by the drop folder.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from slm_assets.domain.loading import domain_folder, load_domain
from slm_assets.engines.in_process import make_cell
from slm_assets.registry.home import Home
from slm_assets.simulation.client import Target, target
from slm_assets.simulation.run import Traffic, drop
from slm_assets.simulation.schedule import counts
from slm_assets.simulation.sending import Sending
from slm_assets.stages.plans import open_domain
from slm_assets.stages.traffic.intake import drop_folder
from slm_assets.stages.windows import next_window

EXPECTED = {
    "quality_loss": "quality", "rising_corrections": "outcome", "invalid_outputs": "validity",
    "new_intents": "distribution", "volume": "volume",
}  # fmt: skip
"""Scenario → the trigger that is there for it."""
LEFT_OUT = ("runs", "capture", "drop", "locks", "dagster")
CLIENTS = 8


@contextmanager
def service(home: Home, domain: str) -> Iterator[Target]:
    """`slm serve` of one domain on a port of its own, until the end of the block."""
    own = {"SLM_HOME": str(home.root), "SLM_DOMAINS": str(home.domains), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "slm_assets.cli", "serve", domain, "--port", "0"]
    log = home.root / "serve.log"  # a file: a pipe that nobody reads would stop the service
    with log.open("w") as errors, subprocess.Popen(command, stderr=errors, env={**os.environ, **own}) as process:
        try:
            yield target(_address(log, process), None)
        finally:
            process.terminate()


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    """Where the service answers, once it is ready."""
    while process.poll() is None:
        time.sleep(0.1)
        found = re.search(r"running on (http://[^ ]+:\d+)", log.read_text())
        with suppress(urllib.error.URLError):
            if found and urllib.request.urlopen(f"{found[1]}/readyz").status == 200:
                return found[1]
    raise SystemExit(f"the service ended: {log.read_text()[-2000:]}")


def look(home: Home, domain: str) -> dict[str, str]:
    """Capture what is new and judge it: trigger → its sentence, of those that fire."""
    loaded, registry = open_domain(home, domain)
    window = next_window(loaded, registry, actor="benchmark")
    for stage in ("capture", "drift"):
        receipt = make_cell(registry, window, stage, actor="benchmark").receipt
        assert receipt.status == "succeeded", receipt.error
    return {one.trigger: one.sentence for one in receipt.result.triggers if one.verdict == "FIRED"}


def one_seed(
    home: Home, domain: str, scenario: str, seed: int, turns: int | None, looks: int
) -> Iterator[dict[str, Any]]:
    """Send a scenario and look at it; one result for each look."""
    traffic = Traffic(load_domain(domain_folder(home.domains, domain)), scenario, seed=seed, turns=turns)
    if traffic.scenario.recorded:
        _, registry = open_domain(home, domain)
        told = drop(traffic, drop_folder(home, registry, domain))
        yield {"phase": "recorded", "turns": told["turns"], "failed": 0, "fired": look(home, domain)}
        return
    sent = iter(traffic)
    with service(home, domain) as where:
        for phase, total in zip(traffic.scenario.phases, counts(traffic.scenario.phases, turns), strict=True):
            for part in range(looks):
                size = total * (part + 1) // looks - total * part // looks
                sending = Sending(itertools.islice(sent, size), traffic.simulation.outcomes, rate=0.0)
                sending.run(domain, where, CLIENTS)
                (tally,) = sending.tallies.values()
                time.sleep(1.5)  # what was acknowledged is on disk a second later
                told = tally.shown()
                yield {
                    "phase": phase.id, "turns": size, "failed": told["failed_requests"], "right": told["right"],
                    "seconds": round(sending.seconds, 1), "fired": look(home, domain),
                }  # fmt: skip


def copied(home: Home, folder: Path) -> Home:
    """The home as a fresh one would be after the promotion: without traffic and scratch."""
    shutil.copytree(home.root, folder, ignore=lambda _where, names: [name for name in names if name in LEFT_OUT])
    return replace(
        home, root=folder, registry_url=f"sqlite:///{folder}/registry.db", artifacts_url=f"{folder}/artifacts"
    )


def main() -> None:
    """The command line."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the service is ended too
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", default="travel")
    parser.add_argument("--scenario", default="steady", help="steady, or one that is to fire")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--turns", type=int, help="of a seed; default: as the scenario says")
    parser.add_argument("--looks", type=int, default=2, help="at each phase")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    home = Home.from_env()
    fired: Counter[str] = Counter()
    seeds: dict[int, list[dict[str, Any]]] = {}
    for seed in range(given.first, given.first + given.seeds):
        with tempfile.TemporaryDirectory(prefix="slm-steady-") as scratch:
            own = copied(home, Path(scratch) / "home")
            seeds[seed] = []
            for found in one_seed(own, given.domain, given.scenario, seed, given.turns, given.looks):
                seeds[seed].append(found)
                if not given.json:
                    print(f"seed {seed} {found}", flush=True)
        last = seeds[seed][-1]["phase"]
        every = [one for one in seeds[seed] if given.scenario == "steady" or one["phase"] == last]
        fired.update({name for one in every for name in one["fired"]})
    wanted = EXPECTED.get(given.scenario)
    told: dict[str, Any] = {
        "domain": given.domain, "scenario": given.scenario, "seeds": len(seeds), "fired": dict(fired),
        "failed_requests": sum(one["failed"] for looks in seeds.values() for one in looks),
    }  # fmt: skip
    told |= {"its_own": fired[wanted]} if wanted else {"false_alarms": fired.total() - fired["volume"]}
    sys.stdout.write(orjson.dumps({**told, "looks": seeds} if given.json else told, option=NUMBERED).decode() + "\n")


NUMBERED = orjson.OPT_NON_STR_KEYS | orjson.OPT_INDENT_2

if __name__ == "__main__":
    main()
