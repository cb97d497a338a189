"""The latency gate: a budget for the challenger, and a bound on how much slower than the incumbent it is."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slm_assets.errors import BadInputError
from slm_assets.gates.clusters import DIGITS
from slm_assets.gates.types import Verdict
from slm_assets.gates.verdicts import DEFAULT, Level, Place, decide, missing, verdict_at

MORE = 4
"""Measuring is cheap: an undecided ratio asks for this many times the pairs, half the interval."""


def latency(
    challenger_ms: ArrayLike,
    incumbent_ms: ArrayLike,
    *,
    place: Place,
    ratio: float = 1.10,
    budget_p95_ms: float | None = None,
    better: bool = False,
    mode: Literal["relative", "budget"] = "relative",
    level: Level = DEFAULT,
) -> Verdict:
    """Milliseconds per prediction of both, measured interleaved: pair i answered the same input.

    The budget binds the challenger's p95, always. In mode "relative" the median of the paired ratios
    must also lie within `ratio`, by the exact bounds of a median (order statistics), unless the
    challenger is proven `better` on the primary metric.
    """
    ours, theirs = (np.asarray(x, dtype=np.float64) for x in (challenger_ms, incumbent_ms))
    if mode == "budget" and budget_p95_ms is None:
        raise BadInputError("latency: budget, but there is none", cure="set latency_p95_ms in the policy")
    if not len(ours):
        return missing(place, budget_p95_ms)
    p95, n = round(float(np.quantile(ours, 0.95)), DIGITS), len(ours)
    seen = f"p95 {p95:.3g} ms" + ("" if budget_p95_ms is None else f", budget {budget_p95_ms:g} ms")
    over = budget_p95_ms is not None and p95 > budget_p95_ms
    if over or better or mode == "budget":
        why = "" if mode == "budget" else "may be slower, as it is proven better on the primary metric: "
        reason = f"{'over budget: ' if over else why}{seen}"
        name: Literal["PASS", "FAIL"] = "FAIL" if over else "PASS"
        return verdict_at(place, name, reason, numbers=(p95, None, None), threshold=budget_p95_ms, n=n)
    if n != len(theirs):
        raise BadInputError(f"{n} and {len(theirs)} latencies: they must be measured in pairs")
    value, low, high = median_bounds(ours / np.maximum(theirs, 1e-9), level)
    outcome = decide(-high, -low, -ratio)
    word = {"PASS": "within", "FAIL": "slower than", "INSUFFICIENT": "not decided against"}[outcome]
    reason = f"{value:.3g} × the incumbent ({low:.3g} to {high:.3g}), {word} {ratio:g} ×; {seen}"
    return verdict_at(
        place,
        outcome,
        reason,
        numbers=(value, low, high if np.isfinite(high) else None),
        threshold=ratio,
        n=n,
        n_needed=MORE * n if outcome == "INSUFFICIENT" else None,
    )


def median_bounds(values: NDArray[np.float64], level: Level = DEFAULT) -> tuple[float, float, float]:
    """Median, lower bound at the confidence of a FAIL, upper bound at that of a PASS.

    Exact for any distribution: order statistics of a Binomial(n, 1/2). With too few values for a bound
    it is -inf or inf.
    """
    from scipy.special import bdtr

    ordered, n = np.sort(values), len(values)
    tail = bdtr(np.arange(n), n, 0.5)

    def rank(confidence: float) -> int:
        return int(np.searchsorted(tail, 1 - confidence, side="right")) - 1

    below, above = rank(level.fail_confidence), rank(level.confidence)
    low = float(ordered[below]) if below >= 0 else -np.inf
    high = float(ordered[n - 1 - above]) if above >= 0 else np.inf
    return round(float(np.median(ordered)), DIGITS), round(low, DIGITS), round(high, DIGITS)
