"""How often the loop's sensors look: every half minute, or as the deployment says."""

from __future__ import annotations

import os

from slm_assets.errors import BadInputError

WATCH_SECONDS = "SLM_WATCH_SECONDS"
"""Traffic that waits is due after so many seconds, whatever the domains' policies say; sensors look as often."""
TICK_S = 30


def watch_seconds() -> float | None:
    """What the deployment sets, or None. BadInputError for what is no number of seconds from 1 on."""
    text = os.environ.get(WATCH_SECONDS)
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds < 1e9:
        raise BadInputError(
            f"{WATCH_SECONDS} is {text!r}", cure="seconds, 1 or more; unset: as the domains' policies say"
        )
    return seconds


def tick_seconds() -> int:
    """How far apart the ticks of the loop's sensors are."""
    return int(min(TICK_S, watch_seconds() or TICK_S))
