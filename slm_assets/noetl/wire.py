"""One HTTP call to a NoETL server: bounded, without redirects, retried only where that is safe."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from slm_assets import canonical, tracing
from slm_assets.canonical import Json
from slm_assets.noetl.address import Address
from slm_assets.noetl.protocol import NoetlError, ProtocolError, parse, refusal

if TYPE_CHECKING:
    import httpx

MAX_BYTES = 32 << 20
"""Longest answer that is read; a page of 2,000 events with results is a few megabytes."""
ATTEMPTS = 4
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that may be other at the next try."""
_LONGEST_WAIT_S = 30.0


@dataclass(frozen=True)
class Clock:
    """Time, so that tests need not wait for it."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    utc: Callable[[], datetime] = lambda: datetime.now(UTC)


class Wire:
    """A connection to one server. Closed at the end of a `with` block."""

    def __init__(self, address: Address, *, timeout_s: float = 10.0, clock: Clock | None = None) -> None:
        import httpx

        self.address = address
        self.clock = clock or Clock()
        context = ssl.create_default_context(cafile=address.ca_file or None) if address.url[:5] == "https" else False
        self._client = httpx.Client(
            base_url=address.url,
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0)),
            follow_redirects=False,
            trust_env=False,  # no proxy, and no password out of a .netrc, that nobody asked for
            verify=context,
            # A compressed answer could be a thousand times longer than its bytes on the wire.
            headers={"accept": "application/json", "accept-encoding": "identity", "user-agent": "slm-assets"},
        )

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def call(
        self,
        method: Literal["GET", "POST"],
        path: str,
        body: Json = None,
        *,
        params: dict[str, str | int] | None = None,
        repeatable: bool = True,
    ) -> Json:
        """The JSON answer of `path` (below the prefix). NoetlError for any other answer, or none.

        `repeatable`: asking twice does no harm. What is not is tried again only where the server cannot
        have acted on it.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._once(method, path, body, params)
            except NoetlError as error:
                passing = error.status is None or error.status in PASSING
                safe = repeatable or not error.acted
                if attempt == ATTEMPTS or isinstance(error, ProtocolError) or not passing or not safe:
                    raise
                self.clock.sleep(min(0.05 * 4 ** (attempt - 1), _LONGEST_WAIT_S))
        raise AssertionError("the last attempt returns or raises")

    def _once(self, method: str, path: str, body: Json, params: dict[str, str | int] | None) -> Json:
        import httpx

        headers = self.address.headers(internal=path.startswith("/internal/"))
        if trace := tracing.current():
            headers["traceparent"] = trace
        content = None
        if body is not None:
            content = canonical.dumps(body)
            headers["content-type"] = "application/json"
        place = f"NoETL server {self.address.url}, {method} {path}"
        try:
            with self._client.stream(
                method, f"{self.address.prefix}{path}", content=content, params=params, headers=headers
            ) as answer:
                data = _bounded(answer, place)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise NoetlError(f"{place}: {type(error).__name__}", cure=_AWAY) from None
        except httpx.HTTPError as error:
            late = isinstance(error, httpx.TimeoutException)
            raise NoetlError(f"{place}: {type(error).__name__}", cure=_AWAY, acted=True, late=late) from None
        if answer.status_code in {200, 202}:
            try:
                return parse(data)
            except ProtocolError as error:
                raise ProtocolError(f"{place}: {error.message}", status=answer.status_code, acted=True) from None
        acted = answer.status_code >= 500 or answer.status_code == 408
        said = refusal(answer.status_code, data)
        raise NoetlError(
            f"{place}: {said}",
            cure=_cure(answer.status_code),
            status=answer.status_code,
            acted=acted,
            late=answer.status_code in {408, 502, 504},  # of something between, which gave up on the server
        )


_AWAY = "check that the server is up and that NOETL_SERVER_URL names it"
_CURES = {
    401: "set NOETL_SESSION_TOKEN to a valid token",
    403: "set NOETL_INTERNAL_API_TOKEN (registry) or NOETL_SESSION_TOKEN (gateway) to a valid token",
    404: "check NOETL_SERVER_URL and NOETL_GATEWAY; registry calls need NOETL_REGISTRY_ENABLED=1 on the server",
    503: "the server's bus is away, or it has no NOETL_INTERNAL_API_TOKEN of its own",
}


def _cure(status: int) -> str:
    if 300 <= status < 400:
        return "redirects are not followed: set NOETL_SERVER_URL to where it points"
    return _CURES.get(status, "")


def _bounded(answer: httpx.Response, place: str) -> bytes:
    encoding = answer.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise ProtocolError(f"{place}: the answer is encoded as {encoding[:20]!r}, which was not asked for", acted=True)
    data = bytearray()
    for chunk in answer.iter_raw():
        data += chunk
        if len(data) > MAX_BYTES:
            raise ProtocolError(f"{place}: the answer is longer than {MAX_BYTES >> 20} MiB", acted=True)
    return bytes(data)
