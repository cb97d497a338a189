"""Handles of executions that outlive the run which submitted them: one for each cell, kept across restarts.

A job is written before it is submitted, with the key under which the server starts it once; so whoever
comes after a crash submits under the same key and gets the same execution.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from slm_assets.registry import tables as t
from slm_assets.registry.database import now
from slm_assets.registry.registry import Registry

Row = Mapping[str, Any]
SUBMITTING, SUBMITTED, ENDED = "submitting", "submitted", "ended"


def begin(
    registry: Registry,
    domain: str,
    number: int,
    stage: str,
    *,
    request: str,
    run_id: str,
    playbook: str,
    engine: str = "noetl",
    detail: Mapping[str, Any] | None = None,
) -> Row:
    """Write a job that is about to be submitted to an engine, in place of an earlier one of its cell.

    `detail`: what the engine must know of it later.
    """
    keys = {"domain": domain, "number": number, "stage": stage}
    at = now()
    # The run's id and the stage, and the time: a run may submit a stage again whose outputs were lost.
    row: dict[str, Any] = {
        "request": request,
        "run_id": run_id,
        "dedup": f"{run_id}:{stage}:{at}",
        "playbook": playbook,
    }
    row |= {"execution": None, "state": SUBMITTING, "submitted_at": at, "ended_at": None, "note": ""}
    row |= {"engine": engine, "detail": dict(detail or {})}

    def work(connection: Connection) -> None:
        connection.execute(delete(t.jobs).where(*registry._is(t.jobs, **keys)))
        connection.execute(insert(t.jobs).values(**registry._scope, **keys, **row))

    registry._write(work)
    return {**keys, **row}


def accept(registry: Registry, job: Row, execution: str) -> None:
    """The server has it, as this execution; its time runs from here, not from when the server was away."""
    _set(registry, job, {"execution": execution, "state": SUBMITTED, "submitted_at": now()})


def end(registry: Registry, job: Row, note: str = "", *, detail: Mapping[str, Any] | None = None) -> None:
    """It has ended and what it left was read; `detail` is added to what was known of it."""
    more = {"detail": {**job["detail"], **detail}} if detail else {}
    _set(registry, job, {"state": ENDED, "ended_at": now(), "note": note, **more})


def of_cell(registry: Registry, domain: str, number: int, stage: str) -> Row | None:
    """The last job of a cell; of an ended one the execution is where it was made."""
    return registry._first(select(t.jobs).where(*registry._is(t.jobs, domain=domain, number=number, stage=stage)))


def in_flight(registry: Registry) -> list[Row]:
    """Every job that has not ended, in one query."""
    query = select(t.jobs).where(*registry._is(t.jobs), t.jobs.c.state.in_((SUBMITTING, SUBMITTED)))
    return registry._all(query.order_by(t.jobs.c.submitted_at))


def _set(registry: Registry, job: Row, values: dict[str, Any]) -> None:
    keys = {name: job[name] for name in ("domain", "number", "stage", "dedup")}
    query = update(t.jobs).where(*registry._is(t.jobs, **keys)).values(**values)
    registry._write(lambda connection: connection.execute(query))
