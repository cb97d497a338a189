"""One call of OpenAI's chat completions: bounded in bytes and time, to one address, with our own headers alone."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Any

import httpx2
import openai

from slm_assets.domain.config import Teacher
from slm_assets.models.teacher.endpoint import Endpoint
from slm_assets.models.teacher.request import MAX_ANSWER_CHARS, Request

MAX_BYTES = 4 << 20
PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses that may be other at the next try."""
_KEPT = ("host", "content-type", "content-length", "accept", "connection", "user-agent")
_SHAPES = ("strict", "schema", "json", "text")
"""How an answer's form is asked for, from the surest on; a server that refuses one is asked for the next."""


@dataclass(frozen=True)
class Reply:
    """What came back. `tokens_in` and `tokens_out` are None where the server does not say them."""

    text: str
    finish: str
    tokens_in: int | None
    tokens_out: int | None


class RefusedError(Exception):
    """No answer. `again`: it may come at the next try; `billed`: the model may have been at work; `denied`: no request
    will be answered; `wait_s`: how long the server asks to wait."""

    def __init__(self, reason: str, *, again: bool, billed: bool, denied: bool = False, wait_s: float = 0.0) -> None:
        self.reason, self.again, self.billed, self.denied, self.wait_s = reason, again, billed, denied, wait_s
        super().__init__(reason)


class Client:
    """A connection to one teacher, within one event loop; closed at the end of an `async with`."""

    def __init__(self, teacher: Teacher, endpoint: Endpoint) -> None:
        self._teacher = teacher
        self._shape = _SHAPES.index("strict" if teacher.constrained_decoding else "json")
        self._temperature = True
        self._client = openai.AsyncOpenAI(
            api_key=endpoint.token or "none",  # explicit, as everything that it would else read from the environment
            admin_api_key="",
            organization="",
            project="",
            base_url=endpoint.url,
            max_retries=0,  # tried again by whoever keeps the budget
            timeout=teacher.timeout_s,
            http_client=httpx2.AsyncClient(
                transport=_OneAddress(endpoint), trust_env=False, follow_redirects=False, timeout=teacher.timeout_s
            ),
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._client.close()

    async def ask(self, request: Request) -> Reply:
        """One answer. RefusedError where there is none."""
        while True:
            shape, temperature = self._shape, self._temperature
            body = self._body(request, shape, temperature)
            try:
                return _reply(await self._called(self._client.chat.completions.create(**body)))
            except _SimplerError as error:
                if not self._simpler(shape, temperature, str(error)):
                    raise RefusedError("status 400", again=False, billed=False) from None
            except (ValueError, TypeError, AttributeError, LookupError) as error:
                raise _no_completion(error) from None

    async def models(self) -> set[str]:
        """The models that the server says it serves. RefusedError where it does not say."""
        try:
            page = await self._called(self._client.models.list())
            return {str(model.id) for model in page.data}
        except _SimplerError:
            raise RefusedError("status 400", again=False, billed=False) from None
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            raise _no_completion(error) from None

    async def _called(self, call: Awaitable[Any]) -> Any:
        """What a call returns, its failures told apart."""
        try:
            async with asyncio.timeout(self._teacher.timeout_s):
                return await call
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            raise _SimplerError(str(error.message)) from None
        except openai.APIStatusError as error:
            status = error.status_code
            raise RefusedError(
                f"status {status}", again=status in PASSING, billed=False, denied=status in (401, 403),
                wait_s=_wait(error.response.headers.get("retry-after", "")),
            ) from None  # fmt: skip
        except (openai.APITimeoutError, TimeoutError) as error:
            never = isinstance(error.__cause__, httpx2.ConnectTimeout)
            raise RefusedError("no answer in time", again=True, billed=not never) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__
            never = isinstance(cause, httpx2.ConnectError | httpx2.PoolTimeout)
            bound = isinstance(cause, _BoundError)
            raise RefusedError(
                str(cause) if bound else "the connection broke", again=not bound, billed=not never
            ) from None
        except openai.OpenAIError as error:
            raise _no_completion(error) from None

    def _body(self, request: Request, shape: int, temperature: bool) -> dict[str, Any]:
        limit = "max_completion_tokens" if self._teacher.provider == "openai" else "max_tokens"
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [{"role": "system", "content": request.system}, {"role": "user", "content": request.user}],
            limit: request.max_tokens,
        }
        named = {"name": request.role, "schema": request.schema}
        if _SHAPES[shape] in ("strict", "schema"):
            schema = {**named, "strict": _SHAPES[shape] == "strict"}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif _SHAPES[shape] == "json":
            body["response_format"] = {"type": "json_object"}
        return body | ({"temperature": 0} if temperature else {})

    def _simpler(self, shape: int, temperature: bool, message: str) -> bool:
        """Ask for less after a refusal; False where there is nothing left to leave out."""
        if temperature and "temperature" in message:
            self._temperature = False
        elif shape + 1 < len(_SHAPES):
            self._shape = max(self._shape, shape + 1)
        elif temperature:
            self._temperature = False
        else:
            return False
        return True


class _SimplerError(Exception):
    """The server does not take a request of this form."""


def _no_completion(error: Exception) -> RefusedError:
    """Whatever came back was no completion."""
    return RefusedError(f"no completion ({type(error).__name__})", again=True, billed=True)


class _BoundError(httpx2.TransportError):
    """More than was asked for, or elsewhere than where it may go."""


class _OneAddress(httpx2.AsyncBaseTransport):
    """Lets requests to one endpoint pass, with our headers alone, and answers up to MAX_BYTES."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        scheme = endpoint.origin[0]
        self._inner = httpx2.AsyncHTTPTransport(
            verify=ssl.create_default_context() if scheme == "https" else False, trust_env=False
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request."""
        scheme, host, port = self._endpoint.origin
        url = request.url
        if (url.scheme, url.host, url.port or {"http": 80, "https": 443}[scheme]) != (scheme, host, port):
            raise _BoundError("a request to another address")
        own = {name: request.headers[name] for name in _KEPT if name in request.headers}
        # A compressed answer could be a thousand times longer than its bytes on the wire.
        own |= {"accept-encoding": "identity", "user-agent": "slm-assets"}
        own |= {"authorization": f"Bearer {self._endpoint.token}"} if self._endpoint.token else {}
        request.headers = httpx2.Headers(own)
        answer = await self._inner.handle_async_request(request)
        if answer.headers.get("content-encoding", "identity") != "identity":
            await answer.aclose()
            raise _BoundError("an encoded answer, which was not asked for")
        assert isinstance(answer.stream, httpx2.AsyncByteStream)
        answer.stream = _Bounded(answer.stream)
        return answer

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._inner:
            size += len(chunk)
            if size > MAX_BYTES:
                raise _BoundError(f"the answer is longer than {MAX_BYTES >> 20} MiB")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


def _reply(found: Any) -> Reply:
    choice = found.choices[0]
    text = choice.message.content
    usage = found.usage
    finish = str(choice.finish_reason or "")
    return Reply(
        _storable(text)[: MAX_ANSWER_CHARS + 1] if isinstance(text, str) else "",
        "".join(char for char in finish if char.isascii() and (char.isalnum() or char == "_"))[:32],
        _count(getattr(usage, "prompt_tokens", None)),
        _count(getattr(usage, "completion_tokens", None)),
    )


def _storable(text: str) -> str:
    """Text as every database takes it, so that an answer reads now as it will be read again."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None


def _wait(header: str) -> float:
    try:
        return max(0.0, min(float(header), 60.0))
    except ValueError:
        return 0.0
