"""What this project asks of a NoETL server: playbooks, executions, and its registry.

Every call may be made again: registering looks first whether the content is there, executing carries a
dedup key, the rest only reads. The one exception, `registry_register`, says so.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.noetl import protocol
from slm_assets.noetl.address import Address, address_from_env
from slm_assets.noetl.protocol import Execution, NoetlError, ProtocolError, Status, identifier, mapping, objects
from slm_assets.noetl.wire import ATTEMPTS, Clock, Wire

PAGE = 100
"""Most executions that the server lists at once."""
DEDUP_SECONDS = 7 * 24 * 3600
APPEARS_WITHIN_S = 60.0
"""A server that takes its events in later answers 404 to an execution that it has just accepted."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 15.0


@dataclass(frozen=True)
class Playbook:
    """A registered version of a playbook. `catalog_id` pins it."""

    path: str
    catalog_id: str
    version: int


@dataclass(frozen=True)
class Started:
    """An accepted execution. `repeated`: it was there under this dedup key already."""

    execution: str
    repeated: bool


@dataclass(frozen=True)
class Listed:
    """A line of the list of executions."""

    execution: str
    path: str
    status: Status
    events: int


class Server:
    """A NoETL server, or the gateway before one."""

    def __init__(self, address: Address, *, timeout_s: float = 10.0, clock: Clock | None = None) -> None:
        self.address = address
        self.clock = clock or Clock()
        self._wire = Wire(address, timeout_s=timeout_s, clock=self.clock)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_error: object) -> None:
        self._wire.close()

    # Playbooks -----------------------------------------------------------------------------------

    def register(self, path: str, content: str) -> Playbook:
        """The catalog's newest version of `path`, registered now unless it has this content already.

        The server keeps a new version for every registration, so its own copy is the record of what is there.
        """
        there = self._newest(path, content)
        if there is not None:
            return there
        body = {"content": base64.b64encode(content.encode()).decode(), "resource_type": "Playbook"}
        for attempt in range(1, ATTEMPTS + 1):
            try:
                found = mapping(self._wire.call("POST", "/catalog/register", body, repeatable=False), "registration")
                break
            except NoetlError as error:
                if not error.acted or attempt == ATTEMPTS:
                    raise
                there = self._newest(path, content)  # only the answer was lost, perhaps
                if there is not None:
                    return there
        if found.get("path") != path:
            raise ProtocolError(f"registered {protocol.shown(found.get('path'))}, expected {path}", acted=True)
        return _playbook(path, found)

    def _newest(self, path: str, content: str) -> Playbook | None:
        try:
            entry = self._wire.call("POST", "/catalog/resource", {"path": path, "version": "latest"})
        except NoetlError as error:
            if error.status == 404:
                return None
            raise
        found = mapping(entry, "catalog entry")
        same = _digest_of(found.get("content")) == canonical.digest_bytes(content.encode())
        return _playbook(path, found) if same else None

    # Executions ----------------------------------------------------------------------------------

    def execute(self, playbook: Playbook, payload: dict[str, Json], *, dedup: str) -> Started:
        """Start this version of a playbook, once per `dedup` key."""
        return self._execute({"catalog_id": int(playbook.catalog_id)}, payload, dedup)

    def execute_path(self, path: str, payload: dict[str, Json], *, dedup: str) -> Started:
        """Start the newest version of somebody else's playbook, once per `dedup` key."""
        return self._execute({"path": path}, payload, dedup)

    def _execute(self, which: dict[str, Json], payload: dict[str, Json], dedup: str) -> Started:
        body = {**which, "payload": payload, "dedup": {"key": dedup, "window_secs": DEDUP_SECONDS}}
        found = mapping(self._wire.call("POST", "/execute", body), "execution")
        return Started(identifier(found.get("execution_id"), "execution_id"), found.get("status") == "duplicate")

    def status(self, execution: str) -> Status | None:
        """Where an execution stands in one word; None where the server does not know it (yet)."""
        try:
            return protocol.overall(self._wire.call("GET", f"/executions/{identifier(execution)}/status"))
        except NoetlError as error:
            if error.status == 404:
                return None
            raise

    def execution(self, execution: str) -> Execution:
        """An execution with its newest 2,000 events."""
        return protocol.execution_of(self._wire.call("GET", f"/executions/{identifier(execution)}"))

    def page(self, *, offset: int = 0, path: str | None = None, status: str | None = None) -> list[Listed]:
        """A page of at most 100 executions, newest first."""
        asked: dict[str, str | int] = {"limit": PAGE, "offset": offset}
        asked |= {name: value for name, value in (("path", path), ("status", status)) if value}
        return [_listed(row) for row in objects(self._wire.call("GET", "/executions", params=asked), "executions")]

    def running(self, *, path: str | None = None, pages: int = 20) -> Iterator[str]:
        """Ids of what runs now, at most `pages` pages of them."""
        for page in range(pages):
            rows = self.page(offset=page * PAGE, path=path, status="RUNNING")
            yield from (row.execution for row in rows)
            if len(rows) < PAGE:
                return

    def wait(self, execution: str, *, deadline_s: float) -> Execution:
        """Poll until the execution has ended, with growing pauses; returns it with its events.

        NoetlError at the deadline, or where the server never came to know it. A server that is away for
        a while is waited for.
        """
        began, pause, seen = self.clock.now(), _FIRST_WAIT_S, False
        while True:
            away: NoetlError | None = None
            try:
                status = self.status(execution)
            except ProtocolError:
                raise
            except NoetlError as error:
                if error.status in (401, 403):
                    raise
                status, away = None, error
            if status in protocol.TERMINAL:
                return self.execution(execution)
            passed = self.clock.now() - began
            seen = seen or status is not None
            if status is None and away is None and not seen and passed > APPEARS_WITHIN_S:
                raise NoetlError(f"execution {execution}: the server does not know it", status=404)
            if passed > deadline_s:
                raise away or NoetlError(
                    f"execution {execution} has not ended after {deadline_s:.0f} s",
                    cure=f"look at {self.address.page(execution)}; it goes on there",
                )
            self.clock.sleep(min(pause, max(0.05, deadline_s - passed)))
            pause = min(pause * 1.5, _LONGEST_WAIT_S)

    def cancel(self, execution: str) -> bool:
        """Cancel an execution; False where it had ended before."""
        try:
            self._wire.call("POST", f"/executions/{identifier(execution)}/cancel", {"cascade": True})
        except NoetlError as error:
            if error.status == 422:
                return False
            raise
        return True

    # Registry ------------------------------------------------------------------------------------

    def registry_register(self, entry: dict[str, Json]) -> str:
        """Register an artifact; returns its URN there. NOT idempotent: every call mints a version, so
        look with `registry_list` before asking again. It is never retried where the server may have acted."""
        found = mapping(self._wire.call("POST", "/internal/registry/register", entry, repeatable=False), "entry")
        return urn_of(found)

    def registry_list(self, *, tenant: str, project: str, kind: str, name: str) -> list[dict[str, Any]]:
        """The newest 1,000 entries of a name, newest first."""
        asked: dict[str, str | int] = {"tenant": tenant, "project": project, "kind": kind, "name": name, "limit": 1000}
        found = mapping(self._wire.call("GET", "/internal/registry/list", params=asked), "list")
        return objects(found.get("entries"), "entries")


def server_from_env(*, timeout_s: float = 10.0) -> Server | None:
    """The server that the environment names, or None."""
    address = address_from_env()
    return Server(address, timeout_s=timeout_s) if address else None


def urn_of(entry: dict[str, Any]) -> str:
    """The URN that a registry entry was given."""
    ref = entry.get("ref")
    if not isinstance(ref, str) or not ref.startswith("registry://") or len(ref) > 500:
        raise ProtocolError(f"found {protocol.shown(ref)}, expected a registry:// URN as ref", acted=True)
    return ref


def _playbook(path: str, entry: dict[str, Json]) -> Playbook:
    version = identifier(entry.get("version"), "version")
    return Playbook(path, identifier(entry.get("catalog_id"), "catalog_id"), int(version))


def _listed(row: dict[str, Json]) -> Listed:
    path, events = row.get("path"), row.get("event_count")
    return Listed(
        identifier(row.get("execution_id"), "execution_id"),
        path if isinstance(path, str) else "",
        protocol.status_of(row.get("status")),
        events if isinstance(events, int) and not isinstance(events, bool) else 0,
    )


def _digest_of(content: object) -> str:
    """The digest of a playbook's text, which the catalog gives as it is or in base64."""
    if not isinstance(content, str):
        return ""
    data = content.encode("utf-8", "replace")
    with contextlib.suppress(binascii.Error, ValueError):  # plain YAML has colons, which base64 has not
        data = base64.b64decode(data, validate=True)
    return canonical.digest_bytes(data)
