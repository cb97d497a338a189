"""From a request's body to a JSON value, with limits on time, size and depth."""

from __future__ import annotations

import asyncio

import orjson
from starlette.requests import ClientDisconnect, Request

from slm_assets.canonical import Json
from slm_assets.serving.problems import Problem

MAX_BYTES = 256 * 1024
MAX_DEPTH = 64
READ_SECONDS = 10.0


async def read_json(request: Request) -> tuple[Json, int]:
    """The JSON value of the body, and its bytes. Problem 400, 408 or 413."""
    data = await _read(request)
    try:
        return parse(data), len(data)
    except orjson.JSONDecodeError as error:
        raise Problem(400, "json", f"the body is not JSON: {error}") from None


def parse(data: bytes) -> Json:
    """A JSON value that is not nested too deep for what reads it. JSONDecodeError, or Problem 400."""
    value = orjson.loads(data)
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _deeper(value, MAX_DEPTH):
        raise Problem(400, "depth", f"the JSON is nested deeper than {MAX_DEPTH} levels")
    return value


async def _read(request: Request) -> bytes:
    """The body, refused as soon as it is known to be too large."""
    parts, size = [], 0
    try:
        if int(request.headers.get("content-length", 0)) > MAX_BYTES:
            raise _too_large()
        async with asyncio.timeout(READ_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > MAX_BYTES:
                    raise _too_large()
                parts.append(part)
    except TimeoutError:
        raise Problem(408, "slow", f"the body did not arrive within {READ_SECONDS:.0f} seconds") from None
    except (ClientDisconnect, ValueError):
        raise Problem(400, "body", "the body did not arrive whole") from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large() -> Problem:
    # What is left of the body is not read: the connection cannot be used again.
    return Problem(413, "size", f"the body is larger than {MAX_BYTES} bytes", headers={"connection": "close"})


def _deeper(value: Json, levels: int) -> bool:
    """Whether containers lie more than `levels` deep; without recursion, a level at a time."""
    layer = [value] if isinstance(value, dict | list) else []
    for _ in range(levels):
        inside = (item for one in layer for item in (one.values() if isinstance(one, dict) else one))
        layer = [item for item in inside if isinstance(item, dict | list)]
    return bool(layer)
