"""Logs as JSON Lines: one event a line, with the trace and the ids of what was worked on."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import orjson

from slm_assets import tracing

FORMAT = "SLM_LOG"
"""Variable: `json` has a stage's log on standard error too, as JSON Lines; a cluster collects that."""
_ABOUT: ContextVar[dict[str, str]] = ContextVar("slm_log_about", default={})  # noqa: B039 - never changed in place


@contextmanager
def about(**ids: str) -> Iterator[None]:
    """Every event of the block says these ids: run_id, turn_id, domain, version, stage."""
    token = _ABOUT.set({**_ABOUT.get(), **ids})
    try:
        yield
    finally:
        _ABOUT.reset(token)


def log_json() -> None:
    """Every log of this process as JSON Lines on standard error."""
    logging.basicConfig(level=logging.INFO, handlers=[_handler()], force=True)


@contextmanager
def also_json(logger: logging.Logger) -> Iterator[None]:
    """A logger's events as JSON Lines on standard error too, where the deployment asks for that."""
    if os.environ.get(FORMAT) != "json":
        yield
        return
    handler, level = _handler(), logger.level
    logger.addHandler(handler)
    if logger.getEffectiveLevel() > logging.INFO:
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class JsonLines(logging.Formatter):
    """at, level, logger, event, trace_id and ids, the event's own fields, and a traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One event on one line."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        told: dict[str, Any] = {"at": at, "level": record.levelname.lower(), "logger": record.name}
        trace = tracing.trace_id()
        told |= {"event": record.getMessage(), **({"trace_id": trace} if trace else {}), **_ABOUT.get()}
        told |= getattr(record, "fields", {})
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(told, default=str).decode()


def _handler() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    return handler
