"""The process in which a challenger answers: one release, told batches of turns as lines, at the lowest priority.

It has no secrets, no registry and no network address of ours; it ends with the pipe that it is told through.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import orjson

from slm_assets.canonical import Json
from slm_assets.domain.turns import role_input
from slm_assets.errors import SlmError
from slm_assets.stages.answering import BrokenContractError, check, respond
from slm_assets.stages.bundle import open_bundle
from slm_assets.stages.line_worker import READY, served
from slm_assets.stages.serving import Serving, serving_bundle

NICE = 10


def main() -> None:
    """Serve until the input ends."""
    with served() as (lines, answers):
        os.nice(NICE)
        bundle = open_bundle(Path(orjson.loads(next(lines))["bundle"]))
        roles = bundle.domain.config.roles
        engines = {role.id: serving_bundle(bundle, role.id) for role in roles}
        answers.write(READY)
        answers.flush()
        for line in lines:
            found = []
            for asked in orjson.loads(line):
                outputs: dict[str, Json] = {}
                own: dict[str, dict[str, Any]] = {}
                for role in roles:
                    if asked["role"] in (None, role.id):
                        value = asked["value"] if asked["role"] else role_input(role, asked["value"], outputs)
                        own[role.id] = answer(engines[role.id], role.id, value)
                        outputs[role.id] = own[role.id]["output"]
                found.append(own)
            answers.write(orjson.dumps(found) + b"\n")
            answers.flush()


def answer(serving: Serving, role_id: str, value: Json) -> dict[str, Any]:
    """One answer as it would be served; what cannot be answered says why by its kind alone."""
    started = time.perf_counter()
    try:
        check(serving, role_id, value)
        given = respond(serving, value)
    except BrokenContractError:
        return {
            "output": None,
            "valid": False,
            "confidence": 0.0,
            "fallback": None,
            "error": "contract",
            "seconds": 0.0,
        }
    except SlmError:
        return {"output": None, "valid": False, "confidence": 0.0, "fallback": None, "error": "engine", "seconds": 0.0}
    return {
        "output": given.output,
        "valid": given.valid,
        "confidence": round(given.confidence, 4),
        "fallback": given.fallback,
        "error": "",
        "seconds": round(time.perf_counter() - started, 6),
    }


if __name__ == "__main__":
    main()
