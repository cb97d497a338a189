"""The cron of every domain, for whoever loads them all: a file is read again only when its stamp changes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from slm_assets import canonical
from slm_assets.domain.domain import CONFIG_NAME
from slm_assets.domain.stamps import stamp
from slm_assets.registry.home import Home
from slm_assets.stages.cadence.settings import schedule_of

KEPT = "schedules.json"
Known = dict[str, Any]


def crons(home: Home, domains: Iterable[str]) -> dict[str, str]:
    """Domain → its cron, of those domains that have one that can be used.

    What was read is kept in the home, where there is one: a code location loads often, and parsing the configs of
    hundreds of domains would be most of it.
    """
    path = home.root / "cache" / KEPT
    before = _kept(path)
    known = {name: _read(home, name, before.get(name)) for name in domains}
    if known != before and home.root.is_dir():
        with suppress(OSError):  # then it is read again next time
            canonical.write_json(path, known)
    return {name: cron for name, (_stamp, cron) in known.items() if cron is not None}


def _read(home: Home, name: str, before: Any) -> list[Any]:
    path = home.domains / name / CONFIG_NAME
    as_of = list(stamp(path))
    if isinstance(before, list) and len(before) == 2 and before[0] == as_of and as_of:
        return before
    try:
        # Most domains have none: a word is found faster than a document is parsed.
        mentioned = b"schedule" in path.read_bytes()
    except OSError:
        mentioned = False
    return [as_of, schedule_of(home, name) if mentioned else None]


def _kept(path: Path) -> Known:
    try:
        found = canonical.read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
