"""The loop's sensors and schedules as the daemon calls them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from loops import Loop
from sqlalchemy import event

from slm_assets.automation import tags, watching
from slm_assets.automation.jobs import MONITOR, RETRAIN
from slm_assets.automation.retraining import retrain_on_drift
from slm_assets.automation.watching import changed_domains, due_domains, watch_contracts, watch_traffic
from slm_assets.definitions import build
from slm_assets.registry import retrains
from slm_assets.registry.database import Database
from slm_assets.stages.traffic.intake import capture_folder, drop_folder


def tick(sensor: Any, instance: dg.DagsterInstance, loop: Loop) -> dg.SensorResult:
    """What a tick asks for; the versions it wants are added, as the daemon does."""
    definitions = build(loop.home)
    found = sensor(dg.build_sensor_context(instance=instance, repository_def=definitions.get_repository_def()))
    if isinstance(found, dg.SkipReason):
        return dg.SensorResult(skip_reason=found)
    for request in found.dynamic_partitions_requests or []:
        instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
    return found


def keys(found: dg.SensorResult) -> list[str]:
    return [request.run_key for request in found.run_requests or []]


def drop(loop: Loop, domain: str = "one", name: str = "a.jsonl", size: int = 100) -> None:
    folder = drop_folder(loop.home, loop.registry(domain), domain)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"x" * size)


def test_waiting_traffic_is_looked_at_once_and_a_run_at_work_is_not_doubled(loop):
    with dg.DagsterInstance.ephemeral() as instance:
        assert tick(watch_traffic, instance, loop).skip_reason.skip_message == "nothing is due"
        drop(loop)
        first = tick(watch_traffic, instance, loop)
        (request,) = first.run_requests
        assert (request.partition_key, request.tags[tags.DUE]) == ("one", "traffic")
        assert keys(tick(watch_traffic, instance, loop)) == keys(first), "the same key: Dagster starts it once"
        job: Any = build(loop.home).resolve_job_def(MONITOR)
        instance.create_run_for_job(job, tags=request.tags, status=dg.DagsterRunStatus.NOT_STARTED)
        assert keys(tick(watch_traffic, instance, loop)) == []
        drop(loop, name=".half.jsonl"), drop(loop, name="notes.txt")
        assert keys(tick(watch_traffic, instance, loop)) == []


def test_a_look_whose_process_was_killed_keeps_nobody_from_looking(loop):
    drop(loop)
    with dg.DagsterInstance.ephemeral() as instance:
        (request,) = tick(watch_traffic, instance, loop).run_requests
        job: Any = build(loop.home).resolve_job_def(MONITOR)
        with subprocess.Popen(["true"]) as gone:
            pass
        for pid, due in ((os.getpid(), 0), (gone.pid, 1)):
            told = {**request.tags, tags.PROCESS: f"{socket.gethostname()}:{pid}"}
            run = instance.create_run_for_job(job, tags=told, status=dg.DagsterRunStatus.STARTED)
            assert len(keys(tick(watch_traffic, instance, loop))) == due
            if not due:
                instance.report_run_failed(run)
        assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE


def test_only_what_has_grown_since_the_last_window_is_new(loop, monkeypatch):
    monkeypatch.setenv("SLM_WATCH_SECONDS", "1")
    registry, folder = loop.registry(), capture_folder(loop.home, loop.registry(), "one")
    folder.mkdir(parents=True)
    segment = folder / "service-1-000001.open"
    segment.write_bytes(b"x" * 50)
    taken = [{"source": "segments", "name": "service-1-000001", "stamp": "50"}]
    loop.window(taken=taken)

    def found(later: float = 5) -> list[str]:
        moment = datetime.now(UTC) + timedelta(seconds=later)
        return [due.why for _name, due in due_domains(registry, ["one"], moment)]

    assert found() == []
    segment.write_bytes(b"x" * 51)
    assert found() == ["traffic"] and found(0) == []
    segment.rename(folder / "service-1-000001.jsonl")
    assert found() == ["traffic"], "its seal is new too"


def test_a_window_that_nobody_finished_is_taken_up_again_and_a_replay_is_traffic(loop):
    from slm_assets.registry import captures

    registry = loop.registry()
    loop.window(judged=False)
    soon = datetime.now(UTC) + timedelta(minutes=11)
    assert [due.why for _, due in due_domains(registry, ["one"], soon)] == ["unfinished"]
    loop.window()
    assert list(due_domains(registry, ["one"], soon)) == []
    captures.advance(registry, "one", captures.Mark(turns=3), actor="ada")
    assert [due.why for _, due in due_domains(registry, ["one"], soon)] == ["traffic"]


def test_what_serves_is_looked_at_once_a_day_without_any_traffic(loop):
    loop.promoted()
    loop.window()
    registry = loop.registry()
    assert list(due_domains(registry, ["one"], datetime.now(UTC) + timedelta(hours=23))) == []
    ((name, due),) = due_domains(registry, ["one"], datetime.now(UTC) + timedelta(hours=25))
    assert (name, due.why) == ("one", "by the clock")


@contextmanager
def counted(loop: Loop):
    """The statements that reach the registry's database."""
    seen: list[str] = []
    database: Database = loop.registry()._database

    def count(_connection, _cursor, statement, *_rest):
        seen.append(statement)

    event.listen(database.engine, "before_cursor_execute", count)
    try:
        yield seen
    finally:
        event.remove(database.engine, "before_cursor_execute", count)


@pytest.mark.slow
def test_a_tick_that_finds_nothing_asks_as_much_for_200_domains_as_for_one(loop):
    """Queries are counted, and the fastest of some ticks is timed against the bar of 100 ms, in CPU time."""
    loop.promoted()
    loop.window()
    sensors = (watch_traffic, watch_contracts, retrain_on_drift)
    asked: dict[int, list[int]] = {1: [], 200: []}
    with dg.DagsterInstance.ephemeral() as instance:
        for number, counts in asked.items():
            for extra in range(len(list(loop.home.domains.iterdir())), number):
                loop.add(f"more_{extra:03d}")
            context = dg.build_sensor_context(instance=instance)
            for sensor in sensors:
                assert isinstance(sensor(context), dg.SkipReason)
                with counted(loop) as seen:
                    assert isinstance(sensor(context), dg.SkipReason)
                counts.append(len(seen))
                fastest = min(_cpu(lambda sensor=sensor, context=context: sensor(context)) for _ in range(5))
                assert fastest < 0.1, (sensor.name, number, fastest)
    assert asked[1] == asked[200] and sum(asked[200]) <= 12, asked


def _cpu(work: Any) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


def test_a_changed_contract_is_looked_at_at_once_and_once(loop):
    loop.promoted()
    loop.window()
    registry = loop.registry()
    now = datetime.now(UTC)
    assert list(changed_domains(registry, ["one"], now)) == []
    loop.edit("one", lambda text: text + "\n# a remark\n")
    assert list(changed_domains(registry, ["one"], now)) == [], "the contracts are the same"
    loop.edit("one", lambda text: text.replace('"urgent"', '"urgent" ', 1), "contracts/triage.schema.json")
    assert list(changed_domains(registry, ["one"], now)) == [], "other bytes, and the same contract"
    widen = '"additionalProperties": false, "$comment": "widened"'
    loop.edit(
        "one", lambda text: text.replace('"additionalProperties": false', widen, 1), "contracts/triage.schema.json"
    )
    ((name, due),) = changed_domains(registry, ["one"], now)
    assert (name, due.why) == ("one", "its contracts changed")
    with dg.DagsterInstance.ephemeral() as instance:
        assert keys(tick(watch_contracts, instance, loop)) == [f"one-{due.key}"]
    loop.window("contract")
    assert list(changed_domains(registry, ["one"], now)) == [], "a window says so now"


def test_a_broken_domain_hides_no_other(loop):
    loop.add("two")
    for name in ("one", "two"):
        drop(loop, name)
    loop.edit("one", lambda _text: "{ not: [yaml")
    with dg.DagsterInstance.ephemeral() as instance:
        assert [request.partition_key for request in tick(watch_traffic, instance, loop).run_requests] == ["two"]


def test_a_tick_asks_for_so_many_runs_and_no_more(loop, monkeypatch):
    monkeypatch.setattr(watching, "MOST_REQUESTS", 2)
    for name in ("one", "two", "three"):
        if name != "one":
            loop.add(name)
        drop(loop, name)
    with dg.DagsterInstance.ephemeral() as instance:
        assert len(keys(tick(watch_traffic, instance, loop))) == 2


def test_a_fired_trigger_launches_the_chain_which_promotes_and_the_retrain_is_done(loop):
    loop.promoted()
    loop.window("outcome", "distribution")
    with dg.DagsterInstance.ephemeral() as instance:
        found = tick(retrain_on_drift, instance, loop)
        (request,) = found.run_requests
        assert (request.run_key, request.partition_key) == (
            "one-w1",
            dg.MultiPartitionKey({"domain": "one", "version": "v2"}),
        )
        assert request.tags[tags.TRIGGER] == "distribution,outcome" and request.tags[tags.WINDOW] == "w1"
        assert request.tags[tags.REASON].startswith("distribution: distribution is up")
        again = tick(retrain_on_drift, instance, loop)
        assert keys(again) == ["one-w1"], "the daemon died before it started the run: the same key again"
        job: Any = build(loop.home).resolve_job_def(RETRAIN)
        done = job.execute_in_process(
            instance=instance, partition_key=request.partition_key, tags=request.tags, raise_on_error=False
        )
        assert done.success
        assert instance.get_run_by_id(done.run_id).tags[tags.OUTCOME] == tags.PROMOTED
        assert keys(tick(retrain_on_drift, instance, loop)) == []
    (row,) = retrains.of_domain(loop.registry(), "one")
    assert (row["state"], row["note"], row["number"]) == (retrains.DONE, "promoted", 2)
    assert [plan.version for plan in loop.registry().plans("one")] == ["v1", "v2"]


def test_a_version_that_a_gate_holds_ends_its_retrain_with_the_reason(loop, monkeypatch):
    import fake_stages

    monkeypatch.setattr("slm_assets.stages.plans.DEFAULT_PARAMS", {"train_fraction": fake_stages.HELD})
    loop.promoted()
    loop.window("outcome")
    with dg.DagsterInstance.ephemeral() as instance:
        (request,) = tick(retrain_on_drift, instance, loop).run_requests
        job: Any = build(loop.home).resolve_job_def(RETRAIN)
        arguments = {"instance": instance, "partition_key": request.partition_key, "tags": request.tags}
        assert not job.execute_in_process(**arguments, raise_on_error=False).success
        assert keys(tick(retrain_on_drift, instance, loop)) == []
    (row,) = retrains.of_domain(loop.registry(), "one")
    assert row["state"] == retrains.DONE and row["note"].startswith("held: eval_report, floor: triage: FAIL")


def test_schedules_are_those_of_the_configs_and_ask_through_the_same_decision(loop):
    for name, cron in (("two", "0 3 * * 0"), ("three", "not a cron"), ("four", "*/5 * * * *")):
        loop.add(name)
        loop.improve(name, f'schedule: "{cron}"')
    found = {one.name: one for one in build(loop.home).get_repository_def().schedule_defs}
    assert {name: one.cron_schedule for name, one in found.items()} == {
        "retrain_four": "*/5 * * * *", "retrain_two": "0 3 * * 0",
    }  # fmt: skip
    assert all(one.default_status == dg.DefaultScheduleStatus.RUNNING for one in found.values())
    at = datetime(2026, 11, 22, 3, tzinfo=UTC)
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(2):
            context = dg.build_schedule_context(instance, scheduled_execution_time=at)
            said = found["retrain_two"].evaluate_tick(context).skip_message
            assert "retrain_on_drift launches it" in said
        (request,) = tick(retrain_on_drift, instance, loop).run_requests
    assert request.run_key == "two-schedule-2026-11-22T03:00" and request.tags[tags.TRIGGER] == "schedule"
    (plan,) = loop.registry("two").plans("two")
    assert plan.reason == "schedule: 0 3 * * 0"


def test_every_sensor_of_the_loop_starts_switched_on(loop):
    found = {one.name: one for one in build(loop.home).get_repository_def().sensor_defs}
    names = {"watch_traffic", "watch_contracts", "retrain_on_drift", "send_alerts", "note_failed_runs"}
    assert names <= set(found)
    assert all(found[name].default_status == dg.DefaultSensorStatus.RUNNING for name in names)


def test_crons_are_read_again_only_when_a_file_changes(loop, monkeypatch):
    from slm_assets.stages.cadence import schedules

    loop.improve("one", 'schedule: "0 3 * * 0"')
    assert schedules.crons(loop.home, ["one"]) == {"one": "0 3 * * 0"}
    assert not loop.home.root.exists(), "loading makes no home"
    loop.home.root.mkdir()
    assert schedules.crons(loop.home, ["one"]) == {"one": "0 3 * * 0"}
    with monkeypatch.context() as patch:
        patch.setattr(schedules, "schedule_of", lambda *_names: pytest.fail("it was read again"))
        assert schedules.crons(loop.home, ["one"]) == {"one": "0 3 * * 0"}
    loop.edit("one", lambda text: text.replace("0 3 * * 0", "0 4 * * 0"))
    assert schedules.crons(loop.home, ["one"]) == {"one": "0 4 * * 0"}
    (loop.home.root / "cache" / "schedules.json").write_text(json.dumps({"one": 7}))
    assert schedules.crons(loop.home, ["one"]) == {"one": "0 4 * * 0"}
