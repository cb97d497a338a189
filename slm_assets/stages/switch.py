"""Change which engine answers for a role: prove that the target works, then flip the flag."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from slm_assets import canonical
from slm_assets.domain.loading import read_bundle
from slm_assets.errors import ArtifactError, BadInputError
from slm_assets.models.chain import answer_turn
from slm_assets.models.oracle import load_oracle
from slm_assets.registry.registry import Flag, Flip, Registry, Row
from slm_assets.stages.bundle import open_bundle

DRILL_LIMIT_S = 2.0


def previous_engine(registry: Registry, domain: str, role: str) -> Flag:
    """What answered for the role before the version that answers now was promoted."""
    flag = registry.flags(domain).get(role)
    if flag is None or flag.engine == "oracle":
        raise BadInputError(
            f"{domain}.{role} is answered by its oracle: there is nothing to roll back",
            cure=f"`slm why {domain}` shows the history; `slm rollback {domain} --to vN` goes to a version",
        )
    events = registry.flag_events(domain, role)
    promoted = [e for e in events if e["number"] == flag.number and e["action"] != "rollback"]
    before: Row | None = promoted[-1]["previous"] if promoted else None
    if before is None:
        return Flag(role, "oracle")
    return Flag(role, before["engine"], before["number"], before["release"])


def deployed_engine(registry: Registry, domain: str, role: str, number: int) -> Flag:
    """The release of a version that was deployed for this role once. BadInputError for any other."""
    for event in registry.flag_events(domain, role):
        if event["engine"] == "release" and event["number"] == number:
            return Flag(role, "release", number, event["release"])
    raise BadInputError(
        f"{domain}.{role}: v{number} was never deployed",
        cure=f"only a version that passed its gates can serve; `slm status {domain}` lists them",
    )


def rehearse(registry: Registry, config: str, targets: list[Flag]) -> float:
    """Load each target engine and let it answer its probes; returns the seconds that it took.

    `config` is the resolved config whose oracle answers where the target is the oracle. ArtifactError
    where a release is missing, altered or answers otherwise than when it was packaged.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="slm-switch-") as scratch:
        for release in sorted({flag.release for flag in targets if flag.release}):
            folder = Path(scratch) / release
            registry.store.get(release, folder)
            bundle = open_bundle(folder)
            for probe in bundle.probes:
                answers = answer_turn(bundle.domain.config.roles, bundle.engines, probe["turn"])
                got = {role: answer.output for role, answer in answers.items()}
                if canonical.dumps(got) != canonical.dumps(probe["outputs"]):
                    raise ArtifactError(
                        f"release {release[:12]} answers a probe otherwise than when it was packaged",
                        cure="install the code version it was made with, or choose another version",
                    )
        oracles = [flag.role for flag in targets if flag.engine == "oracle"]
        if oracles:
            registry.store.get(config, Path(scratch) / "config")
            domain = read_bundle(Path(scratch) / "config")
            for role in oracles:
                if load_oracle(domain, role) is None:
                    raise BadInputError(f"{domain.name}.{role} has no oracle to go back to")
    return time.perf_counter() - started


def flips(registry: Registry, domain: str, targets: list[Flag]) -> list[Flip]:
    """The flips that lead to the targets, leaving out roles that are there already."""
    now = registry.flags(domain)
    wanted = []
    for target in targets:
        current = now.get(target.role)
        if current and (current.engine, current.release) == (target.engine, target.release):
            continue
        expected = current.event if current else 0
        wanted.append(Flip(target.role, target.engine, target.number, target.release, expected))
    return wanted
