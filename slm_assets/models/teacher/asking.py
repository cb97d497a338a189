"""Many questions to one teacher: each asked once, some at a time, tried again where that may help, within a budget.

Requests begin in the order of the questions, and one begins only when the most that it can cost is set aside. Where
the budget does not allow that while others are in flight, it waits for what they leave; so the questions that are
answered are the first ones, as many as the budget is enough for. Nobody who uses the answers sees whether they came
now or were there before.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slm_assets.canonical import Json
from slm_assets.domain.config import Teacher
from slm_assets.domain.contracts import Validator
from slm_assets.domain.domain import Domain
from slm_assets.errors import BadInputError, SlmError
from slm_assets.models.teacher.endpoint import Endpoint
from slm_assets.models.teacher.request import Request, Writer, model_of, read_answer
from slm_assets.registry import teaching
from slm_assets.registry.budget import Drawn
from slm_assets.registry.registry import Registry
from slm_assets.registry.teaching import Cost, Purse, Told

if TYPE_CHECKING:
    from slm_assets.models.teacher.client import Client

ATTEMPTS = 6
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 30.0
GIVE_UP_AFTER = 25
"""A teacher that gives so many questions in a row no answer is away."""
_logger = logging.getLogger("slm_assets.teacher")


@dataclass(frozen=True)
class Question:
    """One input of a role; `turn` is the row that it belongs to."""

    role: str
    value: Json
    turn: str


@dataclass(frozen=True)
class Opinion:
    """What a teacher said to a question: `output` where it meets the contract, else `error` says why there is none.

    `request`: the digest that names the answer, "" where there is none; `told`: whether a model said anything at all.
    """

    request: str
    model: str
    output: Json
    error: str
    told: bool


class Asking:
    """One teacher, to be asked by one stage. `stopped` says why it is not asked any further, "" while it is."""

    def __init__(self, domain: Domain, teacher: Teacher, endpoint: Endpoint, registry: Registry, purse: Purse) -> None:
        require_client()
        for role in domain.config.roles:
            if not model_of(teacher, role.id):
                raise BadInputError(
                    f"domain {domain.name}, teacher {teacher.id}: no model for role {role.id}",
                    cure="give teachers[].model, or one for the role in teachers[].models",
                )
        self.teacher, self.stopped = teacher, ""
        self._domain, self._endpoint, self._registry, self._purse = domain, endpoint, registry, purse
        self._writer = Writer(domain, teacher, endpoint.url)
        self._contracts = {role.id: Validator(domain.output_schema(role.id)) for role in domain.config.roles}
        self._until = time.monotonic() + teacher.deadline_s
        self._failed_in_row = 0
        self._short = ""
        self.unanswered = Cost()
        """What requests cost, at most, that may have been billed and brought no answer."""

    def close(self) -> None:
        """Nothing more is asked."""
        self._purse.close()

    def paid(self) -> dict[str, tuple[int, Cost]]:
        """Model → its answers for this stage, in all runs of it, and what they cost."""
        return teaching.paid(self._registry, self._domain.name, self._purse.what)

    def estimate(self, questions: Sequence[Question]) -> tuple[int, Cost]:
        """How many of the questions were never answered, and what they are likely to cost: three bytes a token, and
        answers as long as they may be."""
        requests = {r.digest: r for r in map(self._request, questions)}
        there = teaching.known(self._registry, self._domain.name, requests)
        fresh = [request.likely for digest, request in requests.items() if digest not in there]
        return len(fresh), sum(fresh, Cost())

    def ask(self, questions: Sequence[Question]) -> list[Opinion]:
        """One opinion per question, in order. SlmError where the teacher refuses us or is away: what it answered is
        kept, and the next run goes on from there."""
        requests = [self._request(question) for question in questions]
        told = self._answers(requests)
        found = [self._opinion(request, told.get(request.digest)) for request in requests]
        if self._writer.has_fallback:
            again = [i for i, opinion in enumerate(found) if opinion.error and (opinion.told or not self.stopped)]
            second = [self._request(questions[i], fallback=True) for i in again]
            told = self._answers(second)
            for i, request in zip(again, second, strict=True):
                found[i] = self._opinion(request, told[request.digest]) if request.digest in told else found[i]
        return found

    def _request(self, question: Question, *, fallback: bool = False) -> Request:
        return self._writer.request(question.role, question.value, question.turn, fallback=fallback)

    def _opinion(self, request: Request, told: Told | None) -> Opinion:
        if told is None:
            return Opinion("", request.model, None, self.stopped or "no answer", told=False)
        output, error = read_answer(told.answer, told.finish)
        if not error and not self._contracts[request.role].is_valid(output):
            output, error = None, "outside of the contract"
        return Opinion(request.digest, told.model, output, error, told=True)

    def _answers(self, requests: Sequence[Request]) -> dict[str, Told]:
        wanted = {request.digest: request for request in requests}
        found = teaching.known(self._registry, self._domain.name, wanted)
        fresh = [request for digest, request in wanted.items() if digest not in found]
        if fresh and not self.stopped:
            # A thread of its own: whoever runs the stage may have an event loop already.
            with ThreadPoolExecutor(1, "slm-teacher") as pool:
                made: dict[str, Told] = pool.submit(asyncio.run, self._ask_all(fresh)).result()
            found |= made
            missing = wanted.keys() - found.keys()
            found |= teaching.known(self._registry, self._domain.name, missing)  # kept while the deadline ended it
        return found

    async def _ask_all(self, fresh: Sequence[Request]) -> dict[str, Told]:
        from slm_assets.models.teacher.client import Client

        found: dict[str, Told] = {}
        flying: set[asyncio.Task[None]] = set()
        async with Client(self.teacher, self._endpoint) as client:
            try:
                async with asyncio.timeout(max(0.0, self._until - time.monotonic())):
                    for request in fresh:
                        flying = await self._room(flying, self.teacher.concurrency - 1)
                        drawn = await self._draw(request)
                        while drawn is None and flying:
                            flying = await self._room(flying, len(flying) - 1)
                            drawn = await self._draw(request)
                        if drawn is None or self.stopped:
                            break
                        flying.add(asyncio.create_task(self._one(client, request, drawn, found)))
                        if self.teacher.request_sleep_s:
                            await asyncio.sleep(self.teacher.request_sleep_s)
                    flying = await self._room(flying, 0)
                    self.stopped = self.stopped or self._short
            except TimeoutError:
                self.stopped = f"deadline: {self.teacher.deadline_s:g} seconds are over"
            finally:
                for task in flying:
                    task.cancel()
                await asyncio.gather(*flying, return_exceptions=True)
        return found

    async def _room(self, flying: set[asyncio.Task[None]], most: int) -> set[asyncio.Task[None]]:
        """Wait until at most so many are in flight; what one of them raised is raised."""
        while len(flying) > most:
            done, flying = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        return flying

    async def _draw(self, request: Request) -> Drawn | None:
        """Set aside what the request can cost; None, with `stopped`, where the budget does not allow it."""
        drawn = await asyncio.to_thread(self._purse.draw, request.most)
        if isinstance(drawn, Drawn):
            self.stopped = ""
            return drawn
        self.stopped = f"budget: {'; '.join(map(str, drawn))}"
        return None

    async def _one(self, client: Client, request: Request, drawn: Drawn, found: dict[str, Told]) -> None:
        """Ask until there is an answer or no use in asking; it counts once it is kept."""
        from slm_assets.models.teacher.client import RefusedError

        for attempt in range(1, ATTEMPTS + 1):
            try:
                reply = await client.ask(request)
            except RefusedError as no:
                if await self._refused(request, drawn, no, last=attempt == ATTEMPTS):
                    return
                wait = random.uniform(0.5, 1.0) * min(_FIRST_WAIT_S * 2**attempt, _LONGEST_WAIT_S)  # noqa: S311
                await asyncio.sleep(max(wait, no.wait_s))
                again = await asyncio.to_thread(self._purse.draw, request.most)
                if not isinstance(again, Drawn):
                    self._short = f"budget: {'; '.join(map(str, again))}"
                    return
                drawn = again
                continue
            counted = reply.tokens_in is not None and reply.tokens_out is not None
            cost = request.cost(reply.tokens_in or 0, reply.tokens_out or 0) if counted else request.most
            told = Told(request.digest, request.role, request.turn, request.model, reply.text, reply.finish, cost)
            await asyncio.to_thread(self._purse.keep, told, drawn)
            found[request.digest] = told
            self._failed_in_row = 0
            return

    async def _refused(self, request: Request, drawn: Drawn, no: Any, *, last: bool) -> bool:
        """Settle a request without an answer; True where it is not made again. SlmError where none will be answered."""
        cost = request.most if no.billed else Cost()
        self.unanswered += cost
        await asyncio.to_thread(self._purse.pay, drawn, cost)
        place = f"{self._domain.name}, teacher {self.teacher.id}, model {request.model}"
        if no.denied:
            raise SlmError(
                f"{place}: the endpoint refuses us ({no.reason})", cure="check the credential and its rights there"
            )
        if no.again and not last:
            return False
        self._failed_in_row += 1
        _logger.warning("%s: no answer to %s: %s", place, request.digest[:12], no.reason)
        if self._failed_in_row >= GIVE_UP_AFTER:
            raise SlmError(
                f"{place}: {GIVE_UP_AFTER} questions in a row got no answer, the last one: {no.reason}",
                cure="check that the endpoint is up, then run again: what was answered is kept",
            )
        return True


def require_client() -> None:
    """BadInputError where the extra is not installed."""
    from importlib.util import find_spec

    if find_spec("openai") is None:
        raise BadInputError(
            "no teacher can be asked: the openai client is not installed",
            cure="pip install 'slm-assets[teachers]'",
        )
