"""Of several verdicts of one gate and role, the one that decides."""

from __future__ import annotations

from collections.abc import Sequence

from slm_assets.gates.types import Verdict
from slm_assets.gates.verdicts import Place, missing

SEVERITY = ("PASS", "NOT_APPLICABLE", "NOT_INDEPENDENT", "INSUFFICIENT", "FAIL")


def decisive(details: Sequence[Verdict], gate: str, role: str) -> Verdict:
    """The verdict that decides a gate: the worst that blocks; among equals the one with least to spare."""
    own = [v for v in details if (v.gate, v.role) == (gate, role)]
    own = [v for v in own if v.blocking] or own
    if not own:
        return missing(Place(gate, role))

    def rank(verdict: Verdict) -> tuple[int, float, str]:
        spare = (verdict.low - verdict.threshold) if verdict.low is not None and verdict.threshold is not None else 0.0
        return -SEVERITY.index(verdict.verdict), spare, verdict.metric

    return min(own, key=rank)
