"""Two versions of a domain: who answers better on common rows, and what they were made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slm_assets.domain.domain import Domain
from slm_assets.domain.loading import read_bundle
from slm_assets.errors import BadInputError
from slm_assets.registry.registry import Plan, Registry
from slm_assets.stages.experiments.changes import Change, config_changes, plan_changes, value_changes
from slm_assets.stages.experiments.pairing import PREDICTIONS, Paired, Side, pair
from slm_assets.stages.experiments.rows import DataChange, data_change, fetched
from slm_assets.stages.table import BY_NAME

Sources = Mapping[str, Mapping[str, Mapping[str, int]]]
"""Split → role → label source → rows."""


@dataclass(frozen=True)
class Comparison:
    """All that differs between two versions. `paired` and `data` are None where one of the two was not
    made that far, which `notes` say. `sources`: version → where its labels came from."""

    domain: str
    before: str
    after: str
    roles_in_both: list[str]
    roles_only_before: list[str]
    roles_only_after: list[str]
    paired: Paired | None
    plan: list[Change]
    config: list[Change]
    data: DataChange | None
    sources: dict[str, Sources]
    notes: list[str]


def compare(registry: Registry, before: Plan, after: Plan) -> Comparison:
    """Everything that differs between two versions; rows are streamed, each pair of files once or twice."""
    if before.number == after.number:
        raise BadInputError(f"{before.domain} {before.version} would be compared with itself", cure="name two versions")
    old, new = _domains(registry, before, after)
    old_roles, new_roles = ([role.id for role in one.config.roles] for one in (old, new))
    made = [_outputs(registry, plan) for plan in (before, after)]
    notes = [
        f"{plan.version} has no {BY_NAME[stage].asset}: {left_out}"
        for plan, own in zip((before, after), made, strict=True)
        for stage, left_out in (("label", "data and labels are not compared"), ("evaluate", "no answers to compare"))
        if BY_NAME[stage].kind not in own
    ]
    return Comparison(
        domain=before.domain,
        before=before.version,
        after=after.version,
        roles_in_both=[role for role in new_roles if role in old_roles],
        roles_only_before=[role for role in old_roles if role not in new_roles],
        roles_only_after=[role for role in new_roles if role not in old_roles],
        paired=_paired(registry, (before, after), (old, new), made),
        plan=[*plan_changes(before, after), *_code_changes(registry, before, after)],
        config=config_changes(registry, before.config, after.config),
        data=data_change(registry, *made) if all("labels" in own for own in made) else None,
        sources={plan.version: _sources(registry, plan) for plan in (before, after)},
        notes=notes,
    )


def compare_answers(registry: Registry, before: Plan, after: Plan) -> Paired | None:
    """Only the answers: None where one of the two has not been evaluated."""
    made = [_outputs(registry, plan) for plan in (before, after)]
    return _paired(registry, (before, after), _domains(registry, before, after), made)


def _paired(
    registry: Registry, plans: Sequence[Plan], domains: Sequence[Domain], made: Sequence[Mapping[str, str]]
) -> Paired | None:
    if not all("eval" in own for own in made):
        return None
    files = {"dataset": "eval.jsonl", "labels": "eval.jsonl", "eval": PREDICTIONS}
    wanted = {f"{i} {kind}": (made[i][kind], [name]) for i in (0, 1) for kind, name in files.items()}
    with fetched(registry, wanted) as folders:
        sides = [Side(plans[i].number, domains[i], {kind: folders[f"{i} {kind}"] for kind in files}) for i in (0, 1)]
        return pair(*sides)


def _outputs(registry: Registry, plan: Plan) -> dict[str, str]:
    """Kind → digest of the outputs that a version has."""
    found = {}
    for stage in ("dataset", "label", "evaluate"):
        entry = registry.entry(BY_NAME[stage].kind, plan.domain, plan.number)
        if entry is not None:
            found[BY_NAME[stage].kind] = str(entry["sha256"])
    return found


def _domains(registry: Registry, before: Plan, after: Plan) -> tuple[Domain, Domain]:
    """What two versions were opened with, read from the frozen configs."""
    with fetched(registry, {"before": (before.config, None), "after": (after.config, None)}) as folders:
        old = read_bundle(folders["before"])
        return old, old if after.config == before.config else read_bundle(folders["after"])


def _code_changes(registry: Registry, before: Plan, after: Plan) -> list[Change]:
    """Where the model of one was trained by another release of this package."""
    cells = [registry.cell(plan.domain, plan.number, "finetune") for plan in (before, after)]
    old, new = ({"code_version": cell["receipt"]["code_version"]} if cell else {} for cell in cells)
    return list(value_changes("", old, new)) if old and new else []


def _sources(registry: Registry, plan: Plan) -> Sources:
    cell = registry.cell(plan.domain, plan.number, "label")
    found: Sources = cell["receipt"]["result"]["summary"].get("sources", {}) if cell else {}
    return found
