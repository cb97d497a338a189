"""`POST /v1/rollback/{domain}`: the same rollback as everywhere, asked for over HTTP."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool

from slm_assets.canonical import Json
from slm_assets.engines.rolling_back import roll_back as flip_back
from slm_assets.errors import BadInputError, SlmError
from slm_assets.registry.registry import Registry
from slm_assets.serving.problems import Problem

KEYS = frozenset({"roles", "to", "reason", "by"})
LONGEST = 500


async def roll_back(registry: Registry, domain: str, body: Json, *, actor: str) -> dict[str, Any]:
    """Flip back what the body names: {"roles"?, "to"?, "reason", "by"}. Problem 422, 409 or 500; no flag moved then."""
    asked = _asked(body)
    by = f"{asked['by']} ({actor})"
    try:
        return await run_in_threadpool(
            flip_back, registry, domain, roles=asked["roles"], to=asked["to"], reason=asked["reason"], actor=by
        )
    except BadInputError as error:
        raise Problem(409, "rollback", error.message) from error
    except SlmError as error:
        raise Problem(500, "rollback", f"the target cannot answer and no flag moved: {error.message}") from error


def _asked(body: Json) -> dict[str, Any]:
    if not isinstance(body, dict) or body.keys() - KEYS:
        raise Problem(422, "shape", "expected an object", path="$", cure=", ".join(sorted(KEYS)))
    for name in ("reason", "by"):
        text = body.get(name)
        if not isinstance(text, str) or not 0 < len(text.strip()) <= LONGEST:
            raise Problem(422, "shape", f"{name}: expected some words, at most {LONGEST} characters", path=f"$.{name}")
    roles, to = body.get("roles"), body.get("to")
    if roles is not None and not (isinstance(roles, list) and roles and all(isinstance(r, str) for r in roles)):
        raise Problem(422, "shape", "roles: expected names of roles", path="$.roles")
    if to is not None and not isinstance(to, str):
        raise Problem(422, "shape", "to: expected a version such as v2, or oracle", path="$.to")
    return {"roles": roles, "to": to, "reason": body["reason"], "by": body["by"]}
