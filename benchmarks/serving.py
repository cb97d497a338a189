"""How fast the service answers, and what of it is the service's own.

    SLM_HOME=… python benchmarks/serving.py            # `linear` needs a home in which travel was promoted

Three services on loopback, one after the other: a bare FastAPI application that reads and writes JSON; the service
with an oracle that always answers the same (`constant`), without and with capture; and with travel's promoted release
(`linear`), on turns of its corpus. With `--shadow v1` instead: travel while that version answers every turn beside it,
in rounds that alternate with rounds without, on a copy of the home. The load generator runs beside it on the same
machine and tells its own CPU. On a busy machine wall times say little: CPU per request is what a core can do at most.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import itertools
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

ROOT = Path(__file__).resolve().parent.parent
BARE = """
import orjson, uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response
app = FastAPI(openapi_url=None)
@app.post("/v1/{domain}/{role}")
async def answer(domain: str, role: str, request: Request):
    value = orjson.loads(await request.body())
    return Response(orjson.dumps({"output": {"intent": "other"}, "size": len(value)}), media_type="application/json")
uvicorn.run(app, port=0, access_log=False)
"""
SERVICE = """
import sys
from slm_assets.serving.run import run
redact = (lambda domain, value: value) if sys.argv[2] == "kept" else None
run((sys.argv[1],), host="127.0.0.1", port=0, tokens=(), allow_hosts=(), redact=redact)
"""
ANSWERED = 'slm_shadow_total{kind="answered"}'
CONSTANT = {
    "slm.config.yaml": """
slm_domain:
  name: constant
  roles:
    - id: route
      input_schema: in.json
      output_schema: out.json
      deterministic_oracle: {kind: rules, path: rules.yaml}
  improvement: {capture: {sample_rate: 1.0}}
""",
    "in.json": '{"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}',
    "out.json": '{"type": "object", "required": ["intent"], "properties": {"intent": {"enum": ["other"]}}}',
    "rules.yaml": "rules: []\ndefault: {intent: other}\n",
}


@dataclass(frozen=True)
class Round:
    """One load: requests, seconds, CPU seconds of the service and of the generator, latencies in seconds."""

    requests: int
    seconds: float
    service_cpu: float
    generator_cpu: float
    latencies: list[float]


@contextmanager
def service(code: str, *arguments: str, **environment: str) -> Iterator[tuple[int, int]]:
    """A service that is ready: its port and process."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **environment}
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True, env=env, cwd=ROOT
    ) as child:
        try:
            port = 0
            for line in child.stderr or ():
                if found := re.search(r"running on http://[^ ]+:(\d+)", line):
                    port = int(found[1])
                if port and ("serving" in line or code is BARE):
                    break
            yield port, child.pid
        finally:
            child.terminate()


def cpu_of(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _client(port: int, requests: Iterator[bytes], latencies: list[float], rate: float | None, seed: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    gaps, due = random.Random(seed), time.perf_counter()
    for request in requests:
        begun = time.perf_counter()
        if rate is not None:
            # An open loop of random arrivals: a request that had to wait for the one before counts its waiting.
            due += gaps.expovariate(rate)
            if due > begun:
                await asyncio.sleep(due - begun)
            begun = due
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(head.decode())
        size = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if size is None:
            raise SystemExit(f"an answer without its length: {head.decode()}")
        await reader.readexactly(int(size[1]))
        latencies.append(time.perf_counter() - begun)
    writer.close()


def load(port: int, pid: int, requests: list[bytes], clients: int, rate: float | None) -> Round:
    """Send requests over `clients` connections, as fast as they are answered or at `rate` per second in all."""
    latencies: list[float] = []

    async def main() -> None:
        shared = iter(requests)
        each = None if rate is None else rate / clients
        await asyncio.gather(*(_client(port, shared, latencies, each, n) for n in range(clients)))

    cpu, own, begun = cpu_of(pid), resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    asyncio.run(main())
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    generator = after.ru_utime + after.ru_stime - own.ru_utime - own.ru_stime
    return Round(len(requests), seconds, cpu_of(pid) - cpu, generator, sorted(latencies))


def requests_for(path: str, bodies: list[bytes], count: int) -> list[bytes]:
    """Raw requests, the bodies over and over; each its own conversation."""
    made = []
    for number, body in zip(range(count), itertools.cycle(bodies), strict=False):
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Conversation-Id: c{number}\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        made.append(head.encode() + body)
    return made


def travel_turns(count: int) -> list[bytes]:
    """Inputs of travel's corpus, of each kind as often."""
    files = sorted((ROOT / "domains" / "travel" / "datasets" / "seed").glob("*.jsonl.gz"))
    found: list[list[bytes]] = []
    for path in files:
        with gzip.open(path) as rows:
            found.append([orjson.dumps(orjson.loads(row)["input"]) for row in itertools.islice(rows, count)])
    return [body for bodies in zip(*found, strict=False) for body in bodies]


def show(name: str, rounds: list[Round]) -> None:
    """A row of the table: medians over the rounds, and the least and most requests per second."""
    rates = [r.requests / r.seconds for r in rounds]
    at = {share: statistics.median(r.latencies[int(len(r.latencies) * share)] for r in rounds) for share in (0.5, 0.99)}
    cpu = [r.service_cpu / r.requests * 1e6 for r in rounds]
    own = statistics.median(r.generator_cpu / r.requests * 1e6 for r in rounds)
    print(
        f"| {name} | {sum(r.requests for r in rounds)}"
        f" | {statistics.median(rates):.0f} ({min(rates):.0f}–{max(rates):.0f})"
        f" | {at[0.5] * 1e3:.2f} | {at[0.99] * 1e3:.2f}"
        f" | {statistics.median(cpu):.0f} ({min(cpu):.0f}–{max(cpu):.0f}) | {own:.0f} |",
        flush=True,
    )


def beside(home: str, version: str, bodies: list[bytes], rounds: int, count: int, rate: float) -> None:
    """Rounds at a rate, without and with a version that answers every turn beside what serves, alternating."""
    from slm_assets.registry.home import Home
    from slm_assets.stages.live_shadow import switch_shadow
    from slm_assets.stages.plans import open_domain

    with tempfile.TemporaryDirectory() as scratch:
        shutil.copytree(home, f"{scratch}/home", ignore=shutil.ignore_patterns("capture", "dagster", "runs"))
        shutil.copytree(ROOT / "domains", f"{scratch}/domains")
        config = Path(scratch, "domains", "travel", "slm.config.yaml")
        kept = re.sub(r"\n    capture:.*", "", config.read_text())
        config.write_text(kept.replace("  improvement:\n", "  improvement:\n    capture: {sample_rate: 1.0}\n"))
        own = {"SLM_HOME": f"{scratch}/home", "SLM_DOMAINS": f"{scratch}/domains"}
        os.environ.update(own)
        _, registry = open_domain(Home.from_env(), "travel")
        found: dict[str, list[Round]] = {"off": [], "on": []}
        with service(SERVICE, "travel", "policy", **own) as server:
            _wait(server[0])
            load(*server, requests_for("/v1/travel/extract", bodies, 300), 4, None)  # warm
            for number in range(2 * rounds):
                way = ("off", "on")[number % 2]
                on = way == "on"
                switch_shadow(registry, "travel", version if on else None, sample=1.0, actor="benchmark", reason="")
                time.sleep(2)  # until the flag is seen
                before = _metric(server[0], ANSWERED)
                for _ in range(120 if on else 0):  # until the challenger is loaded
                    load(*server, requests_for("/v1/travel/extract", bodies, 1), 1, None)
                    if _metric(server[0], ANSWERED) > before:
                        break
                    time.sleep(1)
                requests = requests_for("/v1/travel/extract", bodies, count)
                found[way].append(load(*server, requests, 8, rate))
            answered = _metric(server[0], ANSWERED)
        for way, own_rounds in found.items():
            show(f"linear, travel extract, capture on, live shadow {way}, {rate:g}/s", own_rounds)
        print(f"\nthe shadow answered {answered:.0f} of {rounds * count} turns in its rounds")


def _wait(port: int) -> None:
    for _ in range(120):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz"):
                return
        except OSError:
            time.sleep(0.5)
    raise SystemExit("the service did not become ready")


def _metric(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    found = re.search(rf"^{re.escape(name)} (.+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shadow", metavar="VERSION", help="Measure live shadow alone, with this version of travel.")
    options = parser.parse_args()
    text = [b'{"text":"where is my parcel"}']
    travel, home = travel_turns(1000), os.environ.get("SLM_HOME", "")
    if options.shadow:
        beside(home, options.shadow, travel, options.rounds, 750, 150.0)
        return

    def measure(name: str, server: tuple[int, int], path: str, bodies: list[bytes]) -> None:
        load(*server, requests_for(path, bodies, 300), 4, None)  # warm
        few = options.requests // 4
        for told, count, clients, rate in (
            ("one client", few, 1, None), ("8 clients", options.requests, 8, None), ("150/s", 750, 8, 150.0),
        ):  # fmt: skip
            rounds = [load(*server, requests_for(path, bodies, count), clients, rate) for _ in range(options.rounds)]
            show(f"{name}, {told}", rounds)

    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, {options.rounds} rounds each\n")
    print(
        "| | requests | requests/s (least–most) | p50 ms | p99 ms | service CPU µs/request | generator CPU µs/request |"
    )
    print("|---|---|---|---|---|---|---|")
    with service(BARE) as server:
        measure("bare FastAPI", server, "/v1/a/b", text)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "domains", "constant")
        folder.mkdir(parents=True)
        for name, content in CONSTANT.items():
            (folder / name).write_text(content)
        own = {"SLM_HOME": f"{scratch}/home", "SLM_DOMAINS": f"{scratch}/domains"}
        for kept in ("dropped", "kept"):
            with service(SERVICE, "constant", kept, **own) as server:
                measure(f"constant, capture {'on' if kept == 'kept' else 'off'}", server, "/v1/constant/route", text)
    if not home:
        print("\n`linear` is left out: SLM_HOME names no home in which travel was promoted")
        return
    with service(SERVICE, "travel", "dropped") as server:
        measure("linear, travel extract", server, "/v1/travel/extract", travel)
        measure("linear, travel whole turn", server, "/v1/travel", travel)


if __name__ == "__main__":
    main()
