"""When a domain is retrained: `policies/retrain_gates.yaml`. Every trigger fires on a confidence bound."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slm_assets.domain.block import Block
from slm_assets.domain.config import Share

Reference = Literal["oracle", "teacher", "review", "outcome"]


class Quality(Block):
    """Live answers match their reference less than the promoted version did when it was judged."""

    enabled: bool = Field(default=True, description="Whether it may fire.")
    reference: Reference = Field(
        default="outcome",
        description="What a live answer is held against: the oracle's, a teacher's or a reviewer's answer, or what "
        "became of the turn (a correction names the right answer), compared with the version's earlier answers.",
    )
    drop: Share = Field(default=0.02, description="Fires when live answers match less by more than this, absolute.")


class Outcome(Block):
    """Users correct, retry or give up more often than they used to."""

    enabled: bool = Field(default=True, description="Whether it may fire.")
    ratio: float = Field(default=1.5, gt=1, description="Fires above so many times the trailing baseline.")
    baseline_days: int = Field(default=28, ge=1, description="How far back the baseline reaches.")


class Validity(Block):
    """Answers break their contract."""

    enabled: bool = Field(default=True, description="Whether it may fire.")
    least: Share = Field(default=0.995, description="Fires when the share of valid answers is under this.")


class Distribution(Block):
    """Traffic holds what the serving version was never trained on."""

    enabled: bool = Field(default=True, description="Whether it may fire.")
    share: Share = Field(default=0.05, description="Fires when more turns than this are new to the version.")


class Volume(Block):
    """Enough new labels have come together."""

    enabled: bool = Field(default=True, description="Whether it may fire.")
    turns: int = Field(
        default=5_000, ge=1, description="New confident turns; improvement.min_new_real_turns goes before it."
    )


class Contract(Block):
    """The contracts of the config are no longer those that the serving version was trained under."""

    enabled: bool = Field(default=True, description="Whether it may fire.")


class Staleness(Block):
    """The serving version has grown old."""

    enabled: bool = Field(default=True, description="Whether it may fire.")
    days: float = Field(default=30, gt=0, description="Fires when the dataset of what serves is older.")


class Watch(Block):
    """How often live traffic is looked at."""

    every_minutes: float = Field(default=10, gt=0, description="Waiting traffic is looked at after so long.")
    at_once_mb: float = Field(default=1, gt=0, description="Or at once, when so many megabytes of it wait.")
    at_least_hours: float = Field(default=24, ge=1, description="Without traffic too: what serves grows old.")


class RetrainTriggers(Block):
    """The seven triggers, and how often a retrain may follow."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="One-sided, of each bound.")
    min_turns: int = Field(default=200, ge=1, description="Fewer turns than this of the uniform sample decide nothing.")
    window_days: float = Field(default=7, gt=0, description="How much traffic is judged: the last days of it.")
    quality: Quality = Field(default=Quality(), description="Live match against the promoted score.")
    outcome: Outcome = Field(default=Outcome(), description="Corrections, retries, errors, abandonment.")
    validity: Validity = Field(default=Validity(), description="Answers within their contract.")
    distribution: Distribution = Field(default=Distribution(), description="What the version never saw.")
    volume: Volume = Field(default=Volume(), description="New confident turns.")
    contract: Contract = Field(default=Contract(), description="The contracts changed.")
    staleness: Staleness = Field(default=Staleness(), description="Age of what serves.")
    page: Literal["fired", "always", "demand"] = Field(
        default="fired",
        description="When the drift report has Evidently's page of the inputs: a trigger that reads the traffic fired, "
        "always, or only where somebody asks for it by `slm drift --html`. It takes some seconds of CPU.",
    )
    watch: Watch = Field(default=Watch(), description="How often traffic is looked at.")
    cooldown_hours: float = Field(default=24, ge=0, description="No retrain by a trigger sooner after the last one.")
    max_per_week: int = Field(default=3, ge=1, description="Most retrains by triggers in seven days.")
