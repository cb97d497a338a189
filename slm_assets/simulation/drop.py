"""Turns that another engine answered, as it would write them for the drop folder.

One JSON object a line, as the capture writes turns, unredacted and with their outcomes in them:

    {"kind": "turn", "turn_id", "at", "domain", "role": null, "conversation", "user", "input",
     "answers": {role: {"output", "engine", "version", "valid", "confidence", "error"}},
     "outcomes": [{"at", "role", "signal", "detail"}]}
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from slm_assets.canonical import Json
from slm_assets.domain.contracts import Validator
from slm_assets.domain.domain import Domain
from slm_assets.domain.simulation import Outcomes, Recorded
from slm_assets.simulation.judge import compared, reaction, seen
from slm_assets.simulation.schedule import Planned
from slm_assets.simulation.tally import Tally


def envelopes(
    domain: Domain,
    turns: Iterable[Planned],
    outcomes: Mapping[str, Outcomes],
    recorded: Recorded,
    *,
    start: datetime,
    rate: float,
    tallies: dict[str, Tally],
) -> Iterator[dict[str, Any]]:
    """The records of the turns from `start` on, `rate` of them a second. An answer is what the row says the engine
    gave, else what is right; whether it is valid is judged by the contract. Counts into `tallies`, by phase."""
    contracts = {role.id: Validator(domain.output_schema(role.id)) for role in domain.config.roles}
    at = start
    for turn in turns:
        at += timedelta(seconds=turn.gap / rate)
        outputs = dict(turn.case.answers or turn.case.labels)
        answers = {
            role: {
                "output": output, "engine": recorded.engine, "version": recorded.version,
                "valid": contracts[role].is_valid(output), "confidence": None, "error": "",
            }
            for role, output in outputs.items()
        }  # fmt: skip
        right = compared(turn.case.labels, outputs)
        told = reaction(outcomes[turn.stream.outcomes], turn.draw, turn.case.labels, right)
        tally = tallies.setdefault(turn.phase, Tally())
        tally.turns += 1
        tally.answered(answers, (at - start).total_seconds())
        tally.compared(turn.stream.pool, seen(right), right)
        tally.feedback.update(feedback.signal for feedback in told)
        yield {
            "kind": "turn",
            "turn_id": _turn_id(domain.name, at, turn.key),
            "at": iso(at),
            "domain": domain.name,
            "role": None,
            "conversation": turn.conversation,
            "user": turn.user,
            "input": turn.case.turn,
            "answers": answers,
            "outcomes": [{"at": iso(at), **_outcome(feedback._asdict())} for feedback in told],
        }


def iso(at: datetime) -> str:
    """A time as the capture writes it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _outcome(feedback: dict[str, Json]) -> dict[str, Json]:
    return {key: feedback[key] for key in ("role", "signal", "detail")}


def _turn_id(domain: str, at: datetime, key: str) -> str:
    """Of the service's form; the same turn at the same time has the same."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    return f"{domain}-{int(at.timestamp() * 1000):011x}-{digest[:6]}-{digest[6:18]}"
