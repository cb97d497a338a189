"""Who is measured: challenger, incumbent, the best ever promoted, the floor and the majority baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from slm_assets import canonical
from slm_assets.domain.config import Role
from slm_assets.domain.loading import Domain
from slm_assets.models import ladder
from slm_assets.models.base import Predictor
from slm_assets.models.oracle import MajorityBaseline, load_oracle
from slm_assets.stages.bundle import Bundle, open_bundle

Engines = dict[str, dict[str, Predictor]]
"""Role → subject → its engine."""


def load_subjects(domain: Domain, inputs: Mapping[str, Path]) -> Engines:
    """Every subject of every role, from the stage's inputs."""
    engines = baselines(domain, inputs, domain.config.roles)
    for role_id, own in engines.items():
        oracle = partial(load_oracle, domain, role_id)
        own["challenger"] = ladder.load(inputs["model"], role_id, domain.output_schema(role_id), oracle)
    return engines


def baselines(domain: Domain, inputs: Mapping[str, Path], roles: Sequence[Role]) -> Engines:
    """Everybody but the challenger. The floor is the oracle, or the majority baseline of a role without one; the
    incumbent of a role that was never promoted is its floor."""
    majority = _majorities(inputs["labels"], roles)
    engines: Engines = {}
    bundles: dict[Path, Bundle] = {}
    for role in roles:
        own: dict[str, Predictor] = {"majority": majority[role.id]}
        use_oracle = domain.config.eval.floor == "deterministic_oracle"
        oracle = load_oracle(domain, role.id) if use_oracle else None
        own["floor"] = oracle or majority[role.id]
        for name in ("incumbent", "best"):
            folder = inputs.get(f"{name}_{role.id}")
            if folder is not None:
                own[name] = _served(bundles, folder).engines[role.id]
        own.setdefault("incumbent", own["floor"])
        engines[role.id] = own
    return engines


def has_oracle(domain: Domain, role: Role) -> bool:
    """Whether the role's floor is an oracle, whose own labels cannot judge it."""
    return domain.config.eval.floor == "deterministic_oracle" and role.deterministic_oracle is not None


def _served(bundles: dict[Path, Bundle], folder: Path) -> Bundle:
    if folder not in bundles:
        bundles[folder] = open_bundle(folder)
    return bundles[folder]


def _majorities(labels: Path, roles: Sequence[Role]) -> dict[str, MajorityBaseline]:
    """The most frequent train output of each role, from the labels alone."""
    counts: dict[str, Counter[bytes]] = {role.id: Counter() for role in roles}
    for row in canonical.read_jsonl(labels / "train.jsonl"):
        for role, label in row["labels"].items():
            if role not in counts:
                continue
            counts[role][canonical.dumps(label["output"])] += 1
    return {role: MajorityBaseline.of_counts(own) for role, own in counts.items()}
