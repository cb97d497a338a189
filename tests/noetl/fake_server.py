"""A NoETL server for tests: the shapes and the awkward habits of the real one, over HTTP on the loopback.

Ids are JSON numbers above 2^53, an execution is 404 for its first polls, COMPLETED may hide a failed step,
some errors are plain text, registrations are never deduplicated, lists end at 100 and events at 2,000.
`faults` decides per call what goes wrong besides; `restart` closes every connection and keeps the state.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

KINDS = ("model", "dataset", "eval", "release")
DROP, LOSE, CUT, FAIL, FAIL_AFTER, BUSY, GARBAGE = "drop", "lose", "cut", "fail", "fail_after", "busy", "garbage"
"""Closed unanswered before or after the work; closed in mid-answer; 500 before or after; 429; not JSON."""

Fault = Callable[[str, str], str | None]


def random_faults(share: float, seed: int, kinds: tuple[str, ...] = (DROP, LOSE, CUT, FAIL, FAIL_AFTER, BUSY)) -> Fault:
    """That share of all calls goes wrong, each in a way drawn at random."""
    source, turn = random.Random(seed), threading.Lock()

    def fault(_method: str, _path: str) -> str | None:
        with turn:
            return source.choice(kinds) if source.random() < share else None

    return fault


@dataclass
class State:
    """What a restart does not lose."""

    catalog: list[dict[str, Any]] = field(default_factory=list)
    executions: dict[str, dict[str, Any]] = field(default_factory=dict)
    dedup: dict[str, str] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)
    ids: Any = field(default_factory=lambda: itertools.count((1 << 60) + 1))
    calls: Counter[str] = field(default_factory=Counter)
    headers: list[dict[str, str]] = field(default_factory=list)


class FakeServer:
    """Serves until `close`. `hidden`: polls for which a new execution is still 404. `on_execute` gets each
    new execution; the test ends it with `finish`."""

    def __init__(
        self,
        *,
        faults: Fault | None = None,
        hidden: int = 0,
        token: str | None = "internal",
        gateway: bool = False,
        registry: bool = True,
        on_execute: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.state, self.lock = State(), threading.RLock()
        self.faults, self.hidden, self.token, self.gateway, self.registry = faults, hidden, token, gateway, registry
        self.on_execute = on_execute
        self.raw: dict[str, tuple[int, bytes, dict[str, str]]] = {}
        """Path → an answer given as it is."""
        self._serve(0)

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _serve(self, port: int) -> None:
        fake = self

        class Handler(_Handler):
            server_state = fake

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients that vanish are part of the tests."""

        self._server = Quiet(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self._connections: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)

    def restart(self) -> None:
        port = self.port
        self.close()
        self._serve(port)

    # What a test sets up ----------------------------------------------------------------------------

    def started(
        self, path: str = "p", workload: dict[str, Any] | None = None, status: str = "RUNNING", catalog_id: str = "1"
    ) -> str:
        """An execution out of nowhere; returns its id."""
        with self.lock:
            name = str(next(self.state.ids))
            self.state.executions[name] = {
                "execution_id": name, "catalog_id": catalog_id, "path": path, "status": status,
                "workload": workload or {}, "events": [], "started_at": "2026-01-01T00:00:00Z", "hidden": self.hidden,
            }  # fmt: skip
        self.event(name, "playbook_started", None)
        return name

    def event(self, execution: str, kind: str, node: str | None, result: Any = None, **more: Any) -> str:
        with self.lock:
            number = next(self.state.ids)
            self.state.executions[execution]["events"].append(
                {"event_id": number, "event_type": kind, "node_name": node, "status": "COMPLETED",
                 "created_at": "2026-01-01T00:00:00Z", "result": result, "error": None, **more}
            )  # fmt: skip
            return str(number)

    def step(self, execution: str, node: str, *, exit_code: int = 0, **data: Any) -> str:
        """A shell or python step that ended: the outer status is COMPLETED whatever came out."""
        tool = {"status": "success" if exit_code == 0 else "error", "exit_code": exit_code, "duration_ms": 3, **data}
        return self.event(execution, "call.done", node, {"status": tool["status"], "context": tool})

    def finish(self, execution: str, status: str = "COMPLETED", node: str = "end") -> None:
        if status == "COMPLETED":
            self.step(execution, node)
        self.event(execution, f"playbook.{status.lower()}", None)
        self.state.executions[execution]["status"] = status

    # The routes -------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: dict[str, str], body: Any, headers: Any) -> tuple[int, Any]:
        parts = [unquote(part) for part in path.split("/")]
        match method, parts:
            case "POST", ["catalog", "register"]:
                return self._register(body)
            case "POST", ["catalog", "resource"]:
                return self._resource(body)
            case "POST", ["execute"]:
                return self._execute(body)
            case "GET", ["executions"]:
                return 200, self._list(query)
            case "GET", ["executions", name]:
                return self._execution(name)
            case "GET", ["executions", name, "status"]:
                return self._status(name)
            case "POST", ["executions", name, "cancel"]:
                return self._cancel(name)
            case _, ["internal", *rest]:
                if self.token is None:
                    return 503, "internal API disabled"
                if headers.get("authorization") != f"Bearer {self.token}":
                    return 403, "forbidden"
                return self._registry(method, rest, query, body)
        return 404, {"error": "not found", "status": 404}

    def _register(self, body: Any) -> tuple[int, Any]:
        content = base64.b64decode(body["content"]).decode()
        book = yaml.safe_load(content)
        path = book["metadata"].get("path") or book["metadata"]["name"]
        version = 1 + sum(entry["path"] == path for entry in self.state.catalog)
        entry = {"path": path, "version": version, "catalog_id": str(next(self.state.ids)), "content": content}
        self.state.catalog.append(entry)
        told = {k: v for k, v in entry.items() if k != "content"}
        return 200, {"status": "success", "message": f"Resource '{path}' registered.", "kind": "playbook", **told}

    def _resource(self, body: Any) -> tuple[int, Any]:
        there = [entry for entry in self.state.catalog if entry["path"] == body["path"]]
        return (200, there[-1]) if there else (404, {"error": "Catalog entry not found", "status": 404})

    def _execute(self, body: Any) -> tuple[int, Any]:
        key = body.get("dedup", {}).get("key")
        if key in self.state.dedup:
            return 200, {"execution_id": self.state.dedup[key], "status": "duplicate", "commands_generated": 0}
        if "catalog_id" in body:
            if not isinstance(body["catalog_id"], int):
                return 422, "Failed to deserialize the JSON body: catalog_id: invalid type: string, expected i64"
            books = [b for b in self.state.catalog if b["catalog_id"] == str(body["catalog_id"])]
        else:
            books = [b for b in self.state.catalog if b["path"] == body["path"]]
        if not books:
            return 404, {"error": "playbook not found", "status": 404}
        book = books[-1]
        workload = {**(yaml.safe_load(book["content"]).get("workload") or {}), **(body.get("payload") or {})}
        name = self.started(book["path"], workload, catalog_id=book["catalog_id"])
        if key:
            self.state.dedup[key] = name
        if self.on_execute:
            self.on_execute({**self.state.executions[name], "content": book["content"]})
        return 200, {"execution_id": name, "status": "started", "commands_generated": 1}

    def _list(self, query: dict[str, str]) -> list[dict[str, Any]]:
        limit = min(int(query.get("limit", 50)), 100)
        offset = int(query.get("offset", 0))
        rows = [
            {**{k: e.get(k) for k in ("path", "status", "started_at")}, "execution_id": int(e["execution_id"]),
             "catalog_id": int(e["catalog_id"]), "completed_at": None, "event_count": len(e["events"])}
            for e in reversed(self.state.executions.values())
            if query.get("status") in (None, e["status"]) and query.get("path") in (None, e["path"])
        ]  # fmt: skip
        return rows[offset : offset + limit]

    def _execution(self, name: str) -> tuple[int, Any]:
        found = self.state.executions.get(name)
        if found is None or found["hidden"] > 0:
            return 404, {"error": "execution not found", "status": 404}
        shown = {k: v for k, v in found.items() if k != "hidden"}
        # newest first, and no way to ask for the others
        return 200, {**shown, "execution_id": int(name), "events": found["events"][-2_000:][::-1]}

    def _status(self, name: str) -> tuple[int, Any]:
        found = self.state.executions.get(name)
        if found is None or found["hidden"] > 0:
            if found:
                found["hidden"] -= 1
            return 404, {"error": "execution not found", "status": 404}
        ended = [e for e in found["events"] if e["event_type"] == "call.done"]
        progress = {"total_steps": 3, "completed_steps": len(ended), "running_steps": 0, "failed_steps": 0}
        cancelled = found["status"] == "CANCELLED"
        status = "RUNNING" if cancelled else found["status"]
        return 200, {"execution_id": int(name), "status": status, "current_step": None, "progress": progress,
                     "is_cancelled": cancelled}  # fmt: skip

    def _cancel(self, name: str) -> tuple[int, Any]:
        found = self.state.executions.get(name)
        if found is None:
            return 404, {"error": "execution not found", "status": 404}
        if found["status"] != "RUNNING":
            return 422, {"error": f"execution {name} is already terminal", "status": 422}
        found["status"] = "CANCELLED"
        return 200, {"execution_id": int(name), "status": "cancelled", "message": "cancelled"}

    def _registry(self, method: str, rest: list[str], query: dict[str, str], body: Any) -> tuple[int, Any]:
        if not self.registry:
            return 404, {"error": "registry disabled"}
        if (method, rest) == ("GET", ["registry", "list"]):
            keys = ("tenant", "project", "kind", "name")
            found = [e for e in self.state.entries if all(query.get(k) in (None, e[k]) for k in keys)]
            return 200, {"entries": found[::-1][: min(int(query.get("limit", 100)), 1000)]}
        if (method, rest) == ("POST", ["registry", "register"]):
            if body.get("kind") not in KINDS or not body.get("name"):
                return 400, {"error": f"bad kind {body.get('kind')!r}", "status": 400}
            scope = {"tenant": body.get("tenant") or "default", "project": body.get("project") or "default"}
            keys = {**scope, "kind": body["kind"], "name": body["name"]}
            version = 1 + sum(all(e[k] == v for k, v in keys.items()) for e in self.state.entries)
            urn = "registry://{tenant}/{project}/{kind}/{name}/".format(**keys) + str(version)
            entry = {**body, **keys, "ref": urn, "entry_id": next(self.state.ids), "version": version}
            self.state.entries.append(entry)
            return 200, entry
        return 404, {"error": "not found"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: FakeServer
    disable_nagle_algorithm = True

    def log_message(self, *_arguments: Any) -> None:
        """Silent."""

    def setup(self) -> None:
        super().setup()
        self.server_state._connections.add(self.connection)

    def finish(self) -> None:
        self.server_state._connections.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        self._do("GET")

    def do_POST(self) -> None:
        self._do("POST")

    def _do(self, method: str) -> None:
        fake = self.server_state
        length = int(self.headers.get("content-length") or 0)
        data = self.rfile.read(length)
        parts = urlsplit(self.path)
        prefix = "/noetl/" if fake.gateway else "/api/"
        path = parts.path.removeprefix(prefix) if parts.path.startswith(prefix) else "?"
        fault = fake.faults(method, path) if fake.faults else None
        if fault == DROP:
            self._gone()
            return
        if fault in (FAIL, BUSY):
            self._send(500 if fault == FAIL else 429, "overloaded")
            return
        with fake.lock:
            fake.state.calls[f"{method} {path}"] += 1
            fake.state.headers.append({k.lower(): v for k, v in self.headers.items()})
            if path in fake.raw:
                status, raw, more = fake.raw[path]
                self._raw(status, raw, more)
                return
            query = {k: v[0] for k, v in parse_qs(parts.query).items()}
            status, value = fake.answer(method, path, query, json.loads(data) if data else None, self.headers)
        if fault == LOSE:
            self._gone()
        elif fault == FAIL_AFTER:
            self._send(500, {"error": "the answer could not be sent", "status": 500})
        elif fault == GARBAGE:
            self._raw(200, b"<html>\xff\xfe{{ 7*7 }}</html>", {})
        else:
            self._send(status, value, cut=fault == CUT)

    def _gone(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, status: int, value: Any, *, cut: bool = False) -> None:
        plain = isinstance(value, str)
        data = value.encode() if plain else json.dumps(value).encode()
        kind = {"content-type": "text/plain" if plain else "application/json"}
        if not cut:
            self._raw(status, data, kind)
            return
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        self.wfile.flush()
        self._gone()

    def _raw(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
