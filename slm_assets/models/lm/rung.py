"""The language model rungs as the ladder has them: `lora`, `qlora`, `full`; a role alone, or several by one model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slm_assets import canonical
from slm_assets.errors import ArtifactError, BadInputError
from slm_assets.models.base import Predictor
from slm_assets.models.ladder import Training
from slm_assets.models.lm import checkpoint, network, rows
from slm_assets.models.lm.base import Base, locate
from slm_assets.models.lm.calibrating import Scale, fit
from slm_assets.models.lm.checkpoint import Parts
from slm_assets.models.lm.observed import observe
from slm_assets.models.lm.predictor import LanguageModel
from slm_assets.models.lm.settings import Settings, settings_of
from slm_assets.models.lm.tuning import Score, Tuned, tune

NEEDS = ("torch", "transformers", "peft", "accelerate", "llguidance", "tokenizers")


@dataclass
class TrainedLanguageModel(LanguageModel):
    """Fresh from training, with what its checkpoint is written from. `measured`: seconds and speeds."""

    parts: Parts | None = None
    measured: Mapping[str, float] | None = None


def train(training: Training) -> TrainedLanguageModel:
    """Learn one role by a model of its own."""
    return train_together({training.role: training})[training.role]


def train_together(trainings: Mapping[str, Training]) -> dict[str, TrainedLanguageModel]:
    """Learn several roles by one model. Base, recipe and hyperparameters are those of the first."""
    import torch

    _installed()
    first = next(iter(trainings.values()))
    settings = settings_of(first.recipe, first.hyperparams)
    torch.set_num_threads(settings.threads or os.cpu_count() or 1)
    torch.manual_seed(first.seed)
    base = locate(*first.base)
    config, tokenizer = checkpoint.base_parts(base)
    parts = {
        role: Parts(role, own.prompt, own.recipe, base.name, base.digest, config, tokenizer, settings,
                    observe(output for _, output in own.pairs), {}, {})
        for role, own in trainings.items()
    }  # fmt: skip
    net = _learner(base, config, settings, first)
    warm = _warm(net, first, base, settings)
    engines = {role: checkpoint.assembled(parts[role], own.schema, net, Scale()) for role, own in trainings.items()}
    room = min(settings.max_tokens, int(config["max_position_embeddings"]))
    found = {
        role: rows.tokens(own, engines[role].chat, engines[role].constraint, room, settings.eval_rows)
        for role, own in trainings.items()
    }
    for role, own_rows in found.items():
        if not own_rows.examples:
            raise BadInputError(
                f"role {role}: none of {len(trainings[role].pairs)} rows can be learned "
                f"({own_rows.unwritable} cannot be decoded, {own_rows.too_long} are longer than {room} tokens)",
                cure="raise hyperparams.max_tokens, text or items, or choose another recipe",
            )
    learned = {role: list(map(list, one.examples)) for role, one in found.items()}
    fingerprint = canonical.digest(
        {"examples": learned, "settings": settings.model_dump(mode="json"), "seed": first.seed, "base": base.digest,
         "recipe": first.recipe, "warm": warm}
    )  # fmt: skip
    looks = any(one.looked_at for one in found.values())
    tuned = tune(
        net, [one.examples for one in found.values()], settings, seed=first.seed, fingerprint=fingerprint,
        folder=first.state, look=(lambda: _looked(net, engines, found)) if looks else None,
        tell=first.progress or (lambda _share, _note: None),
    )  # fmt: skip
    adapter = {name: value.detach().to("cpu", copy=True) for name, value in network.trainable(net).items()}
    weights = _folded(net, base, config, settings, first, adapter)
    plain = network.empty(config)
    network.fill(plain, weights)
    plain = plain.to("cuda") if torch.cuda.is_available() else plain
    torch.set_num_threads(1)
    shared = {
        "recipe": first.recipe, "base": {"name": base.name, "sha256": base.digest}, "roles": sorted(trainings),
        "parameters": sum(p.numel() for p in plain.parameters()), "trainable": sum(t.numel() for t in adapter.values()),
        "steps": tuned.done.step, "planned_steps": tuned.steps, "stopped": tuned.stopped, "warm_start": warm,
        "curve": tuned.done.curve, "losses": tuned.done.losses,
    }  # fmt: skip
    return {
        role: _finished(
            role, own, replace(parts[role], weights=weights, adapter=adapter), plain, found[role], shared, tuned
        )
        for role, own in trainings.items()
    }


def save(model: TrainedLanguageModel, folder: Path) -> None:
    """Write the role's part of a checkpoint."""
    assert model.parts is not None
    checkpoint.save(model.parts, model, folder)


def load(folder: Path, schema: dict[str, Any]) -> Predictor:
    """What was saved, ready to answer."""
    _installed()
    return checkpoint.load(folder, schema)


def _installed() -> None:
    from importlib.util import find_spec

    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        raise BadInputError(
            f"language models need {', '.join(missing)}, not installed here", cure="pip install 'slm-assets[lora]'"
        )


def _learner(base: Base, config: dict[str, Any], settings: Settings, training: Training) -> Any:
    """The network with the parameters that learn."""
    net = network.load(base.folder, config)
    if training.recipe == "full":
        return net
    net = network.quantised(net) if training.recipe == "qlora" else net
    return network.with_adapter(net, settings.rank, settings.alpha, settings.dropout, list(settings.targets))


def _warm(net: Any, training: Training, base: Base, settings: Settings) -> str:
    """Go on from the incumbent where it fits; returns its digest, or why not."""
    folder = training.incumbent
    if folder is None or not settings.warm_start:
        return "off" if folder is not None else "no incumbent"
    try:
        head = checkpoint.read_head(folder)
        if head["base"]["sha256"] != base.digest or head["recipe"] != training.recipe:
            return "the incumbent has another base or recipe"
        same = all(head["settings"][key] == getattr(settings, key) for key in ("rank", "alpha", "targets"))
        if not same:
            return "the incumbent's adapter has another shape"
        network.put(net, network.read(folder / checkpoint.ADAPTER))
    except (ArtifactError, OSError) as error:
        return f"the incumbent is no language model that can be gone on from: {error}"
    return canonical.digest_file(folder / checkpoint.ADAPTER)


def _looked(net: Any, engines: Mapping[str, LanguageModel], found: Mapping[str, rows.Rows]) -> Score:
    """The mean over roles of what their validation rows got."""
    scores = []
    for role, own in found.items():
        if own.looked_at:
            engines[role].network = getattr(net, "module", net)
            engines[role].forget()
            answers = [engines[role].predict(value).output for value, _ in own.looked_at]
            scores.append(rows.score(answers, [output for _, output in own.looked_at]))
    return Score(sum(s.exact for s in scores) / len(scores), sum(s.part for s in scores) / len(scores))


def _folded(
    net: Any, base: Base, config: dict[str, Any], settings: Settings, training: Training, adapter: dict[str, Any]
) -> dict[str, Any]:
    """The plain network's weights; a base that was held in 4 bits is read anew, whole."""
    if training.recipe == "qlora":
        net = network.load(base.folder, config)
        net = network.with_adapter(net, settings.rank, settings.alpha, settings.dropout, list(settings.targets))
        network.put(net, adapter)
    return network.merged(net)


def _finished(
    role: str, training: Training, parts: Parts, net: Any, own: rows.Rows, shared: dict[str, Any], tuned: Tuned
) -> TrainedLanguageModel:
    """The role's engine as it will be loaded, calibrated and measured on the rows that were looked at."""
    plain = checkpoint.assembled(parts, training.schema, net, Scale())
    wanted = [output for _, output in own.looked_at]
    held = [plain.answer(value, constrained=True) for value, _ in own.looked_at]
    free = [plain.answer(value, constrained=False) for value, _ in own.looked_at]
    right = [
        a is not None and canonical.dumps(a.value) == canonical.dumps(w) for a, w in zip(held, wanted, strict=True)
    ]
    certain = [a.decoded.log_probability if a is not None else -100.0 for a in held]
    report = {
        **shared,
        "n": len(training.pairs), "learned": len(own.examples), "unwritable": own.unwritable, "too_long": own.too_long,
        "max_tokens": plain.constraint.max_tokens, "lints": list(plain.constraint.lints),
        "validation": {
            "n": len(wanted),
            "constrained": _measured(plain, held, wanted), "unconstrained": _measured(plain, free, wanted),
        },
    }  # fmt: skip
    steps = sum(a.decoded.choices for a in held if a is not None)
    measured = {
        "tokens_per_second": round(tuned.tokens / tuned.seconds, 1) if tuned.seconds else 0.0,
        "mask_ms_per_token": round(
            1000 * sum(a.decoded.mask_seconds for a in held if a is not None) / max(1, steps), 4
        ),
        "resumed_at_step": float(tuned.resumed_at),
    }
    return TrainedLanguageModel(
        plain.network, plain.chat, plain.constraint, plain.contract, plain.limit, plain.constrained,
        fit(certain, right), report, parts=parts, measured=measured,
    )  # fmt: skip


def _measured(model: LanguageModel, answers: list[Any], wanted: list[Any]) -> dict[str, float]:
    """Before any repair: right, right by leaves, and valid."""
    values = [None if a is None else a.value for a in answers]
    found = rows.score(values, wanted)
    valid = [
        a is not None and model.contract.is_valid(a.value) and (a.value is not None or a.text == "null")
        for a in answers
    ]
    share = sum(valid) / len(valid) if valid else 0.0
    return {"exact": round(found.exact, 4), "part": round(found.part, 4), "valid": round(share, 4)}
