"""The door of the service: who may ask, from where. Plain ASGI, some microseconds a request."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slm_assets.domain.secrets import is_loopback
from slm_assets.errors import BadInputError
from slm_assets.serving.problems import Problem
from slm_assets.serving.tokens import OPERATOR, Tokens

OPEN = frozenset({"/healthz", "/readyz"})
"""What a probe asks: it has neither token nor the service's name, and says nothing about anybody."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_SAFE = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
]


def allowed_hosts(host: str, given: Iterable[str], tokens: Tokens) -> frozenset[str]:
    """The names under which the service may be asked. BadInputError where it would stand open to others."""
    named = frozenset(name.lower() for name in given)
    if is_loopback(host):
        return named | LOOPBACK
    if not tokens:
        raise BadInputError(
            f"bound to {host} the service would answer everybody: no token is given",
            cure="--token TENANT=ALIAS for each tenant, or bind to 127.0.0.1",
        )
    if not named:
        raise BadInputError(
            f"bound to {host} the service needs the names that it may be asked under",
            cure="--allow-host slm.example.org, as often as needed",
        )
    return named


class Guard:
    """Checks Host, Origin and bearer token; leaves the caller's tenant in the scope's state, `*` for any."""

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str], tokens: Tokens) -> None:
        self._app, self._hosts, self._tokens = app, hosts, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer with the reason."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            state = scope.setdefault("state", {})
            state["tenant"] = self._admit(scope)
            state["authenticated"] = bool(self._tokens)
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return

        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                # A page brings a policy of its own; of two the browser would hold to both.
                there = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in _SAFE if pair[0] not in there)]
            await send(message)

        await self._app(scope, receive, hardened)

    def _admit(self, scope: Scope) -> str:
        if scope["path"] in OPEN:
            return ""
        host = origin = authorization = b""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"authorization":
                authorization = value
        asked = _name(host)
        if asked not in self._hosts:
            raise Problem(421, "host", "the service is not known under this Host", cure="--allow-host names others")
        if origin and _name(origin.rpartition(b"://")[2]) not in self._hosts:
            raise Problem(403, "origin", "requests from other origins are refused")
        if not self._tokens:
            return OPERATOR
        token = _token(authorization)
        tenant = self._tokens.tenant(token) if token else None
        if tenant is None:
            raise Problem(
                401, "token", "no valid bearer token",
                cure="send the header `Authorization: Bearer <token>`, or the token as a browser's password",
                headers={"www-authenticate": 'Bearer, Basic realm="slm-assets", charset="UTF-8"'},
            )  # fmt: skip
        return tenant


def _token(authorization: bytes) -> bytes:
    """The token in a header: as it is, or as the password that a browser asks a person for."""
    scheme, _, given = authorization.partition(b" ")
    if scheme.lower() == b"bearer":
        return given.strip()
    if scheme.lower() == b"basic":
        with suppress(ValueError):
            return b64decode(given.strip(), validate=True).partition(b":")[2]
    return b""


def _name(host: bytes) -> str:
    """A Host header without its port."""
    text = host.decode("latin-1").lower()
    head, colon, port = text.rpartition(":")
    return head if colon and port.isdigit() else text
