"""The server client against a fake server, or against the real one that NOETL_SERVER_URL names."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import fake_server
from fake_server import FakeServer, random_faults

from slm_assets.noetl import wire
from slm_assets.noetl.address import Address, address_from_env
from slm_assets.noetl.protocol import NoetlError, ProtocolError, ending
from slm_assets.noetl.server import Server
from slm_assets.noetl.wire import Clock

REAL = address_from_env()
PATH = f"slm/tests/contract_{uuid.uuid4().hex[:8]}"
BOOK = f"""\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: contract, path: {PATH}}}
workload: {{greeting: none}}
workflow:
  - {{step: start, tool: {{kind: noop}}, next: {{arcs: [{{step: end}}]}}}}
  - {{step: end, tool: {{kind: noop}}}}
"""


class Hurried:
    """A clock whose sleeps take no time and are all counted."""

    def __init__(self) -> None:
        self.at, self.slept = 0.0, []

    def clock(self) -> Clock:
        return Clock(lambda: self.at, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds


@pytest.fixture
def time() -> Hurried:
    return Hurried()


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


def client(fake: FakeServer, time: Hurried, **more) -> Server:
    more = {"internal_token": "internal"} | more
    return Server(Address(fake.url, **more), timeout_s=5, clock=time.clock())


@pytest.fixture
def server(request: pytest.FixtureRequest, time: Hurried) -> Iterator[Server]:
    """The real server where one is named, else the fake one, ending executions at once."""
    if REAL:
        with Server(REAL) as found:
            yield found
        return
    with FakeServer(hidden=2) as fake:
        fake.on_execute = lambda execution: fake.finish(execution["execution_id"])
        with client(fake, time) as found:
            yield found


# The contract, on either server ---------------------------------------------------------------------


def test_a_playbook_is_registered_once_per_content(server):
    first = server.register(PATH, BOOK)
    assert server.register(PATH, BOOK) == first
    changed = server.register(PATH, BOOK.replace("none", "other"))
    assert changed.version == first.version + 1 and changed.catalog_id != first.catalog_id


def test_an_execution_starts_once_per_key_and_is_followed_to_its_end(server):
    playbook, key = server.register(PATH, BOOK), uuid.uuid4().hex
    started = server.execute(playbook, {"greeting": "$(id) {{ 7*7 }}"}, dedup=key)
    assert not started.repeated
    assert server.execute(playbook, {}, dedup=key).execution == started.execution
    assert server.execute(playbook, {}, dedup=key).repeated
    execution = server.wait(started.execution, deadline_s=60)
    assert ending(execution).state == "done" and execution.path == PATH
    assert execution.workload.get("greeting") == "$(id) {{ 7*7 }}"
    assert not server.cancel(started.execution), "it had ended"
    assert started.execution in {row.execution for row in server.page(path=PATH)}
    assert server.status("1") is None


@pytest.mark.skipif(bool(REAL) and not os.environ.get("NOETL_INTERNAL_API_TOKEN"), reason="no registry token")
def test_registry_entries_come_back_newest_first(server):
    name = f"d{uuid.uuid4().hex[:8]}"
    scope = {"tenant": "t", "project": "p", "kind": "dataset", "name": name}
    urns = [server.registry_register({**scope, "metadata": {"n": n}}) for n in (1, 2)]
    assert urns == [f"registry://t/p/dataset/{name}/{n}" for n in (1, 2)]
    assert [entry["metadata"]["n"] for entry in server.registry_list(**scope)] == [2, 1]


# The awkward and the broken, on the fake one --------------------------------------------------------


@pytest.mark.parametrize("fault", [fake_server.LOSE, fake_server.CUT, fake_server.FAIL_AFTER])
def test_a_registration_whose_answer_is_lost_is_found_not_repeated(fake, time, fault):
    lost = iter([fault])
    fake.faults = lambda _method, path: next(lost, None) if path == "catalog/register" else None
    with client(fake, time) as server:
        assert server.register(PATH, BOOK).version == 1
    assert len(fake.state.catalog) == 1


def test_with_a_third_of_all_calls_going_wrong_everything_happens_once(fake, time):
    fake.faults = random_faults(0.33, seed=7)
    fake.on_execute = lambda execution: fake.finish(execution["execution_id"])
    with client(fake, time) as server:
        for number in range(20):
            while True:
                try:
                    playbook = server.register(PATH, BOOK)
                    started = server.execute(playbook, {}, dedup=f"k{number}")
                    assert server.wait(started.execution, deadline_s=1_000).status == "completed"
                    break
                except ProtocolError:
                    raise
                except NoetlError as error:
                    assert error.status in (None, 429, 500)
    assert len(fake.state.catalog) == 1 and len(fake.state.executions) == 20


def test_what_cannot_be_asked_twice_is_asked_once(fake, time):
    fake.faults = lambda _method, path: fake_server.LOSE if path.startswith("internal") else None
    entry = {"tenant": "t", "project": "p", "kind": "dataset", "name": "d"}
    with client(fake, time) as server, pytest.raises(NoetlError) as caught:
        server.registry_register(entry)
    assert caught.value.acted and len(fake.state.entries) == 1 and time.slept == []
    fake.faults = lambda _method, path: fake_server.BUSY
    with client(fake, time) as server, pytest.raises(NoetlError, match="429") as caught:
        server.registry_register(entry)
    assert not caught.value.acted and len(time.slept) == wire.ATTEMPTS - 1, "a 429 comes before any work"


def test_a_server_that_is_away_is_waited_for(fake, time):
    name = fake.started()
    with client(fake, time) as server:
        fake.close()

        def back(seconds: float) -> None:
            time.at += seconds
            if time.at > 30:
                fake._serve(fake.port)
                fake.finish(name)
                server.clock = time.clock()

        server.clock = Clock(lambda: time.at, back)
        server._wire.clock = Clock(lambda: time.at, time.sleep)
        assert server.wait(name, deadline_s=3_600).status == "completed"


def test_waiting_ends_at_the_deadline_and_for_what_never_was(fake, time):
    name = fake.started()
    with client(fake, time) as server:
        with pytest.raises(NoetlError, match=f"{name} has not ended after 100 s"):
            server.wait(name, deadline_s=100)
        assert len(time.slept) < 25, "pauses grow"
        with pytest.raises(NoetlError, match="does not know it"):
            server.wait("42", deadline_s=1_000)
        assert server.cancel(name) and server.wait(name, deadline_s=1).status == "cancelled"


def test_gateway_headers_prefix_and_the_tokens_stay_where_they_belong(time):
    with FakeServer(gateway=True) as fake:
        fake.started()
        with client(fake, time, gateway=True, session_token="session") as server:
            assert len(server.page()) == 1
            server.registry_list(tenant="t", project="p", kind="dataset", name="d")
        plain, internal = fake.state.headers
        assert plain["authorization"] == "Bearer session" and plain["x-session-token"] == "session"
        assert internal["authorization"] == "Bearer internal" and internal["x-session-token"] == "session"
        with client(fake, time, internal_token="wrong") as server:
            server.address.__dict__["gateway"] = True
            with pytest.raises(NoetlError, match="HTTP 403: forbidden") as caught:
                server.registry_list(tenant="t", project="p", kind="dataset", name="d")
            assert "wrong" not in str(caught.value)
    disabled = pytest.raises(NoetlError, match="HTTP 503: internal API disabled")
    with FakeServer(token=None) as fake, client(fake, time) as server, disabled:
        server.registry_list(tenant="t", project="p", kind="dataset", name="d")


@pytest.mark.parametrize(
    ("status", "body", "headers", "said"),
    [
        (200, b"<html>{{ 7*7 }}\xff</html>", {}, r"not JSON.*\{\{ 7\*7 \}\}"),
        (200, b'{"execution_id": "1; rm -rf /", "status": "started"}', {}, "expected a number as execution_id"),
        (200, b"[1, 2]", {}, "expected an object"),
        (200, b"x" * (wire.MAX_BYTES + 1), {}, "longer than 32 MiB"),
        (200, b"\x1f\x8b", {"content-encoding": "gzip"}, "encoded as 'gzip'"),
        (302, b"", {"location": "http://169.254.169.254/"}, "HTTP 302"),
        (204, b"", {}, "HTTP 204"),
        (422, b"Failed to deserialize the JSON body", {}, "HTTP 422: Failed to deserialize"),
    ],
)
def test_hostile_answers_are_clear_errors(fake, time, status, body, headers, said):
    fake.raw["execute"] = (status, body, headers)
    with client(fake, time) as server, pytest.raises(NoetlError, match=said):
        server.execute_path("p", {}, dedup="k")
    assert fake.state.calls["POST execute"] == 1, "none of these is worth another try"


def test_wrong_shapes_in_lists_are_errors(fake, time):
    fake.raw["executions"] = (200, b'[{"execution_id": null}]', {})
    with client(fake, time) as server, pytest.raises(ProtocolError, match="execution_id"):
        server.page()
