"""From a version that serves to one of another contract: each kind of change through the whole chain."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slm_assets import canonical
from slm_assets.engines.in_process import make_cell
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Plan, Registry
from slm_assets.stages.plans import open_domain, open_version, output_of
from slm_assets.stages.table import STAGES
from tests.conftest import FIXTURES

TINY = Path("domains") / "tiny"
CONFIG, RULES = TINY / "slm.config.yaml", TINY / "oracle" / "triage.rules.yaml"


def home_in(root: Path) -> Home:
    return Home(root / "home", root / "domains", f"sqlite:///{root}/home/registry.db", str(root / "home" / "artifacts"))


def run(home: Home) -> tuple[Registry, Plan, str]:
    """Open the next version of tiny and make it, as far as it goes; returns the error it stopped with, or ""."""
    domain, registry = open_domain(home, "tiny")
    plan = open_version(domain, registry, actor="tester")
    for stage in STAGES:
        receipt = make_cell(registry, plan, stage.name, actor="tester").receipt
        if receipt.status != "succeeded":
            return registry, plan, receipt.error or receipt.status
    return registry, plan, ""


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place where tiny v1 serves."""
    root = tmp_path_factory.mktemp("serving")
    shutil.copytree(FIXTURES / "domains", root / "domains")
    registry, _, error = run(home_in(root))
    assert error == "" and registry.flags("tiny")["triage"].number == 1
    return root


@pytest.fixture
def place(serving: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    for name in ("home", "domains"):
        shutil.copytree(serving / name, tmp_path / name)
    return tmp_path


def edit(path: Path, change: Callable[[str], str]) -> None:
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before, "the edit changed nothing"


def edit_contract(place: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = place / TINY / "contracts" / "triage.schema.json"
    schema = json.loads(path.read_text())
    change(schema)
    path.write_text(json.dumps(schema))


def edit_rows(place: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    path = place / TINY / "data" / "messages.jsonl"
    changed = [change(json.loads(line)) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in changed if row is not None))


class Version:
    """A version of tiny and what was made of it."""

    def __init__(self, registry: Registry, plan: Plan, folder: Path) -> None:
        self.registry, self.plan, self.folder = registry, plan, folder

    def file(self, stage: str, name: str) -> Path:
        target = self.folder / self.plan.version / stage
        if not target.exists():
            self.registry.store.get(output_of(self.registry, self.plan, stage), target)
        return target / name

    def rows(self, stage: str, name: str) -> Iterator[dict[str, Any]]:
        return canonical.read_jsonl(self.file(stage, name))

    @property
    def report(self) -> dict[str, Any]:
        return dict(canonical.read_json(self.file("evaluate", "report.json")))

    def details(self, gate: str) -> dict[str, dict[str, Any]]:
        """The gate's non-inferiority (or only) verdict on each metric."""
        return {v["metric"]: v for v in reversed(self.report["details"]) if v["gate"] == gate}

    def value(self, subject: str, metric: str) -> tuple[float | None, int]:
        (found,) = (
            m for m in self.report["metrics"]
            if (m["subject"], m["metric"], m["slice"], m["mode"]) == (subject, metric, "", "end_to_end")
        )  # fmt: skip
        return found["value"], found["n"]


def promoted(place: Path) -> tuple[Version, Version]:
    """v1, and v2 of the domain as it is now, which must have been promoted in a new epoch."""
    registry, plan, error = run(home_in(place))
    assert error == ""
    assert registry.flags("tiny")["triage"].number == plan.number == 2
    first = registry.plan("tiny", 1)
    assert first is not None
    pair = Version(registry, first, place / "out"), Version(registry, plan, place / "out")
    assert [one.report["epoch"] for one in pair] == [1, 2]
    return pair


def held_out(version: Version) -> list[str]:
    return [row["id"] for row in version.rows("dataset", "eval.jsonl")]


def test_an_optional_field_changes_nothing_but_the_epoch(place):
    edit_contract(place, lambda schema: schema["properties"].update(language={"type": "string"}))
    first, second = promoted(place)
    assert held_out(first) == held_out(second)
    labels = [list(one.rows("label", "eval.jsonl")) for one in (first, second)]
    assert labels[0] == labels[1]
    assert second.report["compared_without"] == {"triage: incumbent": ["/language"]}
    assert second.value("incumbent", "exact")[0] == first.value("challenger", "exact")[0]


def add_priority(place: Path) -> None:
    def required(schema: dict[str, Any]) -> None:
        schema["properties"]["priority"] = {"enum": ["high", "low"]}
        schema["required"].append("priority")

    edit_contract(place, required)
    rules = place / RULES
    edit(
        rules,
        lambda text: text.replace('"=now != null"}', "\"=now != null\", priority: \"=now != null ? 'high' : 'low'\"}"),
    )
    metric = "      - {id: priority, role: triage, path: /priority, target: 0.8}\n"
    edit(place / CONFIG, lambda text: text.replace("  improvement:", f"{metric}  improvement:"))


def test_a_required_field_is_judged_by_target_alone_where_only_the_oracle_knows_it(place):
    add_priority(place)
    edit(
        place / CONFIG,
        lambda text: text.replace("  data:\n", "  data:\n    incomplete_labels: complete\n"),
    )
    first, second = promoted(place)
    assert held_out(first) == held_out(second)
    labels = list(second.rows("label", "eval.jsonl"))
    before = {row["id"]: row["labels"]["triage"]["output"] for row in first.rows("label", "eval.jsonl")}
    for row in labels:
        label = row["labels"]["triage"]
        assert label["completed"] == ["/priority"] and label["source"] == "gold+oracle"
        assert {**label["output"], **before[row["id"]]} == label["output"], "what was gold stays"
    own = output_of(first.registry, first.plan, "dataset")
    assert {row["previous"]["dataset"] for row in second.rows("dataset", "eval.jsonl")} == {own}

    incumbent, floor, target = (second.details(gate) for gate in ("incumbent", "floor", "target"))
    assert (incumbent["priority"]["verdict"], incumbent["priority"]["blocking"]) == ("NOT_APPLICABLE", False)
    assert floor["priority"]["verdict"] == "NOT_INDEPENDENT", "the oracle wrote what it would be judged by"
    assert target["priority"]["verdict"] == "PASS" and target["priority"]["n"] == len(labels)
    for metric in ("intent", "urgent"):
        assert incumbent[metric]["verdict"] == floor[metric]["verdict"] == "PASS"
        assert incumbent[metric]["n"] == floor[metric]["n"] == len(labels), "there the labels are gold"
    assert second.value("incumbent", "priority") == (None, 0)
    assert second.value("incumbent", "exact")[0] == first.value("challenger", "exact")[0]
    assert (
        "triage: incumbent is of another contract and compared without /priority"
        in second.file("evaluate", "report.md").read_text()
    )


def test_a_required_field_that_nobody_wrote_stops_with_a_way_on(place):
    add_priority(place)
    registry, _, error = run(home_in(place))
    assert "a contract changed since the version that serves" in error and "data.incomplete_labels: complete" in error
    assert registry.flags("tiny")["triage"].number == 1


def test_a_value_that_is_gone_is_listed_and_the_rest_is_compared(place):
    edit_contract(place, lambda schema: schema["properties"]["intent"]["enum"].remove("greet"))
    edit(place / RULES, lambda text: text.replace("intent: greet", "intent: cancel"))
    edit_rows(place, lambda row: None if row["labels"]["triage"]["intent"] == "greet" else row)
    first, second = promoted(place)
    assert held_out(first) == held_out(second)
    gone = [
        row["id"] for row in first.rows("label", "eval.jsonl") if row["labels"]["triage"]["output"]["intent"] == "greet"
    ]
    assert gone and [row["id"] for row in second.rows("dataset", "invalid_under_contract.jsonl")] == gone
    assert [row["id"] for row in second.rows("label", "eval.jsonl") if not row["labels"]] == gone
    assert second.details("incumbent")["intent"]["n"] == len(held_out(second)) - len(gone)
    assert second.report["compared_without"] == {}


def test_a_rename_compares_what_kept_its_name(place):
    def rename(holder: dict[str, Any]) -> dict[str, Any]:
        holder["topic"] = holder.pop("intent")
        return holder

    def renamed(schema: dict[str, Any]) -> None:
        rename(schema["properties"])
        schema["required"] = ["topic", "urgent"]

    edit_contract(place, renamed)
    edit(place / RULES, lambda text: text.replace("{intent:", "{topic:"))
    edit(
        place / CONFIG,
        lambda text: text.replace("id: intent, role: triage, path: /intent", "id: topic, role: triage, path: /topic"),
    )
    edit_rows(place, lambda row: {**row, "labels": {"triage": rename(row["labels"]["triage"])}})
    first, second = promoted(place)
    assert held_out(first) == held_out(second)
    own = output_of(first.registry, first.plan, "dataset")
    assert all(row["previous"] == {"dataset": own} for row in second.rows("dataset", "eval.jsonl"))
    assert list(second.rows("dataset", "invalid_under_contract.jsonl")) == []
    assert second.report["compared_without"] == {"triage: incumbent": ["/intent", "/topic"]}
    incumbent = second.details("incumbent")
    assert incumbent["topic"]["verdict"] == "NOT_APPLICABLE" and incumbent["urgent"]["verdict"] == "PASS"
    assert second.details("floor")["topic"]["verdict"] == "PASS"
    assert second.details("validity")["output_validity"]["verdict"] == "PASS"
