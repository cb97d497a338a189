"""The registry of one tenant and project: plans, cells, entries, verdicts, flags, approvals, audit.

Everything here is metadata; bytes live in the artifact store. Entries are immutable, versions are
minted once, a promotion and a rollback are one transaction each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from sqlalchemy import Connection, Table, delete, func, insert, select, update

from slm_assets.errors import BadInputError
from slm_assets.registry import outbox
from slm_assets.registry import tables as t
from slm_assets.registry.artifacts import ArtifactStore
from slm_assets.registry.database import now
from slm_assets.registry.home import Home
from slm_assets.registry.schema import connect

T = TypeVar("T")
Row = Mapping[str, Any]
_SCOPE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True)
class Plan:
    """What a version was opened with; immutable. Digests name artifacts.

    `incumbents` and `best`: role → {"number", "model", "release"} of the version that served, or was
    the best ever promoted, when this one was opened; a role without an entry is served by its oracle.
    """

    domain: str
    number: int
    config: str
    seed: str
    parent: dict[str, Any] | None
    incumbents: dict[str, dict[str, Any]]
    best: dict[str, dict[str, Any]]
    epoch: int
    params: dict[str, Any]
    reason: str
    opener: str
    opened_at: str
    window: dict[str, Any] | None = None

    @property
    def version(self) -> str:
        """The version's name: v1, v2, …"""
        return f"v{self.number}"


@dataclass(frozen=True)
class Flag:
    """Which engine answers for a role: the oracle, a release, or the teacher that the config names."""

    role: str
    engine: Literal["oracle", "release", "teacher"]
    number: int | None = None
    release: str | None = None
    since: str = ""
    event: int = 0


@dataclass(frozen=True)
class Flip:
    """A change of one role's flag. `expected` is the event it replaces: another flip in between refuses."""

    role: str
    engine: Literal["oracle", "release", "teacher"]
    number: int | None
    release: str | None
    expected: int


@dataclass(frozen=True)
class CellRecord:
    """All that a finished cell leaves in the registry, written in one transaction."""

    domain: str
    number: int
    stage: str
    request: str
    status: str
    receipt: dict[str, Any]
    run_id: str
    engine: str
    actor: str
    entries: list[dict[str, Any]] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    triggers: list[dict[str, Any]] = field(default_factory=list)
    live: list[dict[str, Any]] = field(default_factory=list)
    asset: str = ""
    playbook: str = ""


class Registry:
    """The registry as seen by one tenant and project; there is no unscoped query."""

    def __init__(self, home: Home, tenant: str = "local", project: str = "default") -> None:
        for name in (tenant, project):
            if not _SCOPE_NAME.fullmatch(name):
                raise BadInputError(
                    f"registry namespace {tenant}/{project}: {name!r} is no name",
                    cure="set improvement.governance.registry_namespace to <tenant>/<project>, "
                    "letters, digits, '_', '.', '-'",
                )
        self.home = home
        self.tenant = tenant
        self.project = project
        self._database = connect(home.registry_url)
        self.store = ArtifactStore(home.artifacts_url, tenant, project, self._tombstone, self.collecting)

    # Plans ---------------------------------------------------------------------------------------

    def open_plan(self, domain: str, *, number: int | None, actor: str, make: Callable[[int], dict[str, Any]]) -> Plan:
        """Mint a version and write its plan. `make(number)` gives the plan's columns.

        A given number must be free and not below one that exists. Returns the plan.
        """

        def work(connection: Connection) -> Plan:
            last = connection.scalar(select(func.max(t.plans.c.number)).where(*self._is(t.plans, domain=domain)))
            minted = (last or 0) + 1 if number is None else number
            if last is not None and minted <= last:
                raise BadInputError(
                    f"{domain} v{minted} cannot be opened: {domain} is at v{last}",
                    cure=f"leave the version out, or name one from v{last + 1} on",
                )
            columns = make(minted)
            opened_at = now()
            connection.execute(
                insert(t.plans).values(
                    **self._scope, domain=domain, number=minted, opener=actor, opened_at=opened_at, **columns
                )
            )
            self._audit(connection, actor, "open", domain, minted, {"reason": columns["reason"]})
            return Plan(domain=domain, number=minted, opener=actor, opened_at=opened_at, **columns)

        return self._write(work)

    def plan(self, domain: str, number: int) -> Plan | None:
        """The plan of a version, or None where it was never opened."""
        row = self._first(select(t.plans).where(*self._is(t.plans, domain=domain, number=number)))
        return _plan(row) if row else None

    def plans(self, domain: str) -> list[Plan]:
        """All plans of a domain, oldest first."""
        query = select(t.plans).where(*self._is(t.plans, domain=domain)).order_by(t.plans.c.number)
        return [_plan(row) for row in self._all(query)]

    # Cells ---------------------------------------------------------------------------------------

    def cell(self, domain: str, number: int, stage: str) -> Row | None:
        """The last result of a stage of a version: request digest, status, receipt, run id, engine."""
        return self._first(select(t.cells).where(*self._is(t.cells, domain=domain, number=number, stage=stage)))

    def cells(self, domain: str, number: int | None = None) -> list[Row]:
        """The cells of a domain, or of one of its versions."""
        keys: dict[str, Any] = {"domain": domain} | ({} if number is None else {"number": number})
        query = select(t.cells).where(*self._is(t.cells, **keys))
        return self._all(query.order_by(t.cells.c.number, t.cells.c.finished_at))

    def commit(self, cell: CellRecord) -> None:
        """Record a finished cell: its receipt, entries, lineage, metrics and verdicts, all or nothing."""
        keys = {"domain": cell.domain, "number": cell.number}

        def work(connection: Connection) -> None:
            connection.execute(delete(t.cells).where(*self._is(t.cells, **keys, stage=cell.stage)))
            connection.execute(
                insert(t.cells).values(
                    **self._scope,
                    **keys,
                    stage=cell.stage,
                    request=cell.request,
                    status=cell.status,
                    receipt=cell.receipt,
                    run_id=cell.run_id,
                    engine=cell.engine,
                    finished_at=now(),
                )
            )
            for entry in cell.entries:
                self._enter(connection, entry, cell.parents)
            if cell.metrics:
                self._replace(connection, t.metrics, cell.metrics, **keys, source=cell.stage)
            self._replace(connection, t.verdicts, cell.verdicts, **keys, stage=cell.stage)
            for table, rows in ((t.triggers, cell.triggers), (t.live_metrics, cell.live)):
                if rows:
                    self._replace(connection, table, rows, **keys)
            if cell.status == "succeeded":
                outbox.put(connection, self._scope, self._materialised(cell))
            detail = {"status": cell.status, "request": cell.request, "run_id": cell.run_id}
            self._audit(connection, cell.actor, f"stage.{cell.stage}", cell.domain, cell.number, detail)

        self._write(work)

    def _replace(self, connection: Connection, table: Table, rows: list[dict[str, Any]], **keys: Any) -> None:
        connection.execute(delete(table).where(*self._is(table, **keys)))
        if rows:
            connection.execute(insert(table), [{**self._scope, **keys, **row} for row in rows])

    def _materialised(self, cell: CellRecord) -> outbox.Handoff:
        outputs = {
            entry["kind"]: {
                "urn": self.urn(entry["kind"], entry["name"], entry["version"]),
                **{key: entry[key] for key in ("sha256", "bytes", "rows")},
            }
            for entry in cell.entries
        }
        kind = next(iter(outputs), "")
        whole = [m for m in cell.metrics if not m["slice"] and ":" not in m["metric"]]
        return outbox.Handoff(
            event="materialised",
            domain=cell.domain,
            number=cell.number,
            asset=cell.asset or cell.stage,
            kind=kind,
            playbook=cell.playbook,
            code=str(cell.receipt.get("code_version", "")),
            urn=outputs[kind]["urn"] if kind else None,
            actor=cell.actor,
            identity=[cell.domain, cell.number, cell.stage, cell.request, [o["sha256"] for o in outputs.values()]],
            payload={
                "stage": cell.stage,
                "request": cell.receipt.get("request", {}),
                "request_digest": cell.request,
                "outputs": outputs,
                "lineage": sorted(set(cell.parents)),
                "metrics": whole,
                "verdicts": cell.verdicts,
                "run_id": cell.run_id,
                "engine": cell.engine,
            },
        )

    def _enter(self, connection: Connection, entry: dict[str, Any], parents: list[str]) -> None:
        key = {"kind": entry["kind"], "name": entry["name"], "version": entry["version"]}
        there = connection.execute(select(t.entries).where(*self._is(t.entries, **key))).mappings().first()
        if there is not None:
            if there["sha256"] != entry["sha256"]:
                raise BadInputError(
                    f"{self.urn(**key)} is {there['sha256']} and cannot become {entry['sha256']}: "
                    "entries are immutable",
                    cure="open a new version",
                )
            return
        connection.execute(insert(t.entries).values(**self._scope, created_at=now(), **entry))
        child = self.urn(**key)
        for parent in sorted(set(parents)):
            connection.execute(insert(t.edges).values(**self._scope, parent=parent, child=child))

    def urn(self, kind: str, name: str, version: int) -> str:
        """`registry://<tenant>/<project>/<kind>/<name>/<version>`, NoETL's form."""
        return f"registry://{self.tenant}/{self.project}/{kind}/{name}/{version}"

    def entry(self, kind: str, name: str, version: int) -> Row | None:
        """One entry by kind, name and version."""
        keys = self._is(t.entries, kind=kind, name=name, version=version)
        return self._first(select(t.entries).where(*keys))

    def edges(self) -> list[tuple[str, str]]:
        """Lineage as (parent URN, child URN)."""
        query = select(t.edges).where(*self._is(t.edges)).order_by(t.edges.c.child, t.edges.c.parent)
        return [(row["parent"], row["child"]) for row in self._all(query)]

    def metrics(self, domain: str, number: int) -> list[Row]:
        """The numbers of a version."""
        return self._all(select(t.metrics).where(*self._is(t.metrics, domain=domain, number=number)))

    def verdicts(self, domain: str, number: int) -> list[Row]:
        """The gates' answers for a version, one per stage, gate and role."""
        query = select(t.verdicts).where(*self._is(t.verdicts, domain=domain, number=number))
        return self._all(query.order_by(t.verdicts.c.stage, t.verdicts.c.role, t.verdicts.c.gate))

    def look(self, domain: str, epoch: int, number: int) -> int:
        """Which look at this eval epoch the version has: counted once, 1 for the first."""

        def work(connection: Connection) -> int:
            keys = {"domain": domain, "epoch": epoch}
            mine = select(t.looks.c.look).where(*self._is(t.looks, **keys, number=number))
            look = connection.scalar(mine)
            if look is None:
                last = connection.scalar(select(func.max(t.looks.c.look)).where(*self._is(t.looks, **keys)))
                look = (last or 0) + 1
                connection.execute(insert(t.looks).values(**self._scope, **keys, number=number, look=look))
            return int(look)

        return self._write(work)

    # Flags ---------------------------------------------------------------------------------------

    def flags(self, domain: str) -> dict[str, Flag]:
        """Role → its flag. A role that was never promoted has none: its oracle answers."""
        rows = self._all(select(t.flags).where(*self._is(t.flags, domain=domain)))
        return {
            r["role"]: Flag(r["role"], r["engine"], r["number"], r["release"], r["since"], r["event"]) for r in rows
        }

    def flip(
        self, domain: str, flips: Iterable[Flip], *, action: str, actor: str, reason: str, playbook: str = ""
    ) -> list[Flag]:
        """Flip flags in one transaction, each with its event, audit event and handoff; all or none."""
        wanted = list(flips)

        def work(connection: Connection) -> list[Flag]:
            return [self._flip_one(connection, domain, flip, action, actor, reason, playbook) for flip in wanted]

        return self._write(work)

    def _flip_one(
        self, connection: Connection, domain: str, flip: Flip, action: str, actor: str, reason: str, playbook: str
    ) -> Flag:
        keys = {"domain": domain, "role": flip.role}
        row = connection.execute(select(t.flags).where(*self._is(t.flags, **keys))).mappings().first()
        current = row["event"] if row else 0
        if current != flip.expected:
            raise BadInputError(
                f"{domain}.{flip.role} was flipped by someone else in the meantime (event {current})",
                cure="look at `slm why` and decide again",
            )
        at = now()
        to = {"engine": flip.engine, "number": flip.number, "release": flip.release}
        previous = {k: row[k] for k in ("engine", "number", "release", "event")} if row else None
        event = connection.execute(
            insert(t.flag_events)
            .values(
                **self._scope,
                at=at,
                actor=actor,
                action=action,
                reason=reason,
                previous=previous,
                **keys,
                **to,
            )
            .returning(t.flag_events.c.id)
        ).scalar_one()
        values = {**to, "event": event, "since": at}
        if row:
            connection.execute(update(t.flags).where(*self._is(t.flags, **keys)).values(**values))
        else:
            connection.execute(insert(t.flags).values(**self._scope, **keys, **values))
        detail = {"role": flip.role, "to": to, "from": previous, "reason": reason}
        self._audit(connection, actor, action, domain, flip.number, detail)
        told = {"stage": action, **detail, "flag_event": event}
        told["lineage"] = [self.urn("release", domain, flip.number)] if flip.number else []
        outbox.put(
            connection,
            self._scope,
            outbox.Handoff(
                event="flipped", domain=domain, number=flip.number, asset="deployment", kind="flag",
                playbook=playbook, code="", urn=None, actor=actor, identity=[domain, flip.role, event, at],
                payload=told,
            ),
        )  # fmt: skip
        return Flag(flip.role, flip.engine, flip.number, flip.release, at, event)

    def flag_events(self, domain: str, role: str | None = None) -> list[Row]:
        """Every flip of a domain (or role), oldest first."""
        keys = {"domain": domain} | ({} if role is None else {"role": role})
        query = select(t.flag_events).where(*self._is(t.flag_events, **keys))
        return self._all(query.order_by(t.flag_events.c.id))

    # Approvals and audit -------------------------------------------------------------------------

    def approve(
        self, domain: str, number: int, roles: Iterable[str], *, evidence: str, release: str | None,
        actor: str, reason: str,
    ) -> None:  # fmt: skip
        """Record a named approval, bound to the verdicts' digest and, where there is one, the release."""
        wanted = list(roles)

        def work(connection: Connection) -> None:
            for role in wanted:
                row = {"domain": domain, "number": number, "role": role, "evidence": evidence}
                connection.execute(
                    insert(t.approvals).values(
                        **self._scope, at=now(), actor=actor, release=release, reason=reason, **row
                    )
                )
            detail = {"roles": wanted, "evidence": evidence, "release": release, "reason": reason}
            self._audit(connection, actor, "approve", domain, number, detail)

        self._write(work)

    def approvals(self, domain: str, number: int) -> list[Row]:
        """The approvals of a version, oldest first."""
        query = select(t.approvals).where(*self._is(t.approvals, domain=domain, number=number))
        return self._all(query.order_by(t.approvals.c.id))

    def audit(self, domain: str) -> list[Row]:
        """Everything that was done to a domain, oldest first."""
        return self._all(select(t.audit).where(*self._is(t.audit, domain=domain)).order_by(t.audit.c.id))

    def _audit(
        self, connection: Connection, actor: str, action: str, domain: str, number: int | None,
        detail: dict[str, Any],
    ) -> None:  # fmt: skip
        row = {"at": now(), "actor": actor, "action": action, "domain": domain, "number": number}
        connection.execute(insert(t.audit).values(**self._scope, detail=detail, **row))

    def forget_log(self) -> None:
        """Leave nothing of deleted rows in the database's log."""
        self._database.forget_log()

    def alone(self, what: str) -> AbstractContextManager[bool]:
        """Whether this process alone does `what` in this namespace, until the end of the block."""
        return self._database.alone(f"{self.tenant}/{self.project} {what}")

    def collecting(self) -> AbstractContextManager[None]:
        """The lock under which garbage of this namespace is deleted, and what has become old is stored again."""
        return self._database.lock(f"{self.tenant}/{self.project} garbage")

    def _tombstone(self, sha256: str) -> str | None:
        row = self._first(select(t.tombstones).where(*self._is(t.tombstones, sha256=sha256)))
        return row["manifest"] if row else None

    # Plumbing ------------------------------------------------------------------------------------

    @property
    def _scope(self) -> dict[str, str]:
        return {"tenant": self.tenant, "project": self.project}

    def _is(self, table: Table, **keys: Any) -> list[Any]:
        return [table.c[name] == value for name, value in {**self._scope, **keys}.items()]

    def _first(self, query: Any) -> Row | None:
        rows = self._all(query)
        return rows[0] if rows else None

    def _all(self, query: Any) -> list[Row]:
        return list(self._database.fetch(query))

    def _write(self, work: Callable[[Connection], T]) -> T:
        return self._database.run(f"{self.tenant}/{self.project}", work)


def _plan(row: Row) -> Plan:
    return Plan(**{k: v for k, v in row.items() if k not in ("tenant", "project")})
