"""Whether a fresh promotion goes wrong more often than what answered before it: read off bounds, not off points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from slm_assets.gates.intervals import upper_bound
from slm_assets.gates.sequential import per_conversation, share_at_least

CONFIDENCE = 0.99
"""Of a rollback that nobody asked for: half of what may go wrong is spent on the time before, half on the time since,
where the bound holds at every look."""


@dataclass(frozen=True)
class Errors:
    """Turns in the order of the traffic: whether each went wrong, and the conversation that it belongs to."""

    wrong: Sequence[bool]
    conversations: Sequence[str]


@dataclass(frozen=True)
class Watched:
    """What live answers say of a role's fresh promotion. Rates are shares of sampled turns that went wrong, by
    conversation: `value` since, not below `low`; `before`, not above `before_high`, None where nothing was seen."""

    role: str
    version: str
    verdict: Literal["OK", "WORSE", "INSUFFICIENT"]
    value: float
    low: float
    before: float | None
    before_high: float | None
    n: int
    sentence: str
    rolled_back: bool = False

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def watch(
    role: str, version: str, since: Errors, before: Errors, *, min_turns: int, worse_by: float, most: float
) -> Watched:
    """WORSE where the rate is proven above the one before by more than `worse_by`, or above `most`."""
    share = (1 - CONFIDENCE) / 2
    now = per_conversation(since.conversations, [float(w) for w in since.wrong])
    then = per_conversation(before.conversations, [float(w) for w in before.wrong])
    value, low = (float(now.mean()), share_at_least(now, 1 - share)) if len(now) else (0.0, 0.0)
    was = float(then.mean()) if len(then) else None
    high = upper_bound(float(then.sum()), float(len(then)), 1 - share) if len(then) else None
    seen = f"{value:.1%} of {len(since.wrong)} turns went wrong with {version}, at least {low:.1%}"
    told = f", {was:.1%} before it, at most {high:.1%}" if was is not None else ", nothing was seen before it"
    numbers = (round(value, 6), round(low, 6), was and round(was, 6), high and round(high, 6), len(since.wrong))
    if len(since.wrong) < min_turns:
        few = f"only {len(since.wrong)} turns of at least {min_turns} so far: {seen}{told}"
        return Watched(role, version, "INSUFFICIENT", *numbers, few)
    if low > most:
        return Watched(role, version, "WORSE", *numbers, f"{seen}, more than {most:.0%} whatever it was{told}")
    if high is not None and low > high + worse_by:
        return Watched(role, version, "WORSE", *numbers, f"{seen}{told}, and {100 * worse_by:g} points are allowed")
    return Watched(role, version, "OK", *numbers, f"{seen}{told}")
