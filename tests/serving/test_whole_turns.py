"""A whole turn of which some roles have no answer: the others have theirs, the caller is told, the turn is kept."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from slm_assets.domain.contracts import Validator
from slm_assets.registry.home import Home
from slm_assets.serving.openapi import describe
from slm_assets.stages.traffic.reader import captured_turns

FILES = {
    "slm.config.yaml": """
slm_domain:
  name: chained
  roles:
    - id: read
      input_schema: turn.json
      output_schema: read.json
      deterministic_oracle: {kind: rules, path: read.yaml}
    - id: reply
      reads: [read]
      input_schema: reply_in.json
      output_schema: reply.json
      deterministic_oracle: {kind: rules, path: reply.yaml}
    - id: mood
      input_schema: turn.json
      output_schema: mood.json
      deterministic_oracle: {kind: rules, path: mood.yaml}
  improvement: {capture: {sample_rate: 0.0}}
""",
    "turn.json": '{"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}',
    "read.json": '{"type": "object", "required": ["topic"], "properties": {"topic": {"enum": ["order", "person"]}}}',
    "reply_in.json": json.dumps({"type": "object", "properties": {"turn": {"type": "object"},
                                 "read": {"type": "object", "required": ["topic"]}}, "required": ["turn", "read"]}),
    "reply.json": '{"type": "object", "required": ["say"], "properties": {"say": {"type": "string"}}}',
    "mood.json": '{"type": "object", "required": ["calm"], "properties": {"calm": {"type": "boolean"}}}',
    "read.yaml": """
patterns: {order: {path: /text, regex: "order", take: first}}
rules: [{id: order, when: "order != null", then: {topic: order}}]
""",
    "reply.yaml": "rules: []\ndefault: {say: soon}\n",
    "mood.yaml": "rules: []\ndefault: {calm: true}\n",
}  # fmt: skip


@pytest.fixture
def service(tmp_path, serve):
    folder = tmp_path / "domains" / "chained"
    folder.mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    root = tmp_path / "home"
    return serve(Home(root, folder.parent, f"sqlite:///{root}/registry.db", str(root / "artifacts")))


def kept(service, tmp_path):
    service.recorder.pump()
    return list(captured_turns(tmp_path / "home" / "capture"))


def test_a_role_that_cannot_be_asked_leaves_the_others_their_answers(service, tmp_path):
    whole = service.post("/v1/chained", {"text": "where is my order"}).json()
    assert set(whole["roles"]) == {"read", "reply", "mood"} and whole["unanswered"] == {}
    assert kept(service, tmp_path) == [], "nothing is sampled"

    answer = service.post("/v1/chained", {"text": "my secret wish"})
    told = answer.json()
    assert answer.status_code == 200 and set(told["roles"]) == {"read", "mood"}
    assert told["roles"]["read"]["output"] is None and told["roles"]["read"]["valid"] is False
    assert told["roles"]["mood"]["output"] == {"calm": True}
    why = told["unanswered"]["reply"]
    assert (why["code"], why["role"], why["param"]) == ("chain", "read", "$.read")
    assert "the answer of read is no input for reply" in why["message"]

    schema = describe(service.engines.snapshots())["paths"]["/v1/chained"]["post"]["responses"]["200"]
    assert Validator(schema["content"]["application/json"]["schema"]["properties"]["unanswered"]).is_valid(
        told["unanswered"]
    )
    assert 'slm_unanswered_total{code="chain",domain="chained",role="reply"} 1.0' in service.get("/metrics").text

    (turn,) = kept(service, tmp_path)
    assert turn["turn_id"] == told["turn_id"] and turn["why"] == ["error"], "whatever the sample rate"
    assert set(turn["answers"]) == {"read", "mood"} and turn["unanswered"]["reply"]["code"] == "chain"
    assert turn["input"] == {"text": "my <X> wish"}


def test_what_the_caller_got_wrong_is_still_theirs(service):
    answer = service.post("/v1/chained", {"text": 5})
    assert answer.status_code == 422 and answer.json()["error"]["param"] == "$.text"


def test_a_role_that_throws_leaves_the_others_theirs_and_a_turn_without_any_answer_is_a_fault(service, tmp_path):
    class Broken:
        def predict(self, value):
            raise ZeroDivisionError(value)

    (snapshot,) = service.engines.snapshots()
    for role in ("mood", "read", "reply"):
        snapshot.engines[role] = replace(snapshot.engines[role], predictor=Broken(), oracle=None)
        answer = service.post("/v1/chained", {"text": "where is my order"})
        if role == "mood":
            assert answer.status_code == 200 and set(answer.json()["roles"]) == {"read", "reply"}
            why = answer.json()["unanswered"]["mood"]
            assert why == {"code": "engine", "message": "nothing could answer for chained.mood", "role": None,
                           "param": None}  # fmt: skip
            (turn,) = kept(service, tmp_path)
            assert turn["unanswered"]["mood"]["code"] == "engine"
    assert answer.status_code == 500 and answer.json()["error"]["code"] == "engine"
    assert "ZeroDivision" not in answer.text
