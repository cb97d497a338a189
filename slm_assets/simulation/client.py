"""The service as its callers see it: one connection, kept open, for one thread.

The standard library's client: the generator runs beside the service it loads, and httpx costs four times its CPU per
request.
"""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson

from slm_assets.canonical import Json
from slm_assets.domain.secrets import is_loopback, secret, url_fault
from slm_assets.errors import BadInputError, SlmError

TIMEOUT = 30.0
IDLE = 10.0
"""Seconds after which an unused connection is opened anew, before the other end closes it in the middle of a
request that must not be sent twice."""


@dataclass(frozen=True)
class Target:
    """A service and the token for it, which is never shown."""

    scheme: str
    host: str
    port: int | None
    base: str
    token: str = field(default="", repr=False)


class RequestFailedError(SlmError):
    """No answer, or one that is none: `code` tells them apart in counts."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


def target(url: str, token_alias: str | None) -> Target:
    """Where `url` leads. BadInputError for what is no address, or would send a token readable."""
    if parts := url_fault(url):
        raise BadInputError(f"--url: {parts['message']}", cure=parts.get("expected") or "leave them out: --token ALIAS")
    split = urlsplit(url)
    host = split.hostname or ""
    try:
        port = split.port
    except ValueError:
        raise BadInputError("--url: no such port", cure="such as http://127.0.0.1:8080") from None
    if token_alias is not None and split.scheme == "http" and not is_loopback(host):
        raise BadInputError("--url: a token would travel readable to another machine", cure="use https")
    token = "" if token_alias is None else secret(token_alias, os.environ)
    return Target(split.scheme, host, port, split.path.rstrip("/"), token)


class Client:
    """A caller of one service."""

    def __init__(self, where: Target) -> None:
        self._where = where
        kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(where.host, where.port, timeout=TIMEOUT)
        self._headers = {"content-type": "application/json"}
        if where.token:
            self._headers["authorization"] = f"Bearer {where.token}"
        self._used = time.monotonic()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def greet(self) -> None:
        """Whether anything answers. RequestFailedError."""
        self._send("GET", "/healthz", None, {})

    def ask(self, domain: str, turn: bytes, conversation: str, user: str) -> dict[str, Any]:
        """The answer to a whole turn, given as JSON: turn_id and roles. RequestFailedError."""
        answer = self._send("POST", f"/v1/{domain}", turn, {"X-Conversation-Id": conversation, "X-User-Id": user})
        if not isinstance(answer.get("turn_id"), str) or not isinstance(answer.get("roles"), dict):
            raise RequestFailedError("shape", "the answer is not that of this service")
        return answer

    def tell(self, turn_id: str, body: Json) -> bool:
        """Feedback on a turn; whether the service keeps it. RequestFailedError."""
        return bool(self._send("POST", f"/v1/feedback/{turn_id}", orjson.dumps(body), {}).get("recorded"))

    def _send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> dict[str, Any]:
        now = time.monotonic()
        if now - self._used > IDLE:
            self._connection.close()
        try:
            self._connection.request(method, self._where.base + path, body, {**self._headers, **headers})
            answer = self._connection.getresponse()
            data = answer.read()
            self._used = time.monotonic()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise RequestFailedError(type(error).__name__, f"no answer: {type(error).__name__}") from None
        return _value(answer.status, data)


def _value(status: int, data: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise RequestFailedError(f"{status}", f"the answer ({status}) is no JSON object")
    if status >= 400:
        error = value.get("error")
        code = str(error.get("code", "")) if isinstance(error, dict) else ""
        said = str(error.get("message", "")) if isinstance(error, dict) else ""
        raise RequestFailedError(f"{status} {code}".strip(), f"{status}: {said}"[:300])
    return value
