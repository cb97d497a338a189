"""`slm erase`: take in what is still on its way, then thin out everything that was kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from filelock import FileLock, Timeout

from slm_assets.domain.domain import Domain
from slm_assets.engines.in_process import make_cell
from slm_assets.errors import BusyError
from slm_assets.registry import erasures
from slm_assets.registry.erasures import Kind
from slm_assets.registry.registry import Registry, Row
from slm_assets.stages.erase import thin_out
from slm_assets.stages.traffic.intake import capture_folder
from slm_assets.stages.traffic.segments import OPEN
from slm_assets.stages.windows import next_window

SEAL_SECONDS = 3.0
"""How long running services get to let go of what they hold and to seal what they write."""


def forget(domain: Domain, registry: Registry, kind: Kind, pseudonym: str, *, actor: str) -> tuple[Row, int]:
    """Forget a user or a conversation. Returns the erasure, and how many segments a service still had open: of those
    nothing of the person is taken in, and their bytes go when they are read.

    BusyError where a stage of the domain is at work: it may hold what is to go.
    """
    erasures.ask(registry, domain.name, kind, pseudonym, actor=actor)
    folder = capture_folder(registry.home, registry, domain.name)
    until = time.monotonic() + SEAL_SECONDS
    while (left := len(list(folder.glob(f"*{OPEN}")))) and time.monotonic() < until:
        time.sleep(0.1)
    for _ in range(2):  # a window that was opened before may not have been captured yet
        make_cell(registry, next_window(domain, registry, actor=actor, reason="erasure"), "capture", actor=actor)
    with _nothing_at_work(registry, domain.name):
        return thin_out(registry, domain.name)[-1], left


@contextmanager
def _nothing_at_work(registry: Registry, domain: str) -> Iterator[None]:
    folder = registry.home.locks / registry.tenant / registry.project / domain
    with ExitStack() as held:
        for path in sorted(folder.glob("*.lock")):
            try:
                held.enter_context(FileLock(path, timeout=0))
            except Timeout:
                raise BusyError(
                    f"{domain} {path.stem} is being worked on",
                    cure="let it end, then run `slm erase` again: it goes on from where it was",
                ) from None
        yield
