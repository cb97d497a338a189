"""What a caller gets instead of an answer: one JSON shape, OpenAI's, with the JSON path and the cure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response


class Problem(Exception):  # noqa: N818  (a response, not a fault of the service)
    """A request that gets no answer. `path` is the JSON path in the body; `faults` all of (path, message)."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        path: str | None = None,
        faults: list[tuple[str, str]] | None = None,
        cure: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.path, self.faults, self.cure, self.headers = path, faults or [], cure, headers

    def body(self) -> dict[str, Any]:
        """The JSON body."""
        error: dict[str, Any] = {
            "message": self.message,
            "type": "invalid_request_error" if self.status < 500 else "server_error",
            "code": self.code,
            "param": self.path,
        }
        if self.faults:
            error["faults"] = [{"path": path, "message": message} for path, message in self.faults]
        if self.cure:
            error["cure"] = self.cure
        return {"error": error}

    def response(self) -> Response:
        """The response to send."""
        return json_response(self.body(), self.status, self.headers)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response; orjson, because that is half of what a small answer costs."""
    return Response(orjson.dumps(value), status, headers, media_type="application/json")


def shown(text: str, limit: int = 60) -> str:
    """A caller's word for a message: short, printable ASCII, quoted."""
    return ascii(text if len(text) <= limit else f"{text[:limit]}…")
