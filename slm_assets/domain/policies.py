"""Policies that a config refers to: `policies/promotion_gates.yaml`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slm_assets.domain.config import Block, Identifier, Share

GateName = Literal["floor", "target", "incumbent", "validity", "slices", "latency"]


class PromotionGates(Block):
    """What a challenger must show, per role. Sources: DESIGN of the gates in docs/gates.md.

    `margin` is absolute (0.02 = two points); `confidence` one-sided, for each bound.
    """

    gates: list[GateName] = ["floor", "target", "incumbent", "validity", "slices", "latency"]
    margin: Share = 0.02
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    power: float = Field(default=0.8, gt=0, lt=1, description="Of an equal challenger, in `turns needed`.")
    target_by: Literal["bound", "point"] = Field(
        default="bound", description="Whether an absolute target must be met by the bound or the point."
    )
    latency: Literal["relative", "budget"] = Field(
        default="relative", description="relative: within latency_ratio × the incumbent, unless better."
    )
    latency_ratio: float = Field(default=1.10, gt=0)
    latency_p95_ms: float | None = Field(default=None, gt=0, description="Budget for one prediction.")
    per_role: dict[Identifier, RolePolicy] = {}


class RolePolicy(Block):
    """What differs for one role."""

    margin: Share | None = None
    confidence: float | None = Field(default=None, gt=0.5, lt=1)


PromotionGates.model_rebuild()
