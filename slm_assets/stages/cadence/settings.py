"""What a domain's config says about when and at what cost it is improved, as it is now.

Read without the rest of the domain, and again only when a file's stamp changes: a tick asks for every domain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, Field, ValidationError

from slm_assets.domain.block import Block
from slm_assets.domain.budget import Budget
from slm_assets.domain.compute import StageRun
from slm_assets.domain.config import Improvement
from slm_assets.domain.cron import cron_fault
from slm_assets.domain.documents import MAX_CONFIG_BYTES, Unreadable, read_document
from slm_assets.domain.domain import CONFIG_NAME
from slm_assets.domain.files import Folder, Refused
from slm_assets.domain.stamps import stamp
from slm_assets.domain.triggers import RetrainTriggers
from slm_assets.errors import BadInputError
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Plan, Registry

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Settings:
    """`enabled`: whether anything is retrained by itself; `schedule`: cron in UTC, or None."""

    enabled: bool
    schedule: str | None
    triggers: RetrainTriggers
    budget: Budget


def settings_of(home: Home, name: str) -> Settings:
    """The settings of a domain of this home. BadInputError where they cannot be read: its config is broken."""
    folder = home.domains / name
    improvement = _improvement(folder, stamp(folder / CONFIG_NAME))
    return Settings(
        enabled=improvement.status == "enabled",
        schedule=improvement.schedule,
        triggers=_policy(RetrainTriggers, folder, improvement.retrain_triggers),
        budget=_policy(Budget, folder, improvement.governance.cost_budget),
    )


def budget_of(registry: Registry, plan: Plan) -> Budget:
    """The budget that holds for a version now: the domain's as it is now, so that it can be raised for a version that
    waits; the one it was opened with where there is no folder here, or none that can be read."""
    try:
        return settings_of(registry.home, plan.domain).budget
    except BadInputError:
        frozen = _document(registry.store.read(plan.config, CONFIG_NAME), CONFIG_NAME)
        written = _block_in(frozen).improvement.governance.cost_budget
        if written is None:
            return Budget()
        name = written.replace("<domain>", plan.domain)
        return Budget.model_validate(_document(registry.store.read(plan.config, name), name))


def runs_of(home: Home, name: str) -> dict[str, StageRun]:
    """Where the stages of a domain run, as its config says now. BadInputError as above."""
    folder = home.domains / name
    return _block(folder, stamp(folder / CONFIG_NAME)).stages


def schedule_of(home: Home, name: str) -> str | None:
    """The cron schedule of a domain; None where there is none, or none that can be used."""
    folder = home.domains / name
    try:
        cron = _improvement(folder, stamp(folder / CONFIG_NAME)).schedule
    except BadInputError:
        return None
    return cron if cron and not cron_fault(cron) else None


def _policy(model: type[M], folder: Path, written: str | None) -> M:
    if written is None:
        return model()
    path = written if (folder / written).exists() else written.replace("<domain>", folder.name)
    found = _parsed(model, folder, path, stamp(folder / path))
    assert isinstance(found, model)
    return found


class _Block(Block):
    improvement: Improvement = Improvement()
    stages: dict[str, StageRun] = Field(default={})


def _improvement(folder: Path, as_of: tuple[int, ...]) -> Improvement:
    return _block(folder, as_of).improvement


@lru_cache(maxsize=4096)
def _block(folder: Path, _as_of: tuple[int, ...]) -> _Block:
    return _block_in(_read(folder, CONFIG_NAME))


def _block_in(document: object) -> _Block:
    whole = document.get("slm_domain") if isinstance(document, dict) else None
    mine = {key: whole[key] for key in _Block.model_fields if key in whole} if isinstance(whole, dict) else {}
    try:
        return _Block.model_validate(mine)
    except ValidationError as error:
        raise _broken(CONFIG_NAME, str(error.errors(include_url=False)[0]["msg"])) from None


@lru_cache(maxsize=4096)
def _parsed(model: type[BaseModel], folder: Path, path: str, _as_of: tuple[int, ...]) -> BaseModel:
    try:
        return model.model_validate(_read(folder, path))
    except ValidationError as error:
        raise _broken(f"{folder.name}/{path}", str(error.errors(include_url=False)[0]["msg"])) from None


def _read(folder: Path, path: str) -> object:
    try:
        return _document(Folder.at(folder).read(path, MAX_CONFIG_BYTES), path)
    except Refused as refused:
        raise _broken(f"{folder.name}/{path}", f"{refused.message}: {refused.found}") from None


def _document(data: bytes, path: str) -> object:
    try:
        return read_document(data, path, MAX_CONFIG_BYTES).value
    except Unreadable as error:
        raise _broken(path, str(error.faults[0])) from None


def _broken(path: str, why: str) -> BadInputError:
    return BadInputError(f"{path} cannot be used: {why}", cure="`slm validate` names every fault")
