"""Turns out of an execution of the consuming playbook: what went in, what was answered, how it went.

Pure functions over what a server said; nothing in it is trusted, and nothing here is stored.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from slm_assets.canonical import Json
from slm_assets.noetl import protocol
from slm_assets.noetl.protocol import Execution, ProtocolError

_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T[0-9:.]{5,20}(Z|[+-]\d{2}:?\d{2})?")
_INPUT, _OUTPUTS, _ENGINE = ("input", "turn"), ("outputs", "output"), ("engine", "engines")
_OUTCOME = ("outcome", "outcomes")


@dataclass(frozen=True)
class Turn:
    """One turn; `event` is the id of the event that it was read off."""

    execution: str
    event: str
    at: str
    input: Json
    outputs: Json
    engine: Json
    outcomes: tuple[str, ...]

    def row(self) -> dict[str, Json]:
        """The turn as a row of a dataset; its outputs are what was served, not labels."""
        return {
            "id": f"noetl-{self.execution}-{self.event}",
            "execution": self.execution,
            "at": self.at,
            "input": self.input,
            "outputs": self.outputs,
            "engine": self.engine,
            "outcomes": sorted(set(self.outcomes)),
        }


def turns_of(
    execution: Execution, *, node: str | None, signals: Collection[str], after: str = "0"
) -> Iterator[Turn | None]:
    """The turns that ended after an event, in order; None for one that is none (no input, a wrong shape).

    With `node`: a turn for each good end of that step, whose result is {input, outputs, engine, outcome}, or
    the input itself. Without: one turn, from the workload, once the execution has ended.
    """
    if node is None:
        if execution.status in protocol.TERMINAL and after == "0":
            at = _time(execution.events[0]) if execution.events else ""
            yield _turn(execution, "0", at, dict(execution.workload), execution.events, signals)
        return
    begun: Mapping[str, Json] | None = None
    later: list[Mapping[str, Json]] = []
    for event in execution.events:
        if not _is_end(event, node):
            later.append(event)
            continue
        if begun is not None and _number(begun) > int(after):
            yield _turn(execution, str(_number(begun)), _time(begun), _result(begun), later, signals)
        begun, later = event, []
    if begun is not None and _number(begun) > int(after):
        yield _turn(execution, str(_number(begun)), _time(begun), _result(begun), later, signals)


def last_event(execution: Execution) -> str:
    """The id of the newest event."""
    return str(max((_number(event) for event in execution.events), default=0))


def in_scope(execution: Execution, scope: str) -> bool:
    """Whether the workload says of itself what the scope says: `tenant=a/project=b`."""
    pairs = (part.partition("=") for part in scope.split("/") if part)
    return all(str(execution.workload.get(key)) == value for key, _, value in pairs)


def _turn(
    execution: Execution, event: str, at: str, found: Json, later: Collection[Mapping[str, Json]],
    signals: Collection[str],
) -> Turn | None:  # fmt: skip
    if not isinstance(found, dict) or not found:
        return None
    named = _first(found, _INPUT)
    if named is None and any(key in found for key in (*_INPUT, *_OUTPUTS)):
        return None
    outcome = _first(found, _OUTCOME)
    said = outcome if isinstance(outcome, list) else [outcome]
    seen = [one for one in said if isinstance(one, str)]
    if signals:
        seen += [str(event.get(key)) for event in later for key in ("event_type", "node_name")]
    return Turn(
        execution=execution.id,
        event=event,
        at=at,
        input=found if named is None else named,
        outputs=_first(found, _OUTPUTS),
        engine=_first(found, _ENGINE),
        outcomes=tuple(signal for signal in signals if signal in seen),
    )


def _result(event: Mapping[str, Json]) -> Json:
    """What a step gave: its data; of a shell step the JSON in the last line of its output."""
    tool = protocol.result_of(event)
    data = tool.get("data")
    if isinstance(data, dict) and not {"stdout", "exit_code"} & data.keys():
        return data
    stdout = data.get("stdout") if isinstance(data, dict) else tool.get("stdout")
    if not isinstance(stdout, str) or not stdout.strip():
        return None
    try:
        return protocol.parse(stdout.strip().splitlines()[-1].encode("utf-8", "replace"))
    except ProtocolError:
        return None


def _is_end(event: Mapping[str, Json], node: str) -> bool:
    result = event.get("result")
    status = result.get("status") if isinstance(result, dict) else None
    ended = event.get("event_type") == "call.done" and event.get("node_name") == node
    return ended and protocol.status_of(status) != "failed"


def _number(event: Mapping[str, Json]) -> int:
    try:
        return int(protocol.identifier(event.get("event_id")))
    except ProtocolError:
        return 0


def _first(found: Mapping[str, Json], names: tuple[str, ...]) -> Json:
    return next((found[name] for name in names if found.get(name) is not None), None)


def _time(event: Mapping[str, Json]) -> str:
    at = event.get("created_at")
    return at if isinstance(at, str) and _TIME.fullmatch(at) else ""
