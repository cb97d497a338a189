"""Deliver the outbox to a NoETL server: at least once, each registered once, in order within a domain.

The server's registry mints a version per call and knows no idempotency key. So a handoff is marked before
it is sent, and one that may have been sent is looked for, by its id in the entries' metadata, before it is
sent again; one process delivers at a time. Its URN there is kept, and lineage is told in such URNs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from slm_assets.canonical import Json
from slm_assets.domain.config import Handoffs, Improvement
from slm_assets.errors import SlmError
from slm_assets.noetl.protocol import NoetlError, ProtocolError
from slm_assets.noetl.server import Server, urn_of
from slm_assets.registry import outbox
from slm_assets.registry.outbox import Row, Told
from slm_assets.registry.registry import Registry

KINDS = {
    "dataset": ("dataset", ""),
    "labels": ("dataset", ".labels"),
    "model": ("model", ""),
    "eval": ("eval", ""),
    "release": ("release", ""),
    "traffic": ("dataset", ".traffic"),
    "drift": ("eval", ".drift"),
    "shadow": ("eval", ".shadow"),
    "deployment": ("release", ".deployment"),
    "flag": ("release", ".flags"),
}
"""Our kind → the server's, which knows four, and what is added to the domain as the entry's name: the
newest dataset of a domain is always its dataset, never its labels."""

BATCH = 50
TRIES = 3
SETTLE_S = 60.0
"""After a timeout the server may still act on what it was sent: it is looked for no sooner."""
FIRST_WAIT_S, LONGEST_WAIT_S = 10.0, 300.0
DEAD_AFTER_S = 48 * 3600.0
"""How long errors that the server itself answers with are taken for trouble of the server."""
_TROUBLE = frozenset({401, 403, 404, 408, 425, 429})


@dataclass
class Report:
    """What one delivery did. `busy`: another process delivers. `away`: why nothing more could be sent."""

    delivered: int = 0
    dead: int = 0
    delayed: int = 0
    busy: bool = False
    away: str = ""
    errors: list[str] = field(default_factory=list)

    def add(self, other: Report) -> None:
        """Count another delivery in."""
        self.delivered += other.delivered
        self.dead += other.dead
        self.delayed += other.delayed
        self.busy |= other.busy
        self.away = self.away or other.away
        self.errors += other.errors


def deliver(registry: Registry, server: Server, *, seconds: float = 30.0) -> Report:
    """Deliver what is due for at most about `seconds`, a batch of each domain in turn."""
    report = Report()
    with registry.alone("handoffs") as mine:
        report.busy = not mine
        work = _Delivery(registry, server, report)
        until = server.clock.now() + seconds
        waiting = outbox.domains(registry) if mine else []
        while waiting and not report.away and server.clock.now() < until:
            waiting = [domain for domain in waiting if not report.away and work.batch(domain)]
    return report


@dataclass
class _Delivery:
    registry: Registry
    server: Server
    report: Report
    seen: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    configs: dict[str, Handoffs] = field(default_factory=dict)

    def batch(self, domain: str) -> bool:
        """Send the next handoffs of a domain; whether there may be more to send now."""
        rows = outbox.take(self.registry, domain, BATCH)
        told: list[Told] = []
        refs = outbox.refs(self.registry, {urn for row in rows for urn in row["payload"].get("lineage", ())})
        begun = 0
        try:
            for row in rows:
                begun += 1
                told.append(self._send(row, refs))
                if told[-1].state != "delivered":
                    break
                if row["urn"] and told[-1].ref:
                    refs[row["urn"]] = told[-1].ref
        finally:
            # Interrupted, the one that was begun stays `sent`: it may have arrived.
            outbox.settle(self.registry, told, rows[begun:])
        self.report.delivered += sum(one.state == "delivered" for one in told)
        return len(told) == BATCH and told[-1].state == "delivered"

    def _send(self, row: Row, refs: Mapping[str, str]) -> Told:
        places = dict(row["places"])
        try:
            wanted = self._wanted(row)
            if wanted.registry and "registry" not in places:
                places["registry"] = self._enter(row, refs)
            path = wanted.playbooks.get("flip" if row["event"] == "flipped" else row["asset"])
            if path and "execution" not in places:
                places["execution"] = self._execute(path, row)
        except SlmError as error:
            return self._failed(row, places, error)
        return Told(row["id"], "delivered", places, places.get("registry"))

    def _execute(self, path: str, row: Row) -> str:
        try:
            return self.server.execute_path(path, {"handoff": row["payload"]}, dedup=row["handoff"]).execution
        except NoetlError as error:
            if error.status != 404:
                raise
            # A playbook that is not there is this domain's trouble, not the server's.
            raise NoetlError(error.message, cure=f"register {path} there", status=422) from None

    def _enter(self, row: Row, refs: Mapping[str, str]) -> str:
        entry = entry_of(row, refs, self.registry)
        place = (str(entry["kind"]), str(entry["name"]))
        if row["state"] == "sent" and (there := self._find(place, row["handoff"])):
            return there
        for attempt in range(1, TRIES + 1):
            try:
                return self.server.registry_register(entry)
            except NoetlError as error:
                if not error.acted:
                    raise
                self.seen.pop(place, None)
                there = self._find(place, row["handoff"])
                if there is not None:
                    return there
                if error.late or attempt == TRIES:
                    raise
        raise AssertionError("the last try returns or raises")

    def _find(self, place: tuple[str, str], handoff: str) -> str | None:
        """The URN under which a handoff is registered there, if it is."""
        if place not in self.seen:
            kind, name = place
            scope = {"tenant": self.registry.tenant, "project": self.registry.project}
            entries = self.server.registry_list(**scope, kind=kind, name=name)
            found = ((entry.get("metadata"), entry) for entry in entries)
            self.seen[place] = {
                str(metadata["handoff"]): urn_of(entry)
                for metadata, entry in found
                if isinstance(metadata, dict) and "handoff" in metadata
            }
        return self.seen[place].get(handoff)

    def _failed(self, row: Row, places: dict[str, str], error: SlmError) -> Told:
        asked = error if isinstance(error, NoetlError) else None
        dead = asked is not None and is_dead(asked, _age(row["tried_at"]))
        settle = SETTLE_S if asked and asked.late else 0.0
        wait = max(min(FIRST_WAIT_S * 2.0 ** min(row["attempts"], 9), LONGEST_WAIT_S), settle)
        self.report.dead += dead
        self.report.delayed += not dead
        self.report.errors.append(f"{row['domain']} {row['handoff'][:12]}: {error.message}")
        # Two domains with trouble are the server's trouble: the others would only meet it too.
        if asked and not dead and (_is_away(asked) or self.report.delayed > 1):
            self.report.away = error.message
        sent = row["state"] == "sent" or (asked is not None and asked.acted)
        state = "dead" if dead else "sent" if sent else "waiting"
        return Told(row["id"], state, places, error=error.message, wait_s=wait)

    def _wanted(self, row: Row) -> Handoffs:
        """What the config of the handoff's version asks for; of a flip to the oracle, the newest version's."""
        number = row["number"]
        plan = self.registry.plan(row["domain"], number) if number else None
        if plan is None:
            plan = next(iter(self.registry.plans(row["domain"])[-1:]), None)
        if plan is None:
            return Handoffs()
        if plan.config not in self.configs:
            self.configs[plan.config] = _frozen(self.registry, plan.config)
        return self.configs[plan.config]


def entry_of(row: Row, refs: Mapping[str, str], registry: Registry) -> dict[str, Json]:
    """The entry of the server's registry that tells of a handoff."""
    payload = row["payload"]
    kind, suffix = KINDS[row["kind"]]
    output = payload.get("outputs", {}).get(row["kind"], {})
    lineage = payload.get("lineage", [])
    entry: dict[str, Json] = {
        "tenant": registry.tenant,
        "project": registry.project,
        "kind": kind,
        "name": f"{row['domain']}{suffix}",
        "metadata": {"handoff": row["handoff"], "urn": row["urn"], "slm": payload},
        "lineage": [refs[urn] for urn in lineage if urn in refs],
        "tags": ["slm-assets", row["asset"], row["event"]],
    }
    if output:
        stored = {"artifact_uri": registry.store.address(output["sha256"]), "artifact_digest": output["sha256"]}
        entry |= {**stored, "artifact_bytes": output["bytes"], "media_type": "application/vnd.slm.tree+json"}
    return entry


def is_dead(error: NoetlError, age_s: float) -> bool:
    """Whether trying again is pointless: the server refused this very thing, or has failed on it for days.
    A server that is away, or a token that is wrong, says nothing about the handoff."""
    if _is_away(error) or error.status is None:
        return False
    if isinstance(error, ProtocolError) or error.status >= 500:
        return age_s > DEAD_AFTER_S
    return error.status >= 400


def _is_away(error: NoetlError) -> bool:
    status = error.status
    return status is None or status in _TROUBLE or 300 <= status < 400


def _age(since: str | None) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds() if since else 0.0


def _frozen(registry: Registry, config: str) -> Handoffs:
    import yaml

    document = yaml.safe_load(registry.store.read(config, "slm.config.yaml"))
    improvement = document["slm_domain"].get("improvement") or {}
    return Improvement.model_validate({"handoffs": improvement.get("handoffs") or {}}).handoffs
