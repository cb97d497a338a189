"""Every key of the config by its path pattern, who reads it, and what replaced keys of older configs.

A pattern is the key's path with `[]` for a list's items and `*` for a mapping's keys:
`slm_domain.teachers[].pricing.*.input`.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from slm_assets.domain.documents import Place


def walk(model: type[BaseModel], at: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Each key under a model, as (pattern, field), depth first; a union yields all its branches."""
    for name, info in model.model_fields.items():
        path = f"{at}.{name}" if at else name
        yield path, info
        yield from _inside(info.annotation, path)


def _inside(annotation: Any, at: str) -> Iterator[tuple[str, FieldInfo]]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _inside(arguments[0], at)
    elif origin in {Union, types.UnionType}:
        for argument in arguments:
            yield from _inside(argument, at)
    elif origin is list:
        yield from _inside(arguments[0], f"{at}[]")
    elif origin is dict:
        yield from _inside(arguments[1], f"{at}.*")
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from walk(annotation, at)


@functools.lru_cache(maxsize=8)
def patterns(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """All keys under a model by pattern."""
    found: dict[str, FieldInfo] = {}
    for path, info in walk(model):
        found.setdefault(path, info)
    return found


def pattern(model: type[BaseModel], place: Place) -> str:
    """The pattern of a place in a document; a part that is no key of the model is taken as it stands."""
    known = patterns(model)
    at = ""
    for part in place:
        if isinstance(part, int):
            at += "[]"
            continue
        named = f"{at}.{part}" if at else part
        starred = any(path.startswith(f"{at}.*") for path in known)
        at = f"{at}.*" if starred and named not in known else named
    return at


def knows(model: type[BaseModel], place: Place) -> bool:
    """Whether the model has a key at that place."""
    return pattern(model, place) in patterns(model)


def children(model: type[BaseModel], place: Place) -> list[str]:
    """Names of the keys that may stand under a place."""
    at = pattern(model, place)
    prefix = f"{at}." if at else ""
    names = (path[len(prefix) :] for path in patterns(model) if path.startswith(prefix))
    return [name for name in names if name != "*" and "." not in name and "[" not in name]


def elsewhere(model: type[BaseModel], key: str) -> str:
    """Where a key of that name stands, if at one place only."""
    found = [path for path in patterns(model) if path.endswith(f".{key}")]
    return found[0] if len(found) == 1 else ""


def description(model: type[BaseModel], place: Place) -> str:
    """What the key at a place is for."""
    info = patterns(model).get(pattern(model, place))
    return (info.description or "") if info else ""


_ORACLE = "slm_domain.roles[].deterministic_oracle"

REPLACED = {
    "slm_domain.dataset_build": "roles[].deterministic_oracle for labels, data.fields for where rows keep "
    "them, SLM_HOME for where artifacts lie; versions are opened by `slm run`",
    "slm_domain.roles[].input": "input_schema (a JSON Schema file) for the shape, description for prose",
    "slm_domain.roles[].widget_schema_dir": "output_schema, with a $ref to each payload's schema",
    f"{_ORACLE}.kind=python_module": "kind: python with path (the file) and function (its name)",
    f"{_ORACLE}.module": "path",
    f"{_ORACLE}.fn": "function",
    "slm_domain.data.label_source": "data.fields.label_source",
    "slm_domain.data.input": "data.fields.input",
    "slm_domain.data.labels": "data.fields.labels",
    "slm_domain.data.holdout": "eval.eval_sets.holdout",
    "slm_domain.teachers[].api_key": "credential, with the alias of a secret",
    "slm_domain.teachers[].token": "credential, with the alias of a secret",
    "slm_domain.teachers[].secret": "credential, with the alias of a secret",
    "slm_domain.train": "model.recipe and model.hyperparams; where a stage runs is the deployment's choice",
    "slm_domain.improvement.train": "model.recipe and model.hyperparams; where a stage runs is the deployment's choice",
    "slm_domain.champion": "nothing: the registry knows the incumbent of each role",
    "slm_domain.improvement.champion": "nothing: the registry knows the incumbent of each role",
    "slm_domain.output_dir": "nothing: artifacts lie under SLM_HOME",
    "slm_domain.run_fn": "roles[].deterministic_oracle.function",
    "slm_domain.scope": "data.event_log_replay.scope",
    "slm_domain.version": "nothing: versions are opened by `slm run`",
}
"""Keys of configs in the wild that are not carried, and what to use for them."""

WAITS = "waits for "
"""Start of an entry of READERS whose key is validated now and read by a later capability."""

_BY_READER: dict[str, tuple[str, ...]] = {
    "domain.domain": (
        "improvement.retrain_triggers",
        "data.redaction_policy",
        "roles",
        "roles[].input_schema",
        "roles[].output_schema",
        "roles[].system_prompt",
        "vocab",
        "vocab.*.role",
        "vocab.*.path",
        "vocab.*.file",
        "data.seed_corpus",
        "data.adversarial",
        "model",
        "model.hyperparams",
        "eval",
        "eval.eval_sets",
        "eval.eval_sets.holdout",
        "eval.eval_sets.golden_replay",
        "improvement",
        "improvement.promotion_gates",
    ),
    "domain.checks": ("eval.certify",),
    "domain.simulation": ("improvement.simulation",),
    "domain.turns": ("roles[].reads",),
    "models.oracle": (
        "roles[].deterministic_oracle",
        "roles[].deterministic_oracle.path",
        "roles[].deterministic_oracle.function",
        "roles[].deterministic_oracle.timeout_s",
        "roles[].deterministic_oracle.memory_mb",
    ),
    "stages.plans": ("name", "improvement.governance", "improvement.governance.registry_namespace"),
    "stages.model_card": ("description", "owners", "roles[].description"),
    "stages.dataset": (
        "roles[].id",
        "data.split.kind",
        "data.near_duplicates",
        "data.near_duplicates.threshold",
        "data.near_duplicates.min_words",
        "improvement.relabel.status",
    ),
    "stages.rows.ingest": (
        "data",
        "data.fields",
        "data.max_quarantine_share",
        "data.incomplete_labels",
        "data.max_row_bytes",
        "eval.slices",
        "eval.slices[].id",
        "eval.slices[].path",
        "eval.slices[].values",
    ),
    "stages.rows.fields": (
        "data.fields.id",
        "data.fields.input",
        "data.fields.labels",
        "data.fields.label_source",
    ),
    "noetl.handoffs": ("improvement.handoffs", "improvement.handoffs.registry", "improvement.handoffs.playbooks"),
    "noetl.replay": (
        "data.event_log_replay",
        "data.event_log_replay.scope",
        "data.event_log_replay.via",
        "data.event_log_replay.status",
        "data.event_log_replay.path",
        "data.event_log_replay.extract_node",
        "data.event_log_replay.redaction",
        "data.event_log_replay.cap_turns",
        "improvement.capture",
        "improvement.capture.outcome_signals",
    ),
    "bench": ("data.fields.spans",),
    "stages.rows.splitting": (
        "data.split",
        "data.split.eval_ratio",
        "data.split.validation_ratio",
        "data.split.seed",
        "data.split.group_by",
    ),
    "stages.rows.manifest": ("eval.slices[].critical", "eval.slices[].min_n"),
    "stages.finetune": ("model.recipe",),
    "stages.train_role": ("model.base_family", "model.base_size", "model.role_layout"),
    "stages.deploy": ("improvement.auto_promote",),
    "stages.evaluation": (
        "eval.floor",
        "eval.metrics",
        "eval.metrics[].id",
        "eval.metrics[].role",
        "eval.metrics[].kind",
        "eval.metrics[].path",
        "eval.metrics[].absent",
        "eval.metrics[].target",
        "eval.metrics[].margin",
        "eval.metrics[].primary",
    ),
    "models.teacher.endpoint": (
        "teachers[].provider",
        "teachers[].vertex",
        "teachers[].vertex.project",
        "teachers[].vertex.region",
        "teachers[].base_url",
        "teachers[].credential",
    ),
    "models.teacher.request": (
        "teachers[].model",
        "teachers[].models",
        "teachers[].role_prompts",
        "teachers[].pricing",
        "teachers[].pricing.*.input",
        "teachers[].pricing.*.output",
        "teachers[].max_output_tokens",
        "roles[].system_prompt",
    ),
    "models.teacher.client": ("teachers[].constrained_decoding", "teachers[].timeout_s"),
    "models.teacher.asking": ("teachers[].request_sleep_s", "teachers[].concurrency", "teachers[].deadline_s"),
    "stages.teaching": ("teachers", "teachers[].id", "teachers[].status"),
    "stages.rows.taught": (
        "improvement.relabel.teacher",
        "labels",
        "labels.teacher",
        "labels.asked",
        "labels.max_rows",
    ),
    "stages.rows.labelling": ("labels.order",),
    "stages.evaluation.ceiling": ("eval.ceiling", "eval.baseline", "eval.ceiling_rows"),
    WAITS + "teachers": ("eval.metrics[].target_relative",),
    WAITS + "language models": (
        "roles[].decoding_grammar",
        "model.status",
        "model.candidates",
        "eval.metrics[].enforced_by",
        "eval.metrics[].schema_valid",
        "serving.target",
        "serving.quantization",
    ),
    WAITS + "serving": (
        "eval.candidate",
        "serving.status",
        "serving.consuming_playbook",
        "serving.engine_flags",
    ),
    "stages.rows.captured": (
        "improvement.relabel",
        "improvement.relabel.max_share",
        "improvement.relabel.max_turns",
        "improvement.relabel.min_users",
        "improvement.relabel.max_lift",
    ),
    "stages.traffic.selection": (
        "improvement.relabel.audit_share",
        "improvement.relabel.review_share",
        "improvement.relabel.confidence_below",
        "improvement.relabel.per_user",
        "improvement.relabel.per_conversation",
    ),
    "stages.reviews": ("improvement.relabel.review_items",),
    "stages.capture": ("improvement.capture.retention_days",),
    "stages.cadence.settings": (
        "improvement.status",
        "improvement.schedule",
        "improvement.governance.cost_budget",
    ),
    "stages.drift": ("improvement.min_new_real_turns",),
    "engines.choose": ("stages", "stages.*.engine", "stages.*.timeout_s", "stages.*.wait"),
    "engines.kubernetes": ("stages.*.container.retries",),
    "engines.kubernetes_pod": ("stages.*.container.priority_class",),
    "noetl.stage_book": ("stages.*.container",),
    "domain.compute": (
        "stages.*.container.image",
        "stages.*.container.namespace",
        "stages.*.container.service_account",
        "stages.*.container.cpu",
        "stages.*.container.memory",
        "stages.*.container.gpus",
        "stages.*.container.node_selector",
        "stages.*.container.tolerations",
        "stages.*.container.tolerations[].key",
        "stages.*.container.tolerations[].operator",
        "stages.*.container.tolerations[].value",
        "stages.*.container.tolerations[].effect",
        "stages.*.container.volumes",
        "stages.*.container.volumes[].claim",
        "stages.*.container.volumes[].mount",
        "stages.*.container.volumes[].read_only",
    ),
    "serving.paths": ("improvement.capture", "improvement.capture.sample_rate", "improvement.capture.outcome_signals"),
    "stages.serving": ("serving", "serving.fallback_below"),
    "stages.live_teacher": (
        "serving.teacher",
        "serving.endpoint",
        "serving.endpoint.base_url",
        "serving.endpoint.credential",
        "serving.endpoint.concurrency",
        "serving.endpoint.timeout_s",
        "serving.endpoint.max_output_tokens",
    ),
    "people": ("teachers[].kind", "teachers[].note", "model.note"),
}

READERS: dict[str, str] = {
    "slm_domain": "domain.loading",
    "slm_domain.roles[].deterministic_oracle.kind": "domain.domain",
    **{f"slm_domain.{key}": reader for reader, keys in _BY_READER.items() for key in keys},
}
"""Key → the module under `slm_assets` that reads it, `people`, or the capability that it waits for."""
