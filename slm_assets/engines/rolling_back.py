"""A rollback from anywhere: the command line, Dagster, the service, or a watch that takes a promotion back."""

from __future__ import annotations

from typing import Any

from slm_assets.engines.in_process import run_rollback
from slm_assets.errors import BadInputError, SlmError
from slm_assets.registry.registry import Registry
from slm_assets.stages.rollback import rollback_request


def roll_back(
    registry: Registry, domain: str, *, roles: list[str] | None, to: str | None, reason: str, actor: str
) -> dict[str, Any]:
    """Flip back, or to `to`; returns domain, action, changes by role, and the seconds that it took.

    BadInputError where there is nothing to roll back, SlmError where the target cannot answer: no flag moved then.
    """
    request = rollback_request(registry, domain, roles=roles, to=to, reason=reason)
    run_dir = registry.home.runs / domain / request.version / f"rollback-{request.digest[:12]}"
    receipt = run_rollback(registry, request, run_dir, actor=actor).receipt
    if receipt.status != "succeeded":
        raise (BadInputError if receipt.error_kind == "bad_input" else SlmError)(receipt.error)
    return {
        "domain": domain,
        "action": receipt.result.summary["action"],
        "changes": receipt.result.summary["changes"],
        "seconds": receipt.result.measured["switch_seconds"],
    }
