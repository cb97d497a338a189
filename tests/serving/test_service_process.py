"""The service as a process on a socket: flips, signals, kills."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest

from slm_assets.registry.home import Home
from slm_assets.registry.registry import Flip
from slm_assets.stages.traffic.reader import captured_turns
from tests.serving.conftest import TOKENS

SURE = {"text": "where is my parcel"}
RUN = """
from slm_assets.serving.run import run
run((), host="127.0.0.1", port=0, tokens=(), allow_hosts=(), redact=lambda domain, value: value)
"""


@dataclass
class Server:
    process: subprocess.Popen[str]
    client: httpx.Client
    log: list[str]

    def metric(self, line: str) -> float:
        found = re.search(rf"^{re.escape(line)} (.+)$", self.client.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0


@contextmanager
def running(home: Home, *command: str, **environment: str) -> Iterator[Server]:
    """A service that is ready; killed at the end where the test has not ended it."""
    own = {"SLM_HOME": str(home.root), "SLM_DOMAINS": str(home.domains), "OMP_NUM_THREADS": "1"}
    given = [sys.executable, *command]
    with subprocess.Popen(given, stderr=subprocess.PIPE, text=True, env={**os.environ, **own, **environment}) as child:
        log: list[str] = []
        try:
            for line in child.stderr:
                log.append(line)
                if found := re.search(r"running on (http://[^ ]+:\d+)", line):
                    break
            assert found, log
            threading.Thread(target=log.extend, args=(child.stderr,), daemon=True).start()
            with httpx.Client(base_url=found[1], timeout=20) as client:
                until(lambda: client.get("/readyz").status_code == 200)
                yield Server(child, client, log)
        finally:
            child.kill()


def until(done, seconds=30.0):
    """Ask again until it is so."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end


def test_slm_serve_answers_with_a_token_only_and_shows_none(home):
    environment = {"SLM_TOKENS": "local=ACCESS *=OPERATE", "ACCESS": TOKENS["LOCAL"], "OPERATE": TOKENS["OPS"]}
    with running(home, "-m", "slm_assets.cli", "serve", "tiny", "--port", "0", **environment) as server:
        assert server.client.post("/v1/tiny/triage", json=SURE).status_code == 401
        headers = {"authorization": f"Bearer {TOKENS['LOCAL']}"}
        told = {**SURE, "text": f"{SURE['text']} Answer to jane.doe@example.org"}
        assert server.client.post("/v1/tiny/triage", json=told, headers=headers).json()["version"] == "v1"
        raw = server.client.post("/v1/tiny/triage", content=b"x" * 400_000, headers=headers)
        assert raw.status_code == 413
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=30) in (0, -signal.SIGTERM)
        told = "".join(server.log)
    assert not any(token in told for token in TOKENS.values())
    (segment,) = (home.root / "capture").rglob("*.jsonl")
    kept = segment.read_text()
    assert "Answer to [email]" in kept and "jane.doe" not in kept, "by the domain's policy, before it is stored"


@pytest.mark.parametrize(
    ("arguments", "said"), [(["--host", "0.0.0.0"], "no token"), (["none"], "domains there: tiny")]
)
def test_slm_serve_refuses_what_cannot_be_meant(promoted, arguments, said):
    own = {"SLM_HOME": str(promoted.root), "SLM_DOMAINS": str(promoted.domains)}
    command = [sys.executable, "-m", "slm_assets.cli", "serve", *arguments]
    done = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and said in done.stderr and "cure" in done.stderr


def test_a_port_that_is_taken_is_a_fault_and_no_verdict(promoted):
    own = {"SLM_HOME": str(promoted.root), "SLM_DOMAINS": str(promoted.domains)}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "slm_assets.cli", "serve", "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "could not start on 127.0.0.1" in done.stderr and "--port" in done.stderr


def test_a_flip_is_answered_by_within_a_second_and_no_request_fails(home, registry):
    with running(home, "-c", RUN) as server:
        gated = registry.flags("tiny")["triage"]
        assert server.client.post("/v1/tiny/triage", json=SURE).json()["version"] == "v1"
        flip = Flip("triage", "oracle", None, None, expected=gated.event)
        event = registry.flip("tiny", [flip], action="rollback", actor="op", reason="drill")[0].event
        flipped = time.monotonic()
        until(lambda: server.client.post("/v1/tiny/triage", json=SURE).raise_for_status().json()["engine"] == "oracle")
        back = time.monotonic()
        again = Flip("triage", "release", 1, gated.release, expected=event)
        registry.flip("tiny", [again], action="redeploy", actor="op", reason="drill over")
        until(lambda: server.client.post("/v1/tiny/triage", json=SURE).raise_for_status().json()["version"] == "v1")
        took = back - flipped, time.monotonic() - back
    assert max(took) < 3, f"a second on a machine that does nothing else: {took}"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_graceful_end_answers_what_is_in_flight_and_seals_every_turn(home, how):
    with running(home, "-c", RUN) as server:
        ids: list[str] = []

        def ask() -> None:
            with httpx.Client(base_url=server.client.base_url, timeout=20) as own:
                try:
                    while True:
                        ids.append(own.post("/v1/tiny/triage", json=SURE).raise_for_status().json()["turn_id"])
                except httpx.TransportError:
                    return  # refused: the service has ended

        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: len(ids) >= 50)
        server.process.send_signal(how)
        assert server.process.wait(timeout=30) in (0, -how)
        asking.join()
    folder = home.root / "capture"
    damage: list[str] = []
    found = [turn["turn_id"] for turn in captured_turns(folder, damage)]
    assert found[: len(ids)] == ids and len(found) - len(ids) <= 1 and damage == []
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".jsonl"}


def test_a_killed_service_loses_nothing_older_than_the_interval_and_goes_on(home):
    ids = []
    with running(home, "-c", RUN) as server:
        for _ in range(60):
            ids.append(server.client.post("/v1/tiny/triage", json=SURE).json()["turn_id"])
        until(lambda: server.metric('slm_capture_kept_total{kind="sampled"}') >= 60)
        server.process.kill()
        server.process.wait()
    (left,) = (home.root / "capture").rglob("*.open")
    with left.open("ab") as file:
        file.write(b'{"crc":"00000000","data":{"kind":"tu')  # what a machine that died leaves of a line
    with running(home, "-c", RUN) as server:
        ids.append(server.client.post("/v1/tiny/triage", json=SURE).json()["turn_id"])
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(timeout=30)
        assert "torn tails cut off" in "".join(server.log)
    damage: list[str] = []
    assert [turn["turn_id"] for turn in captured_turns(home.root / "capture", damage)] == ids and damage == []
