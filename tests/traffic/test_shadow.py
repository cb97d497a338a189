"""The shadow report: which live turns judge a version, who was right, and when it waits, holds or goes on."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slm_assets import canonical
from slm_assets.engines.in_process import Outcome, make_cell
from slm_assets.errors import BadInputError
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Plan, Registry
from slm_assets.stages.approvals import approve
from slm_assets.stages.contract import Envelope
from slm_assets.stages.plans import open_domain, open_version
from slm_assets.stages.requests import request_for
from slm_assets.stages.runner import execute
from slm_assets.stages.standing import held_before, record_of
from slm_assets.stages.state import gate_lines, outcome, role_outcomes
from slm_assets.stages.table import STAGES
from tests.conftest import FIXTURES
from tests.traffic.conftest import Traffic, turn
from tests.traffic.conftest import outcome as feedback

BEFORE = [stage.name for stage in STAGES if stage.name not in ("shadow", "deploy")]
WORDS = ["amber", "crate", "lamp", "violin", "paddle", "quartz", "saddle", "turbine", "umbrella", "walnut", "zither"]
MEANT = {
    "refund": ["i want my money back for the {} {}", "please refund the {} {}"],
    "track": ["where is the {} {} that i ordered", "can i track the {} {}"],
    "cancel": ["please cancel the {} {} for me", "cancel my order of the {} {}"],
}


def texts(count: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """(text, intent), none of which the domain's own rows hold."""
    rng = random.Random(seed)
    for number in range(count):
        intent = rng.choice(sorted(MEANT))
        one, two = rng.sample(WORDS, 2)
        yield rng.choice(MEANT[intent]).format(f"{one}{number}", two), intent


def live(count: int, seed: int = 0, name: str = "t", **more: Any) -> list[dict[str, Any]]:
    return [turn(f"{name}{n}", text, **more) for n, (text, _intent) in enumerate(texts(count, seed))]


def made(registry: Registry, plan: Plan, *stages: str) -> Outcome:
    for stage in stages:
        found = make_cell(registry, plan, stage, actor="tester")
    return found


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny captures traffic; v1 serves, v2 is packaged, opened when one window had been captured."""
    root = tmp_path_factory.mktemp("serving")
    shutil.copytree(FIXTURES / "domains", root / "domains")
    config = root / "domains" / "tiny" / "slm.config.yaml"
    config.write_text(
        config.read_text().replace("  improvement:\n", "  improvement:\n    capture: {sample_rate: 1.0}\n")
    )
    traffic = at_home(root)
    first = open_version(traffic.domain, traffic.registry, actor="tester")
    assert made(traffic.registry, first, *BEFORE, "shadow", "deploy").receipt.status == "succeeded"
    (verdict,) = [v for v in gate_lines(traffic.registry, first) if v["gate"] == "shadow"]
    assert verdict["verdict"] == "NOT_APPLICABLE" and "never promoted" in verdict["reason"]
    traffic.write("old", live(30, seed=9, name="old"))
    traffic.capture()
    second = open_version(traffic.domain, traffic.registry, params={"train_fraction": 0.9}, actor="tester")
    assert second.window is not None and second.window["number"] == 1
    made(traffic.registry, second, *BEFORE)
    return root


def at_home(root: Path) -> Traffic:
    home = Home(root / "home", root / "domains", f"sqlite:///{root}/home/registry.db", str(root / "home/artifacts"))
    return Traffic(home, *open_domain(home, "tiny"))


@pytest.fixture
def traffic(serving: Path, tmp_path: Path) -> Traffic:
    """A copy of that home."""
    shutil.copytree(serving, tmp_path, dirs_exist_ok=True)
    return at_home(tmp_path)


@pytest.fixture
def plan(traffic: Traffic) -> Plan:
    found = traffic.registry.plan("tiny", 2)
    assert found is not None
    return found


def capture(traffic: Traffic, records: list[dict[str, Any]]) -> None:
    traffic.write("live", records)
    traffic.capture()


def report(traffic: Traffic, found: Outcome, tmp_path: Path) -> dict[str, Any]:
    traffic.registry.store.get(found.receipt.outputs["shadow"].sha256, tmp_path / "report")
    return canonical.read_json(tmp_path / "report" / "report.json")


def test_without_new_turns_it_waits_and_says_how_many_would_decide(traffic: Traffic, plan: Plan):
    waits = made(traffic.registry, plan, "shadow")
    assert waits.receipt.status == "deferred" and not waits.receipt.outputs
    assert "no live turn came after the dataset" in waits.receipt.error and "turns would decide" in waits.receipt.error
    (line,) = [v for v in gate_lines(traffic.registry, plan) if v["gate"] == "shadow" and v["metric"] == "intent"]
    assert line["verdict"] == "INSUFFICIENT" and 10 < line["n_needed"] < 200
    record = record_of(traffic.registry, plan)
    assert outcome(record) == "deferred" and role_outcomes(record) == {"triage": "deferred"}
    with pytest.raises(BadInputError, match="shadow has not succeeded"):
        made(traffic.registry, plan, "deploy")


def test_it_goes_on_with_newer_traffic_and_then_stays_as_it_was_decided(traffic: Traffic, plan: Plan, tmp_path: Path):
    assert made(traffic.registry, plan, "shadow").receipt.status == "deferred"
    capture(traffic, live(8, seed=1))
    few = made(traffic.registry, plan, "shadow")
    assert few.receipt.status == "deferred" and "expected by" in few.receipt.error
    assert few.receipt.request.params["window"] == 2
    capture(traffic, live(300, seed=2, name="u"))
    decided = made(traffic.registry, plan, "shadow")
    assert decided.receipt.status == "succeeded", decided.receipt.error
    assert decided.receipt.result.roles == {"triage": "pass"}
    found = report(traffic, decided, tmp_path)
    assert found["cut"] == 1 and found["window"] == 3 and found["turns"]["read"] == 308
    assert found["compared"]["triage"]["turns"] < 308, "it stopped when it was decided"
    assert found["compared"]["triage"]["agreement"]["exact"] > 0.8
    names = {metric.metric for metric in decided.receipt.result.metrics}
    assert {"shadow_agreement", "shadow_agreement:/intent", "shadow_latency_ratio", "shadow_validity"} <= names
    capture(traffic, live(5, seed=3, name="w"))
    assert made(traffic.registry, plan, "shadow").cached
    urns = {parent for parent, child in traffic.registry.edges() if "/shadow/" in child}
    assert {u.split("/")[4] for u in urns} == {"dataset", "release", "traffic"}
    assert traffic.registry.urn("traffic", "tiny", 3) in urns
    assert made(traffic.registry, plan, "deploy").receipt.status == "succeeded"
    assert traffic.registry.flags("tiny")["triage"].number == 2


def test_equal_requests_give_equal_reports(traffic: Traffic, plan: Plan, tmp_path: Path):
    capture(traffic, live(260, seed=2))
    decided = made(traffic.registry, plan, "shadow")
    again = execute(
        request_for(traffic.registry, plan, "shadow"), Envelope(run_id="x"), traffic.registry, tmp_path / "again"
    )
    assert again.outputs["shadow"].sha256 == decided.receipt.outputs["shadow"].sha256


def test_turns_that_were_trained_on_do_not_judge(traffic: Traffic, plan: Plan, tmp_path: Path):
    dataset = tmp_path / "dataset"
    cell = traffic.registry.cell("tiny", 2, "dataset")
    traffic.registry.store.get(cell["receipt"]["outputs"]["dataset"]["sha256"], dataset)
    rows = [row["input"]["text"] for row in canonical.read_jsonl(dataset / "train.jsonl")][:40]
    known = [turn(f"k{n}", text) for n, text in enumerate(rows)]
    longer = [turn(f"n{n}", text.upper() + "!") for n, text in enumerate(rows[:5])]
    same_talk = [turn("again", "where is the ochre teapot now", conversation="c-old3")]
    picked = live(20, seed=5, name="p", sampled=False, kept="outcome", probability=1.0)
    capture(traffic, [*known, *longer, *same_talk, *picked, *live(250, seed=6)])
    decided = made(traffic.registry, plan, "shadow")
    found = report(traffic, decided, tmp_path)
    trained_on = found["turns"]["trained_on"]
    assert found["turns"]["read"] == 295 and 45 <= trained_on < 60, "and what is near a turn that was relabelled"
    verdict = next(v for v in decided.receipt.result.verdicts if v.gate == "untrained")
    assert verdict.verdict == "PASS" and verdict.value == 0 and f"{trained_on} were" in verdict.reason


def test_a_worse_challenger_is_held_and_only_an_override_with_a_reason_lets_it_go(traffic: Traffic, tmp_path: Path):
    registry = traffic.registry
    weak = open_version(traffic.domain, registry, params={"train_fraction": 0.05}, actor="tester")
    made(registry, weak, *BEFORE[: BEFORE.index("package")])
    refused = made(registry, weak, "package")
    assert refused.held
    noes = {v["gate"] for v in gate_lines(registry, weak) if v["verdict"] == "FAIL"}
    assert noes and noes <= {"floor", "target", "incumbent"}
    told = {"roles": None, "actor": "Ada"}
    with pytest.raises(BadInputError, match="cannot be approved"):
        approve(registry, "tiny", "v3", reason="", **told)
    with pytest.raises(BadInputError, match="at least 10 characters"):
        approve(registry, "tiny", "v3", reason="because", override=sorted(noes), **told)
    with pytest.raises(BadInputError, match="never overridden"):
        approve(registry, "tiny", "v3", reason="a test of the release", override=["validity"], **told)
    with pytest.raises(BadInputError, match="cannot be approved"):
        approve(
            registry, "tiny", "v3", reason="a test of the release", override=sorted(noes)[:-1] or ["slices"], **told
        )
    approve(registry, "tiny", "v3", reason="a test of the release", override=sorted(noes), **told)
    assert made(registry, weak, "package").receipt.status == "succeeded"

    wanted = [
        [turn(f"x{n}", text), feedback(f"x{n}", detail={"intent": intent, "urgent": False})]
        for n, (text, intent) in enumerate(texts(300, seed=7))
    ]
    capture(traffic, [record for pair in wanted for record in pair])
    lost = made(registry, weak, "shadow")
    assert lost.receipt.status == "succeeded" and lost.receipt.result.roles == {"triage": "fail"}
    found = report(traffic, lost, tmp_path)
    compared = found["compared"]["triage"]
    assert compared["judged_by"] == {"outcome": compared["differ"]}
    assert compared["right_where_they_differ"]["incumbent"] > compared["right_where_they_differ"]["challenger"]
    assert "shadow_report, shadow" in held_before(record_of(registry, weak), "deploy")
    stopped = made(registry, weak, "deploy")
    assert stopped.held and registry.flags("tiny")["triage"].number == 1

    approve(registry, "tiny", "v3", reason="a test of the release", override=["shadow"], **told)
    assert held_before(record_of(registry, weak), "deploy") == ""
    assert made(registry, weak, "deploy").receipt.status == "succeeded"
    assert registry.flags("tiny")["triage"].number == 3
    overridden = [event for event in registry.audit("tiny") if event["action"] == "override"]
    assert [event["actor"] for event in overridden] == ["Ada", "Ada"]
    assert {row["gate"] for event in overridden for row in event["detail"]["gates"]} == {*noes, "shadow"}


def test_an_approval_of_what_is_undecided_is_of_that_traffic(traffic: Traffic, plan: Plan):
    capture(traffic, live(6, seed=1))
    waits = made(traffic.registry, plan, "shadow")
    assert waits.receipt.status == "deferred"
    approve(traffic.registry, "tiny", "v2", roles=None, actor="Ada", reason="few, and all the same")
    capture(traffic, live(4, seed=4, name="later"))
    decided = made(traffic.registry, plan, "shadow")
    assert decided.receipt.status == "succeeded" and decided.receipt.result.roles == {"triage": "approved"}
    assert decided.receipt.request.inputs["traffic"] == waits.receipt.request.inputs["traffic"]
    assert made(traffic.registry, plan, "deploy").receipt.status == "succeeded"
    lines = [v for v in gate_lines(traffic.registry, plan) if v["gate"] == "shadow"]
    assert [v["verdict"] for v in lines] == ["INSUFFICIENT"], "an approval does not change what was found"


def test_an_earlier_approval_does_not_carry_over_to_the_shadow_report(traffic: Traffic, plan: Plan):
    approve(traffic.registry, "tiny", "v2", roles=None, actor="Ada", reason="before")
    capture(traffic, live(6, seed=1))
    assert made(traffic.registry, plan, "shadow").receipt.status == "deferred"


def test_a_domain_that_captures_nothing_is_promoted_without_and_it_is_listed(traffic: Traffic):
    config = traffic.home.domains / "tiny" / "slm.config.yaml"
    config.write_text(config.read_text().replace("    capture: {sample_rate: 1.0}\n", ""))
    traffic = at_home(traffic.home.root.parent)
    plan = open_version(traffic.domain, traffic.registry, params={"train_fraction": 0.8}, actor="tester")
    assert made(traffic.registry, plan, *BEFORE, "shadow", "deploy").receipt.status == "succeeded"
    (verdict,) = [v for v in gate_lines(traffic.registry, plan) if v["gate"] == "shadow"]
    assert verdict["verdict"] == "NOT_APPLICABLE" and "captures no traffic" in verdict["reason"]
