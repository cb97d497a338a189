"""What `slm validate` says of a recipe and its hyperparameters: rungs that are none, blocks that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from slm_assets.domain.documents import Document, Place, json_path, read_document
from slm_assets.domain.domain import CONFIG_NAME
from slm_assets.domain.faults import parse
from slm_assets.domain.ladder import Auto, Cascade
from slm_assets.domain.loading import Domain
from slm_assets.errors import Fault
from slm_assets.models.ladder import RUNGS, step_faults

B = TypeVar("B", Auto, Cascade)
_CONFIG: Place = ("slm_domain", "model", "hyperparams")


def ladder_faults(domain: Domain) -> Iterator[Fault]:
    """A recipe that this release cannot train is a warning, as the config may be right for another; a rung of a
    cascade or climb that it does not know is an error."""
    recipe = domain.config.model.recipe
    if recipe not in ("auto", *RUNGS):
        yield Fault(
            CONFIG_NAME, "$.slm_domain.model.recipe", "this release cannot train the recipe", found=recipe,
            expected=" or ".join(("auto", *RUNGS)), severity="warning",
        )  # fmt: skip
    auto, faults = _block(domain, Auto, "auto", asked=recipe == "auto")
    yield from faults
    inside = auto is not None and any(step.recipe == "cascade" for step in auto.rungs)
    cascade, faults = _block(domain, Cascade, "cascade", asked=recipe == "cascade" or inside)
    yield from faults
    if cascade is not None and cascade.then == "oracle":
        for role in domain.config.roles:
            if role.deterministic_oracle is None or role.deterministic_oracle.kind == "playbook":
                yield Fault(
                    CONFIG_NAME, "$.slm_domain.model.hyperparams.cascade.then", "no oracle can answer at the end",
                    found=f"{role.id} without an oracle of kind rules or python", cure="give it one, or say then: none",
                )  # fmt: skip


def _block(domain: Domain, model: type[B], name: str, *, asked: bool) -> tuple[B | None, list[Fault]]:
    """The block, or None where it is not there and nothing asks for it; its faults at their places in the config, or
    in the file of hyperparameters."""
    given = domain.hyperparams().get(name)
    if given is None and not asked:
        return None, []
    written = domain.config.model.hyperparams
    file, at = (domain.path(written), (name,)) if isinstance(written, str) else (CONFIG_NAME, (*_CONFIG, name))
    whole = read_document(domain.files[file], file)
    lines = {place[len(at) :]: line for place, line in whole.lines.items() if place[: len(at)] == at}
    own = Document(file, given or {}, lines)
    found, faults = parse(model, own)
    if found is not None and not faults:
        faults = [own.fault(where, message, cure=cure) for where, message, cure in step_faults(name, found.rungs)]
    return found, [replace(fault, path=json_path(at) + fault.path.removeprefix("$")) for fault in faults]
