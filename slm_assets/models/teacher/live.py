"""An OpenAI-compatible server as a role's engine: each input asked at once, over one connection that stays open.

It stands for a teacher, or for the server of a packaged model (vLLM, Ollama, llama.cpp): `ready` holds the server
against the model that it must serve. Live answers are paid, and not kept: nobody asks a user's words twice.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from slm_assets.canonical import Json
from slm_assets.domain.config import Teacher
from slm_assets.domain.contracts import Validator
from slm_assets.domain.domain import Domain
from slm_assets.errors import DeferredError, SlmError
from slm_assets.models.base import Prediction
from slm_assets.models.teacher.asking import require_client
from slm_assets.models.teacher.endpoint import Endpoint
from slm_assets.models.teacher.request import Writer, model_of, read_answer
from slm_assets.registry.budget import Drawn
from slm_assets.registry.teaching import Cost, Purse

if TYPE_CHECKING:
    from slm_assets.models.teacher.client import Client

T = TypeVar("T")


class LivePredictor:
    """One role, answered by a server. Thread-safe; `close` ends the connection."""

    def __init__(self, domain: Domain, role: str, teacher: Teacher, endpoint: Endpoint, purse: Purse) -> None:
        require_client()
        self._place = f"{domain.name}.{role}, teacher {teacher.id}"
        self._role, self._teacher, self._endpoint, self._purse = role, teacher, endpoint, purse
        self._writer = Writer(domain, teacher, endpoint.url)
        self._is_valid = Validator(domain.output_schema(role)).is_valid
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="slm-live", daemon=True)
        self._thread.start()
        self._client: Client | None = None

    @property
    def concurrency(self) -> int:
        """How many inputs may be asked at once."""
        return self._teacher.concurrency

    def ready(self) -> None:
        """SlmError unless the server answers, takes our token, and serves the model that it is asked for."""
        from slm_assets.models.teacher.client import RefusedError

        model = model_of(self._teacher, self._role)
        try:
            served = self._run(self._connected().models())
        except RefusedError as no:
            raise SlmError(f"{self._place}: the server is not ready: {no.reason}", cure="check that it is up") from None
        if model not in served:
            shown = ", ".join(sorted(served)[:10]) or "none"
            raise SlmError(
                f"{self._place}: the server does not serve {model!r}; it serves {shown}",
                cure="start it with that model; a packaged one is served under the name that holds its digest",
            )

    def predict(self, value: Json) -> Prediction:
        """The answer; one outside of the contract is not valid. SlmError where there is none, DeferredError where the
        budget does not allow to ask."""
        from slm_assets.models.teacher.client import RefusedError

        request = self._writer.request(self._role, value, "")
        drawn = self._purse.draw(request.most)
        if not isinstance(drawn, Drawn):
            raise DeferredError(f"{self._place}: over budget: {'; '.join(map(str, drawn))}")
        cost = request.most  # unless the server says what it was
        try:
            reply = self._run(self._connected().ask(request))
            if reply.tokens_in is not None and reply.tokens_out is not None:
                cost = request.cost(reply.tokens_in, reply.tokens_out)
        except RefusedError as no:
            cost = request.most if no.billed else Cost()
            raise SlmError(f"{self._place}: no answer: {no.reason}") from None
        finally:
            self._purse.pay(drawn, cost)
        output, error = read_answer(reply.text, reply.finish)
        valid = not error and self._is_valid(output)
        return Prediction(output if not error else None, 1.0 if valid else 0.0, valid=valid)

    def predict_many(self, values: Sequence[Json]) -> list[Prediction]:
        """One answer per input, in order."""
        return [self.predict(value) for value in values]

    def close(self) -> None:
        """End the connection and its thread."""
        if self._loop.is_closed():
            return
        if self._client is not None:
            self._run(self._client.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._purse.close()

    def _connected(self) -> Client:
        from slm_assets.models.teacher.client import Client

        if self._client is None:
            self._client = Client(self._teacher, self._endpoint)
        return self._client

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
