"""An OpenAI-compatible server for tests, over HTTP on the loopback: it bills what it answers, and fails as told.

`say` makes the text of an answer from the input of a turn; `fault` decides per request what goes wrong besides.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[[dict[str, Any]], int | str | None]
"""A request's body → a status to fail with, DROP (closed unanswered), SLOW (never answered in time), or None."""
DROP, SLOW, HUGE, GARBAGE, ZIPPED, MOVED = "drop", "slow", "huge", "garbage", "zipped", "moved"


def random_faults(share: float, seed: int, kinds: tuple[int | str, ...] = (429, 500, 503, 529)) -> Fault:
    """That share of all requests goes wrong, each in a way drawn at random."""
    source, turn = random.Random(seed), threading.Lock()

    def fault(_body: dict[str, Any]) -> int | str | None:
        with turn:
            return source.choice(kinds) if source.random() < share else None

    return fault


@dataclass
class FakeOpenAI:
    """`bodies`: every request; `answered`: the user's message → how often it was answered; `billed`: tokens in all."""

    say: Callable[[Any, dict[str, Any]], str]
    fault: Fault = lambda _body: None
    usage: bool = True
    models: tuple[str, ...] = ("m-large",)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    billed: int = 0
    flying: int = 0
    most_flying: int = 0
    on_answer: Callable[[int], None] = lambda _count: None
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> FakeOpenAI:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                fake.handle(self)

            def do_GET(self) -> None:
                found = {"object": "list", "data": [{"id": m, "object": "model"} for m in fake.models]}
                there = self.path == "/v1/models"
                fake.send(self, 200 if there else 404, json.dumps(found if there else {}).encode())

            def log_message(self, *_words: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.host}/v1"

    def handle(self, call: BaseHTTPRequestHandler) -> None:
        body = json.loads(call.rfile.read(int(call.headers["content-length"])))
        with self.lock:
            self.bodies.append(body)
            self.headers.append({name.lower(): value for name, value in call.headers.items()})
            self.flying += 1
            self.most_flying = max(self.flying, self.most_flying)
        try:
            self._handle(call, body)
        except (BrokenPipeError, ConnectionResetError):
            call.close_connection = True
        finally:
            with self.lock:
                self.flying -= 1

    def _handle(self, call: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        fault = self.fault(body) if call.path == "/v1/chat/completions" else 404
        if isinstance(fault, int):
            self.send(call, fault, json.dumps({"error": {"message": f"no: {fault}"}}).encode())
        elif fault in (DROP, SLOW):
            if fault == SLOW:
                self.over.wait(30)
            call.close_connection = True
            call.connection.close()
        elif fault == HUGE:
            self.send(call, 200, b'{"choices": [{"message": {"content": "' + b"x" * (5 << 20) + b'"}}]}')
        elif fault == GARBAGE:
            self.send(call, 200, b"<html>a proxy's page</html>")
        elif fault == ZIPPED:
            self.send(call, 200, b"\x1f\x8b", {"content-encoding": "gzip"})
        elif fault == MOVED:
            self.send(call, 307, b"", {"location": "http://127.0.0.1:1/v1/chat/completions"})
        else:
            self._answer(call, body)

    def _answer(self, call: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        user = body["messages"][-1]["content"]
        text = self.say(json.loads(user), body)
        tokens_in, tokens_out = sum(len(m["content"]) for m in body["messages"]) // 4, max(1, len(text) // 4)
        with self.lock:
            self.answered[user] += 1
            self.billed += tokens_in + tokens_out
            count = sum(self.answered.values())
        self.on_answer(count)
        message = {"role": "assistant", "content": text}
        found: dict[str, Any] = {
            "id": "x", "object": "chat.completion", "created": 1, "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }  # fmt: skip
        if self.usage:
            found["usage"] = {
                "prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out,
            }  # fmt: skip
        self.send(call, 200, json.dumps(found).encode())

    def send(self, call: BaseHTTPRequestHandler, status: int, data: bytes, more: dict[str, str] | None = None) -> None:
        call.send_response(status)
        headers = {"content-type": "application/json", "content-length": str(len(data)), **(more or {})}
        for name, value in headers.items():
            call.send_header(name, value)
        call.end_headers()
        call.wfile.write(data)
