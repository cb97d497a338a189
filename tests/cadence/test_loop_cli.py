"""`slm watch`, `slm triggers`, `slm budget` and the freshness of `slm status`, as a person uses them."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
from loops import Loop
from typer.testing import CliRunner

from slm_assets import api, canonical
from slm_assets.automation import tags
from slm_assets.automation.instance import instance_for
from slm_assets.cli.commands import app
from slm_assets.definitions import build
from slm_assets.gates.types import Trigger
from slm_assets.stages.cadence.reports import freshness
from slm_assets.stages.contract import StageResult
from slm_assets.stages.runtime import StageContext
from slm_assets.stages.traffic.intake import drop_folder

TURN = {"turn_id": "x-1", "input": {"text": "hello"}, "outputs": {"triage": {"intent": "greet", "urgent": False}}}


@pytest.fixture
def fires(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The triggers that the drift stage says fire."""
    found: list[str] = []

    def run(ctx: StageContext) -> StageResult:
        canonical.write_json(ctx.out["drift"] / "report.json", {"window": ctx.request.version})
        names: Any = ("outcome", "volume")
        return StageResult(
            triggers=[
                Trigger(trigger=name, verdict="FIRED" if name in found else "QUIET", n=9, sentence=f"{name} [moved]")
                for name in names
            ]
        )

    module = ModuleType("slm_assets.stages.drift")
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "slm_assets.stages.drift", module)
    monkeypatch.setattr("slm_assets.definitions.defs", build(loop.home))
    return found


def slm(*arguments: str, code: int = 0) -> Any:
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == code, (done.output, done.exception)
    return json.loads(done.stdout)


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    return done.stdout


def traffic(loop: Loop, name: str) -> None:
    folder = drop_folder(loop.home, loop.registry(), "one")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.jsonl").write_text(json.dumps({**TURN, "turn_id": name}) + "\n")


def test_watch_captures_judges_and_says_what_fires(loop, fires):
    traffic(loop, "a")
    first = slm("watch", "one")
    assert (first["window"], first["error"], first["became"]) == ("w1", "", "")
    assert {row["trigger"]: row["verdict"] for row in first["triggers"]} == {"outcome": "QUIET", "volume": "QUIET"}
    fires.append("outcome")
    traffic(loop, "b")
    second = slm("watch", "one")
    assert (second["window"], second["became"], second["run"]) == ("w2", "not asked for", None)
    assert loop.registry().plans("one") == []
    with instance_for(loop.home) as instance:
        run = instance.get_run_by_id(second["run_id"])
        assert (run.job_name, run.status.value, run.tags["dagster/partition"]) == ("monitor", "SUCCESS", "one")
    assert slm("watch", "one")["window"] == "w2", "nothing is new"


def test_watch_retrains_in_this_process_what_fires(loop, fires):
    loop.promoted()
    assert slm("watch", "one", "--retrain")["run"] is None
    fires.append("outcome")
    traffic(loop, "a")
    found = slm("watch", "one", "--retrain", "--by", "ada")
    assert (found["window"], found["became"]) == ("w2", "done v2: promoted")
    assert (found["run"]["version"], found["run"]["outcome"]) == ("v2", "promoted")
    with instance_for(loop.home) as instance:
        run = instance.get_run_by_id(found["run"]["run_id"])
    assert run.tags[tags.TRIGGER] == "outcome" and run.tags[tags.WINDOW] == "w2" and run.tags[tags.ACTOR] == "ada"
    traffic(loop, "b")
    again = slm("watch", "one", "--retrain", code=4)
    assert again["run"] is None and again["became"].startswith("deferred: cooldown of 24 hours, until ")
    history = slm("triggers", "one")
    assert [window["became"] for window in history["windows"]] == ["", "done v2: promoted", again["became"]]
    assert [row["state"] for row in history["retrains"]] == ["done", "deferred"]
    assert history == api.triggers("one")
    text = shown("triggers", "one")
    assert "done v2: promoted" in text and "outcome [moved]" in text and "cooldown of 24 hours" in text


def test_a_held_retrain_exits_as_a_held_run(loop, fires, monkeypatch):
    import fake_stages

    monkeypatch.setattr("slm_assets.stages.plans.DEFAULT_PARAMS", {"train_fraction": fake_stages.HELD})
    loop.promoted()
    fires.append("volume")
    found = slm("watch", "one", "--retrain", code=3)
    assert found["run"]["outcome"] == "held" and found["became"].startswith("done v2: held: eval_report, floor")


def test_watch_of_a_broken_domain_names_its_faults(loop, fires):
    loop.edit("one", lambda text: text.replace("input_schema:", "input_schem:"))
    done = CliRunner().invoke(app, ["watch", "one"])
    assert "input_schem" in str(done.exception) and "1 fault" in str(done.exception)


def test_budget_shows_what_is_left_and_who_waits(loop, fires):
    assert slm("budget", "one")["resources"] == []
    assert "no budget" in shown("budget", "one")
    loop.budget("one", "cpu_minutes: {limit: 5, window: day}\nusd: {limit: 0}\n")
    loop.promoted()
    fires.append("outcome")
    found = slm("watch", "one", "--retrain", code=4)
    assert "over budget: cpu_minutes: " in found["became"] and "usd: 0 asked for, 0 of 0 left" in found["became"]
    budget = slm("budget", "one")
    assert [(r["resource"], r["limit"], r["left"]) for r in budget["resources"]] == [
        ("cpu_minutes", 5.0, 5.0), ("usd", 0.0, 0.0),
    ]  # fmt: skip
    assert budget["waiting"][0]["state"] == "deferred"
    assert budget == api.budget("one")
    loop.budget("one", "cpu_minutes: {limit: 50, window: day}\n")
    assert slm("watch", "one", "--retrain")["became"] == "done v2: promoted"
    (only,) = slm("budget", "one")["resources"]
    assert 0 < only["spent"] < 1 and only["reserved"] == 0
    text = shown("budget", "one")
    assert "v2/finetune" in text and "cpu_minutes" in text


def test_status_says_how_fresh_a_domain_is(loop, fires):
    assert slm("status", "one")["domains"][0]["freshness"] is None
    loop.promoted()
    fires.append("outcome")
    slm("watch", "one")
    fresh = slm("status", "one")["domains"][0]["freshness"]
    assert (fresh["window"], fresh["judged"], fresh["fired"]) == ("w1", True, ["outcome"])
    assert 0 <= fresh["window_hours"] < 1 and 0 <= fresh["deployed_hours"] < 1
    assert "traffic w1, " in shown("status", "one") and "fires: outcome" in shown("status", "one")
    later = freshness(loop.registry(), "one", now=datetime.now(UTC) + timedelta(days=4))
    assert 95.9 < later["window_hours"] < 96.1


def test_a_window_that_nothing_asked_for_says_so(loop):
    loop.promoted()
    loop.window("outcome")
    loop.window()
    assert [window["became"] for window in api.triggers("one")["windows"]] == ["not asked for", ""]
    assert api.triggers("one", windows=1)["windows"][0]["window"] == "w2"
    assert "outcome" in shown("triggers", "one")
