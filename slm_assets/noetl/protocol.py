"""What a NoETL server says, made sense of: pure functions, no network.

Nothing that a server answers is trusted: a wrong type is a ProtocolError or "nothing", never a crash and
never a success. Ids are text of digits, because numbers above 2^53 do not survive every JSON reader.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from slm_assets.canonical import Json
from slm_assets.errors import SlmError

Status = Literal["running", "completed", "failed", "cancelled", "unknown"]
TERMINAL: frozenset[Status] = frozenset({"completed", "failed", "cancelled"})
EVENT_LIMIT = 2_000
"""The newest events that an execution's page holds; the earlier ones are not in it."""

_WORDS: dict[str, Status] = {
    **dict.fromkeys(("completed", "complete", "success", "succeeded", "ok", "done"), "completed"),
    **dict.fromkeys(("failed", "failure", "error", "errored", "timeout", "timed_out"), "failed"),
    **dict.fromkeys(("cancelled", "canceled"), "cancelled"),
    **dict.fromkeys(("running", "started", "pending", "queued", "duplicate", "initialized", "paused"), "running"),
}  # fmt: skip
_STEP_END = frozenset({"call.done", "call.error", "command.failed"})
_SHOWN = 300


class NoetlError(SlmError):
    """A call to a NoETL server that gave no usable answer.

    `status` is the HTTP status, None where there was no answer. `acted` says whether the server may have
    done what was asked all the same, `late` whether it may still do it.
    """

    def __init__(
        self, message: str, *, cure: str = "", status: int | None = None, acted: bool = False, late: bool = False
    ) -> None:
        super().__init__(message, cure=cure)
        self.status = status
        self.acted = acted
        self.late = late


class ProtocolError(NoetlError):
    """The server answered with something that is not what its interface promises."""


@dataclass(frozen=True)
class Step:
    """How a step ended last: `detail` is its error or exit code as text, `result` what it gave."""

    name: str
    event: str
    status: Status
    detail: str
    result: Json


@dataclass(frozen=True)
class Execution:
    """One execution as the server shows it. `steps` in the order of their last ends."""

    id: str
    path: str
    status: Status
    workload: Mapping[str, Json]
    events: tuple[Mapping[str, Json], ...]
    steps: tuple[Step, ...]

    @property
    def truncated(self) -> bool:
        """Whether the page may lack earlier events."""
        return len(self.events) >= EVENT_LIMIT


@dataclass(frozen=True)
class Ending:
    """What an execution came to. `done` only where nothing contradicts COMPLETED; receipts decide after it."""

    state: Literal["running", "done", "failed", "cancelled"]
    reason: str = ""


def parse(data: bytes) -> Json:
    """JSON without loss: integers of any size stay integers. ProtocolError for anything else."""
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the answer is not JSON ({type(error).__name__}): {shown(data)}") from None


def identifier(value: object, what: str = "id") -> str:
    """An id as text of digits, from a JSON string or integer."""
    number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
    text = str(value) if number else value
    digits = isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 20
    if not isinstance(text, str) or not digits or int(text) >= 1 << 63:
        raise ProtocolError(f"found {shown(value)}, expected a number as {what}")
    return text


def status_of(value: object) -> Status:
    """One vocabulary for what executions (upper case) and tools (lower case) call their states."""
    return _WORDS.get(value.strip().lower(), "unknown") if isinstance(value, str) else "unknown"


def mapping(value: object, what: str = "answer") -> dict[str, Json]:
    """A JSON object, or a ProtocolError that says what was found."""
    if not isinstance(value, dict):
        raise ProtocolError(f"found {shown(value)}, expected an object as {what}")
    return value


def objects(value: object, what: str = "answer") -> list[dict[str, Json]]:
    """A JSON list of objects, or a ProtocolError."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ProtocolError(f"found {shown(value)}, expected a list of objects as {what}")
    return value


def execution_of(value: object) -> Execution:
    """`GET /api/executions/{id}` as an Execution; events in the order of their ids."""
    found = mapping(value, "execution")
    events = found.get("events") or []
    workload = found.get("workload")
    ordered = sorted(objects(events, "events"), key=_order)
    path = found.get("path")
    return Execution(
        id=identifier(found.get("execution_id"), "execution_id"),
        path=path if isinstance(path, str) else "",
        status=_lifecycle(found),
        workload=workload if isinstance(workload, dict) else {},
        events=tuple(ordered),
        steps=tuple(_steps(ordered)),
    )


def overall(value: object) -> Status:
    """`GET /api/executions/{id}/status` as one word; a failed step in its progress is no success."""
    found = mapping(value, "status")
    status = _lifecycle(found)
    progress = found.get("progress")
    failed = progress.get("failed_steps") if isinstance(progress, dict) else 0
    return "failed" if status == "completed" and isinstance(failed, int | float) and failed > 0 else status


def ending(execution: Execution, final: str | None = None) -> Ending:
    """Whether an execution ended, and well: COMPLETED, no step whose last end is an error, and the step
    `final` reached where one is named."""
    if execution.status == "cancelled":
        return Ending("cancelled", f"execution {execution.id} was cancelled")
    if execution.status not in TERMINAL:
        return Ending("running")
    wrong = [step for step in execution.steps if step.status in ("failed", "cancelled")]
    if wrong:
        told = "; ".join(f"step {step.name} {step.status}: {step.detail}" for step in wrong[:3])
        return Ending("failed", f"execution {execution.id}: {told}")
    if execution.status == "failed":
        return Ending("failed", f"execution {execution.id} failed{_last_error(execution)}")
    if final is not None and not any(event.get("node_name") == final for event in execution.events):
        return Ending("failed", f"execution {execution.id} is COMPLETED and never came to its step {final}")
    return Ending("done")


def refusal(status: int, body: bytes) -> str:
    """What an error answer says: `{"error": …}`, plain text, or whatever a proxy wrote."""
    try:
        found = parse(body)
    except ProtocolError:
        found = None
    said = found.get("error") or found.get("message") or found.get("detail") if isinstance(found, dict) else None
    return f"HTTP {status}: {shown(said if isinstance(said, str) else body)}"


def shown(value: object) -> str:
    """A piece of foreign data for a message: one line, printable, short."""
    if isinstance(value, bytes):
        value = value[: 4 * _SHOWN].decode("utf-8", "backslashreplace")
    text = value if isinstance(value, str) else repr(value)[: 4 * _SHOWN]
    flat = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * _SHOWN]).split())
    return (flat[:_SHOWN] + "…" if len(flat) > _SHOWN else flat) or "nothing"


def result_of(event: Mapping[str, Json]) -> dict[str, Json]:
    """The tool's result in a step's last event: `result.context`, unwrapped where it is wrapped once more."""
    found = event.get("result")
    for _ in range(3):
        inner = found.get("context") if isinstance(found, dict) else None
        if isinstance(inner, dict) and isinstance(inner.get("result"), dict) and "context" in inner["result"]:
            inner = inner["result"]["context"]
        if not isinstance(inner, dict):
            break
        found = inner
    return found if isinstance(found, dict) else {}


def _lifecycle(found: Mapping[str, Json]) -> Status:
    return "cancelled" if found.get("is_cancelled") is True else status_of(found.get("status"))


def _order(event: Mapping[str, Json]) -> tuple[int, str]:
    try:
        return int(identifier(event.get("event_id"))), ""
    except ProtocolError:
        return 0, str(event.get("created_at", ""))


def _steps(events: list[dict[str, Json]]) -> list[Step]:
    last: dict[str, Step] = {}
    for event in events:
        kind, name = event.get("event_type"), event.get("node_name")
        if kind in _STEP_END and isinstance(name, str):
            last.pop(name, None)
            last[name] = _step(name, str(kind), event)
    return list(last.values())


def _step(name: str, kind: str, event: Mapping[str, Json]) -> Step:
    outer = event.get("result")
    tool = result_of(event)
    said = [status_of(part.get("status")) for part in (outer, tool) if isinstance(part, dict)]
    code = tool.get("exit_code")
    error = next((part for part in (event.get("error"), tool.get("error"), tool.get("stderr")) if part), None)
    failed = kind != "call.done" or "failed" in said or status_of(event.get("status")) == "failed"
    if code not in (None, 0):
        failed = True
        error = f"exit code {shown(code)}" + (f", {shown(error)}" if error else "")
    status: Status = "failed" if failed else "cancelled" if "cancelled" in said else "completed"
    return Step(name, kind, status, shown(error) if error else "", tool)


def _last_error(execution: Execution) -> str:
    for event in reversed(execution.events):
        if event.get("error"):
            return f": {shown(event['error'])}"
    return ""


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is no JSON number")
