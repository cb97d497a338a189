"""What `slm run` hands to the assets that it runs in its own process; absent in runs of the UI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from slm_assets.engines.in_process import Outcome
from slm_assets.registry.home import Home


@dataclass(frozen=True)
class Listener:
    """Who watches a run: `progress(stage, share, note)` while a stage works, `ended` with its outcome."""

    progress: Callable[[str, float, str], None] = lambda _stage, _share, _note: None
    ended: Callable[[str, Outcome], None] = lambda _stage, _outcome: None


@dataclass(frozen=True)
class LocalRun:
    """The home, the actor and the listener of a run in this process."""

    home: Home
    actor: str
    listener: Listener


_CURRENT: ContextVar[LocalRun | None] = ContextVar("slm_local_run", default=None)


def current() -> LocalRun | None:
    """The local run that this code is part of, if it is part of one."""
    return _CURRENT.get()


@contextmanager
def running(local: LocalRun) -> Iterator[None]:
    """Make `local` the current run for the block."""
    token = _CURRENT.set(local)
    try:
        yield
    finally:
        _CURRENT.reset(token)
