"""Each scenario drives its own trigger end to end: turns over HTTP to the service, its capture, a window, its drift."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import orjson
import pytest
import uvicorn

from slm_assets.automation.promotions import watch_promotions
from slm_assets.domain.loading import load_domain
from slm_assets.engines import watching
from slm_assets.engines.in_process import make_cell
from slm_assets.gates.types import Trigger
from slm_assets.registry.home import Home
from slm_assets.serving.app import create_app
from slm_assets.serving.capture.recorder import Recorder
from slm_assets.serving.engines import Engines
from slm_assets.serving.guard import LOOPBACK
from slm_assets.serving.run import by_policy
from slm_assets.serving.tokens import Tokens
from slm_assets.simulation.client import target
from slm_assets.simulation.overlay import overlaid_copy
from slm_assets.simulation.run import Traffic, drop, send
from slm_assets.stages.plans import open_domain, open_version
from slm_assets.stages.rows.captured import FILE
from slm_assets.stages.table import STAGES
from slm_assets.stages.traffic.intake import drop_folder
from slm_assets.stages.windows import next_window
from tests.serving.loop_scenarios import RARE, write_loop


@dataclass
class World:
    """A promoted domain, its users, and whoever looks at its traffic."""

    home: Home

    @property
    def folder(self) -> Path:
        return self.home.domains / "tiny"

    def policy(self, before: str, after: str) -> None:
        """Change the policy of the triggers."""
        path = self.folder / "policies" / "retrain_gates.yaml"
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))

    @contextmanager
    def service(self) -> Iterator[str]:
        """The address of a service on a socket; what it captured is sealed at the end."""
        engines = Engines(self.home)
        recorder = Recorder(self.home.root / "capture", by_policy(engines), f"run{len(list(self.sealed))}")
        app = create_app(engines, recorder, hosts=LOOPBACK, tokens=Tokens())
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not (server.started and engines.ready):
            thread.join(0.01)
        try:
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()

    @property
    def sealed(self) -> Iterator[Path]:
        return (self.home.root / "capture").rglob("*.jsonl")

    def send(self, scenario: str, *phases: str) -> dict[str, Any]:
        """Send a scenario, or these phases of it, to a service."""
        with self.service() as url:
            told = send(Traffic(load_domain(self.folder), scenario, phases=phases), target(url, None))
        assert told["failed_requests"] == 0 and told["feedback_not_kept"] == 0
        return told

    def look(self) -> list[Trigger]:
        """One evaluation: take the new traffic in and judge it."""
        domain, registry = open_domain(self.home, "tiny")
        window = next_window(domain, registry, actor="tester")
        for stage in ("capture", "drift"):
            made = make_cell(registry, window, stage, actor="tester").receipt
            assert made.status == "succeeded", made.error
        return made.result.triggers

    def fired(self) -> dict[str, str]:
        """The triggers that fire in one evaluation, and all that the others said for who reads a failure."""
        found = self.look()
        print(*(one.sentence for one in found), sep="\n")  # noqa: T201
        return {one.trigger: one.sentence for one in found if one.verdict == "FIRED"}


@pytest.fixture
def world(home: Home) -> World:
    write_loop(home.domains / "tiny")
    return World(home)


def test_steady_traffic_fires_nothing(world: World):
    for phase in ("first", "second"):
        world.send("steady", phase)
        found = world.look()
        assert not [one for one in found if one.verdict == "FIRED"]
    assert {one.verdict for one in found} == {"QUIET"}, "and not for want of turns"


@pytest.mark.parametrize(
    ("scenario", "trigger"),
    [("quality_loss", "quality"), ("rising_corrections", "outcome"), ("new_intents", "distribution")],
)
def test_a_shift_fires_its_own_trigger_in_the_next_look(world: World, scenario: str, trigger: str):
    world.send(scenario, "before")
    assert world.fired() == {}
    world.send(scenario, "shift")
    assert trigger in world.fired()


def test_volume_fires_alone(world: World):
    world.policy("turns: 5000", "turns: 150")
    world.send("volume")
    assert set(world.fired()) == {"volume"}


def test_invalid_outputs_of_another_engine_fire_validity(world: World):
    domain, registry = open_domain(world.home, "tiny")
    drop(Traffic(domain, "invalid_outputs"), drop_folder(world.home, registry, "tiny"))
    assert set(world.fired()) == {"validity"}


def test_a_changed_contract_fires_while_steady_traffic_goes_on(world: World, tmp_path: Path):
    world.send("contract_change")
    assert world.fired() == {}
    domain = load_domain(world.folder)
    overlaid_copy(domain, "contract_change", Traffic(domain, "contract_change").scenario, tmp_path / "changed")
    changed = World(replace(world.home, domains=tmp_path / "changed"))
    assert set(changed.fired()) == {"contract"}


def test_an_old_version_fires_staleness_with_hardly_any_traffic(world: World):
    world.send("staleness")
    assert world.fired() == {}
    world.policy("page: demand", "page: demand\nstaleness: {days: 0.000001}")
    assert set(world.fired()) == {"staleness"}


def test_a_poisoned_source_is_kept_out_and_the_honest_turns_are_not(world: World):
    world.send("poisoned_source")
    assert set(world.fired()) <= {"quality"}, "the source's own corrections are complaints"
    domain, registry = open_domain(world.home, "tiny")
    plan = open_version(domain, registry, actor="tester")
    made = make_cell(registry, plan, "dataset", actor="tester").receipt
    dataset = made.outputs["dataset"].sha256
    lines = registry.store.read(dataset, FILE).splitlines()
    taken = [orjson.loads(line) for line in lines]
    poisoned = {row["id"] for row in taken if RARE in row["input"]["text"]}
    planted = {row["id"] for row in taken if row["planted"]}
    assert len(poisoned) >= 5 and planted == poisoned, Counter(row["planted"] for row in taken)
    honest = {row["id"] for row in taken} - planted
    names = [name for name in registry.store.describe(dataset).files if name.endswith(".jsonl") and name != FILE]
    splits = [registry.store.read(dataset, name) for name in names]
    assert len(honest) >= 20 and not any(RARE.encode() in split for split in splits)
    learned = {one for one in honest if any(one.encode() in split for split in splits)}
    assert len(learned) >= 0.5 * len(honest), "the others are learned from, but for copies of what is known"


def test_a_regression_after_a_promotion_is_taken_back(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLM_HOME", str(world.home.root))
    monkeypatch.setenv("SLM_DOMAINS", str(world.home.domains))
    monkeypatch.setattr(watching, "SEEN", watching.SEEN * 0)  # the service is started after the flip
    world.send("regression_after_promotion", "before")
    domain, registry = open_domain(world.home, "tiny")
    plan = open_version(domain, registry, params={"train_fraction": 0.9}, actor="tester")
    for stage in STAGES:
        assert make_cell(registry, plan, stage.name, actor="tester").receipt.status == "succeeded"
    assert registry.flags("tiny")["triage"].number == 2
    told = world.send("regression_after_promotion", "after")
    assert {line["version"] for line in told["answers"] if not line["fallback"]} == {"v2"}
    world.look()
    with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance) as context:
        assert "tiny.triage: rolled back" in str(watch_promotions(context).skip_reason)
    assert registry.flags("tiny")["triage"].number == 1
    event = registry.flag_events("tiny", "triage")[-1]
    assert event["action"] == "rollback" and "went wrong with v2" in event["reason"]
