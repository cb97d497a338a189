"""The emitted playbooks on the real local runtime, each branch of them, over a `slm` that answers as told."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import noetl
import pytest
from fake_slm import DEPLOY, FakeSlm
from server_walk import Server

from slm_assets.noetl.steps import FOLDER, SERVER
from slm_assets.stages.table import STAGES, WATCH

NAMES = [stage.name for stage in STAGES]
WATCHED = [stage.name for stage in WATCH]


def run(name: str, **values: str) -> dict[str, Any]:
    return noetl.run(DEPLOY / "slm" / f"{name}.yaml", variables=values)


def ran(slm: FakeSlm) -> list[str]:
    return [call[2] for call in slm.calls if call[:2] == ["stage", "run"]]


def last(outcome: dict[str, Any]) -> dict[str, Any]:
    return json.loads(outcome["final_result"])


@pytest.mark.parametrize("name", ["pipeline", "retrain_orchestrator"])
def test_all_go_is_promoted(slm: FakeSlm, name: str) -> None:
    outcome = run(name, domain="tiny")
    assert last(outcome) == {"outcome": "promoted", "version": "v3"}
    made = [*([] if name == "pipeline" else [("w1", stage) for stage in WATCHED]), *(("v3", stage) for stage in NAMES)]
    assert [(call[8], call[2]) for call in slm.calls if call[0] == "stage"] == made
    assert [call for call in slm.calls if call[0] == "report"] == [
        ["report", "tiny", version, "--json"] for version, _stage in made
    ]


def test_what_a_caller_found_out_is_not_mixed_up_with_what_was_set(slm: FakeSlm) -> None:
    """A called playbook gets all that was set for its caller, and where an input has such a name, chance decides."""
    for _ in range(8):
        slm.forget()
        outcome = run("retrain_orchestrator", domain="tiny", version="", run_dir="")
        assert last(outcome) == {"outcome": "promoted", "version": "v3"}
        told = {tuple(call[3:]) for call in slm.calls if call[0] == "stage"}
        assert told == {
            ("--driver", "conductor", "--domain", "tiny", "--version", version, "--run-dir", str(folder))
            for version, folder in (("w1", slm.window_dir), ("v3", slm.run_dir))
        }


@pytest.mark.parametrize("name", ["pipeline", "retrain_orchestrator"])
def test_a_version_that_was_set_is_the_one_that_is_made(slm: FakeSlm, name: str) -> None:
    assert last(run(name, domain="tiny", version="v7")) == {"outcome": "promoted", "version": "v7"}
    assert {call[8] for call in slm.calls if call[0] == "stage" and call[2] in NAMES} == {"v7"}


def test_a_trigger_opens_the_version_of_the_retrain_that_is_due(slm: FakeSlm) -> None:
    run("retrain_orchestrator", domain="tiny")
    assert [call for call in slm.calls if call[0] == "open"] == [
        ["open", "tiny", "--window", "--json"],
        ["open", "tiny", "--retrain", "--json"],
        ["open", "tiny", "--version", "v3", "--run-dir", str(slm.run_dir), "--json"],
    ]


@pytest.mark.parametrize(("gate", "outcome"), [("deferred", "deferred"), ("held", "not_due")])
def test_a_retrain_that_has_to_wait_or_is_not_due_makes_nothing(slm: FakeSlm, gate: str, outcome: str) -> None:
    slm.answers("open", gate)
    assert last(run("retrain_orchestrator", domain="tiny")) == {"outcome": outcome}
    assert ran(slm) == WATCHED


@pytest.mark.parametrize("gate", ["GO", "maybe", "go == go"])
def test_a_decision_that_is_none_fails_the_run(slm: FakeSlm, gate: str) -> None:
    slm.answers("open", gate)
    with pytest.raises(RuntimeError, match="exit code"):
        run("retrain_orchestrator", domain="tiny")
    assert ran(slm) == WATCHED


@pytest.mark.parametrize("version", ["", "v7"])
@pytest.mark.parametrize(
    ("stage", "outcome"), [("capture", {"outcome": "held", "window": "w1"}), ("drift", {"outcome": "not_due"})]
)
def test_a_window_that_is_held_or_quiet_opens_no_version(
    slm: FakeSlm, stage: str, outcome: dict[str, str], version: str
) -> None:
    slm.answers(stage, "held")
    assert last(run("retrain_orchestrator", domain="tiny", version=version)) == outcome
    assert ran(slm) == WATCHED[: WATCHED.index(stage) + 1]
    assert len([call for call in slm.calls if call[0] == "open"]) == 1


@pytest.mark.parametrize("stage", WATCHED)
@pytest.mark.parametrize("gate", ["deferred", "GO", "", "go == go"])
def test_a_window_without_an_answer_fails_the_run(slm: FakeSlm, stage: str, gate: str) -> None:
    slm.answers(stage, gate)
    with pytest.raises(RuntimeError, match="exit code"):
        run("retrain_orchestrator", domain="tiny")
    assert not set(ran(slm)) & set(NAMES)


@pytest.mark.parametrize("gate", ["held", "deferred"])
@pytest.mark.parametrize("stage", NAMES)
def test_a_no_or_a_wait_ends_the_version_there(slm: FakeSlm, stage: str, gate: str) -> None:
    slm.answers(stage, gate)
    outcome = run("pipeline", domain="tiny")
    assert last(outcome) == {"outcome": gate, "version": "v3"}
    assert gate in outcome["executed_steps"] and "promoted" not in outcome["executed_steps"]
    assert ran(slm) == NAMES[: NAMES.index(stage) + 1]


def test_the_orchestrator_says_what_the_pipeline_said(slm: FakeSlm) -> None:
    slm.answers("evaluate", "held")
    assert last(run("retrain_orchestrator", domain="tiny")) == {"outcome": "held", "version": "v3"}


@pytest.mark.parametrize("how", ["fails", "silent"])
def test_a_stage_that_fails_or_leaves_nothing_fails_the_run(slm: FakeSlm, how: str) -> None:
    slm.breaks("label", how)
    with pytest.raises(RuntimeError, match="exit code"):
        run("pipeline", domain="tiny")
    assert ran(slm) == ["dataset", "label"]
    if how == "fails":
        assert "the planted fault" in (slm.run_dir / "label.err").read_text()


def test_an_outcome_of_an_earlier_run_is_not_taken_for_this_ones(slm: FakeSlm) -> None:
    slm.breaks("dataset", "silent")
    (slm.run_dir / "dataset.json").write_text('{"gate": "go"}')
    with pytest.raises(RuntimeError, match="exit code"):
        run("pipeline", domain="tiny")


@pytest.mark.parametrize("gate", ["GO", "", "maybe", "vars.gate", "go == go"])
def test_a_gate_that_is_no_answer_is_a_no(slm: FakeSlm, gate: str) -> None:
    slm.answers("dataset", gate)
    with pytest.raises(RuntimeError, match="exit code"):
        run("pipeline", domain="tiny")
    assert ran(slm) == ["dataset"]


def test_a_container_that_the_local_runtime_skips_is_no_success(slm: FakeSlm) -> None:
    with pytest.raises(RuntimeError, match="exit code"):
        run("finetune", domain="tiny", version="v1", run_dir="out", mode="container")
    assert slm.calls == []


def test_an_engine_gets_no_report(slm: FakeSlm) -> None:
    run("dataset_build", domain="tiny", version="v1", run_dir="out", driver="engine")
    assert slm.calls == [
        ["stage", "run", "dataset", "--driver", "engine", "--domain", "tiny", "--version", "v1", "--run-dir", "out"]
    ]


@pytest.mark.parametrize(
    ("values", "arguments"),
    [
        ({}, []),
        ({"role": "triage"}, ["--role", "triage"]),
        ({"to": "oracle"}, ["--to", "oracle"]),
        ({"role": "triage", "to": "v2"}, ["--role", "triage", "--to", "v2"]),
    ],
)
def test_rollback_passes_on_what_was_given(slm: FakeSlm, values: dict[str, str], arguments: list[str]) -> None:
    run("rollback", domain="tiny", **values)
    assert slm.calls == [["rollback", "tiny", *arguments, "--reason", "by NoETL", "--json"]]


# Which engine ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "engine"),
    [
        ('{"engine": "slm", "version": "v2"}', "slm"),
        ('{"engine": "deterministic"}', "deterministic"),
        (None, "deterministic"),
    ],
)
def test_the_registry_is_asked_where_there_is_no_service(slm: FakeSlm, answer: str | None, engine: str) -> None:
    if answer:
        (slm.folder / "engine.json").write_text(answer)
    assert last(run("resolve_engine", domain="tiny", role="triage")) == {"engine": engine}
    assert slm.calls == [["engine", "tiny", "triage", "--json"]]


class Service:
    """A service that gives one answer, to the bearer of a token where it needs one, or none until it is let go."""

    def __init__(self, status: int, body: bytes, *, waits: bool = False, needs: str = "") -> None:
        self.asked: list[str] = []
        self.tokens: list[str | None] = []
        self.let_go = Event()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.asked.append(self.path)
                service.tokens.append(self.headers.get("authorization"))
                if needs and service.tokens[-1] != f"Bearer {needs}":
                    self.send_error(401)
                    return
                if waits:
                    service.let_go.wait(30)
                    return
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Service:
        Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go.set()
        self.server.shutdown()
        self.server.server_close()


HOSTILE = b'{"engine":"$(touch PWNED)`touch PWNED`\';touch PWNED;\'{{ 7*7 }}"}\n\x00\xff' + b"a" * 1_000_000


@pytest.mark.parametrize(
    ("status", "body", "engine"),
    [
        (200, b'{"engine": "slm"}', "slm"),
        (200, b'{"engine": "deterministic"}', "deterministic"),
        (500, b'{"engine": "slm"}', "deterministic"),
        (200, b"", "deterministic"),
        (200, HOSTILE, "deterministic"),
    ],
)
def test_a_service_is_asked_once_and_only_its_word_counts(
    slm: FakeSlm, status: int, body: bytes, engine: str, tmp_path: Path
) -> None:
    with Service(status, body) as service:
        outcome = run("resolve_engine", domain="tiny", role="triage", service=service.url)
    assert last(outcome) == {"engine": engine}
    assert service.asked == ["/v1/tiny/triage/engine"]
    assert slm.calls == [] and not list(tmp_path.rglob("PWNED"))


def test_a_service_that_is_away_or_says_nothing_means_deterministic(slm: FakeSlm) -> None:
    away = Service(200, b"")
    away.server.server_close()
    assert last(run("resolve_engine", domain="tiny", role="triage", service=away.url)) == {"engine": "deterministic"}
    with Service(200, b"", waits=True) as service:
        outcome = run("resolve_engine", domain="tiny", role="triage", service=service.url)
    assert last(outcome) == {"engine": "deterministic"}
    assert outcome["duration_seconds"] < 10, "it has a second, and this machine some patience"


SECRET = "0123456789abcdef.~+/-_=="
YES = b'{"engine": "slm"}'


@pytest.mark.parametrize("runtime", ["local", "distributed"])
def test_a_service_that_needs_a_token_gets_it_and_nobody_else_sees_it(
    slm: FakeSlm, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locally from the environment, on a server from its credential store; never in what is kept of the run."""
    with Service(200, YES, needs=SECRET) as service:
        credential = {"url": service.url, "token": SECRET}
        if runtime == "local":
            monkeypatch.setenv("SLM_SERVICE_URL", service.url)
            monkeypatch.setenv("SLM_SERVICE_TOKEN", SECRET)
        engine, kept = asked(service.url, runtime, {"slm_service": credential})
    assert engine == "slm" and service.tokens == [f"Bearer {SECRET}"]
    assert SECRET not in kept


@pytest.mark.parametrize("runtime", ["local", "distributed"])
@pytest.mark.parametrize("why", ["no credential", "another address", "no url", "a prefix"])
def test_without_the_credential_for_this_address_no_token_is_sent_and_the_engine_is_deterministic(
    slm: FakeSlm, runtime: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Service(200, YES, needs=SECRET) as service:
        there = {"another address": "http://127.0.0.1:1", "no url": "", "a prefix": service.url[:-1]}.get(why)
        credential = {} if there is None else {"url": there, "token": SECRET}
        if runtime == "local":
            for name, value in credential.items():
                monkeypatch.setenv(f"SLM_SERVICE_{name.upper()}", value)
        engine, _ = asked(service.url, runtime, {"slm_service": credential} if credential else {})
    assert engine == "deterministic" and service.tokens == [None]


@pytest.mark.parametrize("runtime", ["local", "distributed"])
@pytest.mark.parametrize(
    "token",
    ["a\r\nX-Evil: 1", "a\nb", "$(touch PWNED)", "`touch PWNED`", "';touch PWNED;'", "{{ 7*7 }}", "a b", "@x", "é", ""],
)
def test_a_token_that_is_none_is_not_sent_and_runs_nothing(
    slm: FakeSlm, runtime: str, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Service(200, YES) as service:
        if runtime == "local":
            monkeypatch.setenv("SLM_SERVICE_URL", service.url)
            monkeypatch.setenv("SLM_SERVICE_TOKEN", token)
        engine, _ = asked(service.url, runtime, {"slm_service": {"url": service.url, "token": token}})
    assert engine == "slm" and service.tokens == [None]
    assert not list(tmp_path.rglob("PWNED"))


def asked(url: str, runtime: str, keychain: dict[str, dict[str, str]]) -> tuple[str, str]:
    """The engine that the playbook told, and all that the runtime keeps of the run."""
    values = {"domain": "tiny", "role": "triage", "service": url}
    if runtime == "local":
        outcome = run("resolve_engine", **values)
        return last(outcome)["engine"], json.dumps(outcome)
    book = (DEPLOY / "slm" / "resolve_engine.yaml").read_text()
    walk = Server({"resolve_engine": book}, keychain=keychain).execute(FOLDER + "resolve_engine", {**SERVER, **values})
    return json.loads(walk.results["answer"]["stdout"])["engine"], json.dumps(walk.results)
