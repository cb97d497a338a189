"""Policies that a config refers to: `policies/promotion_gates.yaml`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slm_assets.domain.block import Block, Identifier
from slm_assets.domain.config import Share

GateName = Literal["floor", "target", "incumbent", "validity", "slices", "latency"]


class PromotionGates(Block):
    """What a challenger must show, per role. Sources: DESIGN of the gates in docs/gates.md.

    `margin` is absolute (0.02 = two points); `confidence` one-sided, for each bound.
    """

    gates: list[GateName] = Field(
        default=["floor", "target", "incumbent", "validity", "slices", "latency"],
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
    per_role: dict[Identifier, RolePolicy] = Field(default={}, description="What differs for a role.")


class RolePolicy(Block):
    """What differs for one role."""

    margin: Share | None = Field(default=None, description="As above, for this role.")
    confidence: float | None = Field(default=None, gt=0.5, lt=1, description="As above, for this role.")


PromotionGates.model_rebuild()
