"""The trace of a request: taken from its `traceparent`, handed back in the answer, a span where these are collected."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slm_assets import tracing

HEADER = b"traceparent"


class Traced:
    """Plain ASGI. A request without a trace costs a look through its headers where nobody collects spans."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, inside the caller's trace."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        parent = next((value for name, value in scope["headers"] if name == HEADER), b"")
        above = tracing.valid(parent.decode("latin-1"))
        if not above and not tracing.enabled():
            await self._app(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (HEADER, tracing.current().encode())]
                tracing.mark({"http.response.status_code": message["status"]})
            await send(message)

        with tracing.span(scope["method"], {"http.request.method": scope["method"]}, parent=above, server=True):
            await self._app(scope, receive, marked)
