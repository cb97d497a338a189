"""What a server says is understood, or refused as what it is; nothing in it runs, and no lie is a success."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slm_assets.errors import BadInputError
from slm_assets.noetl import protocol
from slm_assets.noetl.address import address_from_env
from slm_assets.noetl.protocol import Execution, ProtocolError

HOSTILE = ["'; rm -rf /", "$(id)", "`id`", "{{ 7*7 }}", "a\nb", "..", "x" * 100_000, "\ud83d", "\0", "<script>"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.sampled_from(HOSTILE),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["execution_id", "status", "events", "workload", "path", "event_id", "event_type", "node_name", "result", "context",
     "exit_code", "error", "is_cancelled", "progress", "failed_steps", "created_at"]
)  # fmt: skip
SHAPED = st.recursive(
    JSON | st.sampled_from(["COMPLETED", "call.done", "end", "success", 1 << 60]),
    lambda inner: st.dictionaries(KEYS, inner, max_size=8) | st.lists(inner, max_size=3),
    max_leaves=30,
)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, (1 << 63) - 1))
def test_ids_survive_as_numbers_and_as_text(number):
    for form in (str(number), json.dumps(str(number))):
        assert protocol.identifier(protocol.parse(form.encode())) == str(number)


@pytest.mark.parametrize("value", [None, True, 1.0, -1, 1 << 63, "", "1e3", "²", "1/../2", "9" * 19 + "9" * 4, [1], {}])
def test_what_is_no_id_is_refused(value):
    with pytest.raises(ProtocolError, match="expected a number"):
        protocol.identifier(value)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_bytes_are_json_or_a_clear_error(data):
    try:
        value = protocol.parse(data)
    except ProtocolError as error:
        assert "not JSON" in str(error)
    else:
        assert json.loads(data) == value


@pytest.mark.parametrize("data", [b"[" * 200_000, b"NaN", b"\xff\xfe", b"<html>", b"", b"9" * 10_000])
def test_answers_that_break_parsers_are_errors(data):
    with pytest.raises(ProtocolError, match="not JSON"):
        protocol.parse(data)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(SHAPED)
def test_no_answer_breaks_the_reading_and_none_is_a_success_by_accident(value):
    try:
        execution = protocol.execution_of(value)
    except ProtocolError:
        return
    assert isinstance(execution, Execution) and execution.id.isdigit()
    found = protocol.ending(execution, final="end")
    if found.state == "done":
        assert execution.status == "completed"
        assert all(step.status == "completed" for step in execution.steps)
    with contextlib.suppress(ProtocolError):
        assert protocol.overall(value) in ("running", "completed", "failed", "cancelled", "unknown")


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.integers(100, 599), st.binary(max_size=400) | st.sampled_from([h.encode("utf-8", "replace") for h in HOSTILE])
)
def test_an_error_answer_is_one_short_printable_line(status, body):
    said = protocol.refusal(status, body)
    assert said.startswith(f"HTTP {status}: ") and len(said) < 340 and said.isprintable()


@pytest.mark.parametrize(
    ("said", "meant"),
    [("COMPLETED", "completed"), ("success", "completed"), ("FAILED", "failed"), ("error", "failed"),
     ("timeout", "failed"), ("CANCELLED", "cancelled"), ("RUNNING", "running"), ("duplicate", "running"),
     ("nonsense", "unknown"), (None, "unknown"), (7, "unknown")],
)  # fmt: skip
def test_one_vocabulary(said, meant):
    assert protocol.status_of(said) == meant


def page(status="COMPLETED", *events, **more):
    listed = [{"event_id": n, "event_type": "call.done", **e} for n, e in enumerate(events, 1)]
    return protocol.execution_of({"execution_id": 1 << 60, "status": status, "events": listed[::-1], **more})


def done(node, **tool):
    return {"node_name": node, "status": "COMPLETED", "result": {"status": tool.get("status"), "context": tool}}


def test_completed_with_a_failed_step_is_a_failure():
    good, end = done("a", status="success", exit_code=0), done("end", status="success")
    assert protocol.ending(page("COMPLETED", good, end), "end").state == "done"
    for bad in (
        done("a", status="success", exit_code=1, stderr="boom"),
        done("a", status="error", error="boom"),
        {"node_name": "a", "result": {"status": "FAILED", "context": {"terminal_state": "failed_oom"}}},
        {"node_name": "a", "result": {"context": {"result": {"context": {"status": "timeout", "error": "boom"}}}}},
        {"node_name": "a", "event_type": "call.error", "error": "boom"},
    ):
        found = protocol.ending(page("COMPLETED", bad, end), "end")
        assert found.state == "failed" and "step a" in found.reason, bad
        assert protocol.ending(page("COMPLETED", bad, good, end), "end").state == "done", "a retry that worked"
    assert "never came to its step end" in protocol.ending(page("COMPLETED", good), "end").reason
    assert protocol.ending(page("RUNNING", good)).state == "running"
    assert protocol.ending(page("RUNNING", is_cancelled=True)).state == "cancelled"
    assert protocol.overall({"status": "COMPLETED", "progress": {"failed_steps": 1}}) == "failed"


@pytest.mark.parametrize(
    ("url", "said"),
    [("ftp://h", "no address"), ("http://user:pass@h", "credentials"), ("http://noetl.example:8082", "plain http"),
     ("https://h/?q=1", "query"), ("https://h:99999", "no address"), ("https://[", "no address"), ("h:1", "no address"),
     ("https://h\n.evil", "no address")],
)  # fmt: skip
def test_an_address_that_is_none_or_unsafe_is_refused_without_its_secrets(url, said):
    with pytest.raises(BadInputError, match=said) as caught:
        address_from_env({"NOETL_SERVER_URL": url})
    assert "pass" not in str(caught.value)


def test_addresses_that_are_meant(monkeypatch):
    assert address_from_env({}) is None
    for url in ("https://h", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1/base/"):
        assert address_from_env({"NOETL_SERVER_URL": url}).url == url.rstrip("/")
    plain = {"NOETL_SERVER_URL": "http://noetl:8082", "NOETL_ALLOW_HTTP": "1", "NOETL_SESSION_TOKEN": "s3cret"}
    found = address_from_env(plain)
    assert found.prefix == "/api" and found.headers(internal=True) == {} and "s3cret" not in repr(found)
    with pytest.raises(BadInputError, match="NOETL_SESSION_TOKEN"):
        address_from_env({**plain, "NOETL_SESSION_TOKEN": "a\nb: c"})
