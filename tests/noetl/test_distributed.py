"""The same playbooks in the server's dialect, over a `slm` that answers as told."""

from __future__ import annotations

import json

import pytest
from fake_slm import FakeSlm
from server_walk import Server

from slm_assets.noetl.emit import playbooks
from slm_assets.noetl.steps import FOLDER, SERVER
from slm_assets.stages.table import STAGES, WATCH

NAMES = [stage.name for stage in STAGES]
PAYLOAD = {"domain": "tiny", **SERVER}


def last(server: Server, name: str, **payload: str) -> tuple[list[str], dict[str, str]]:
    walk = server.execute(FOLDER + name, {**PAYLOAD, **payload})
    return walk.steps, json.loads(walk.results.get("outcome", {}).get("stdout") or "{}")


def ran(slm: FakeSlm) -> list[str]:
    return [call[2] for call in slm.calls if call[:2] == ["stage", "run"]]


@pytest.mark.parametrize("version", ["", "v7"])
def test_all_go_is_promoted(slm: FakeSlm, version: str) -> None:
    steps, outcome = last(Server(playbooks()), "pipeline", version=version)
    assert outcome == {"outcome": "promoted", "version": version or "v3"} and steps[-1] == "end"
    assert ran(slm) == NAMES
    assert {call[8] for call in slm.calls if call[0] == "stage"} == {version or "v3"}


@pytest.mark.parametrize("gate", ["held", "deferred"])
@pytest.mark.parametrize("stage", NAMES)
def test_a_no_or_a_wait_ends_the_version_there(slm: FakeSlm, stage: str, gate: str) -> None:
    slm.answers(stage, gate)
    steps, outcome = last(Server(playbooks()), "pipeline")
    assert outcome == {"outcome": gate, "version": "v3"} and steps[-3:] == [gate, "outcome", "end"]
    assert ran(slm) == NAMES[: NAMES.index(stage) + 1]


@pytest.mark.parametrize("how", ["fails", "silent"])
@pytest.mark.parametrize("stage", NAMES)
def test_a_failure_never_reaches_the_end(slm: FakeSlm, stage: str, how: str) -> None:
    """The server goes on after a step that failed, and calls the execution COMPLETED."""
    slm.breaks(stage, how)
    server = Server(playbooks())
    steps, _ = last(server, "pipeline")
    assert steps[-1] == "failed" and ran(slm) == NAMES[: NAMES.index(stage) + 1]
    (own,) = server.walks[next(s.playbook for s in STAGES if s.name == stage)]
    assert own.steps[-1] == "failed"


def test_a_refused_value_reaches_no_shell(slm: FakeSlm) -> None:
    for name in (*(stage.playbook.removeprefix(FOLDER) for stage in STAGES), "pipeline", "rollback", "resolve_engine"):
        server = Server(playbooks(), refuses=frozenset({"tiny"}))
        walk = server.execute(FOLDER + name, PAYLOAD)
        assert walk.steps == ["start", "check", "refused"]
    assert slm.calls == []


def test_the_orchestrator_says_what_the_pipeline_said(slm: FakeSlm) -> None:
    slm.answers("evaluate", "held")
    walk = Server(playbooks()).execute(FOLDER + "retrain_orchestrator", PAYLOAD)
    assert walk.steps[-2:] == ["held", "end"]
    assert json.loads(walk.results["held"]["stdout"]) == {"outcome": "held", "version": "v3"}
    told = [(call[2], call[8], call[10]) for call in slm.calls if call[:2] == ["stage", "run"]]
    assert told[:2] == [(stage.name, "w1", str(slm.window_dir)) for stage in WATCH]
    assert set(told[2:]) <= {(name, "v3", str(slm.run_dir)) for name in NAMES}


@pytest.mark.parametrize(("stage", "end"), [("capture", "window_held"), ("drift", "not_due")])
def test_a_window_that_is_held_or_quiet_opens_no_version(slm: FakeSlm, stage: str, end: str) -> None:
    slm.answers(stage, "held")
    walk = Server(playbooks()).execute(FOLDER + "retrain_orchestrator", PAYLOAD)
    assert walk.steps[-2:] == [end, "end"] and not set(ran(slm)) & set(NAMES)


@pytest.mark.parametrize(("gate", "end"), [("deferred", "waits"), ("held", "not_due")])
def test_a_retrain_that_has_to_wait_or_is_not_due_makes_nothing(slm: FakeSlm, gate: str, end: str) -> None:
    slm.answers("open", gate)
    walk = Server(playbooks()).execute(FOLDER + "retrain_orchestrator", PAYLOAD)
    assert walk.steps[-2:] == [end, "end"] and not set(ran(slm)) & set(NAMES)


@pytest.mark.parametrize("how", ["fails", "silent"])
@pytest.mark.parametrize("stage", [stage.name for stage in WATCH])
def test_a_failure_of_the_watch_never_reaches_the_end(slm: FakeSlm, stage: str, how: str) -> None:
    slm.breaks(stage, how)
    walk = Server(playbooks()).execute(FOLDER + "retrain_orchestrator", PAYLOAD)
    assert walk.steps[-1] == "failed" and not set(ran(slm)) & set(NAMES)


def test_a_container_gets_what_the_block_and_the_execution_say(slm: FakeSlm) -> None:
    server = Server(playbooks())
    last(server, "pipeline", version="v2", mode="container", image="registry.example/slm@sha256:1", gpus="4")
    (walk,) = server.walks[FOLDER + "finetune"]
    tool = walk.results["run_container"]["asked"]
    assert tool["image"] == "registry.example/slm@sha256:1"
    assert tool["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": "4"}
    assert tool["args"][:5] == ["stage", "run", "finetune", "--driver", "conductor"]
    assert tool["args"][5:] == ["--domain", "tiny", "--version", "v2", "--run-dir", str(slm.run_dir)]
    assert {entry["name"] for entry in tool["env"]} == {"SLM_HOME", "SLM_DOMAINS", "SLM_ARTIFACTS", "SLM_REGISTRY"}
    assert "run_stage" not in walk.steps
    assert walk.steps[-1] == "failed", "this container left no outcome"


def test_the_engine_is_told_to_the_caller(slm: FakeSlm) -> None:
    (slm.folder / "engine.json").write_text('{"engine": "slm"}')
    walk = Server(playbooks()).execute(FOLDER + "resolve_engine", {**PAYLOAD, "role": "triage"})
    assert json.loads(walk.results["answer"]["stdout"]) == {"engine": "slm"}
