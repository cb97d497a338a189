"""A stage is paid for around its run: over budget it waits, and a kill is neither free nor paid twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import fake_stages
import pytest
from filelock import FileLock
from loops import Loop, cell

from slm_assets.automation.promotions import continue_shadows
from slm_assets.engines import in_process
from slm_assets.engines.budgeted import recover, version_lock
from slm_assets.engines.in_process import make_cell
from slm_assets.registry import budget
from slm_assets.stages.runner import execute
from slm_assets.stages.table import STAGES
from slm_assets.stages.validate import validate_domain

LATER = datetime.now(UTC) + timedelta(hours=25)


def rows(loop: Loop) -> list[tuple[str, str, str]]:
    return [(row["what"], row["resource"], row["state"]) for row in budget.entries(loop.registry(), "one")]


def make(loop: Loop, plan, stage: str = "dataset"):
    return make_cell(loop.registry(), plan, stage, actor="ada")


def test_every_stage_is_settled_by_its_receipt_and_a_cached_one_is_free(loop):
    loop.budget("one", "cpu_minutes: {limit: 10}\nstorage_gb: {limit: 1}\n")
    plan = fake_stages.opened(loop.home, "one")
    receipts = [make(loop, plan, stage.name).receipt for _ in range(2) for stage in STAGES]
    found = budget.entries(loop.registry(), "one")
    assert {row["state"] for row in found} == {budget.SETTLED} and len(found) == 2 * len(STAGES)
    spent = {row["what"]: row["spent"] for row in found if row["resource"] == "cpu_minutes"}
    assert spent == {f"v1/{r.request.stage}": pytest.approx(r.seconds / 60) for r in receipts}
    written = sum(row["spent"] for row in found if row["resource"] == "storage_gb")
    assert written == pytest.approx(sum(next(iter(r.outputs.values())).bytes for r in receipts[: len(STAGES)]) / 1e9)
    next_one = fake_stages.opened(loop.home, "one")
    make(loop, next_one)
    newest = budget.entries(loop.registry(), "one", limit=2)
    reserved = {row["resource"]: row["reserved"] for row in newest}
    assert reserved["cpu_minutes"] == pytest.approx(receipts[0].seconds / 60), "as dear as the last one"


def test_over_budget_the_stage_waits_and_runs_once_there_is_more(loop):
    loop.budget("one", "cpu_minutes: {limit: 0.5}\n")
    plan = fake_stages.opened(loop.home, "one")
    outcome = make(loop, plan)
    assert (outcome.receipt.status, outcome.receipt.error_kind) == ("deferred", "deferred")
    assert "over budget: cpu_minutes: 1 asked for, 0.5 of 0.5 left this week" in outcome.receipt.error
    assert fake_stages.CALLS == [] and rows(loop) == []
    assert [e["action"] for e in loop.registry().audit("one")].count("budget.over") == 1
    loop.budget("one", "cpu_minutes: {limit: 5}\n")
    assert make(loop, plan).receipt.status == "succeeded"
    assert rows(loop) == [("v1/dataset", "cpu_minutes", budget.SETTLED)]


def test_without_a_budget_nothing_is_kept_and_watching_is_always_free(loop):
    plan = fake_stages.opened(loop.home, "one")
    assert make(loop, plan).receipt.status == "succeeded" and rows(loop) == []
    loop.budget("one", "cpu_minutes: {limit: 0}\n")
    window = loop.window(judged=False)
    assert make(loop, window, "capture").receipt.status == "succeeded"


def test_a_failed_stage_costs_what_it_took_and_its_second_try_costs_again(loop):
    loop.budget("one", "cpu_minutes: {limit: 10}\n")
    plan = fake_stages.opened(loop.home, "one", fake_stages.BREAKS)
    for stage in ("dataset", "label", "finetune", "finetune"):
        outcome = make(loop, plan, stage)
    assert outcome.receipt.status == "failed"
    assert rows(loop).count(("v1/finetune", "cpu_minutes", budget.SETTLED)) == 2


class Killed(BaseException):
    pass


def test_killed_at_work_it_counts_as_reserved_until_somebody_goes_on(loop):
    loop.budget("one", "cpu_minutes: {limit: 10}\n")
    plan = fake_stages.opened(loop.home, "one")

    def dies(*_arguments):
        raise Killed

    with pytest.raises(Killed):
        make_cell(loop.registry(), plan, "dataset", actor="ada", launch=dies)
    assert rows(loop) == [("v1/dataset", "cpu_minutes", budget.RUNNING)]
    assert recover(loop.registry()) == 0, "its run may come back"
    assert make(loop, plan).receipt.status == "succeeded"
    assert rows(loop) == [("v1/dataset", "cpu_minutes", budget.SETTLED)], "and was paid once"


@pytest.mark.parametrize("where", ["settle", "_refuse_other_outputs"])
def test_killed_between_the_receipt_and_its_entry_it_is_paid_once(loop, monkeypatch, where):
    loop.budget("one", "cpu_minutes: {limit: 10}\n")
    plan = fake_stages.opened(loop.home, "one")

    def dies(*_arguments):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(in_process, where, dies)
        make(loop, plan)
    assert make(loop, plan).receipt.status == "succeeded"
    assert len(fake_stages.CALLS) == 1, "its receipt was there"
    assert rows(loop) == [("v1/dataset", "cpu_minutes", budget.SETTLED)]


def test_what_nobody_came_back_to_is_closed_after_a_day_unless_it_is_at_work(loop):
    loop.budget("one", "usd: {limit: 10}\n")
    plan, registry = fake_stages.opened(loop.home, "one"), loop.registry()
    limits = budget.Budget(usd=budget.Limit(limit=10))
    budget.reserve(registry, "one", {"v1/label": {"usd": 4.0}}, limits, actor="a", begin=True)
    budget.reserve(registry, "one", {"v1/finetune": {"usd": 3.0}}, limits, actor="a")
    path = version_lock(registry, "one", plan.version)
    path.parent.mkdir(parents=True)
    with FileLock(path):
        assert recover(registry, now=LATER) == 0
    assert recover(registry, now=LATER) == 2
    found = {row["what"]: (row["state"], row["spent"]) for row in budget.entries(registry, "one")}
    assert found == {"v1/label": (budget.SETTLED, 4.0), "v1/finetune": (budget.RELEASED, 0.0)}


def test_what_has_ended_elsewhere_is_settled_by_its_receipt(loop):
    loop.budget("one", "cpu_minutes: {limit: 10}\n")
    fake_stages.opened(loop.home, "one")
    registry, limits = loop.registry(), budget.Budget(cpu_minutes=budget.Limit(limit=10))
    budget.reserve(registry, "one", {"v1/label": {"cpu_minutes": 4.0}}, limits, actor="a", begin=True)
    registry.commit(cell("one", 1, "label", output="labels", status="deferred", kind="submitted"))
    assert recover(registry) == 0, "it is still on its way"
    registry.commit(cell("one", 1, "label", output="labels", seconds=90))
    assert recover(registry) == 1
    assert budget.entries(registry, "one")[0]["spent"] == 1.5


def test_a_stage_on_a_gpu_is_paid_by_its_gpus(loop):
    loop.budget("one", "cpu_minutes: {limit: 10}\ngpu_minutes: {limit: 100}\n")
    loop.edit("one", lambda text: text + "  stages:\n    dataset: {container: {gpus: 4}}\n")
    plan = fake_stages.opened(loop.home, "one")
    receipt = make(loop, plan).receipt
    found = {row["resource"]: row for row in budget.entries(loop.registry(), "one")}
    assert found["gpu_minutes"]["reserved"] == 4.0 and found["cpu_minutes"]["spent"] == 0.0
    assert found["gpu_minutes"]["spent"] == pytest.approx(receipt.seconds / 60 * 4)


def test_without_its_folder_a_version_keeps_the_budget_it_was_opened_with(loop):
    loop.budget("one", "cpu_minutes: {limit: 0.5}\n")
    plan = fake_stages.opened(loop.home, "one")
    loop.edit("one", lambda _text: "{ not: [yaml")
    registry = loop.registry()
    assert make_cell(registry, plan, "dataset", actor="a", launch=execute).receipt.status == "deferred"


def test_a_wrong_budget_is_refused_with_its_place(loop):
    loop.budget("one", "cpu_minutes: {limit: -1, window: year}\ntoken: {limit: 5}\n")
    found = {(f.file, f.path) for f in validate_domain(loop.home, "one") if f.severity == "error"}
    places = ("$.cpu_minutes.limit", "$.cpu_minutes.window", "$.token")
    assert found == {("budgets/one.yaml", place) for place in places}


def test_a_version_that_waits_for_live_turns_goes_on_when_there_is_budget(loop):
    """Its next look is paid for like any stage: over budget no run is started, and it is started once there is more."""
    plan = fake_stages.opened(loop.home, "one")
    for stage in STAGES:
        if stage.name != "shadow" and not set(stage.needs) & {"shadow"}:
            make(loop, plan, stage.name)
    request = {"params": {"window": None}}
    waits = cell("one", plan.number, "shadow", output="shadow", status="deferred", kind="deferred")
    loop.registry().commit(replace(waits, receipt={**waits.receipt, "request": request}))
    loop.window()
    loop.budget("one", "cpu_minutes: {limit: 0.5}\n")

    def tick():
        with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance) as context:
            return continue_shadows(context)

    assert "one v1: over budget: cpu_minutes: 1 asked for, 0.5 of 0.5 left" in str(tick())
    assert make(loop, plan, "shadow").receipt.error.startswith("over budget"), "and whoever runs it is told the same"
    loop.registry().commit(replace(waits, receipt={**waits.receipt, "request": request}))
    loop.budget("one", "cpu_minutes: {limit: 5}\n")
    assert [one.run_key for one in tick().run_requests] == ["local/default one v1 w1"]
