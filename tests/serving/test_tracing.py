"""One trace from a request, or a run, to the stage and the execution elsewhere; ids in the logs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from slm_assets import tracing
from slm_assets.engines.in_process import make_cell
from slm_assets.errors import BadInputError
from slm_assets.stages.plans import open_domain, open_version
from slm_assets.stages.traffic.reader import captured_turns

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
SURE = {"text": "where is my parcel"}


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Spans that are collected in this process."""
    found = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(found))
    tracing.use(provider)
    yield found
    tracing.use(None)


def test_a_request_without_a_trace_and_a_collector_is_as_before(home, serve):
    service = serve(home)
    answer = service.post("/v1/tiny/triage", SURE)
    assert answer.status_code == 200 and "traceparent" not in answer.headers


@pytest.mark.parametrize("hostile", ["", "x", PARENT + "\n", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "9" * 5000])
def test_what_is_no_trace_is_nothing(home, serve, hostile):
    answer = serve(home).post("/v1/tiny/triage", SURE, headers={"traceparent": hostile.replace("\n", "")[:4000] + "z"})
    assert answer.status_code == 200 and "traceparent" not in answer.headers
    assert tracing.valid(hostile) == ""


def test_a_callers_trace_is_handed_back_and_kept_with_the_turn(home, serve):
    service = serve(home)
    answer = service.post("/v1/tiny/triage", SURE, headers={"traceparent": PARENT})
    assert answer.headers["traceparent"] == PARENT, "nobody collects spans: the caller's own stays the innermost"
    service.post("/v1/tiny/triage", SURE)
    service.recorder.close()
    first, second = captured_turns(home.root / "capture", [])
    assert first["turn_id"] == answer.json()["turn_id"] and first["trace"] == TRACE
    assert "trace" not in second


def test_with_a_collector_a_request_is_a_span_of_the_callers_trace(home, serve, spans):
    service = serve(home)
    answer = service.post("/v1/tiny/triage", SURE, headers={"traceparent": PARENT})
    (span,) = spans.get_finished_spans()
    assert f"{span.context.trace_id:032x}" == TRACE and f"{span.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert answer.headers["traceparent"] == f"00-{TRACE}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"
    told = dict(span.attributes)
    assert told["slm.turn_id"] == answer.json()["turn_id"] and told["http.response.status_code"] == 200
    assert SURE["text"] not in json.dumps(told), "ids only"
    alone = service.post("/v1/tiny/triage", SURE)
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", alone.headers["traceparent"])


def test_a_stage_is_a_span_of_the_trace_in_its_envelope(home, registry, spans):
    domain, _ = open_domain(home, "tiny")
    plan = open_version(domain, registry, actor="tester", params={"train_fraction": 0.9})
    with tracing.span("asked for", parent=PARENT):
        made = make_cell(registry, plan, "dataset", actor="tester", run_id="run-7")
    assert made.receipt.status == "succeeded"
    stage, asked = spans.get_finished_spans()
    assert (stage.name, asked.name) == ("stage dataset", "asked for")
    assert f"{stage.context.trace_id:032x}" == TRACE and stage.parent.span_id == asked.context.span_id
    told = dict(stage.attributes)
    assert (told["slm.run_id"], told["slm.version"], told["slm.status"]) == ("run-7", plan.version, "succeeded")


def test_a_trace_changes_no_request_and_no_output(home, registry):
    domain, _ = open_domain(home, "tiny")
    plan = open_version(domain, registry, actor="tester", params={"train_fraction": 0.8})
    first = make_cell(registry, plan, "dataset", actor="tester")
    with tracing.span("again", parent=PARENT):
        second = make_cell(registry, plan, "dataset", actor="tester")
    assert second.cached and second.receipt == first.receipt


def test_a_run_of_its_own_has_the_trace_of_its_id():
    run = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
    assert tracing.trace_id(tracing.of_run(run)) == run.replace("-", "")
    assert tracing.of_run("not-a-run") == ""


def test_a_collector_without_the_extra_is_told_with_its_cure(monkeypatch):
    tracing.use(None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(BadInputError, match="names a collector") as refused:
        tracing.enabled()
    assert "slm-assets[otel]" in refused.value.cure
    tracing.use(None)


def test_a_stage_in_a_process_of_its_own_logs_json_with_its_ids(home, registry, tmp_path):
    """As a pod runs it: trace from the environment, structured log on standard error, nothing exported."""
    domain, _ = open_domain(home, "tiny")
    plan = open_version(domain, registry, actor="tester", params={"train_fraction": 0.7})
    place = {"SLM_HOME": str(home.root), "SLM_DOMAINS": str(home.domains)}
    env = {**os.environ, **place, "SLM_LOG": "json", "TRACEPARENT": PARENT}
    arguments = ["stage", "run", "dataset", "--domain", "tiny", "--version", plan.version]
    done = subprocess.run(
        [sys.executable, "-m", "slm_assets.cli", *arguments, "--run-dir", str(tmp_path / "out"), "--run-id", "run-9"],
        env=env, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in map(_parsed, done.stderr.splitlines()) if line.get("event") == "stage ended"]
    assert {name: line[name] for name in ("trace_id", "run_id", "domain", "version", "stage", "status")} == {
        "trace_id": TRACE, "run_id": "run-9", "domain": "tiny", "version": plan.version, "stage": "dataset",
        "status": "succeeded",
    }  # fmt: skip


def _parsed(line: str) -> dict[str, Any]:
    return json.loads(line) if line.startswith("{") else {}


def test_nothing_of_opentelemetry_is_imported_where_nobody_collects():
    script = (
        "import sys; from slm_assets import tracing\n"
        "with tracing.span('x', parent=sys.argv[1]): assert tracing.current() == sys.argv[1]\n"
        "assert not [m for m in sys.modules if m.startswith('opentelemetry')]"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    subprocess.run([sys.executable, "-c", script, PARENT], env=env, check=True)
