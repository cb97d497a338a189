"""`recipe: auto` and `recipe: cascade` from the config to a verdict, an answer, and the table of rungs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from slm_assets import api
from slm_assets.assets.experiments import of_stage
from slm_assets.domain.config import DomainConfig
from slm_assets.domain.ladder import Step, of_step, own_hyperparams
from slm_assets.domain.loading import load_domain
from slm_assets.engines.in_process import Outcome, make_cell
from slm_assets.models import ladder
from slm_assets.models.cascade.model import CascadeModel
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Plan, Registry
from slm_assets.serving.engines import Engines
from slm_assets.serving.pages.facts import facts
from slm_assets.serving.pages.routes import _templates
from slm_assets.stages.answering import respond
from slm_assets.stages.climbing.alone import alone
from slm_assets.stages.climbing.climb import choose
from slm_assets.stages.contract import Envelope
from slm_assets.stages.experiments.ladder import rungs
from slm_assets.stages.plans import open_domain, open_version, output_of
from slm_assets.stages.requests import request_for
from slm_assets.stages.runner import execute
from slm_assets.stages.table import STAGES
from slm_assets.stages.validate import validate_domain
from tests.conftest import FIXTURES, Workplace

BLOCKS = """
    hyperparams:
      auto: {rungs: [blunt, linear, cascade], stop: STOP}
      cascade: {rungs: [blunt, linear], max_loss: 0.05, by: point}
""".replace("blunt", "{recipe: linear, name: blunt, hyperparams: {max_features: 5, char_weight: 0, path_weight: 1}}")


def home_of(workplace: Workplace) -> Home:
    root = workplace.home
    return Home(root, workplace.domains, f"sqlite:///{root}/registry.db", str(root / "artifacts"))


def with_blocks(config: str, recipe: str, stop: str = "bound") -> str:
    return config.replace("model: {recipe: linear}", f"model:\n    recipe: {recipe}{BLOCKS.replace('STOP', stop)}")


def line(rung: str, verdict: str, primary: float, *, by_point: bool = True) -> dict[str, Any]:
    return {"rung": rung, "verdict": verdict, "primary": primary, "by_point": by_point}


@pytest.mark.parametrize(
    ("tried", "kept", "why"),
    [
        ([line("a", "fail", 0.5, by_point=False), line("b", "pass", 0.9)], 1, "passes every gate"),
        ([line("a", "insufficient", 0.92), line("b", "pass", 0.93)], 1, "passes every gate"),
        ([line("a", "insufficient", 0.92), line("b", "insufficient", 0.93)], 0, "none is certain"),
        ([line("a", "insufficient", 0.80), line("b", "insufficient", 0.93)], 1, "none is certain"),
        ([line("a", "insufficient", 0.92, by_point=False), line("b", "insufficient", 0.9)], 1, "none is certain"),
        ([line("a", "fail", 0.5, by_point=False), line("b", "fail", 0.7, by_point=False)], 1, "none passes"),
        ([line("a", "fail", 0.7, by_point=False), line("b", "fail", 0.7, by_point=False)], 0, "none passes"),
    ],
)
def test_the_cheapest_rung_that_is_good_enough_is_kept(tried, kept, why) -> None:
    chosen, reason = choose(tried, 0.02)
    assert chosen == kept and why in reason


def test_settings_beside_the_blocks_go_to_the_config_s_own_recipe_and_above_it_to_the_first_rung() -> None:
    given = {"c": 2.0, "linear": {"min_df": 3}, "cascade": {"max_loss": 0.1}}
    assert own_hyperparams(given, "linear") == {"c": 2.0, "min_df": 3}
    assert own_hyperparams(given, "encoder") == {"c": 2.0}
    assert own_hyperparams(given, "auto") == given
    named = Step(recipe="linear", name="b", hyperparams={"min_df": 9})
    assert of_step(given, Step(recipe="linear"), first=True) == {"c": 2.0, "min_df": 3}
    assert of_step(given, named, first=False) == {"min_df": 9}
    assert of_step(given, Step(recipe="encoder"), first=False) == {}
    whole = of_step(given, Step(recipe="cascade", hyperparams={"by": "point"}), first=False)
    assert whole == {**given, "cascade": {"max_loss": 0.1, "by": "point"}}


def made(home: Home, plan: Plan, registry: Registry, *stages: str) -> Outcome:
    for stage in stages:
        outcome = make_cell(registry, plan, stage, actor="tester")
        assert outcome.receipt.status == "succeeded", outcome.receipt.error
    return outcome


def test_one_line_changes_the_recipe_and_the_next_climb_is_held_against_what_serves(home, monkeypatch) -> None:
    """By the default rungs, of which one is left here; equal requests give equal checkpoints, whatever the clock."""
    monkeypatch.setattr(ladder, "DEFAULT_RUNGS", ("linear",))
    path = home.domains / "tiny" / "slm.config.yaml"
    flat = path.read_text().replace("{recipe: linear}", "\n    recipe: linear\n    hyperparams: {tune: 1}")
    path.write_text(flat)
    domain, registry = open_domain(home, "tiny")
    first = open_version(domain, registry, actor="tester")
    made(home, first, registry, *(stage.name for stage in STAGES))
    assert request_for(registry, first, "finetune").inputs.keys() == {"dataset", "labels"}

    path.write_text(flat.replace("recipe: linear", "recipe: auto"))
    domain, _ = open_domain(home, "tiny")
    second = open_version(domain, registry, actor="tester")
    outcome = made(home, second, registry, "dataset", "label", "finetune")
    request = request_for(registry, second, "finetune")
    assert request.inputs["incumbent_triage"] == output_of(registry, first, "package")
    report = outcome.receipt.result.summary["training"]["triage"]
    (tried,) = report["climb"]["tried"]
    against = next(gate for gate in tried["gates"] if gate["gate"] == "incumbent")
    assert against["value"] == 0.0 and against["n"] == tried["n"], "the same model against itself"
    assert {gate["gate"] for gate in tried["gates"]} == {"floor", "target", "incumbent", "validity", "slices"}

    again = execute(request, Envelope(run_id="again"), registry, home.root / "again")
    assert again.outputs["model"].sha256 == outcome.receipt.outputs["model"].sha256


@pytest.fixture
def home(tmp_path: Path) -> Home:
    shutil.copytree(FIXTURES / "domains", tmp_path / "domains")
    return Home(tmp_path / "home", tmp_path / "domains", f"sqlite:///{tmp_path}/r.db", str(tmp_path / "a"))


def faults(home: Home, model: str, *, oracle: bool = True) -> list[tuple[str, str, int | None]]:
    path = home.domains / "tiny" / "slm.config.yaml"
    text = path.read_text().replace("model: {recipe: linear}", model)
    if not oracle:
        text = text.replace("      deterministic_oracle: {kind: rules, path: oracle/triage.rules.yaml}\n", "")
    path.write_text(text)
    found = [fault for fault in validate_domain(home, "tiny") if fault.severity == "error"]
    return [(fault.path.removeprefix("$.slm_domain.model."), fault.message, fault.line) for fault in found]


@pytest.mark.parametrize("recipe", ["auto", "cascade"])
def test_blocks_of_the_ladder_are_valid(home, recipe) -> None:
    path = home.domains / "tiny" / "slm.config.yaml"
    path.write_text(with_blocks(path.read_text(), recipe))
    assert [fault for fault in validate_domain(home, "tiny") if fault.severity == "error"] == []


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        ("auto: {rungs: [linear, liner]}", ("hyperparams.auto.rungs[1]", "'liner' is no rung of this release")),
        ("auto: {rungs: [linear, linear]}", ("hyperparams.auto.rungs[1]", "two rungs are named 'linear'")),
        ("auto: {rungs: [linear, auto]}", ("hyperparams.auto.rungs[1]", "'auto' is no rung of this release")),
        ("auto: {stop: soon}", ("hyperparams.auto.stop", "wrong value")),
        ("auto: {rungs: [{recipe: linear, nme: b}]}", ("hyperparams.auto.rungs[0].nme", "unknown key")),
        ("cascade: {rungs: [linear]}", ("hyperparams.cascade.rungs", "1 of at least 2 rungs")),
        ("cascade: {max_loss: 0}", ("hyperparams.cascade.max_loss", "wrong value")),
    ],
)
def test_a_wrong_block_is_an_error_with_its_place_and_line(home, block, fault) -> None:
    model = f"model:\n    recipe: auto\n    hyperparams:\n      auto: {{rungs: [linear]}}\n      {block}"
    if block.startswith("auto"):
        model = f"model:\n    recipe: auto\n    hyperparams:\n      {block}"
    (found,) = faults(home, model)
    assert found[:2] == fault
    assert found[2] == (home.domains / "tiny" / "slm.config.yaml").read_text().split(block)[0].count("\n") + 1


def test_a_cascade_cannot_end_in_an_oracle_that_is_not_there(home) -> None:
    block = "{rungs: [linear, {recipe: linear, name: b}], then: oracle}"
    model = f"model:\n    recipe: cascade\n    hyperparams: {{cascade: {block}}}"
    (found,) = faults(home, model, oracle=False)
    assert found[:2] == ("hyperparams.cascade.then", "no oracle can answer at the end")


def test_hyperparameters_in_a_file_are_faulted_there(home) -> None:
    (home.domains / "tiny" / "ladder.yaml").write_text("linear: {c: 2}\nauto:\n  rungs: [linear, liner]\n")
    path = home.domains / "tiny" / "slm.config.yaml"
    path.write_text(path.read_text().replace("{recipe: linear}", "{recipe: auto, hyperparams: ladder.yaml}"))
    (found,) = [fault for fault in validate_domain(home, "tiny") if fault.severity == "error"]
    assert (found.file, found.path, found.line) == ("ladder.yaml", "$.auto.rungs[1]", 3)


def test_a_climb_stops_where_it_was_told_to_and_names_what_it_did_not_try(home) -> None:
    path = home.domains / "tiny" / "slm.config.yaml"
    linear_first = with_blocks(path.read_text(), "auto", stop="point")
    path.write_text(
        linear_first.replace("rungs: [{", "rungs: [linear, {", 1).replace("}, linear, cascade]", "}, cascade]")
    )
    domain, registry = open_domain(home, "tiny")
    plan = open_version(domain, registry, actor="tester")
    outcome = made(home, plan, registry, "dataset", "label", "finetune")
    climb = outcome.receipt.result.summary["training"]["triage"]["climb"]
    assert [line["rung"] for line in climb["tried"]] == ["linear"] and climb["not_tried"] == ["blunt", "cascade"]
    assert outcome.receipt.result.summary["rung"] == {"triage": "linear"}
    before = rungs(registry, plan)
    assert [(one.on, one.kept) for one in before] == [("validation", True)], "shown before anything was evaluated"


def test_a_role_by_itself_reads_nothing_and_keeps_its_own_metrics() -> None:
    config = DomainConfig.model_validate(
        {
            "name": "two",
            "roles": [
                {"id": "one", "output_schema": "a.json"},
                {"id": "two", "output_schema": "b.json", "reads": ["one"]},
            ],
            "eval": {"metrics": [{"id": "a", "path": "/a"}, {"id": "b", "path": "/b", "role": "two", "target": 0.5}]},
        }
    )
    first, second = (alone(config, role) for role in ("one", "two"))
    assert [(m.id, m.role) for m in first.eval.metrics] == [("a", "one")], "a metric of no role is the first one's"
    assert [(m.id, m.role) for m in second.eval.metrics] == [("b", "two")]
    assert [role.reads for role in second.roles] == [[]] and config.roles[1].reads == ["one"]


def test_a_climb_ends_in_a_verdict_and_every_place_shows_the_same_rungs(workplace) -> None:
    workplace.edit("tiny", lambda text: with_blocks(text, "auto", stop="never"))
    (workplace.domains / "tiny" / "budget.yaml").write_text("prices: {cpu_minute: 0.6}\n")
    workplace.edit("tiny", lambda text: f"{text}    governance: {{cost_budget: budget.yaml}}\n")
    result = workplace.json("run", "tiny")
    assert result["outcome"] == "promoted", result["error"]
    found = workplace.json("ladder", "tiny")["rungs"]
    assert [(one["rung"], one["on"], one["kept"]) for one in found] == [
        ("blunt", "validation", False),
        ("linear", "validation", True),
        ("cascade", "validation", False),
        ("floor", "eval", False),
        ("linear", "eval", True),
    ]
    for one in found:
        assert all(m["low"] <= m["value"] <= m["high"] for m in one["metrics"]) and one["n"] > 0
        if one["rung"] != "floor":
            assert one["bytes"] > 0 and 0 < one["p50_ms"] <= one["p95_ms"]
            assert one["usd_per_1000"] == pytest.approx(0.6 * one["minutes_per_1000"])
            assert one["train_usd"] == pytest.approx(one["train_seconds"] / 60 * 0.6)
    assert found[4]["verdict"] == "pass" and found[1]["why"].startswith("none is certain on the validation part")

    shown = workplace.slm("ladder", "tiny").stdout
    assert "blunt" in shown and "p50 / p95 ms" in shown

    home = home_of(workplace)
    registry = Registry(home)
    plan = registry.plan("tiny", 1)
    assert plan is not None
    report = registry.store.read(output_of(registry, plan, "evaluate"), "report.md").decode()
    card = registry.store.read(output_of(registry, plan, "package"), "model_card.md").decode()
    page = (
        _templates()
        .get_template("domain.html")
        .render(
            d=facts(registry, load_domain(home.domains / "tiny").config),
            line=lambda _chart: "",
            bars=lambda _chart: "",
            counts=(),
        )
    )
    metadata = of_stage(registry, plan, "evaluate")["ladder"]
    for name, text in {"report": report, "card": card, "page": page, "metadata": metadata}.items():
        for rung in ("blunt", "linear", "cascade", "floor"):
            assert rung in text, (name, rung)
    seconds = f"{found[4]['train_seconds']:.3f}"
    assert seconds not in report and seconds not in card, "what is measured in time is in no artifact"
    assert "validation" in card and "none is certain" in card


def test_a_cascade_is_judged_packaged_promoted_and_served(workplace) -> None:
    workplace.edit("tiny", lambda text: with_blocks(text, "cascade"))
    assert workplace.json("run", "tiny")["outcome"] == "promoted"
    found = workplace.json("ladder", "tiny")["rungs"]
    assert [(one["rung"], one["recipe"]) for one in found if one["kept"]] == [("cascade", "cascade")]
    home = home_of(workplace)
    shares, right = (
        {one.metric: one.points[0] for one in api.metrics("tiny", metrics=names, home=home).series}
        for names in (("share:blunt", "share:linear"), ("exact:blunt", "exact:linear", "ece"))
    )
    assert sum(point.value for point in shares.values()) == pytest.approx(1.0)
    assert 0 < shares["share:blunt"].value < 1
    assert (
        set(right) == {"exact:blunt", "exact:linear", "ece"} and right["exact:blunt"].n + right["exact:linear"].n == 120
    )
    engines = Engines(home)
    engines.load()
    with engines.lease("tiny", "*") as snapshot:
        serving = snapshot.engine("triage")
        assert serving.engine == "release" and isinstance(serving.predictor, CascadeModel)
        turns = [
            {"text": text} for text in ("I want my money back", "where is my parcel", "hello there", "refund now!")
        ]
        answers = [respond(serving, turn) for turn in turns]
    assert {answer.engine for answer in answers} == {"release"}
    assert {answer.rung for answer in answers} <= {"blunt", "linear"}
    engines.close()
