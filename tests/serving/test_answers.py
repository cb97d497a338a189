"""Answers over HTTP: what a caller gets, from which engine, and what the service does when a flag moves."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from sqlalchemy import text

from slm_assets.engines.in_process import run_rollback
from slm_assets.errors import SlmError
from slm_assets.registry.registry import Flip
from slm_assets.serving import turns
from slm_assets.serving.pages.routes import Pages
from slm_assets.stages.plans import output_of
from slm_assets.stages.rollback import rollback_request
from tests.serving.conftest import BELOW

SURE = {"text": "where is the silver wallet i ordered from anna"}
UNKNOWN = {"text": "zzz qqq xxx"}


def unsure(service):
    """Ask more confidence than any model has."""
    (snapshot,) = service.engines.snapshots()
    assert snapshot.engines["triage"].below == BELOW, "what the release was judged with"
    snapshot.engines["triage"] = replace(snapshot.engines["triage"], below=1.01)


def test_an_answer_says_what_it_is_and_where_it_comes_from(home, registry, serve):
    service = serve(home)
    answer = service.post("/v1/tiny/triage", SURE).json()
    release = output_of(registry, registry.plan("tiny", 1), "package")
    assert answer["output"] == {"intent": "track", "urgent": False} and answer["valid"] is True
    assert (answer["engine"], answer["version"], answer["release"]) == ("release", "v1", release)
    assert answer["urn"] == "registry://local/default/release/tiny/1"
    assert answer["turn_id"].startswith("tiny-") and 0.5 < answer["confidence"] <= 1 and answer["fallback"] is None
    assert service.get("/v1/tiny/triage/engine").json() == {"engine": "slm", "version": "v1", "release": release}


def test_a_whole_turn_gives_every_role(home, serve):
    service = serve(home)
    whole = service.post("/v1/tiny", SURE).json()
    alone = service.post("/v1/tiny/triage", SURE).json()
    assert whole["roles"]["triage"] == {k: v for k, v in alone.items() if k not in ("turn_id", "domain", "role")}
    assert whole["turn_id"] != alone["turn_id"]


def test_an_unsure_model_is_answered_for_by_the_oracle_which_says_so(home, serve):
    service = serve(home)
    sure = service.post("/v1/tiny/triage", UNKNOWN).json()
    assert sure["engine"] == "release" and sure["confidence"] >= BELOW
    unsure(service)
    answer = service.post("/v1/tiny/triage", UNKNOWN).json()
    assert answer["engine"] == "oracle" and answer["version"] is None and answer["release"] is None
    assert answer["fallback"] == {"reason": "low_confidence", "confidence": sure["confidence"]}
    assert answer["output"] == {"intent": "greet", "urgent": False}


def test_a_model_that_throws_is_answered_for_by_the_oracle(home, serve):
    class Broken:
        def predict(self, value):
            raise ZeroDivisionError(value["text"])

    service = serve(home)
    (snapshot,) = service.engines.snapshots()
    serving = snapshot.engines["triage"]
    snapshot.engines["triage"] = replace(serving, predictor=Broken())
    answer = service.post("/v1/tiny/triage", SURE).json()
    assert answer["fallback"] == {"reason": "error", "confidence": None} and answer["engine"] == "oracle"
    snapshot.engines["triage"] = replace(serving, predictor=Broken(), oracle=None)
    failed = service.post("/v1/tiny/triage", SURE)
    assert failed.status_code == 500 and failed.json()["error"]["code"] == "engine"
    assert "wallet" not in failed.text


def test_a_turn_that_breaks_the_contract_is_told_where(home, serve):
    service = serve(home)
    for path in ("/v1/tiny/triage", "/v1/tiny"):
        refused = service.post(path, {"text": 5, "more": 1})
        error = refused.json()["error"]
        assert refused.status_code == 422 and error["code"] == "contract" and error["param"]
        assert {fault["path"] for fault in error["faults"]} == {"$.text", "$"}
    assert service.post("/v1/tiny/triage", {"text": "x" * 401}).json()["error"]["param"] == "$.text"


def test_openai_clients_are_answered(home, serve):
    service = serve(home)
    models = service.get("/v1/models").json()["data"]
    assert [(m["id"], m["object"], m["version"]) for m in models] == [("tiny/triage", "model", "v1")]
    assert models[0]["created"] > 1_700_000_000
    for content in (SURE["text"], orjson.dumps(SURE).decode(), [{"type": "text", "text": SURE["text"]}]):
        messages = [{"role": "system", "content": "x"}, {"role": "user", "content": content}]
        answer = service.post("/v1/chat/completions", {"model": "tiny/triage", "messages": messages}).json()
        choice = answer["choices"][0]
        assert orjson.loads(choice["message"]["content"]) == {"intent": "track", "urgent": False}
        assert choice["finish_reason"] == "stop" and answer["slm"]["version"] == "v1" and "usage" not in answer


def test_openai_clients_that_stream_get_events(home, serve):
    question = {"model": "tiny/triage", "messages": [{"role": "user", "content": SURE["text"]}], "stream": True}
    answer = serve(home).post("/v1/chat/completions", question)
    events = answer.text.strip().split("\n\n")
    assert answer.headers["content-type"].startswith("text/event-stream") and events[-1] == "data: [DONE]"
    chunks = [orjson.loads(event.removeprefix("data: ")) for event in events[:-1]]
    said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert orjson.loads(said)["intent"] == "track" and chunks[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("question", "status", "param"),
    [
        ([], 400, "$"),
        ({"messages": []}, 400, "$.model"),
        ({"model": "tiny"}, 404, "$.model"),
        ({"model": "tiny/triage/x"}, 404, "$.model"),
        ({"model": "tiny/none", "messages": [{"role": "user", "content": "x"}]}, 404, None),
        ({"model": "tiny/triage"}, 400, "$.messages"),
        ({"model": "tiny/triage", "messages": [{"role": "system", "content": "x"}]}, 400, "$.messages"),
        ({"model": "tiny/triage", "messages": [{"role": "user", "content": 7}]}, 400, "$.messages[0].content"),
        ({"model": "tiny/triage", "n": 2, "messages": []}, 400, "$.n"),
        ({"model": "tiny/triage", "messages": [{"role": "user", "content": '{"text": 5}'}]}, 422, "$.text"),
        ({"model": "tiny/triage", "messages": [{"role": "user", "content": "[" * 100 + "]" * 100}]}, 400, None),
    ],
)
def test_openai_questions_that_are_none_are_told_where(home, serve, question, status, param):
    refused = serve(home).post("/v1/chat/completions", question)
    assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)


def test_a_flip_is_seen_and_a_turn_in_flight_ends_on_the_old_engine(home, registry, serve, tmp_path):
    service = serve(home)
    service.engines.refresh()
    with service.engines.lease("tiny", "*") as held:
        run_rollback(registry, rollback_request(registry, "tiny"), tmp_path / "run", actor="op")
        service.engines.refresh()
        assert held.engines["triage"].engine == "release" and held.retired
    answer = service.post("/v1/tiny/triage", SURE).json()
    assert (answer["engine"], answer["fallback"]) == ("oracle", None)
    assert service.get("/v1/tiny/triage/engine").json()["engine"] == "deterministic"
    run_rollback(registry, rollback_request(registry, "tiny", to="v1"), tmp_path / "again", actor="op")
    service.engines.refresh()
    assert service.post("/v1/tiny/triage", SURE).json()["version"] == "v1"


def test_a_refresh_without_a_flip_asks_one_question_and_loads_nothing(home, serve, monkeypatch):
    service = serve(home)
    service.engines.refresh()
    (before,) = service.engines.snapshots()
    monkeypatch.setattr(service.engines, "_renew", None)
    service.engines.refresh()
    assert service.engines.snapshots() == [before] and service.engines.registry_fault == ""


def test_a_flag_moved_to_a_release_that_is_not_the_gated_one_is_refused(home, registry, serve):
    service = serve(home)
    service.engines.refresh()
    other = registry.store.put(home.domains / "tiny").sha256
    gated = registry.flags("tiny")["triage"]
    flip = Flip("triage", "release", 1, other, expected=gated.event)
    registry.flip("tiny", [flip], action="promote", actor="eve", reason="around the gates")
    service.engines.refresh()
    answer = service.post("/v1/tiny/triage", SURE).json()
    assert answer["release"] == gated.release, "what was gated goes on"
    assert service.get("/readyz").json()["refused_releases"] == 1
    fresh = serve(home)
    started = fresh.post("/v1/tiny/triage", SURE).json()
    assert started["engine"] == "oracle" and started["fallback"]["reason"] == "release_refused"


def test_a_real_release_under_another_version_s_number_is_refused(home, registry, serve):
    gated = registry.flags("tiny")["triage"]
    flip = Flip("triage", "release", 2, gated.release, expected=gated.event)
    registry.flip("tiny", [flip], action="promote", actor="eve", reason="")
    service = serve(home)
    assert service.post("/v1/tiny/triage", SURE).json()["fallback"]["reason"] == "release_refused"
    assert "gated release is none" in service.engines.refused["tiny.triage"]


def test_a_release_whose_verdicts_were_replaced_is_refused(home, registry, serve):
    with registry._database.write("local/default") as connection:
        connection.execute(text("UPDATE verdicts SET evidence = 'f' WHERE stage = 'evaluate'"))
    service = serve(home)
    assert service.post("/v1/tiny/triage", SURE).json()["fallback"]["reason"] == "release_refused"
    assert "did not pass the gates" in service.engines.refused["tiny.triage"]


def test_an_altered_release_is_refused_and_used_again_once_it_is_restored(home, registry, serve):
    tree = registry.store.describe(registry.flags("tiny")["triage"].release)
    blob = Path(registry.store._blob(tree.files["model/checkpoint.json"]))
    whole = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(whole + b" ")
    service = serve(home)
    assert service.post("/v1/tiny/triage", SURE).json()["fallback"]["reason"] == "release_refused"
    assert "digest" in service.engines.refused["tiny.triage"]
    blob.write_bytes(whole)
    service.engines.refresh()
    assert service.post("/v1/tiny/triage", SURE).json()["version"] == "v1" and not service.engines.refused


def test_while_the_registry_is_away_everything_stays(home, serve, monkeypatch):
    service = serve(home)

    def away(_registry):
        raise OSError("no route to the registry")

    monkeypatch.setattr("slm_assets.registry.queries.last_flip", away)
    service.engines.refresh()
    assert service.post("/v1/tiny/triage", SURE).json()["version"] == "v1"
    ready = service.get("/readyz")
    assert ready.status_code == 200 and ready.json()["registry_reachable"] is False


def test_a_registry_that_is_away_at_the_start_is_waited_for(home, serve, monkeypatch):
    def away(*_arguments):
        raise SlmError("registry: no route to host")

    monkeypatch.setattr("slm_assets.serving.engines.registry_for", away)
    service = serve(home)
    assert service.get("/readyz").status_code == 503
    loading = service.post("/v1/tiny/triage", SURE)
    assert (loading.status_code, loading.json()["error"]["code"]) == (503, "loading")
    monkeypatch.undo()
    service.engines.refresh()
    assert service.get("/readyz").status_code == 200
    assert service.post("/v1/tiny/triage", SURE).json()["version"] == "v1"


def test_a_release_that_cannot_be_loaded_at_all_stops_nobody(home, serve, monkeypatch):
    def broken(_folder):
        raise RuntimeError("not for this processor")

    monkeypatch.setattr("slm_assets.serving.engines.open_bundle", broken)
    service = serve(home)
    assert service.post("/v1/tiny/triage", SURE).json()["fallback"]["reason"] == "release_refused"
    assert "not for this processor" in service.engines.refused["tiny.triage"]


def test_a_broken_domain_is_its_own_fault_alone(home, serve):
    broken = home.domains / "broken"
    broken.mkdir()
    (broken / "slm.config.yaml").write_text("slm_domain: {name: broken, roles: 5}\n")
    reserved = home.domains / "feedback"
    reserved.mkdir()
    (reserved / "slm.config.yaml").write_text("slm_domain: {}\n")
    service = serve(home)
    assert service.post("/v1/tiny/triage", SURE).status_code == 200
    refused = service.post("/v1/broken/x", {})
    assert refused.status_code == 503 and "$.slm_domain" in refused.json()["error"]["message"]
    assert "path of the service" in service.engines.faults["feedback"]
    assert service.get("/readyz").json() == {
        "ready": True, "domains": 3, "serving": 1, "refused_releases": 0, "registry_reachable": True,
    }  # fmt: skip


def test_a_service_with_nothing_to_serve_is_not_ready(home, serve):
    (home.domains / "tiny" / "slm.config.yaml").write_text("slm_domain: {}\n")
    service = serve(home)
    assert service.get("/readyz").status_code == 503 and service.get("/healthz").status_code == 200


def test_a_python_oracle_does_not_hold_up_the_others(home, registry, serve, tmp_path, monkeypatch):
    monkeypatch.setenv("SLM_ALLOW_PYTHON_ORACLES", "1")
    config = home.domains / "tiny" / "slm.config.yaml"
    kind = "{kind: python, path: oracle/triage.py}"
    config.write_text(config.read_text().replace("{kind: rules, path: oracle/triage.rules.yaml}", kind))
    code = "def predict(turn):\n    return {'intent': 'greet', 'urgent': turn['text'] == 'now'}\n"
    (home.domains / "tiny" / "oracle" / "triage.py").write_text(code)
    run_rollback(registry, rollback_request(registry, "tiny"), tmp_path / "run", actor="op")
    service = serve(home)
    (snapshot,) = service.engines.snapshots()
    serving, threads = snapshot.engines["triage"], []
    predict = serving.predictor.predict

    def told(value):
        threads.append(threading.current_thread())
        return predict(value)

    monkeypatch.setattr(serving.predictor, "predict", told)
    assert service.post("/v1/tiny/triage", {"text": "now"}).json()["output"] == {"intent": "greet", "urgent": True}
    assert serving.blocking and threads[0] is not threading.main_thread()


def test_a_long_input_is_answered_beside_the_short_ones(home, serve, monkeypatch):
    service = serve(home)
    (snapshot,) = service.engines.snapshots()
    predictor, threads = snapshot.engines["triage"].predictor, []
    predict = predictor.predict

    def told(value):
        threads.append(threading.current_thread().name)
        return predict(value)

    monkeypatch.setattr(predictor, "predict", told)
    long = orjson.dumps(SURE) + b" " * turns.LONG_BYTES
    answers = [service.post(path, content=long).json() for path in ("/v1/tiny/triage", "/v1/tiny")]
    assert answers[0]["output"] == answers[1]["roles"]["triage"]["output"] == {"intent": "track", "urgent": False}
    service.post("/v1/tiny/triage", SURE)
    assert [name.startswith("slm-long") for name in threads] == [True, True, False]


def test_metrics_count_what_happened(home, serve):
    service = serve(home)
    service.post("/v1/tiny/triage", SURE)
    unsure(service)
    service.post("/v1/tiny/triage", UNKNOWN)
    service.post("/v1/tiny/triage", {})
    service.post("/v1/nothing/at_all", {})
    service.recorder.pump()
    told = service.get("/metrics").text
    for line in (
        'slm_answers_total{domain="tiny",engine="v1",role="triage"} 1.0',
        'slm_answers_total{domain="tiny",engine="oracle",role="triage"} 1.0',
        'slm_fallbacks_total{domain="tiny",reason="low_confidence",role="triage"} 1.0',
        'slm_problems_total{code="contract"} 1.0',
        'slm_problems_total{code="domain"} 1.0',
        'slm_capture_kept_total{kind="sampled"} 2.0',
        'slm_turn_seconds_count{domain="tiny"} 2.0',
    ):
        assert line in told, line
    assert "nothing" not in told, "a caller's words are no labels"


def test_the_openapi_document_has_the_contracts_that_serve(home, serve):
    service = serve(home)
    told = service.get("/openapi.json").json()
    post = told["paths"]["/v1/tiny/triage"]["post"]
    body = post["requestBody"]["content"]["application/json"]["schema"]
    output = post["responses"]["200"]["content"]["application/json"]["schema"]["properties"]["output"]
    assert body["required"] == ["text"] and output["properties"]["intent"]["enum"][0] == "refund"
    routes = {(m, r.path.replace(":name", "")) for r in service.app.routes for m in r.methods or () if m != "HEAD"}
    known = {(method.upper(), path) for path, ways in told["paths"].items() for method in ways}
    generic = {(m, p.replace("tiny", "{domain}").replace("triage", "{role}")) for m, p in known}
    pages = {("GET", path) for path, _ in Pages(service.engines).routes()}  # for people, not for programs
    reviewing = {(method, path) for method, path in routes if "/review/" in path} - generic
    assert len(reviewing) == 3 and routes - {("GET", "/openapi.json")} - pages - reviewing == generic
