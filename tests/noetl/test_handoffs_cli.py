"""`slm handoffs` as an operator uses it, and the sensor that does the same by itself."""

from __future__ import annotations

import sys
from pathlib import Path

import dagster as dg
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fake_server import FakeServer
from test_handoffs import WHOLE, arrived, chain

from slm_assets.automation.sensors import DeadLetterError, deliver_handoffs
from slm_assets.registry import outbox
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry
from tests.conftest import Workplace


def test_an_operator_sees_retries_skips_and_delivers(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(Home.from_env(workplace.home))
    chain(registry, "tiny", 1)
    refused = workplace.json("handoffs", "deliver", code=2)
    assert "NOETL_SERVER_URL names no server" in refused["error"]
    listed = workplace.json("handoffs", "list")
    assert listed["counts"] == {"waiting": WHOLE} and len(listed["handoffs"]) == WHOLE
    with FakeServer() as fake:
        monkeypatch.setenv("NOETL_SERVER_URL", fake.url)
        monkeypatch.setenv("NOETL_INTERNAL_API_TOKEN", "wrong")
        done = workplace.slm("handoffs", "deliver", "tiny")
        assert done.returncode == 1 and "HTTP 403: forbidden" in done.stdout and "wrong" not in done.stdout
        monkeypatch.setenv("NOETL_INTERNAL_API_TOKEN", "internal")
        assert workplace.json("handoffs", "deliver")["delivered"] == 0, "it waits before it tries again"
        first = outbox.rows(registry)[-1]["handoff"]
        assert workplace.json("handoffs", "retry", first[:8], "--by", "ada") == {"retried": [first]}
        skipped = outbox.rows(registry)[-2]["handoff"]
        arguments = ("skip", skipped[:8], "--by", "ada", "--reason", "a test")
        assert workplace.json("handoffs", *arguments) == {"skipped": [skipped]}
        assert workplace.json("handoffs", "deliver")["delivered"] == WHOLE - 1
        assert len(arrived(fake)) == WHOLE - 1 and set(arrived(fake).values()) == {1}
    counts = workplace.json("handoffs", "list", "--state", "skipped")
    assert counts["counts"] == {"delivered": WHOLE - 1, "skipped": 1} and counts["handoffs"][0]["error"] == "a test"
    assert workplace.json("handoffs", "prune", "--days", "0") == {"pruned": WHOLE - 1}
    assert "no state" in workplace.json("handoffs", "list", "--state", "lost", code=2)["error"]
    assert "no open handoff" in workplace.json("handoffs", "retry", "abcdef12", code=2)["error"]


def test_the_sensor_delivers_and_alarms_for_what_is_dead(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SLM_HOME", workplace.home), ("SLM_DOMAINS", workplace.domains)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("NOETL_SERVER_URL", raising=False)
    registry = Registry(Home.from_env())
    chain(registry, "tiny", 1)
    with dg.DagsterInstance.ephemeral() as instance, FakeServer() as fake:

        def tick() -> str:
            return str(deliver_handoffs.evaluate_tick(dg.build_sensor_context(instance=instance)).skip_message)

        assert "wait in the outbox" in tick()
        monkeypatch.setenv("NOETL_SERVER_URL", fake.url)
        monkeypatch.setenv("NOETL_INTERNAL_API_TOKEN", "internal")
        assert tick() == f"{WHOLE} delivered, 0 delayed"
        chain(registry, "tiny", 2)
        fake.raw["internal/registry/register"] = (422, b'{"error": "no"}', {})
        with pytest.raises(Exception, match="1 handoffs were refused") as caught:
            tick()
        assert isinstance(caught.value.__cause__ or caught.value, DeadLetterError)
        assert tick() == "0 delivered, 0 delayed", "it alarms once, and the domain waits"
