"""What the gates say: a number with its interval, and a verdict read off one."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

VerdictName = Literal["PASS", "FAIL", "INSUFFICIENT", "NOT_APPLICABLE", "NOT_INDEPENDENT"]
TriggerName = Literal["quality", "outcome", "validity", "distribution", "volume", "contract", "staleness"]
Fired = Literal["FIRED", "QUIET", "INSUFFICIENT", "NOT_APPLICABLE"]


class Frozen(BaseModel):
    """Immutable, strict about keys: what carries a key nobody reads is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MetricValue(Frozen):
    """One number with its one-sided-by-one-sided interval at the policy's confidence.

    `role` "" means the whole turn; `slice` "" all rows; `subject` who was measured: challenger,
    incumbent, floor (the oracle) or majority. `mode`: reference input, or end to end.
    """

    role: str = ""
    subject: str = "challenger"
    metric: str
    slice: str = ""
    mode: Literal["", "reference", "end_to_end"] = ""
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0


class Verdict(Frozen):
    """A gate's answer for one role, with the number it was read off and one sentence why.

    `n_needed`: turns (of the slice, where there is one) that would decide an INSUFFICIENT one, for an
    equal challenger, at the policy's power. `blocking` False is a warning: shown, never a no.
    """

    gate: str
    role: str
    verdict: VerdictName
    value: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: float | None = None
    n: int = 0
    n_needed: int | None = None
    metric: str = ""
    slice: str = ""
    blocking: bool = True
    reason: str = ""


class Trigger(Frozen):
    """What one trigger says of a window of traffic: `value` as measured, `bound` the confidence bound that is held
    against `threshold`, `n` turns, and one sentence."""

    trigger: TriggerName
    verdict: Fired
    value: float | None = None
    bound: float | None = None
    threshold: float | None = None
    n: int = 0
    sentence: str = ""


class LiveMetric(Frozen):
    """One number about a window of live traffic, with its interval; `role` "" means the whole turn."""

    role: str = ""
    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
