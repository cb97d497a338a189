"""Handoffs on their way: each arrives, none is registered twice, in order, whatever goes wrong between."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time as wall
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "registry"))
import fake_server
from fake_server import FakeServer, random_faults
from test_registry import a_cell
from writers import plan_columns

from slm_assets import canonical
from slm_assets.domain.config import HandedOff
from slm_assets.noetl import handoffs
from slm_assets.noetl.address import Address
from slm_assets.noetl.handoffs import deliver, is_dead
from slm_assets.noetl.protocol import NoetlError, ProtocolError
from slm_assets.noetl.server import Server
from slm_assets.noetl.wire import Clock
from slm_assets.registry import outbox
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Flip, Registry
from slm_assets.stages.table import STAGES, WATCH

CHILD = Path(__file__).with_name("delivering.py")

WHOLE = len(STAGES) + 1
"""Handoffs of a version: one for each of its assets, and the flip."""


@pytest.fixture
def registry(home: Home) -> Registry:
    """On each kind of database."""
    return Registry(home)


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def server(fake: FakeServer) -> Iterator[Server]:
    with Server(Address(fake.url, internal_token="internal"), clock=Clock(sleep=lambda _: None)) as found:
        yield found


def open_with(registry: Registry, domain: str, number: int, wanted: dict | None = None) -> None:
    """A version whose frozen config asks for these handoffs."""
    folder = registry.home.root / "config"
    improvement = {"improvement": {"handoffs": wanted}} if wanted else {}
    canonical.write_json(folder / "slm.config.yaml", {"slm_domain": {"name": domain, **improvement}})
    config = registry.store.put(folder).sha256
    registry.open_plan(domain, number=number, actor="a", make=lambda n: plan_columns(n) | {"config": config})


def chain(registry: Registry, domain: str, number: int, wanted: dict | None = None) -> None:
    """A version whose every stage was made, and which was promoted."""
    open_with(registry, domain, number, wanted)
    for stage in STAGES:
        entry = {"kind": stage.kind, "name": domain, "version": number, "bytes": 10, "rows": 3, "request": "r" * 64}
        needs = [other.kind for other in STAGES if other.name in stage.needs]
        parents = [registry.urn(kind, domain, number) for kind in needs]
        registry.commit(
            a_cell(
                number, domain=domain, stage=stage.name, request=f"{stage.name}{number}", parents=parents,
                entries=[entry | {"sha256": f"{number:064x}"}], asset=stage.asset, playbook=stage.playbook,
            )
        )  # fmt: skip
    flag = registry.flags(domain).get("r")
    flip = Flip("r", "release", number, f"{number:064x}", flag.event if flag else 0)
    registry.flip(domain, [flip], action="promote", actor="a", reason="better")


def arrived(fake: FakeServer) -> Counter[str]:
    return Counter(entry["metadata"]["handoff"] for entry in fake.state.entries)


def test_a_version_arrives_whole_in_order_and_with_lineage_in_the_urns_of_the_server(registry, fake, server):
    chain(registry, "travel", 7)
    report = deliver(registry, server)
    assert (report.delivered, report.dead, report.delayed, report.away) == (WHOLE, 0, 0, "")
    there = {entry["ref"]: entry for entry in fake.state.entries}
    scope = "registry://local/default"
    assert list(there) == [
        f"{scope}/dataset/travel/1", f"{scope}/dataset/travel.labels/1", f"{scope}/model/travel/1",
        f"{scope}/eval/travel/1", f"{scope}/release/travel/1", f"{scope}/eval/travel.shadow/1",
        f"{scope}/release/travel.deployment/1",
        f"{scope}/release/travel.flags/1",
    ]  # fmt: skip
    evaluated = there[f"{scope}/eval/travel/1"]
    assert evaluated["lineage"] == [
        f"{scope}/dataset/travel/1", f"{scope}/dataset/travel.labels/1", f"{scope}/model/travel/1"
    ]  # fmt: skip
    assert evaluated["metadata"]["urn"] == f"{scope}/eval/travel/7"
    assert evaluated["artifact_digest"] == f"{7:064x}" and evaluated["artifact_uri"].startswith("file:///")
    assert there[f"{scope}/release/travel.flags/1"]["lineage"] == [f"{scope}/release/travel/1"]
    assert there[f"{scope}/release/travel.flags/1"]["metadata"]["slm"]["to"]["number"] == 7
    row = outbox.rows(registry, domain="travel")[-1]
    assert row["ref"] == f"{scope}/dataset/travel/1" and row["state"] == "delivered" and row["delivered_at"]
    assert deliver(registry, server).delivered == 0 and len(fake.state.entries) == WHOLE


def test_nothing_happens_and_nothing_fails_without_a_server(registry, fake):
    chain(registry, "travel", 1)
    fake.close()
    with Server(Address(fake.url), clock=Clock(sleep=lambda _: None)) as server:
        for _ in range(3):
            report = deliver(registry, server)
        assert report.away == "" and report.delivered == 0, "not due yet"
    row = outbox.rows(registry)[-1]
    assert row["state"] == "waiting" and row["attempts"] == 1 and "ConnectError" in row["error"]
    assert outbox.counts(registry) == {"waiting": WHOLE}
    fake._serve(fake.port)
    outbox.retry(registry, None, actor="a")
    with Server(Address(fake.url, internal_token="internal")) as server:
        assert deliver(registry, server).delivered == WHOLE


@pytest.mark.parametrize("fault", [fake_server.LOSE, fake_server.CUT, fake_server.FAIL_AFTER, fake_server.GARBAGE])
def test_a_lost_answer_registers_nothing_twice(registry, fake, server, fault):
    chain(registry, "travel", 1)
    turns = iter([fault, None] * 100)
    fake.faults = lambda _method, path: next(turns) if path == "internal/registry/register" else None
    assert deliver(registry, server).delivered == WHOLE
    assert set(arrived(fake).values()) == {1} and len(arrived(fake)) == WHOLE


def test_after_a_timeout_it_is_looked_for_later(registry, fake, server, monkeypatch):
    chain(registry, "travel", 1)

    def slow(entry):
        raise NoetlError("ReadTimeout", acted=True, late=True)

    with monkeypatch.context() as patch:
        patch.setattr(server, "registry_register", slow)
        report = deliver(registry, server)
    assert report.delayed == 1
    (row,) = [row for row in outbox.rows(registry) if row["state"] == "sent"]
    assert row["due_at"] > row["tried_at"] and outbox._later(row["tried_at"], handoffs.SETTLE_S - 5) < row["due_at"]
    # By then the server had done it after all:
    entry = handoffs.entry_of(row, {}, registry)
    ref = server.registry_register(entry)
    outbox.retry(registry, None, actor="a")
    assert deliver(registry, server).delivered == WHOLE and set(arrived(fake).values()) == {1}
    assert outbox.refs(registry, [row["urn"]]) == {row["urn"]: ref}


def test_a_refusal_is_a_dead_letter_that_holds_its_domain_alone_until_someone_decides(registry, fake, server):
    chain(registry, "bad", 1)
    chain(registry, "good", 1)
    honest = fake.answer

    def refuse(method, path, query, body, headers):
        if path.endswith("register") and body["name"] == "bad":
            return 422, {"error": "no $(id) here\n{{ 7*7 }}", "status": 422}
        return honest(method, path, query, body, headers)

    fake.answer = refuse
    report = deliver(registry, server)
    assert (report.delivered, report.dead) == (WHOLE, 1) and not report.away
    (dead,) = outbox.rows(registry, state="dead")
    assert dead["error"].endswith("HTTP 422: no $(id) here {{ 7*7 }}")
    assert outbox.counts(registry, "bad") == {"waiting": WHOLE - 1, "dead": 1}
    fake.answer = honest
    assert deliver(registry, server).delivered == 0
    outbox.retry(registry, [dead["handoff"]], actor="ada")
    assert deliver(registry, server).delivered == WHOLE
    assert set(arrived(fake).values()) == {1} and len(arrived(fake)) == 2 * WHOLE


@pytest.mark.parametrize(
    ("error", "young", "old"),
    [
        (NoetlError("", status=None), False, False),
        *((NoetlError("", status=code), False, False) for code in (302, 401, 403, 404, 429)),
        *((NoetlError("", status=code), False, True) for code in (500, 503)),
        (ProtocolError("", status=200), False, True),
        *((NoetlError("", status=code), True, True) for code in (400, 409, 413, 422)),
    ],
)
def test_what_is_dead_and_when(error, young, old):
    assert (is_dead(error, 60.0), is_dead(error, 3 * 86_400.0)) == (young, old)


def test_executions_are_started_where_the_config_asks_and_once(registry, fake, server):
    book = "metadata: {name: x, path: ops/told}\nworkload: {}\nworkflow: []"
    server.register("ops/told", book)
    chain(registry, "travel", 1, {"playbooks": {"release": "ops/told", "flip": "ops/told"}})
    fake.faults = random_faults(0.5, seed=3)
    while outbox.counts(registry) != {"delivered": WHOLE}:
        outbox.retry(registry, None, actor="a")
        deliver(registry, server)
    told = [execution["workload"]["handoff"] for execution in fake.state.executions.values()]
    assert [one["asset"] for one in told] == ["release", "deployment"] and told[1]["event"] == "flipped"
    assert set(arrived(fake).values()) == {1} and len(arrived(fake)) == WHOLE
    (release,) = [row for row in outbox.rows(registry) if row["asset"] == "release"]
    assert release["places"].keys() == {"registry", "execution"}


def test_a_playbook_that_is_not_there_stops_its_domain_alone(registry, fake, server):
    chain(registry, "a", 1, {"playbooks": {"labels": "ops/absent"}})
    chain(registry, "b", 1)
    report = deliver(registry, server)
    assert (report.delivered, report.dead, report.away) == (WHOLE + 1, 1, "")
    (dead,) = outbox.rows(registry, state="dead")
    assert dead["asset"] == "labels" and "playbook not found" in dead["error"] and "registry" in dead["places"]
    server.register("ops/absent", "metadata: {name: x, path: ops/absent}\nworkflow: []")
    outbox.retry(registry, None, actor="a")
    assert deliver(registry, server).delivered == WHOLE - 1 and set(arrived(fake).values()) == {1}


def test_a_domain_that_asks_for_nothing_is_told_nothing(registry, fake, server):
    chain(registry, "travel", 1, {"registry": False})
    assert deliver(registry, server).delivered == WHOLE and not fake.state.calls


def test_a_lost_config_delays_its_domain_alone(registry, fake, server):
    chain(registry, "a", 1)
    chain(registry, "b", 1)
    config = registry.plan("a", 1).config
    Path(registry.store._tree(config)).unlink()
    report = deliver(registry, server)
    assert report.delivered == WHOLE and report.delayed == 1 and "not in the store" in report.errors[0]


def test_who_is_told_of_what_is_the_stage_table():
    assert set(HandedOff.__args__) == {stage.asset for stage in STAGES} | {"flip"}
    assert set(handoffs.KINDS) == {stage.kind for stage in (*WATCH, *STAGES)} | {"flag"}


def test_everything_arrives_once_with_a_fifth_of_calls_failing_and_the_process_killed(registry, fake, tmp_path):
    total, kills = 150, 3
    for number in range(total // 3):
        domain = f"d{number % 4}"
        for stage in STAGES[:3]:
            entry = {"kind": stage.kind, "name": domain, "version": number + 1, "bytes": 1, "rows": 1, "request": "r"}
            registry.commit(
                a_cell(number + 1, domain=domain, stage=stage.name, request=f"{number}", asset=stage.asset,
                       entries=[entry | {"sha256": "a" * 64}], parents=[])
            )  # fmt: skip
    fake.faults = random_faults(0.2, seed=11)
    own = {**registry.home.environment(), "NOETL_SERVER_URL": fake.url, "NOETL_INTERNAL_API_TOKEN": "internal"}
    chance = random.Random(5)
    for kill in range(kills + 1):
        process = subprocess.Popen(
            [sys.executable, str(CHILD)], env={**os.environ, **own}, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        if kill == kills:
            assert process.wait(120) == 0
            break
        goal = (kill + 1) * total // (kills + 3) + chance.randrange(20)
        while len(fake.state.entries) < goal and process.poll() is None:
            wall.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -9, "killed in the middle of its work"
    assert outbox.counts(registry) == {"delivered": total}
    assert len(arrived(fake)) == total and set(arrived(fake).values()) == {1}
    for name in {entry["name"] for entry in fake.state.entries}:
        urns = [e["metadata"]["urn"] for e in fake.state.entries if e["name"] == name]
        versions = [int(urn.rpartition("/")[2]) for urn in urns]
        assert versions == sorted(versions), "in order"


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(st.text() | st.sampled_from(["$(id)", "{{ 7*7 }}", "'; rm -rf /", "a\0b", "x" * 1_000_000]))
def test_words_of_people_arrive_as_they_are_and_nowhere_else(registry, fake, server, words):
    flag = registry.flags("travel").get("r")
    flip = Flip("r", "release", 1, "f" * 64, flag.event if flag else 0)
    registry.flip("travel", [flip], action="promote", actor=words, reason=words)
    assert deliver(registry, server).delivered == 1
    entry = fake.state.entries[-1]
    assert entry["metadata"]["slm"]["reason"] == words == entry["metadata"]["slm"]["actor"]
    assert entry["tags"] == ["slm-assets", "deployment", "flipped"]
    assert (entry["name"], entry["kind"]) == ("travel.flags", "release")
