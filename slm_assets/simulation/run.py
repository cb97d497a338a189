"""One scenario, from its data to the summary: sent to a service, or written for the drop folder."""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.domain import Domain
from slm_assets.domain.simulation import Scenario, Simulation, load_simulation
from slm_assets.errors import BadInputError, SlmError
from slm_assets.simulation.client import Client, RequestFailedError, Target
from slm_assets.simulation.drop import envelopes
from slm_assets.simulation.pools import read_pool
from slm_assets.simulation.schedule import Planned, planned
from slm_assets.simulation.sending import Sending
from slm_assets.simulation.tally import Tally

DROP_RATE = 1.0
"""Turns a second in a file for the drop folder, where no rate is given."""


class Traffic:
    """The turns of a scenario: the same for the same seed. BadInputError for a name that nothing has."""

    def __init__(
        self, domain: Domain, name: str, *, seed: int = 1, turns: int | None = None, phases: Sequence[str] = ()
    ) -> None:
        self.domain, self.name, self.seed, self.turns = domain, name, seed, turns
        self.simulation: Simulation = load_simulation(domain)
        self.scenario = chosen(self.simulation, domain.name, name, phases)
        used = sorted({stream.pool for phase in self.scenario.phases for stream in phase.mix})
        self._pools = {pool: read_pool(domain, pool, self.simulation.pools[pool]) for pool in used}

    def __iter__(self) -> Iterator[Planned]:
        """The turns in their order; the same each time."""
        return planned(self.domain.name, self.name, self.scenario, self._pools, seed=self.seed, turns=self.turns)


def send(traffic: Traffic, where: Target, *, rate: float = 0.0, clients: int = 8) -> dict[str, Json]:
    """Send the turns, `rate` a second (0: as fast as they are answered), and the feedback; returns the summary.

    SIGINT and SIGTERM end it early: what is in flight is answered. SlmError where no service answers at all.
    """
    if (recorded := traffic.scenario.recorded) is not None:
        raise BadInputError(
            f"the turns of {traffic.name} were answered by {recorded.engine}: the service is not asked",
            cure="give the folder that the capture reads: --drop FOLDER",
        )
    _reach(where, traffic.domain.name)
    sending = Sending(traffic, traffic.simulation.outcomes, rate=rate)
    before = _cpu()
    with _ended_by_signal(sending):
        sending.run(traffic.domain.name, where, clients)
    cpu = _cpu() - before
    total = sum(tally.turns for tally in sending.tallies.values())
    measured = {
        "stopped": sending.stopped,
        "seconds": round(sending.seconds, 3),
        "turns_per_s": round(total / sending.seconds, 1) if sending.seconds else 0.0,
        "generator_cpu_s": round(cpu, 3),
    }
    return _summary(traffic, sending.tallies, measured)


def drop(traffic: Traffic, folder: Path, *, rate: float = 0.0, last: datetime | None = None) -> dict[str, Json]:
    """Write the turns of a `recorded` scenario as one file of the drop folder, the last of them at `last` (default:
    now); returns the summary."""
    if (recorded := traffic.scenario.recorded) is None:
        raise BadInputError(
            f"scenario {traffic.name} has no recorded answers", cure="leave --drop out: it is sent to the service"
        )
    rate = rate or DROP_RATE
    last = last or datetime.now(UTC)
    start = last - timedelta(seconds=sum(turn.gap for turn in traffic) / rate)
    tallies: dict[str, Tally] = {}
    rows = envelopes(
        traffic.domain,
        traffic,
        traffic.simulation.outcomes,
        recorded,
        start=start,
        rate=rate,
        tallies=tallies,
    )
    file = folder / f"{traffic.domain.name}-{traffic.name}-{traffic.seed}-{int(last.timestamp() * 1000):011x}.jsonl"
    canonical.write_jsonl(file, rows)
    return _summary(traffic, tallies, {"file": str(file)})


def chosen(simulation: Simulation, domain: str, name: str, phases: Sequence[str] = ()) -> Scenario:
    """A scenario by name, with only these of its phases where some are named. BadInputError for unknown names."""
    if name not in simulation.scenarios:
        known = ", ".join(simulation.scenarios)
        raise BadInputError(f"domain {domain} has no scenario {name[:80]!r}", cure=f"one of {known}")
    scenario = simulation.scenarios[name]
    if not phases:
        return scenario
    known_phases = [phase.id for phase in scenario.phases]
    for phase in phases:
        if phase not in known_phases:
            raise BadInputError(
                f"scenario {name} has no phase {phase[:80]!r}", cure=f"one of {', '.join(known_phases)}"
            )
    return scenario.model_copy(update={"phases": [each for each in scenario.phases if each.id in phases]})


def _reach(where: Target, domain: str) -> None:
    client = Client(where)
    try:
        client.greet()
    except RequestFailedError as error:
        raise SlmError(
            f"no service answers at {where.scheme}://{where.host}:{where.port or ''}: {error.message}",
            cure=f"start it: slm serve {domain}, and give its address with --url",
        ) from None
    finally:
        client.close()


def _summary(traffic: Traffic, tallies: dict[str, Tally], measured: dict[str, Json]) -> dict[str, Json]:
    total = Tally()
    for tally in tallies.values():
        total.add(tally)
    return {
        "domain": traffic.domain.name,
        "scenario": traffic.name,
        "about": traffic.scenario.about,
        "note": traffic.scenario.note,
        "seed": traffic.seed,
        **measured,
        **total.shown(),
        "phases": [{"id": name, **tally.shown()} for name, tally in tallies.items()],
    }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextmanager
def _ended_by_signal(sending: Sending) -> Iterator[None]:
    """The first SIGINT or SIGTERM ends the sending; another one ends the process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(_number: int, _frame: object) -> None:
        sending.stop()
        restore()

    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's: who calls from another one ends the process or waits
        return
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()
