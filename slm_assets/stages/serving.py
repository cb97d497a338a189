"""What answers for a role now: by its flag the promoted release, held against what was gated, or the oracle."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from slm_assets.domain.config import PythonOracle
from slm_assets.domain.contracts import Validator
from slm_assets.domain.loading import Domain
from slm_assets.errors import ArtifactError, BadInputError, SlmError
from slm_assets.models.base import Predictor
from slm_assets.models.cascade.model import CascadeModel
from slm_assets.models.oracle import OraclePredictor, load_oracle
from slm_assets.models.teacher.live import LivePredictor
from slm_assets.registry.registry import Flag, Registry
from slm_assets.stages.bundle import Bundle


@dataclass(frozen=True)
class Serving:
    """What answers for a role, and the config it was judged under; `version`, `release` and `urn` are None
    for the oracle.

    `oracle` stands in where a model's answer cannot be used, `below` is the confidence under which it does.
    `blocking`: an answer waits for another process or server, and `lock` lets one at a time, or so many.
    `refused`: why a release is not used though it is flagged.
    """

    engine: Literal["release", "oracle", "teacher"]
    domain: Domain
    predictor: Predictor
    contract: Validator | None
    version: str | None = None
    release: str | None = None
    urn: str | None = None
    oracle: OraclePredictor | None = None
    below: float | None = None
    blocking: bool = False
    refused: str = ""
    lock: threading.Lock | threading.BoundedSemaphore = field(default_factory=threading.Lock, repr=False, compare=False)

    def close(self) -> None:
        """End the oracles' child processes and the connections to servers, where there are any."""
        for engine in (self.predictor, self.oracle):
            if isinstance(engine, OraclePredictor | CascadeModel | LivePredictor):
                engine.close()


def serving_oracle(domain: Domain, role_id: str, refused: str = "") -> Serving:
    """The role's oracle as what answers. BadInputError for a role without one."""
    oracle = load_oracle(domain, role_id)
    if oracle is None:
        raise BadInputError(
            f"{domain.name}.{role_id}: no version is promoted and the role has no oracle",
            cure=f"train and promote one: slm run {domain.name}",
        )
    contract, blocking = _contract(domain, role_id), _blocking(domain, role_id)
    return Serving("oracle", domain, oracle, contract, blocking=blocking, refused=refused)


def serving_teacher(registry: Registry, domain: Domain, role_id: str) -> Serving:
    """The teacher that the config names as what answers, the oracle behind it."""
    from slm_assets.stages.live_teacher import live_teacher

    predictor = live_teacher(registry, domain, role_id)
    return Serving(
        "teacher", domain, predictor, _contract(domain, role_id), oracle=_stand_in(domain, role_id), blocking=True,
        lock=threading.BoundedSemaphore(predictor.concurrency),
    )  # fmt: skip


def serving_release(registry: Registry, flag: Flag, bundle: Bundle) -> Serving:
    """A flagged release as what answers. ArtifactError where it is not the one that passed the gates."""
    assert flag.release is not None and flag.number is not None
    _check_gated(registry, flag, bundle)
    urn = registry.urn("release", bundle.domain.name, flag.number)
    return replace(serving_bundle(bundle, flag.role), release=flag.release, urn=urn)


def serving_bundle(bundle: Bundle, role_id: str) -> Serving:
    """A bundle as it would answer for a role, its oracle behind it; whether it may is not asked here."""
    domain = bundle.domain
    oracle = _stand_in(domain, role_id)
    return Serving(
        engine="release",
        domain=domain,
        predictor=bundle.engines[role_id],
        contract=_contract(domain, role_id),
        version=str(bundle.manifest["version"]),
        oracle=oracle,
        below=domain.config.serving.fallback_below,
        blocking=oracle is not None and _blocking(domain, role_id),
    )


def serving_of(registry: Registry, base: Domain, flag: Flag, opened: Callable[[str], Bundle]) -> Serving:
    """What a flag says. `opened` gives the verified bundle of a release by its digest."""
    if flag.engine == "teacher":
        return serving_teacher(registry, base, flag.role)
    if flag.release is None:
        return serving_oracle(base, flag.role)
    bundle = opened(flag.release)
    serving = serving_release(registry, flag, bundle)
    if base.config.serving.endpoint is None:
        return serving
    from slm_assets.stages.live_teacher import served_elsewhere

    server = served_elsewhere(registry, base, flag.role, flag.release, bundle)
    return replace(serving, predictor=server, blocking=True, lock=threading.BoundedSemaphore(server.concurrency))


def _check_gated(registry: Registry, flag: Flag, bundle: Bundle) -> None:
    """The registry's entry and verdicts are the authority, not the row that names a digest."""
    name, number = bundle.manifest["domain"], flag.number
    entry = registry.entry("release", name, number) if number else None
    found = (flag.release or "")[:12]
    cure = "roll back to a version that was deployed (`slm rollback`), and find out who moved the flag"
    if entry is None or entry["sha256"] != flag.release or bundle.manifest["version"] != f"v{number}":
        expected = entry["sha256"][:12] if entry else "none"
        raise ArtifactError(
            f"{name}.{flag.role}: release {found} is flagged as v{number}, whose gated release is {expected}; "
            "it is refused",
            cure=cure,
        )
    evidence = {row["evidence"] for row in registry.verdicts(name, number or 0) if row["stage"] == "evaluate"}
    if evidence != {bundle.manifest["sources"]["eval"]} or flag.role not in bundle.manifest["promotable"]:
        raise ArtifactError(
            f"{name}.{flag.role}: release {found} of v{number} did not pass the gates that the registry knows of; "
            "it is refused",
            cure=cure,
        )


def _stand_in(domain: Domain, role_id: str) -> OraclePredictor | None:
    """The oracle behind a model; None where it cannot run here: the model then answers alone."""
    try:
        return load_oracle(domain, role_id)
    except SlmError:
        return None


def _contract(domain: Domain, role_id: str) -> Validator | None:
    schema = domain.input_schema(role_id)
    return Validator(schema) if schema else None


def _blocking(domain: Domain, role_id: str) -> bool:
    return isinstance(domain.role(role_id).deterministic_oracle, PythonOracle)
