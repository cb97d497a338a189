"""The files that a config refers to: where each is named, and what must be in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel

from slm_assets.canonical import Json
from slm_assets.domain.budget import Budget
from slm_assets.domain.config import DomainConfig, Vocabulary
from slm_assets.domain.documents import Document, Place, show
from slm_assets.domain.domain import vocabulary_values
from slm_assets.domain.faults import parse
from slm_assets.domain.policies import PromotionGates
from slm_assets.domain.redaction import RedactionPolicy
from slm_assets.domain.triggers import RetrainTriggers
from slm_assets.errors import Fault

Kind = Literal[
    "schema", "text", "rules", "python", "mapping", "gates", "triggers", "redaction", "budget", "vocab", "playbook"
]


_MODELS: dict[Kind, type[BaseModel]] = {
    "gates": PromotionGates,
    "triggers": RetrainTriggers,
    "redaction": RedactionPolicy,
    "budget": Budget,
}


def references(config: DomainConfig) -> Iterator[tuple[Place, str, Kind]]:
    """(place under slm_domain, path as written, what it is) of each referenced file; not the data."""
    named = [*_of_roles(config), *_of_vocab(config), *_of_teachers(config), *_of_policies(config)]
    for place, written, kind in named:
        if isinstance(written, str):
            yield place, written, kind


_Named = Iterator[tuple[Place, object, Kind]]


def _of_roles(config: DomainConfig) -> _Named:
    for index, role in enumerate(config.roles):
        at: Place = ("roles", index)
        grammar = role.decoding_grammar or ""
        yield (*at, "input_schema"), role.input_schema, "schema"
        yield (*at, "output_schema"), role.output_schema, "schema"
        yield (*at, "system_prompt"), role.system_prompt, "text"
        yield (*at, "decoding_grammar"), grammar or None, "schema" if grammar.endswith(".json") else "text"
        oracle = role.deterministic_oracle
        if oracle is not None and oracle.kind != "playbook":
            yield (*at, "deterministic_oracle", "path"), oracle.path, oracle.kind


def _of_vocab(config: DomainConfig) -> _Named:
    for name, entry in config.vocab.items():
        if isinstance(entry, Vocabulary):
            yield ("vocab", name, "file"), entry.file, "vocab"
        else:
            yield ("vocab", name), entry, "vocab"


def _of_teachers(config: DomainConfig) -> _Named:
    for index, teacher in enumerate(config.teachers):
        for role_id, prompt in teacher.role_prompts.items():
            yield ("teachers", index, "role_prompts", role_id), prompt, "text"


def _of_policies(config: DomainConfig) -> _Named:
    loop = config.improvement
    yield ("model", "hyperparams"), config.model.hyperparams, "mapping"
    yield ("data", "redaction_policy"), config.data.redaction_policy, "redaction"
    yield ("serving", "consuming_playbook"), config.serving.consuming_playbook, "playbook"
    yield ("improvement", "retrain_triggers"), loop.retrain_triggers, "triggers"
    yield ("improvement", "promotion_gates"), loop.promotion_gates, "gates"
    yield ("improvement", "governance", "cost_budget"), loop.governance.cost_budget, "budget"


def check_text(data: bytes, file: str, kind: Kind) -> list[Fault]:
    """Faults of a file that is not parsed as a document: prompts, grammars, Python."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return [Fault(file, "$", "not UTF-8", found=f"byte {error.start}", expected="UTF-8 text")]
    if kind != "python":
        return [] if text.strip() else [Fault(file, "$", "the file is empty")]
    try:
        ast.parse(text)
    except SyntaxError as error:
        return [Fault(file, "$", f"not Python: {error.msg}", line=error.lineno)]
    except (ValueError, RecursionError, MemoryError) as error:
        return [Fault(file, "$", "not usable Python", found=type(error).__name__)]
    return []


def check_document(document: Document, kind: Kind) -> list[Fault]:
    """Faults of a parsed file against what its kind must hold."""
    value: Json = document.value
    if kind in _MODELS:
        return parse(_MODELS[kind], document)[1]
    if kind == "vocab":
        expected = "a list of values, or of objects with a name"
        return [] if vocabulary_values(value) else [document.fault((), "no vocabulary", show(value), expected)]
    if not isinstance(value, dict):
        return [document.fault((), "wrong value", found=show(value), expected="a mapping")]
    return []
