"""Turns to the service, by a few threads, as fast as it answers or at a rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import orjson

from slm_assets.domain.simulation import Outcomes
from slm_assets.simulation.client import Client, RequestFailedError, Target
from slm_assets.simulation.judge import compared, reaction, seen
from slm_assets.simulation.schedule import Planned
from slm_assets.simulation.tally import Tally


class _Next(NamedTuple):
    turn: Planned
    due: float | None
    tally: Tally


class Sending:
    """The state that the threads share: what comes next, and the counts by phase."""

    def __init__(self, turns: Iterable[Planned], outcomes: Mapping[str, Outcomes], *, rate: float) -> None:
        self._turns, self._outcomes, self._rate = iter(turns), outcomes, rate
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._begun = self._due = time.perf_counter()
        self.tallies: dict[str, Tally] = {}
        self.seconds = 0.0
        self.faults: list[BaseException] = []

    def run(self, domain: str, where: Target, clients: int) -> None:
        """Send every turn over so many connections; back when all are answered or `stop` was called. What a thread
        of ours threw is thrown."""
        self._begun = self._due = time.perf_counter()
        threads = [threading.Thread(target=self._client, args=(domain, where), daemon=True) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.seconds = time.perf_counter() - self._begun
        if self.faults:
            raise self.faults[0]

    def stop(self) -> None:
        """Send nothing new."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    def _client(self, domain: str, where: Target) -> None:
        client = Client(where)
        try:
            while (following := self._next()) is not None:
                self._send(client, domain, following)
        except BaseException as fault:
            self.faults.append(fault)
            self._stop.set()
        finally:
            client.close()

    def _next(self) -> _Next | None:
        """The next turn, at its time; None at the end."""
        with self._lock:
            turn = None if self._stop.is_set() else next(self._turns, None)
            if turn is None:
                return None
            due = None
            if self._rate:
                self._due += turn.gap / self._rate
                due = self._due
            tally = self.tallies.setdefault(turn.phase, Tally())
        if due is not None and (wait := due - time.perf_counter()) > 0 and self._stop.wait(wait):
            return None
        return _Next(turn, due, tally)

    def _send(self, client: Client, domain: str, following: _Next) -> None:
        """One turn and what its user does about the answer. At a rate a turn that had to wait for a free connection
        counts its waiting: an open loop."""
        turn, due, tally = following
        body = orjson.dumps(turn.case.turn)
        begun = time.perf_counter() if due is None else due
        try:
            answer = client.ask(domain, body, turn.conversation, turn.user)
        except RequestFailedError as error:
            with self._lock:
                tally.turns += 1
                tally.failed(error.code)
            return
        ended = time.perf_counter()
        roles = answer["roles"]
        right = compared(turn.case.labels, {role: roles[role]["output"] for role in roles})
        with self._lock:
            tally.turns += 1
            tally.answered(roles, ended - self._begun, ended - begun)
            tally.compared(turn.stream.pool, seen(right), right)
        for feedback in reaction(self._outcomes[turn.stream.outcomes], turn.draw, turn.case.labels, right):
            try:
                kept = client.tell(answer["turn_id"], feedback.body())
            except RequestFailedError as error:
                with self._lock:
                    tally.failed(f"feedback: {error.code}")
                continue
            with self._lock:
                tally.feedback[feedback.signal] += 1
                tally.forgotten += not kept
