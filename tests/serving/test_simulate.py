"""`slm simulate` against a service on a socket."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from slm_assets.domain.loading import load_domain
from slm_assets.registry.home import Home
from slm_assets.simulation.client import target
from slm_assets.simulation.run import Traffic, send
from slm_assets.simulation.sending import Sending
from slm_assets.stages.traffic.reader import captured_turns
from slm_assets.stages.traffic.records import Scope, pseudonym
from tests.serving.conftest import TOKENS
from tests.serving.test_service_process import RUN, running, until
from tests.simulation.scenario_files import write_scenarios


@pytest.fixture(scope="module")
def home(promoted, tmp_path_factory):
    """The promoted tiny domain, with scenarios."""
    root = tmp_path_factory.mktemp("simulated")
    shutil.copytree(promoted.root.parent, root, dirs_exist_ok=True)
    write_scenarios(root / "domains" / "tiny")
    return Home(root / "home", root / "domains", f"sqlite:///{root}/home/registry.db", str(root / "home" / "artifacts"))


@pytest.fixture(scope="module")
def server(home):
    """A service that every test here may ask; none may end it."""
    with running(home, "-c", RUN) as server:
        yield server


def traffic_of(home, name, **options):
    return Traffic(load_domain(home.domains / "tiny"), name, **options)


def started(home, *arguments, **environment):
    own = {"SLM_HOME": str(home.root), "SLM_DOMAINS": str(home.domains)}
    command = [sys.executable, "-m", "slm_assets.cli", "simulate", "tiny", "--json", *arguments]
    return subprocess.Popen(
        command, env={**os.environ, **own, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def simulated(home, url, *arguments, code=0, **environment):
    with started(home, "--url", str(url), *arguments, **environment) as child:
        out, err = child.communicate(timeout=60)
    assert child.returncode == code, (child.returncode, out[-2000:], err[-2000:])
    return json.loads(out)


def captured(home, traffic):
    """The turns of a traffic that were captured, once all are: in their order, each with what was captured of it."""
    scope = Scope("local", "default", "tiny")
    turns = list(traffic)
    ids = {pseudonym(scope, "conversation", turn.conversation) for turn in turns}

    def found():
        return [turn for turn in captured_turns(home.root / "capture") if turn["conversation"] in ids]

    until(lambda: len(found()) >= len(turns))
    return turns, found()


def test_turns_reach_the_service_and_users_react_as_the_scenario_says(home, server):
    told = simulated(home, server.client.base_url, "--scenario", "shift", "--seed", "5")
    traffic = traffic_of(home, "shift", seed=5)
    until(lambda: sum(len(turn["outcomes"]) for turn in captured(home, traffic)[1]) >= sum(told["feedback"].values()))
    turns, found = captured(home, traffic)
    right = [
        server.client.post("/v1/tiny", json=turn.case.turn).json()["roles"]["triage"]["output"]
        == turn.case.labels["triage"]
        for turn in turns
    ]
    assert told["turns"] == 90 and told["failed_requests"] == 0 and told["errors"] == {}
    assert told["right"]["triage"] == {"n": 90, "right": sum(right), "share": round(sum(right) / 90, 4)}
    assert 0 < sum(right) < 90
    assert [phase["turns"] for phase in told["phases"]] == [30, 60]
    assert sum(line["turns"] for line in told["answers"]) == 90
    assert {line["version"] for line in told["answers"] if line["fallback"] is None} == {"v1"}
    assert told["feedback_not_kept"] == 0
    assert 0 < told["latency_ms"]["p50"] <= told["latency_ms"]["p99"] and 0 < told["generator_cpu_s"] < 30

    assert len(found) == 90
    assert len({turn["conversation"] for turn in found}) == len({turn.conversation for turn in turns})
    assert len({turn["user"] for turn in found}) == len({turn.user for turn in turns})
    signals = Counter(outcome["signal"] for turn in found for outcome in turn["outcomes"])
    assert signals == Counter(told["feedback"])
    expected: Counter[str] = Counter()
    for turn, good in zip(turns, right, strict=True):
        if turn.stream.outcomes == "tells":
            expected["success" if good else "correction"] += 1
        elif good:
            expected["success"] += turn.draw < 0.5
        else:
            expected["correction" if turn.draw < 0.5 else "retry"] += turn.draw < 0.75
    assert signals == +expected
    wanted = [turn.case.labels["triage"] for turn in turns]
    details = [o["detail"] for turn in found for o in turn["outcomes"] if o["signal"] == "correction"]
    assert details and all(detail in wanted for detail in details)


def test_the_same_seed_sends_the_same_and_rows_without_labels_are_not_judged(home, server):
    traffic = traffic_of(home, "quiet", seed=2)
    first = send(traffic, target(str(server.client.base_url), None))
    again = send(traffic, target(str(server.client.base_url), None), clients=3)
    assert first["right"] == {} and first["pools"] == {"silent": {"right": 0, "wrong": 0, "unknown": 20}}
    assert first["feedback"] == again["feedback"] and 0 < first["feedback"]["abandonment"] < 20
    captured(home, traffic)
    until(lambda: len(captured(home, traffic)[1]) == 40)
    turns = Counter(
        (turn["conversation"], turn["user"], json.dumps(turn["input"], sort_keys=True))
        for turn in captured(home, traffic)[1]
    )
    assert all(count % 2 == 0 for count in turns.values())


def test_failed_requests_are_counted_and_told_by_the_exit_code(home, server):
    told = simulated(home, server.client.base_url, "--scenario", "refused", code=1)
    assert simulated(home, server.client.base_url, "--scenario", "refused", "--tolerate")["errors"]
    assert 0 < told["failed_requests"] < 12 == told["turns"]
    assert told["errors"] == {"422 contract": told["failed_requests"]}
    assert sum(line["turns"] for line in told["answers"]) == 12 - told["failed_requests"]


def test_a_signal_ends_it_early_with_the_summary(home, server):
    before, url = answered(server), str(server.client.base_url)
    with started(home, "--url", url, "--scenario", "steady", "--turns", "100000", "--rate", "100") as child:
        until(lambda: answered(server) >= before + 5)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    told = json.loads(out)
    assert child.returncode == 0, err
    assert told["stopped"] and 5 <= told["turns"] < 100_000 and told["failed_requests"] == 0


def test_a_rate_is_kept(home, server):
    traffic = traffic_of(home, "steady")
    told = send(traffic, target(str(server.client.base_url), None), rate=100)
    assert told["turns"] == 40 and told["seconds"] >= sum(turn.gap for turn in traffic) / 100


def test_a_service_that_ends_in_between_is_counted_and_one_that_is_not_there_is_named(home):
    with running(home, "-c", RUN) as own:
        where = target(str(own.client.base_url), None)
        with ThreadPoolExecutor(1) as thread:
            traffic = traffic_of(home, "steady", turns=400)
            sending = Sending(traffic, traffic.simulation.outcomes, rate=200)
            done = thread.submit(sending.run, "tiny", where, 8)
            until(lambda: answered(own) >= 30)
            own.process.kill()
            done.result(timeout=60)
    told = sending.tallies["all"].shown()
    assert told["turns"] == 400 and 0 < told["failed_requests"] < 400
    assert told["errors"]["ConnectionRefusedError"] > 0, "after the kill; what was in flight may have its own names"
    gone = simulated(home, f"http://{where.host}:{where.port}", "--scenario", "steady", code=1)
    assert "no service answers" in gone["error"] and "slm serve tiny" in gone["cure"]


def test_a_token_is_sent_by_its_alias_and_never_shown(home):
    environment = {"SLM_TOKENS": "local=ACCESS *=OPERATE", "ACCESS": TOKENS["LOCAL"], "OPERATE": TOKENS["OPS"]}
    with running(home, "-m", "slm_assets.cli", "serve", "tiny", "--port", "0", **environment) as own:
        url = str(own.client.base_url)
        told = simulated(home, url, "--scenario", "steady", "--token", "ACCESS", ACCESS=TOKENS["LOCAL"])
        without = send(traffic_of(home, "steady"), target(url, None))
    assert told["failed_requests"] == 0 and TOKENS["LOCAL"] not in json.dumps(told)
    assert without["failed_requests"] == 40 and {code.split()[0] for code in without["errors"]} == {"401"}


def answered(server) -> float:
    """How many turns the service has answered; 0 where it has ended."""
    try:
        text = server.client.get("/metrics").text
    except httpx.TransportError:
        return 0.0
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("slm_answers_total{"))
