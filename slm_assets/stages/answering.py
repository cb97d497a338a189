"""One turn answered by what serves now, and by the oracle where a model fails or is unsure."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from slm_assets.canonical import Json
from slm_assets.domain.turns import role_input
from slm_assets.errors import BadInputError, SlmError
from slm_assets.models.base import Prediction
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Flag
from slm_assets.stages.bundle import Bundle, open_bundle
from slm_assets.stages.plans import open_domain
from slm_assets.stages.serving import Serving, serving_of

Why = Literal["low_confidence", "invalid", "error", "release_refused"]
"""Why the oracle answered in a release's place."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One role's answer and where it came from; `rung` of a cascade that gave it. `replaced`: the confidence of the
    answer that was not used; `error`: what a model threw, for the record and not for the caller."""

    output: Json
    confidence: float
    valid: bool
    engine: str
    version: str | None = None
    release: str | None = None
    urn: str | None = None
    fallback: Why | None = None
    replaced: float | None = None
    error: str = ""
    rung: str = ""

    def shown(self) -> dict[str, Any]:
        """The answer as a caller sees it."""
        return {
            "output": self.output,
            "confidence": round(self.confidence, 4),
            "valid": self.valid,
            "engine": self.engine,
            "version": self.version,
            "release": self.release,
            "urn": self.urn,
            "fallback": self.fallback and {"reason": self.fallback, "confidence": self.replaced},
            **({"rung": self.rung} if self.rung else {}),
        }


class BrokenContractError(BadInputError):
    """An input breaks a role's contract. `faults`: (JSON path, message) in the input; `blame`: the earlier
    role whose answer is at fault, "" where the caller is."""

    def __init__(self, message: str, faults: list[tuple[str, str]], blame: str) -> None:
        self.faults, self.blame = faults, blame
        super().__init__(message)


def respond(serving: Serving, value: Json) -> Answer:
    """Answer one input that meets the contract.

    A model that throws, is invalid or is unsure is replaced by the oracle where that has a valid answer.
    SlmError where nothing answers.
    """
    try:
        found, error = serving.predictor.predict(value), ""
    except Exception as fault:
        found, error = Prediction(None, 0.0, valid=False), f"{type(fault).__name__}: {fault}"
    why = _unusable(serving, found, error)
    if why and serving.oracle is not None:
        instead = serving.oracle.predict(value)
        if instead.valid:
            replaced = None if error else round(found.confidence, 4)
            return Answer(
                instead.output, instead.confidence, True, "oracle", fallback=why, replaced=replaced, error=error
            )
    if error:
        raise SlmError(f"{serving.domain.name}: the {serving.engine} failed and no oracle could answer: {error}")
    return Answer(
        found.output, found.confidence, found.valid, serving.engine, serving.version, serving.release, serving.urn,
        fallback="release_refused" if serving.refused else None, rung=found.by,
    )  # fmt: skip


def _unusable(serving: Serving, found: Prediction, error: str) -> Why | None:
    if error:
        return "error"
    if not found.valid:
        return "invalid"
    unsure = serving.below is not None and found.confidence < serving.below
    return "low_confidence" if unsure else None


def input_of(serving: Serving, role_id: str, turn: Json, outputs: Mapping[str, Json]) -> Json:
    """The role's input for a turn, held against its contract: BrokenContractError with every fault."""
    value = role_input(serving.domain.role(role_id), turn, outputs)
    check(serving, role_id, value)
    return value


def check(serving: Serving, role_id: str, value: Json) -> None:
    """BrokenContractError where the input breaks the contract of the role."""
    if serving.contract is None or serving.contract.is_valid(value):
        return
    faults = serving.contract.errors(value)
    path, message = faults[0]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    blame = next((name for name in serving.domain.role(role_id).reads if _under(path, name)), "")
    raise BrokenContractError(
        f"the turn breaks the input contract of {serving.domain.name}.{role_id} at {path}: {message}{more}",
        faults,
        blame,
    )


def _under(path: str, name: str) -> bool:
    return path == f"$.{name}" or path.startswith((f"$.{name}.", f"$.{name}["))


def ask(home: Home, name: str, turn: Json) -> dict[str, dict[str, Any]]:
    """Answer one turn: role → the answer, as a caller of the service sees it.

    Each release is verified against its digest first. BadInputError, with the JSON path, for a turn that
    breaks a role's input contract, and for a role that nothing can answer for.
    """
    domain, registry = open_domain(home, name)
    flags = registry.flags(name)
    outputs: dict[str, Json] = {}
    answers: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="slm-ask-") as scratch, ExitStack() as stack:
        bundles: dict[str, Bundle] = {}

        def opened(release: str) -> Bundle:
            if release not in bundles:
                registry.store.get(release, Path(scratch) / release)
                bundles[release] = open_bundle(Path(scratch) / release)
            return bundles[release]

        for role in domain.config.roles:
            serving = serving_of(registry, domain, flags.get(role.id, Flag(role.id, "oracle")), opened)
            stack.callback(serving.close)
            answer = respond(serving, input_of(serving, role.id, turn, outputs))
            outputs[role.id] = answer.output
            answers[role.id] = answer.shown()
    return answers
