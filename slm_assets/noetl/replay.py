"""Read the event log of the consuming playbook: new executions since the last reading, redacted, then kept.

Executions come a hundred a page, and of each the newest 2,000 events. Ids grow with time, so the highest one
read is the watermark; what still runs below it is remembered and looked at again, and a long one is read
while it runs, before its early events are out of reach. What a server that goes away had answered is kept;
the next reading goes on from there.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.config import EventLogReplay
from slm_assets.domain.domain import Domain
from slm_assets.domain.redaction import RedactionError, Redactor
from slm_assets.errors import BadInputError, BusyError
from slm_assets.noetl import protocol
from slm_assets.noetl.protocol import Execution, NoetlError, ProtocolError
from slm_assets.noetl.server import PAGE, Server
from slm_assets.noetl.turns import in_scope, last_event, turns_of
from slm_assets.registry import captures
from slm_assets.registry.captures import Mark
from slm_assets.registry.registry import Registry

CAP_TURNS = 10_000
READ_WHILE_RUNNING = 1_000
"""Events from which on an execution that still runs is read."""
MAX_PAGES = 5_000
MAX_PENDING = 10_000


@dataclass
class Reading:
    """What one reading took. `away`: why it ended early. `dropped`: turns that are none, or could not be
    redacted, by reason. `capped`: full, or out of time; the next one goes on. `truncated`: executions whose early
    events the server no longer showed."""

    rows: list[dict[str, Json]] = field(default_factory=list)
    executions: int = 0
    redacted: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    truncated: int = 0
    capped: bool = False
    away: str = ""


def replay(domain: Domain, registry: Registry, server: Server, *, actor: str, seconds: float = math.inf) -> Reading:
    """Read what is new, for about so many seconds, and keep it as the domain's captured turns. BadInputError where
    the config asks for no reading, BusyError where another process reads."""
    asked = domain.config.data.event_log_replay
    if asked is None or asked.status == "disabled" or asked.via != "server_api":
        raise BadInputError(
            f"domain {domain.name} reads no event log",
            cure="set data.event_log_replay in its config, with status enabled",
        )
    with registry.alone(f"replay {domain.name}") as mine:
        if not mine:
            raise BusyError(f"the event log of {domain.name} is being read by another process")
        before = captures.mark(registry, domain.name)
        reading, after = read(domain, server, asked, before, seconds=seconds)
        if after != before:
            artifact = _keep(registry, before.artifact, reading, after) if reading.rows else before.artifact
            turns = before.turns + len(reading.rows)
            captures.advance(registry, domain.name, replace(after, artifact=artifact, turns=turns), actor=actor)
    return reading


def read(
    domain: Domain, server: Server, asked: EventLogReplay, mark: Mark, *, seconds: float = math.inf
) -> tuple[Reading, Mark]:
    """The redacted turns after a mark, at most `cap_turns`, and the mark after them.

    After `seconds` no further execution is begun; one at least is read, so that each reading comes further.
    """
    until = server.clock.now() + seconds
    work = _Reading(domain, server, asked, Redactor(domain.redaction), mark.watermark, dict(mark.pending))
    try:
        for name in work.listed():
            if not work.take(name):
                break
            if server.clock.now() >= until:
                work.reading.capped = True
                break
    except ProtocolError:
        raise
    except NoetlError as error:
        work.reading.away = error.message
    pending = dict(sorted(work.pending.items(), key=lambda item: int(item[0]))[-MAX_PENDING:])
    return work.reading, replace(mark, watermark=work.watermark, pending=pending)


@dataclass
class _Reading:
    domain: Domain
    server: Server
    asked: EventLogReplay
    redactor: Redactor
    watermark: str
    pending: dict[str, str]
    reading: Reading = field(default_factory=Reading)

    def listed(self) -> list[str]:
        """Ids of the executions to look at, oldest first: those that ran last time, and the new ones."""
        found = set(map(int, self.pending))
        mark = int(self.watermark)
        for page in range(MAX_PAGES):
            rows = self.server.page(offset=page * PAGE, path=self.asked.path)
            ids = [int(row.execution) for row in rows if self.asked.path in (None, row.path)]
            found.update(number for number in ids if number > mark)
            newest_first = all(a >= b for a, b in pairwise(ids))
            if len(rows) < PAGE or (ids and newest_first and max(ids) <= mark):
                break
        return [str(number) for number in sorted(found)]

    def take(self, name: str) -> bool:
        """Read one execution; False when the reading is full."""
        cap = self.asked.cap_turns or CAP_TURNS
        if len(self.reading.rows) >= cap:
            self.reading.capped = True
            return False
        execution = self._execution(name)
        after, last = self.pending.pop(name, "0"), ""
        if execution is not None:
            last = self._turns(execution, after, cap)
        if last:
            self.pending[name] = last
        if int(name) > int(self.watermark):
            self.watermark = name
        return True

    def _execution(self, name: str) -> Execution | None:
        try:
            return self.server.execution(name)
        except ProtocolError:
            self.reading.dropped["an answer that is no execution"] += 1
            return None
        except NoetlError as error:
            if error.status == 404:
                return None
            raise

    def _turns(self, execution: Execution, after: str, cap: int) -> str:
        """Take an execution's turns; returns from which event on it is to be read again, "" where it is done."""
        over = execution.status in protocol.TERMINAL
        if not in_scope(execution, self.asked.scope):
            self.reading.dropped["outside data.event_log_replay.scope"] += 1
            return ""
        if not over and len(execution.events) < READ_WHILE_RUNNING:
            return after
        self.reading.executions += 1
        self.reading.truncated += execution.truncated and after == "0"
        capture = self.domain.config.improvement.capture
        signals = capture.outcome_signals if capture else []
        for turn in turns_of(execution, node=self.asked.extract_node, signals=signals, after=after):
            if turn is None:
                self.reading.dropped["no turn in what the step gave"] += 1
                continue
            if len(self.reading.rows) >= cap:
                self.reading.capped = True
                return after
            after = turn.event
            self._keep(turn.row())
        return "" if over else last_event(execution)

    def _keep(self, row: dict[str, Json]) -> None:
        """Redact and take a row. The id and the execution's number are ours and the server's, not the user's."""
        try:
            told = {name: row[name] for name in ("input", "outputs", "engine")}
            if len(canonical.dumps(told)) > self.domain.config.data.max_row_bytes:
                self.reading.dropped["longer than data.max_row_bytes"] += 1
                return
            clean, found = self.redactor.redact(told)
        except (RedactionError, TypeError):
            self.reading.dropped["could not be redacted"] += 1
            return
        self.reading.redacted.update(found)
        self.reading.rows.append({**row, **clean})


def _keep(registry: Registry, artifact: str | None, reading: Reading, after: Mark) -> str:
    """The captured turns with those of this reading, as one artifact; earlier files stay as they are."""
    with tempfile.TemporaryDirectory(prefix="slm-replay-") as name:
        folder = Path(name) / "captured"
        if artifact is not None:
            registry.store.get(artifact, folder)
        number = len(list(folder.glob("*.jsonl"))) + 1
        canonical.write_jsonl(folder / f"event_log-{number:06d}.jsonl", reading.rows)
        return registry.store.put(folder).sha256
