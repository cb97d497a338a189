"""A teacher as a role's engine in the service: switched on when ready, paid, replaced by the oracle when it fails."""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
import time
from pathlib import Path

import pytest
from fake_openai import SLOW
from schooling import text_of

from slm_assets.domain.budget import Budget, Limit
from slm_assets.errors import BadInputError, DeferredError, SlmError
from slm_assets.models.teacher.endpoint import HOSTS, endpoint_of
from slm_assets.models.teacher.live import LivePredictor
from slm_assets.registry import budget
from slm_assets.registry.home import Home
from slm_assets.registry.teaching import Purse
from slm_assets.serving.engines import Engines
from slm_assets.serving.turns import answer_role
from slm_assets.stages.bundle import open_bundle
from slm_assets.stages.live_teacher import served_name, switch
from slm_assets.stages.plans import open_domain

INPUT = {"text": text_of(1)}


def place(school):
    home = Home.from_env(school.place.home)
    return type(home)(home.root, school.place.domains, home.registry_url, home.artifacts_url)


@pytest.fixture
def live(school):
    """The tiny domain whose teacher may answer, its registry and its home."""
    school.write(serving={"teacher": "big"}, budget="usd: {limit: 1}\n", teacher={"timeout_s": 0.5})
    home = place(school)
    return school, home, *open_domain(home, "tiny")


def predictor(school, domain, limits=None):
    teacher = domain.config.teachers[0]
    endpoint = endpoint_of("tiny", teacher, {HOSTS: school.server.host, "teacher_token": "x" * 20})
    purse = Purse(school.registry(), "tiny", "serving/triage/teacher.big", limits or Budget(), actor="service")
    return LivePredictor(domain, "triage", teacher, endpoint, purse)


def answer(engines):
    """The service's answer to one input, as its event loop makes it."""

    async def ask():
        with engines.lease("tiny", "*") as snapshot:
            return (await answer_role(snapshot, "triage", INPUT, 50)).answers["triage"].shown()

    return asyncio.run(ask())


def test_the_flag_lets_the_teacher_answer_and_takes_it_back(live):
    school, home, domain, registry = live
    engines = Engines(home, ["tiny"])
    engines.load()
    try:
        assert answer(engines)["engine"] == "oracle"
        assert switch(registry, domain, "triage", on=True, actor="ada", reason="trial").engine == "teacher"
        engines.refresh()
        said = answer(engines)
        assert (said["engine"], said["valid"], said["fallback"]) == ("teacher", True, None)
        assert said["output"]["intent"] in ("refund", "track", "cancel", "greet") and said["version"] is None
        answer(engines)
        assert school.server.answered.total() == 2, "live answers are not kept"
        rows = budget.entries(registry, "tiny")
        assert {row["resource"] for row in rows} == {"usd"} and sum(row["spent"] for row in rows) > 0
        switch(registry, domain, "triage", on=False, actor="ada", reason="enough")
        engines.refresh()
        assert answer(engines)["engine"] == "oracle"
        assert [(e["action"], e["engine"]) for e in registry.flag_events("tiny")] == [
            ("teacher", "teacher"), ("teacher", "oracle"),
        ]  # fmt: skip
    finally:
        engines.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "slm-live"]
    assert {row["state"] for row in budget.entries(registry, "tiny")} == {budget.SETTLED}


@pytest.mark.parametrize(("how", "why"), [(500, "error"), (SLOW, "error"), ("prose", "invalid")])
def test_where_the_teacher_fails_the_oracle_answers(live, how, why):
    school, home, domain, registry = live
    switch(registry, domain, "triage", on=True, actor="ada", reason="trial")
    if how == "prose":
        school.server.say = lambda value, body: "I would refund."
    else:
        school.server.fault = lambda body: how
    engines = Engines(home, ["tiny"])
    engines.load()
    try:
        said = answer(engines)
    finally:
        engines.close()
    assert (said["engine"], said["valid"], said["fallback"]["reason"]) == ("oracle", True, why)


def test_a_slow_teacher_does_not_hold_the_event_loop(live):
    school, home, domain, registry = live
    switch(registry, domain, "triage", on=True, actor="ada", reason="trial")
    school.server.fault = lambda body: SLOW
    engines = Engines(home, ["tiny"])
    engines.load()

    async def both():
        with engines.lease("tiny", "*") as snapshot:
            waiting = [asyncio.create_task(answer_role(snapshot, "triage", INPUT, 50)) for _ in range(4)]
            longest, at = 0.0, time.perf_counter()
            while not all(task.done() for task in waiting):
                await asyncio.sleep(0.01)
                now = time.perf_counter()
                longest, at = max(longest, now - at), now
            return longest, [task.result().answers["triage"].engine for task in waiting]

    started = time.perf_counter()
    try:
        longest, engines_used = asyncio.run(both())
    finally:
        engines.close()
    assert engines_used == ["oracle"] * 4
    assert school.server.most_flying == 4, "so many at once"
    assert longest < 0.4 < time.perf_counter() - started


def test_it_is_only_switched_on_when_it_is_ready(live):
    school, _, domain, registry = live
    school.server.models = ("other",)
    with pytest.raises(SlmError, match="the server does not serve 'm-large'; it serves other"):
        switch(registry, domain, "triage", on=True, actor="ada", reason="trial")
    school.monkeypatch.setenv(HOSTS, "")
    with pytest.raises(BadInputError, match="the deployment does not allow"):
        switch(registry, domain, "triage", on=True, actor="ada", reason="trial")
    assert registry.flags("tiny") == {}
    with pytest.raises(BadInputError, match=r"tiny\.triage is not answered by a teacher"):
        switch(registry, domain, "triage", on=False, actor="ada", reason="x")


def test_a_server_that_is_away_is_not_ready(school):
    domain = school.write()
    engine = predictor(school, domain)
    school.server.__exit__()
    with pytest.raises(SlmError, match="the server is not ready"):
        engine.ready()
    engine.close()
    engine.close()


def test_over_budget_it_is_not_asked(school):
    engine = predictor(school, school.write(), Budget(tokens=Limit(limit=100)))
    with pytest.raises(DeferredError, match="over budget: tokens"):
        engine.predict(INPUT)
    engine.close()
    assert school.server.bodies == []


def test_the_command_switches_and_the_playbooks_are_told(live):
    school, _, _, registry = live
    told = school.place.json("teacher", "tiny", "triage", "--reason", "trial", "--by", "Ada")
    assert told["engine"] == "teacher"
    assert school.place.json("engine", "tiny", "triage")["engine"] == "slm"
    assert school.place.json("teacher", "tiny", "triage", "--off", "--reason", "enough")["engine"] == "oracle"
    assert registry.audit("tiny")[-1]["action"] == "teacher"


def served(home):
    """What a service that begins now answers, and what it refuses."""
    engines = Engines(home, ["tiny"])
    engines.load()
    try:
        return answer(engines), dict(engines.refused)
    finally:
        engines.close()


def test_a_server_answers_for_the_release_that_it_proves_to_serve_and_for_no_other(school):
    done = school.place.slm("run", "tiny")
    assert done.returncode == 0, done.stdout
    school.write(serving={"endpoint": {"base_url": school.server.url, "credential": "teacher_token"}})
    home = place(school)
    _, registry = open_domain(home, "tiny")
    release = registry.flags("tiny")["triage"].release
    with tempfile.TemporaryDirectory() as folder:
        registry.store.get(release, Path(folder) / "release")
        engine = open_bundle(Path(folder) / "release").engines["triage"]

    def as_released(value, body):
        return json.dumps(engine.predict(value).output)

    school.server.models, school.server.say = (served_name("tiny", release),), as_released
    said, refused = served(home)
    assert refused == {} and (said["engine"], said["version"], said["release"]) == ("release", "v1", release)
    assert said["valid"] and said["fallback"] is None
    assert {body["model"] for body in school.server.bodies} == {f"tiny-{release[:12]}"}
    form = school.server.bodies[-1]["response_format"]["json_schema"]
    assert form["strict"] and form["schema"]["required"] == ["intent", "urgent"]
    assert len(school.server.bodies) == 6, "five probes and the input"

    school.server.models = ("tiny-000000000000",)
    other_name = served(home)
    school.server.models = (served_name("tiny", release),)
    school.server.say = lambda value, body: json.dumps({"intent": "greet", "urgent": True})
    other_answers = served(home)
    school.server.__exit__()
    away = served(home)
    words = ("does not serve", "answers probe", "is not ready")
    for (said, refused), word in zip((other_name, other_answers, away), words, strict=True):
        assert said["engine"] == "oracle" and said["fallback"]["reason"] == "release_refused"
        assert word in refused["tiny.triage"]
    assert not [thread for thread in threading.enumerate() if thread.name == "slm-live"]
