"""Asking a teacher: each request once and paid once, tried again where that helps, and never past the budget."""

from __future__ import annotations

import json
import threading
import time

import pytest
from fake_openai import DROP, GARBAGE, HUGE, MOVED, SLOW, ZIPPED, random_faults
from schooling import SECRET, questions, right

from slm_assets.domain.budget import Budget, Limit
from slm_assets.domain.config import Teacher
from slm_assets.errors import BadInputError, SlmError
from slm_assets.models.teacher import asking as asking_module
from slm_assets.models.teacher.endpoint import HOSTS, endpoint_of
from slm_assets.registry import budget, teaching

TOKENS = Budget(tokens=Limit(limit=1e6), usd=Limit(limit=10.0))


def spent(school, resource="tokens"):
    return sum(
        row["spent"] or 0
        for row in budget.entries(school.registry(), "tiny", limit=9999)
        if row["resource"] == resource
    )


def test_each_request_is_asked_once_and_a_second_run_costs_nothing(school):
    domain = school.write()
    asking = school.asking(domain, TOKENS)
    assert asking.estimate(questions(40))[0] == 40
    found = asking.ask([*questions(40), *questions(10)])
    asking.close()
    assert [o.output for o in found[:10]] == [o.output for o in found[40:]]
    assert all(o.error == "" and o.model == "m-large" for o in found) and len({o.request for o in found}) == 40
    assert set(school.server.answered.values()) == {1} and len(school.server.answered) == 40
    assert spent(school) == school.server.billed == asking.paid()["m-large"][1].resources["tokens"]
    assert spent(school, "usd") == pytest.approx(asking.paid()["m-large"][1].usd) and spent(school, "usd") > 0
    again = school.asking(domain, TOKENS, what="v2/label/teacher.big")
    assert again.estimate(questions(40))[0] == 0
    assert again.ask(questions(40)) == found[:40] and len(school.server.bodies) == 40
    assert {row["state"] for row in budget.entries(school.registry(), "tiny")} == {budget.SETTLED}


def test_so_many_are_asked_at_once_and_no_more(school):
    together = threading.Barrier(4)

    def say(value, body):
        together.wait(30)
        return right(value, body)

    school.server.say = say
    found = school.asking(school.write(teacher={"concurrency": 4}), TOKENS).ask(questions(8))
    assert [o.error for o in found] == [""] * 8 and school.server.most_flying == 4


def test_what_may_be_tried_again_is_and_only_what_may_have_been_billed_is_paid(school, monkeypatch):
    monkeypatch.setattr(asking_module, "_FIRST_WAIT_S", 0.001)
    domain = school.write()
    school.server.fault = random_faults(0.3, 1, (429, 500, 503, 529, DROP, GARBAGE))
    asking = school.asking(domain, TOKENS)
    found = asking.ask(questions(60))
    assert [o.error for o in found if o.error] == []
    assert set(school.server.answered.values()) == {1}
    assert asking.unanswered.resources["tokens"] > 0, "a broken connection may have been billed"
    assert spent(school) == school.server.billed + asking.unanswered.resources["tokens"]


@pytest.mark.parametrize(("fault", "said"), [(400, "status 400"), (404, "status 404"), (MOVED, "status 307")])
def test_what_cannot_help_is_not_tried_again(school, fault, said, caplog):
    school.server.fault = lambda body: fault if "w3x0" in body["messages"][-1]["content"] else None
    found = school.asking(school.write(), TOKENS).ask(questions(6))
    assert [bool(o.error) for o in found] == [False, False, False, True, False, False]
    assert found[3].error == "no answer" and not found[3].told and said in caplog.text
    asked = sum("w3x0" in body["messages"][-1]["content"] for body in school.server.bodies)
    assert asked == (1 if fault != 400 else 5), "a refusal is asked once, in every shape"
    assert spent(school) == school.server.billed


def test_a_refused_credential_and_a_teacher_that_is_away_end_the_run_and_keep_what_was_answered(school, monkeypatch):
    monkeypatch.setattr(asking_module, "_FIRST_WAIT_S", 0.0001)
    domain = school.write()
    school.asking(domain).ask(questions(5))
    school.server.fault = lambda _body: 401
    with pytest.raises(SlmError, match=r"teacher big, model m-large: the endpoint refuses us \(status 401\)(.|\n)*"):
        school.asking(domain).ask(questions(30))
    school.server.fault = lambda _body: 503
    with pytest.raises(SlmError, match=r"25 questions in a row got no answer, the last one: status 503(.|\n)*cure"):
        school.asking(domain).ask(questions(60))
    assert [o.error for o in school.asking(domain).ask(questions(5))] == [""] * 5


def test_it_stops_exactly_at_the_limit_with_the_first_questions_answered(school):
    domain = school.write()
    limits = Budget(tokens=Limit(limit=20_000))
    asking = school.asking(domain, limits)
    found = asking.ask(questions(200))
    asking.close()
    answered = [o.error == "" for o in found]
    count = sum(answered)
    assert 0 < count < 200 and answered == [True] * count + [False] * (200 - count), "the first ones"
    assert spent(school) == school.server.billed <= 20_000
    request = asking._request(questions(200)[count])
    assert spent(school) + request.most.resources["tokens"] > 20_000, "the next one did not fit"
    assert asking.stopped.startswith("budget: tokens: ") and found[-1].error == asking.stopped
    more = school.asking(domain, limits).ask(questions(200))
    assert [o.error == "" for o in more] == answered, "a second run stops at the same place"
    raised = school.asking(domain, Budget(tokens=Limit(limit=1e6)))
    assert all(o.error == "" for o in raised.ask(questions(200)))
    assert set(school.server.answered.values()) == {1}


def test_a_limit_on_money_counts_money(school):
    limits = Budget(usd=Limit(limit=0.01))
    found = school.asking(school.write(), limits).ask(questions(100))
    assert 0 < sum(o.error == "" for o in found) < 100
    assert 0 < spent(school, "usd") <= 0.01


def test_a_server_that_does_not_count_is_paid_the_most(school):
    school.server.usage = False
    asking = school.asking(school.write(), TOKENS)
    asking.ask(questions(3))
    most = sum(asking._request(q).most.resources["tokens"] for q in questions(3))
    assert spent(school) == most > school.server.billed


HOSTILE = {
    "prose": "Sure! The customer wants a refund.",
    "wrong": '{"intent": "refund"}',
    "other": '{"intent": "rm -rf /", "urgent": true}',
    "empty": "",
    "deep": "[" * 5000,
    "two": '{"intent": "refund", "urgent": true}{"intent": "refund", "urgent": true}',
    "template": "{{ teacher_token }} ${HOME} <script>alert(1)</script>",
    "long": json.dumps({"intent": "x" * 300_000, "urgent": True}),
    "surrogate": '{"intent": "\\ud800", "urgent": true}',
    "half": '{"intent": "\ud800", "urgent": true}',
    "nul": "\0\0",
}


def test_hostile_answers_stay_data_and_cost_what_they_cost(school):
    texts = list(HOSTILE.values())
    school.server.say = lambda value, body: texts[int(value["text"].split("x")[0][1:])]
    asking = school.asking(school.write(), TOKENS)
    found = asking.ask(questions(len(texts)))
    assert all(o.output is None and o.error and o.told for o in found)
    assert spent(school) == school.server.billed
    again = school.asking(school.write(), TOKENS).ask(questions(len(texts)))
    assert again == found and len(school.server.bodies) == len(texts), "no answer is asked for twice because it is bad"


@pytest.mark.parametrize(
    ("fault", "said"), [(HUGE, "longer than 4 MiB"), (ZIPPED, "an encoded answer"), (SLOW, "no answer in time")]
)
def test_an_endless_a_packed_and_a_slow_answer_are_given_up(school, monkeypatch, caplog, fault, said):
    monkeypatch.setattr(asking_module, "ATTEMPTS", 2)
    school.server.fault = lambda _body: fault
    asking = school.asking(school.write(teacher={"timeout_s": 0.3}), TOKENS)
    assert [o.error for o in asking.ask(questions(2))] == ["no answer"] * 2
    assert said in caplog.text
    assert spent(school) == asking.unanswered.resources["tokens"] > 0, "it may have been billed"


def test_a_server_without_schemas_or_temperature_is_asked_more_simply(school):
    def fussy(body):
        if "temperature" in body or body.get("response_format", {}).get("type") == "json_schema":
            return 400
        return None

    school.server.fault = fussy
    found = school.asking(school.write(teacher={"concurrency": 1}), TOKENS).ask(questions(5))
    assert [o.error for o in found] == [""] * 5
    assert len(school.server.bodies) < 12, "what was refused once is not tried for every question"
    strict = school.server.bodies[0]["response_format"]["json_schema"]
    assert strict["strict"] is True and strict["schema"]["required"] == ["intent", "urgent"]


def test_the_deadline_ends_the_asking(school):
    school.server.fault = lambda body: SLOW if "w2x0" in body["messages"][-1]["content"] else None
    asking = school.asking(school.write(teacher={"concurrency": 1, "deadline_s": 90}), TOKENS)
    asking.ask(questions(2))
    asking._until = time.monotonic() + 0.3
    found = asking.ask(questions(9))
    asking.close()
    assert [o.error == "" for o in found] == [True, True, *[False] * 7]
    assert asking.stopped == "deadline: 90 seconds are over"
    most = asking._request(questions(9)[2]).most.resources["tokens"]
    assert spent(school) == school.server.billed + most, "what was in flight counts"


def test_another_model_is_asked_where_the_first_has_no_usable_answer(school):
    def say(value, body):
        good = body["model"] == "m-small" or value["text"].startswith("w1x")
        return json.dumps({"intent": "refund", "urgent": True}) if good else "I cannot help with that."

    school.server.say = say
    domain = school.write(teacher={"models": {"triage": "m-large", "fallback": "m-small"}})
    asking = school.asking(domain, TOKENS)
    found = asking.ask(questions(3))
    assert [(o.model, o.error) for o in found] == [("m-small", ""), ("m-large", ""), ("m-small", "")]
    assert {model: n for model, (n, _) in asking.paid().items()} == {"m-large": 3, "m-small": 2}


def test_only_our_own_headers_and_the_token_travel(school, monkeypatch):
    for name, value in {"OPENAI_API_KEY": "sk-other", "OPENAI_ORG_ID": "org-1", "OPENAI_PROJECT_ID": "p-1",
                        "OPENAI_CUSTOM_HEADERS": "x-planted: 1", "OPENAI_BASE_URL": "http://127.0.0.1:1",
                        "HTTP_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    school.asking(school.write()).ask(questions(1))
    (headers,) = school.server.headers
    assert headers["authorization"] == f"Bearer {SECRET}"
    assert set(headers) <= {
        "authorization", "host", "content-type", "content-length", "accept", "accept-encoding", "connection",
        "user-agent",
    }  # fmt: skip
    body = school.server.bodies[0]
    assert set(body) == {"model", "messages", "max_tokens", "response_format", "temperature"}
    assert json.loads(body["messages"][1]["content"]) == questions(1)[0].value


@pytest.mark.parametrize(
    ("url", "listed", "allowed"),
    [
        ("https://api.example.com/v1", "api.example.com", True),
        ("https://api.example.com:8443/v1", "api.example.com", False),
        ("https://api.example.com:8443/v1", "a.b, api.example.com:8443", True),
        ("http://api.example.com/v1", "api.example.com", False),
        ("http://api.example.com/v1", "http://api.example.com", True),
        ("http://127.0.0.1:8000/v1", "127.0.0.1:8000", True),
        ("http://127.0.0.1:8001/v1", "127.0.0.1:8000", False),
        ("http://localhost:11434/v1", "", False),
        ("https://api.example.com.evil.org/v1", "api.example.com", False),
        ("https://API.example.com/v1", "api.example.com", True),
    ],
)
def test_only_hosts_that_the_deployment_lists_are_asked(url, listed, allowed):
    teacher = Teacher(id="big", base_url=url, model="m")
    if allowed:
        assert endpoint_of("tiny", teacher, {HOSTS: listed}).url == url
    else:
        with pytest.raises(BadInputError, match=r"domain tiny, teacher big: the deployment does not allow(.|\n)*cure"):
            endpoint_of("tiny", teacher, {HOSTS: listed})


def test_a_credential_is_an_alias_and_is_never_shown(school):
    teacher = Teacher(id="big", base_url="https://a.b/v1", credential="{{ teacher_token }}", model="m")
    endpoint = endpoint_of("tiny", teacher, {HOSTS: "a.b", "teacher_token": SECRET})
    assert endpoint.token == SECRET and SECRET not in repr(endpoint)
    with pytest.raises(BadInputError, match="teacher big: token alias teacher_token names nothing"):
        endpoint_of("tiny", teacher, {HOSTS: "a.b"})


def test_answers_are_of_one_namespace_and_domain_and_can_be_forgotten(school):
    asking = school.asking(school.write())
    (opinion,) = asking.ask(questions(1))
    registry = school.registry()
    assert set(teaching.known(registry, "tiny", [opinion.request])) == {opinion.request}
    assert teaching.known(registry, "other", [opinion.request]) == {}
    assert teaching.known(type(registry)(registry.home, "rival"), "tiny", [opinion.request]) == {}
    teaching.forget(registry, "tiny", ["u00000"])
    assert teaching.known(registry, "tiny", [opinion.request]) == {}
