"""One turn answered by what serves now: per role the promoted release, or the oracle."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slm_assets.canonical import Json
from slm_assets.domain.contracts import Validator
from slm_assets.domain.loading import Domain
from slm_assets.domain.turns import role_input
from slm_assets.errors import BadInputError
from slm_assets.models.base import Predictor
from slm_assets.models.oracle import OraclePredictor, load_oracle
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Flag, Registry
from slm_assets.stages.bundle import Bundle, open_bundle
from slm_assets.stages.plans import open_domain


@dataclass(frozen=True)
class Serving:
    """What answers for a role, and the config it was judged under; `version` and `release` are None for
    the oracle."""

    engine: str
    version: str | None
    release: str | None
    domain: Domain
    predictor: Predictor


def ask(home: Home, name: str, turn: Json) -> dict[str, dict[str, Any]]:
    """Answer one turn: role → {"output", "confidence", "valid", "engine", "version", "release"}.

    Each release is verified against its digest first. BadInputError, with the JSON path, for a turn that
    breaks a role's input contract, and for a role that nothing can answer for.
    """
    domain, registry = open_domain(home, name)
    answers: dict[str, dict[str, Any]] = {}
    with _serving(domain, registry) as engines:
        for role in domain.config.roles:
            serving = engines[role.id]
            judged = serving.domain.role(role.id)
            value = role_input(judged, turn, {r: answers[r]["output"] for r in judged.reads})
            _check(serving.domain, role.id, value)
            found = serving.predictor.predict(value)
            answers[role.id] = {
                "output": found.output,
                "confidence": round(found.confidence, 4),
                "valid": found.valid,
                "engine": serving.engine,
                "version": serving.version,
                "release": serving.release,
            }
    return answers


@contextmanager
def _serving(domain: Domain, registry: Registry) -> Iterator[Mapping[str, Serving]]:
    """The engine of every role by its flag; closed, and its files gone, at the end of the block."""
    flags = registry.flags(domain.name)
    oracles: list[OraclePredictor] = []
    with tempfile.TemporaryDirectory(prefix="slm-ask-") as scratch:
        bundles = {
            flag.release: _bundle(registry, flag.release, Path(scratch) / str(flag.event))
            for flag in flags.values()
            if flag.release is not None
        }
        try:
            found = {}
            for role in domain.config.roles:
                flag = flags.get(role.id, Flag(role.id, "oracle"))
                if flag.release is not None:
                    bundle = bundles[flag.release]
                    engine = bundle.engines[role.id]
                    found[role.id] = Serving("release", f"v{flag.number}", flag.release, bundle.domain, engine)
                    continue
                oracle = load_oracle(domain, role.id)
                if oracle is None:
                    raise BadInputError(
                        f"{domain.name}.{role.id}: no version is promoted and the role has no oracle",
                        cure=f"train and promote one: slm run {domain.name}",
                    )
                oracles.append(oracle)
                found[role.id] = Serving("oracle", None, None, domain, oracle)
            yield found
        finally:
            for oracle in oracles:
                oracle.close()


def _bundle(registry: Registry, release: str, folder: Path) -> Bundle:
    registry.store.get(release, folder)
    return open_bundle(folder)


def _check(domain: Domain, role: str, value: Json) -> None:
    schema = domain.input_schema(role)
    faults = Validator(schema).errors(value) if schema else []
    if faults:
        path, message = faults[0]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise BadInputError(f"the turn breaks the input contract of {domain.name}.{role} at {path}: {message}{more}")
