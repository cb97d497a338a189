"""What is told, to a webhook that is a real server: at least once, in order, whatever happens to it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import fake_stages
import pytest
from loops import Loop

from slm_assets.automation import tags
from slm_assets.automation.alerts import note_failed_runs, send_alerts
from slm_assets.automation.jobs import RETRAIN
from slm_assets.automation.partitions import VERSIONS, key_of
from slm_assets.definitions import build
from slm_assets.errors import BadInputError
from slm_assets.registry import retrains


@dataclass
class Hook:
    """A webhook: what it got, and how it answers."""

    url: str
    got: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200

    @property
    def events(self) -> list[str]:
        return [alert["event"] for alert in self.got]


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if found.status == 200:
                found.got.append(json.loads(body))
            self.send_response(found.status)
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Hook(f"http://127.0.0.1:{server.server_port}/alerts?token=not-shown")
    monkeypatch.setenv("SLM_ALERT_WEBHOOK", found.url)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def tick(cursor: str | None = None) -> tuple[str, str]:
    """(the cursor after it, what the tick said)."""
    context = dg.build_sensor_context(cursor=cursor)
    said = send_alerts(context)
    return context.cursor or "", said.skip_message or ""


def happens(loop: Loop) -> None:
    """A promotion, and a retrain that is launched."""
    loop.promoted()
    row = retrains.ask(loop.registry(), "one", "w1", triggers=["outcome"], reason="outcome: up", actor="s", window=1)
    retrains.move(loop.registry(), row, retrains.DEFERRED, note="over budget: usd")
    retrains.move(loop.registry(), {**row, "state": "deferred"}, retrains.LAUNCHED, number=2)


def test_each_event_is_told_once_with_who_what_and_why(loop, hook):
    happens(loop)
    cursor, said = tick()
    assert said == "3 told"
    assert hook.events == ["version promoted", "retrain deferred", "retrain launched"]
    assert hook.got[1]["text"] == "one: retrain deferred: over budget: usd"
    assert hook.got[2]["text"] == "one v2: retrain launched: outcome: up"
    assert hook.got[0]["version"] == "v1" and hook.got[0]["actor"] == "ada"
    assert len({alert["id"] for alert in hook.got}) == 3
    assert tick(cursor)[1] == "0 told" and len(hook.got) == 3


@pytest.mark.parametrize("status", [500, 503, 429, 302])
def test_what_the_webhook_does_not_take_waits_for_it(loop, hook, status):
    happens(loop)
    hook.status = status
    cursor, said = tick()
    assert said == f"0 told ; the webhook answered {status}" and hook.got == []
    hook.status = 200
    tick(cursor)
    assert hook.events == ["version promoted", "retrain deferred", "retrain launched"]


def test_a_webhook_that_is_away_is_said_without_its_address(loop, hook, monkeypatch):
    happens(loop)
    monkeypatch.setenv("SLM_ALERT_WEBHOOK", "http://127.0.0.1:9/alerts?token=not-shown")
    cursor, said = tick()
    assert "the webhook is away: ConnectError" in said and "not-shown" not in said
    monkeypatch.setenv("SLM_ALERT_WEBHOOK", hook.url)
    tick(cursor)
    assert len(hook.got) == 3


def test_one_that_is_refused_for_good_keeps_no_other_back(loop, hook, caplog):
    happens(loop)
    hook.status = 400
    cursor, said = tick()
    assert said == "3 told" and "refused local/default/" in caplog.text
    assert "not-shown" not in caplog.text
    assert tick(cursor)[1] == "0 told"


@pytest.mark.parametrize("url", ["ftp://host/x", "no address", "https://user:secret@host/x"])
def test_an_address_that_is_none_is_a_fault_of_the_deployment(loop, monkeypatch, url):
    monkeypatch.setenv("SLM_ALERT_WEBHOOK", url)
    with pytest.raises(BadInputError, match="SLM_ALERT_WEBHOOK") as caught:
        tick()
    assert "secret" not in str(caught.value)


def test_without_a_webhook_the_log_has_it(loop, caplog):
    happens(loop)
    with caplog.at_level(logging.WARNING, "slm_assets.alerts"):
        tick()
    told = [json.loads(record.message) for record in caplog.records if record.name == "slm_assets.alerts"]
    assert [alert["event"] for alert in told] == ["version promoted", "retrain deferred", "retrain launched"]


def test_no_config_of_a_domain_names_the_address(loop):
    loop.improve("one", "alerts: {webhook: 'https://evil.example/x'}")
    from slm_assets.stages.validate import validate_domain

    assert any("alerts" in fault.path for fault in validate_domain(loop.home, "one") if fault.severity == "error")


@pytest.mark.parametrize(("fraction", "event"), [(fake_stages.HELD, "version held"), (fake_stages.BREAKS, "fault")])
def test_a_failed_run_is_told_as_held_or_as_a_fault(loop, hook, fraction, event):
    plan = fake_stages.opened(loop.home, "one", fraction)
    definitions = build(loop.home)
    job: Any = definitions.resolve_job_def(RETRAIN)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(VERSIONS.name, [plan.version])
        done = job.execute_in_process(
            instance=instance, partition_key=key_of("one", "v1"), tags={tags.DOMAIN: "one"}, raise_on_error=False
        )
        run = instance.get_run_by_id(done.run_id)
        context = dg.build_run_status_sensor_context(
            "note_failed_runs", dagster_instance=instance, dagster_run=run, dagster_event=done.get_run_failure_event()
        ).for_run_failure()
        note_failed_runs(context)
    tick()
    (alert,) = hook.got
    assert (alert["event"], alert["domain"], alert["version"]) == (event, "one", "v1")
    assert alert["detail"]["run_id"] == done.run_id
