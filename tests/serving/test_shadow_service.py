"""A version that answers beside what serves: its answers are captured, and whatever happens to it nobody notices."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path

import orjson
import pytest

from slm_assets import canonical
from slm_assets.engines.in_process import make_cell
from slm_assets.errors import BadInputError
from slm_assets.registry import decisions
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry
from slm_assets.serving.shadow import process
from slm_assets.serving.shadow.process import Challenger, GoneError
from slm_assets.stages.live_shadow import switch_shadow
from slm_assets.stages.plans import open_domain, open_version, output_of
from slm_assets.stages.table import STAGES
from slm_assets.stages.traffic import store
from slm_assets.stages.traffic.reader import records
from slm_assets.stages.windows import next_window
from tests.serving.conftest import TOKENS
from tests.serving.test_service_process import RUN, running, until

ASKED = [{"text": f"where is my parcel number {n}"} for n in range(40)]


@pytest.fixture
def challenger(home: Home, registry: Registry) -> str:
    """tiny v2, packaged."""
    domain, _ = open_domain(home, "tiny")
    plan = open_version(domain, registry, params={"train_fraction": 0.9}, actor="tester")
    for stage in STAGES[: [s.name for s in STAGES].index("shadow")]:
        assert make_cell(registry, plan, stage.name, actor="tester").receipt.status == "succeeded"
    return plan.version


def shadowed(home: Home) -> list[dict]:
    return [one for one in records(home.root / "capture", []) if one["kind"] == "shadow"]


def test_its_answers_are_captured_beside_the_turns_and_reach_the_traffic(home, registry, challenger, tmp_path):
    with running(home, "-c", RUN) as server:
        before = server.client.post("/v1/tiny/triage", json=ASKED[0]).json()
        assert before["version"] == "v1" and server.metric('slm_shadow_total{kind="answered"}') == 0
        switch_shadow(registry, "tiny", challenger, sample=1.0, actor="tester", reason="to see")

        def sees() -> bool:
            assert server.client.post("/v1/tiny", json=ASKED[1]).json()["roles"]["triage"]["version"] == "v1"
            return server.metric('slm_shadow_total{kind="answered"}') > 0

        until(sees)
        told = [server.client.post("/v1/tiny/triage", json=value).json()["turn_id"] for value in ASKED]
        until(lambda: {one["turn_id"] for one in shadowed(home)} >= set(told))
        switch_shadow(registry, "tiny", None, sample=0.0, actor="tester", reason="seen")
    found = {one["turn_id"]: one for one in shadowed(home)}
    one = found[told[0]]
    assert one["version"] == challenger and one["answers"]["triage"]["valid"] is True
    assert one["answers"]["triage"]["output"].keys() == {"intent", "urgent"} and one["answers"]["triage"]["seconds"] > 0
    assert [e["action"] for e in registry.audit("tiny") if e["action"].startswith("shadow")] == ["shadow", "shadow.off"]

    domain, _ = open_domain(home, "tiny")
    window = next_window(domain, registry, actor="tester")
    made = make_cell(registry, window, "capture", actor="tester")
    registry.store.get(made.receipt.outputs["traffic"].sha256, tmp_path / "traffic")
    assert store.shadows_of(tmp_path / "traffic", challenger).keys() == found.keys()
    assert len(list(store.turns(tmp_path / "traffic"))) == made.receipt.result.rows["traffic"]
    envelope = next(v for v in made.receipt.result.verdicts if v.gate == "envelope")
    assert envelope.verdict == "PASS" and envelope.value == 0
    plan = registry.plan("tiny", 2)
    report = make_cell(registry, plan, "shadow", actor="tester")
    live = canonical.read_json(tmp_path / "traffic" / "manifest.json")["parts"]["000001"]
    assert live["shadows"] == len(found)
    assert report.receipt.status in ("succeeded", "deferred")


def test_one_that_is_killed_stopped_or_gone_changes_nothing_for_the_caller(home, registry, challenger):
    switch_shadow(registry, "tiny", challenger, sample=1.0, actor="tester", reason="")
    with running(home, "-c", RUN) as server:
        statuses: list[int] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                statuses.append(server.client.post("/v1/tiny/triage", json=ASKED[2]).status_code)

        def child() -> int | None:
            for stat in Path("/proc").glob("[0-9]*/stat"):
                try:
                    fields = stat.read_text().rpartition(")")[2].split()
                    command = (stat.parent / "cmdline").read_bytes()
                except OSError:
                    continue
                if int(fields[1]) == server.process.pid and b"slm_assets.serving.shadow.child" in command:
                    return int(stat.parent.name)
            return None

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            until(lambda: server.metric('slm_shadow_total{kind="answered"}') > 0)
            pid = child()
            assert pid is not None and os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(
                os.PRIO_PROCESS, server.process.pid
            )
            os.kill(pid, signal.SIGKILL)
            until(lambda: server.metric('slm_shadow_total{kind="ended"}') == 1)
            until(lambda: server.metric('slm_shadow_total{kind="not_answered"}') > 5)
        finally:
            stop.set()
            asking.join()
        assert len(statuses) > 50 and set(statuses) == {200}
        assert any("challenger gone" in line for line in server.log)


def test_a_release_that_cannot_be_loaded_is_told_and_the_service_goes_on(home, registry, challenger):
    release = output_of(registry, registry.plan("tiny", 2), "package")
    decisions.shadow_flag(registry, "tiny", number=2, release="0" * 64, sample=1.0, actor="tester", reason="")
    with running(home, "-c", RUN) as server:
        until(lambda: server.metric('slm_shadow_total{kind="ended"}') == 1)
        assert server.client.post("/v1/tiny/triage", json=ASKED[0]).status_code == 200
        decisions.shadow_flag(registry, "tiny", number=2, release=release, sample=1.0, actor="tester", reason="")
        until(
            lambda: (
                server.client.post("/v1/tiny/triage", json=ASKED[0]).status_code == 200
                and server.metric('slm_shadow_total{kind="answered"}') > 0
            )
        )


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("import time; sys.stdin.readline(); print('ready', flush=True); time.sleep(60)", "did not answer within"),
        ("sys.stdin.readline(); print('ready', flush=True); sys.stdin.readline(); print('{')", "nonsense"),
        ("sys.stdin.readline(); print('ready', flush=True); sys.stdin.readline(); print('[]')", "left a turn out"),
        ("sys.stdin.readline(); print('ready', flush=True); sys.stdin.readline(); sys.exit(3)", "it ended"),
    ],
)
def test_a_process_that_does_not_keep_to_it_is_given_up(tmp_path, monkeypatch, said: str, expected: str):
    monkeypatch.setattr(process, "CHILD", ["-c", f"import sys; {said}"])
    monkeypatch.setattr(process, "ANSWER_SECONDS", 0.2)
    one = Challenger(tmp_path)
    try:
        with pytest.raises(GoneError, match=expected):
            one.ask([orjson.dumps({"role": "triage", "value": {}})])
    finally:
        one.close()


def test_what_cannot_shadow_is_refused(home, registry, challenger):
    told = {"actor": "tester", "reason": ""}
    with pytest.raises(BadInputError, match="serves already"):
        switch_shadow(registry, "tiny", "v1", sample=0.5, **told)
    with pytest.raises(BadInputError, match="never opened"):
        switch_shadow(registry, "tiny", "v9", sample=0.5, **told)
    with pytest.raises(BadInputError, match="no share"):
        switch_shadow(registry, "tiny", challenger, sample=0.0, **told)
    domain, _ = open_domain(home, "tiny")
    open_version(domain, registry, actor="tester")
    with pytest.raises(BadInputError, match="package has not succeeded"):
        switch_shadow(registry, "tiny", "v3", sample=0.5, **told)
    assert decisions.shadow_of(registry, "tiny") is None


def test_a_rollback_over_http_needs_a_token_and_flips_within_two_seconds(serve, home, registry):
    body = {"reason": "wrong answers", "by": "Ada"}
    open_ = serve(home)
    assert open_.post("/v1/rollback/tiny", body).status_code == 403, "also on loopback"
    service = serve(home, tokens={"local": "LOCAL", "acme": "ACME"})
    mine, other = ({"authorization": f"Bearer {TOKENS[name]}"} for name in ("LOCAL", "ACME"))
    assert service.post("/v1/rollback/tiny", body).status_code == 401
    assert service.post("/v1/rollback/tiny", body, headers=other).status_code == 404
    for wrong in ({}, {"by": "Ada"}, {**body, "roles": []}, {**body, "more": 1}, {**body, "to": 2}, []):
        assert service.post("/v1/rollback/tiny", wrong, headers=mine).status_code == 422
    assert service.post("/v1/rollback/tiny", {**body, "to": "v9"}, headers=mine).status_code == 409
    assert registry.flags("tiny")["triage"].engine == "release"
    began = time.perf_counter()
    done = service.post("/v1/rollback/tiny", body, headers=mine)
    assert done.status_code == 200 and done.json()["changes"]["triage"]["to"]["engine"] == "oracle"
    assert time.perf_counter() - began < 2 and done.json()["seconds"] < 2
    event = registry.flag_events("tiny", "triage")[-1]
    assert re.match(r"Ada \(service, token of local\)", event["actor"]) and event["reason"] == "wrong answers"
    service.engines.refresh()
    assert service.get("/v1/tiny/triage/engine", headers=mine).json()["engine"] == "deterministic"
    assert service.post("/v1/rollback/tiny", body, headers=mine).status_code == 409, "nothing left to roll back"
