"""What is right: the routing of a ticket whose meaning is known. Nothing here reads a text."""

from __future__ import annotations

from typing import Any

URGENT_FOR_BUSINESS = ("device_fault", "connectivity", "app", "setup")
"""Categories in which a business customer is served one step earlier."""

PATIENCE = 2
"""Open tickets from which an angry customer is escalated."""


SEVERITY = {1: "critical", 2: "major", 3: "minor", 4: "question"}


def priority(severity: int, category: str, impact: str, tier: str) -> int:
    """1 (now) to 4 (when there is time). Impact: blocking, normal or can_wait; what is critical never waits."""
    step = severity
    if severity > 1 and impact == "blocking":
        step -= 1
    if severity > 1 and tier == "business" and category in URGENT_FOR_BUSINESS:
        step -= 1
    if severity > 1 and impact == "can_wait":
        step += 1
    return min(4, max(1, step))


def route(case: dict[str, Any], meaning: dict[str, Any], customer: dict[str, Any]) -> dict[str, Any]:
    """The output of the triage role. `meaning`: product, sentiment, impact, legal, reference (or None)."""
    step = priority(case["severity"], case["category"], meaning["impact"], customer.get("tier", "free"))
    furious = meaning["sentiment"] == "angry" and customer.get("open_tickets", 0) >= PATIENCE
    escalate = step == 1 or meaning["legal"] or case.get("escalate", False) or furious
    output = {
        "category": case["category"],
        "product": meaning["product"],
        "reason": case["reason"],
        "sentiment": meaning["sentiment"],
        "severity": SEVERITY[case["severity"]],
        "impact": meaning["impact"],
        "priority": f"P{step}",
        "escalate": bool(escalate),
    }
    if meaning["reference"] is not None:
        output["reference"] = meaning["reference"]
    return output
