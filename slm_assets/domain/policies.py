"""Policies that a config refers to: `policies/promotion_gates.yaml`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slm_assets.domain.block import Block, Identifier
from slm_assets.domain.config import Share

GateName = Literal["floor", "target", "incumbent", "validity", "slices", "latency", "shadow"]


class Watch(Block):
    """When a fresh promotion is rolled back by itself: its live answers go wrong more often than those before it."""

    status: Literal["enabled", "disabled"] = Field(default="enabled", description="disabled: nothing flips by itself.")
    hours: float = Field(default=24.0, gt=0, description="So long after its promotion a version is watched.")
    min_turns: int = Field(default=50, ge=1, description="Fewer sampled turns than this decide nothing.")
    worse_by: Share = Field(
        default=0.02, description="Rolled back when its error rate is proven higher than before by more than this."
    )
    most: Share = Field(
        default=0.2, description="Rolled back when its error rate is proven above this, whatever it was before."
    )


class PromotionGates(Block):
    """What a challenger must show, per role. Sources: DESIGN of the gates in docs/gates.md.

    `margin` is absolute (0.02 = two points); `confidence` one-sided, for each bound.
    """

    gates: list[GateName] = Field(
        default=["floor", "target", "incumbent", "validity", "slices", "latency", "shadow"],
        description="The gates that decide; what is not listed is neither measured nor demanded.",
    )
    margin: Share = Field(default=0.02, description="Most that a challenger may be worse, absolute.")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="One-sided, of each bound.")
    power: float = Field(default=0.8, gt=0, lt=1, description="Of an equal challenger, in `turns needed`.")
    target_by: Literal["bound", "point"] = Field(
        default="bound", description="Whether an absolute target must be met by the bound or the point."
    )
    latency: Literal["relative", "budget"] = Field(
        default="relative", description="relative: within latency_ratio × the incumbent, unless better."
    )
    latency_ratio: float = Field(default=1.10, gt=0, description="Of the incumbent's latency.")
    latency_p95_ms: float | None = Field(default=None, gt=0, description="Budget for one prediction.")
    shadow: Literal["when_captured", "required"] = Field(
        default="when_captured",
        description="when_captured: demanded once the domain captures traffic and any has been captured; required: "
        "always, but for a role that was never promoted.",
    )
    shadow_margin: Share = Field(
        default=0.05,
        description="Most that a challenger may be worse on live turns; the eval rows bound it by `margin` before.",
    )
    watch: Watch = Field(default=Watch(), description="What takes a fresh promotion back by itself.")
    per_role: dict[Identifier, RolePolicy] = Field(default={}, description="What differs for a role.")


class RolePolicy(Block):
    """What differs for one role."""

    margin: Share | None = Field(default=None, description="As above, for this role.")
    confidence: float | None = Field(default=None, gt=0.5, lt=1, description="As above, for this role.")


PromotionGates.model_rebuild()
