"""Who sends what, and when: drawn from a seed alone, so that the same seed is the same traffic.

Each phase has a source of chance of its own: the first n turns of a phase are the same however many follow, and
whether or not other phases run.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from slm_assets.domain.simulation import Phase, Scenario, Stream
from slm_assets.simulation.pools import Case

OPEN = 20
"""Conversations of a stream that go on at the same time."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One turn to send. `draw` in [0, 1) decides what the user does about the answer; `gap`: seconds after the turn
    before, in units of the mean; `key`: what stands for the turn in ids."""

    phase: str
    stream: Stream
    case: Case
    conversation: str
    user: str
    draw: float
    gap: float
    key: str


def counts(phases: Sequence[Phase], turns: int | None) -> list[int]:
    """How many turns each phase gets of `turns` in all, in proportion (largest remainders); None: its own."""
    if turns is None:
        return [phase.turns for phase in phases]
    total = sum(phase.turns for phase in phases)
    shares = [turns * phase.turns / total for phase in phases]
    given = [int(share) for share in shares]
    last = sorted(range(len(shares)), key=lambda index: (given[index] - shares[index], index))
    for index in last[: turns - sum(given)]:
        given[index] += 1
    return given


def planned(
    domain: str, name: str, scenario: Scenario, pools: Mapping[str, Sequence[Case]], *, seed: int, turns: int | None
) -> Iterator[Planned]:
    """The turns of a scenario in their order."""
    for phase, count in zip(scenario.phases, counts(scenario.phases, turns), strict=True):
        yield from itertools.islice(_phase(f"{domain}/{name}/{seed}/{phase.id}", f"{name}-{seed}", phase, pools), count)


def _phase(source: str, prefix: str, phase: Phase, pools: Mapping[str, Sequence[Case]]) -> Iterator[Planned]:
    """The turns of a phase, without end. Every turn takes from chance what it needs in one order."""
    rng = _chance(source)
    crowds = [
        _Crowd(stream, pools[stream.pool], f"{prefix}-{phase.id}-{number}", _chance(f"{source}/{number}"))
        for number, stream in enumerate(phase.mix)
    ]
    weights = list(itertools.accumulate(stream.weight for stream in phase.mix))
    for index in itertools.count():
        crowd = crowds[0] if len(crowds) == 1 else rng.choices(crowds, cum_weights=weights)[0]
        conversation, user = crowd.speaker()
        yield Planned(
            phase.id, crowd.stream, crowd.case(), conversation, user, rng.random(), rng.expovariate(1.0),
            f"{source}/{index}",
        )  # fmt: skip


def _chance(source: str) -> random.Random:
    return random.Random(source)  # noqa: S311  (no secret: it is to be drawn again)


@dataclass
class _Crowd:
    """The people of one stream: the conversations they have open, and the turns they have not used yet."""

    stream: Stream
    cases: Sequence[Case]
    prefix: str
    rng: random.Random
    opened: int = 0
    talking: list[tuple[str, str]] = field(default_factory=list)
    deck: list[int] = field(default_factory=list)
    often: list[float] = field(init=False)

    def __post_init__(self) -> None:
        ranks = range(1, self.stream.users + 1)
        self.often = list(itertools.accumulate(rank**-0.5 for rank in ranks))

    def speaker(self) -> tuple[str, str]:
        """(conversation, user) of the next turn; it may be the last of its conversation."""
        if len(self.talking) < min(OPEN, self.stream.users):
            self.talking.append(self._begun())
        index = self.rng.randrange(len(self.talking))
        found = self.talking[index]
        if self.rng.random() < 1 / self.stream.turns_per_conversation:
            self.talking[index] = self._begun()
        return found

    def case(self) -> Case:
        """The next turn: each of the pool once, in random order, before any comes again."""
        if not self.deck:
            self.deck = list(range(len(self.cases)))
            self.rng.shuffle(self.deck)
        return self.cases[self.deck.pop()]

    def _begun(self) -> tuple[str, str]:
        self.opened += 1
        number = self.rng.choices(range(self.stream.users), cum_weights=self.often)[0]
        return f"{self.prefix}-{self.opened:06d}", f"{self.stream.pool}-{number:05d}"
