"""The whole loop through a real daemon that is killed in the middle of it: traffic, drift, one retrain, alerts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from loops import Loop

sys.path.insert(0, str(Path(__file__).parents[1] / "dagster"))
from test_daemon import RUNS, Server, served

from slm_assets.automation import tags
from slm_assets.automation.instance import prepare
from slm_assets.registry import retrains
from slm_assets.stages.traffic.intake import drop_folder

HERE = Path(__file__).parent
TURN = {"turn_id": "x-1", "input": {"text": "hello"}, "outputs": {"triage": {"intent": "greet", "urgent": False}}}


def runs(server: Server, job: str) -> list[dict[str, Any]]:
    found = server.query(RUNS)["runsOrError"]["results"]
    mine = [run for run in found if run["jobName"] == job]
    return [{**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in mine]


@pytest.mark.slow
def test_dropped_traffic_becomes_one_promoted_version_over_a_restart_of_the_daemon(loop: Loop, tmp_path: Path) -> None:
    loop.promoted()
    prepare(loop.home)
    folder = drop_folder(loop.home, loop.registry(), "one")
    folder.mkdir(parents=True)
    (folder / "a.jsonl").write_text(json.dumps(TURN) + "\n")
    where: dict[str, Any] = {"location": "loop_location", "where": HERE, "SLM_WATCH_SECONDS": "2"}

    def state() -> list[tuple[str, str]]:
        return [(row["cause"], row["state"]) for row in retrains.of_domain(loop.registry(), "one")]

    with served(loop.home, tmp_path, **where) as server:
        server.wait(lambda: "launched" in [found for _cause, found in state()])
    with served(loop.home, tmp_path, **where) as server:
        server.wait(lambda: state()[0] == ("w1", "done"))
        (folder / "b.jsonl").write_text(json.dumps({**TURN, "turn_id": "x-2"}) + "\n")
        server.wait(lambda: len(state()) > 1 and state()[1][1] == "deferred")
        made = runs(server, "retrain")
        looks = runs(server, "monitor")
    assert [run["tags"]["dagster/partition"] for run in made] == ["one|v2"]
    assert made[0]["tags"][tags.OUTCOME] == tags.PROMOTED and made[0]["tags"][tags.TRIGGER] == "outcome"
    assert {run["tags"]["dagster/partition"] for run in looks} == {"one"}
    assert [plan.version for plan in loop.registry().plans("one")] == ["v1", "v2"]
    assert retrains.of_domain(loop.registry(), "one")[0]["note"] == "promoted"
