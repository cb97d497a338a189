"""A role's part of a checkpoint, everything that is needed to answer and nothing that runs:

model.json           format, role, prompt, base, settings, what labels showed of open places, calibration
config.json          the network's plain numbers
tokenizer.json       the tokenizer
model.safetensors    the whole network, adapter folded in, bf16
adapter.safetensors  the parameters that learned: the next version goes on from them
grammar.lark         the contract's grammar, for an engine that decodes elsewhere
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from slm_assets import canonical
from slm_assets.domain.contracts import Validator
from slm_assets.errors import ArtifactError, BadInputError
from slm_assets.models.lm import network
from slm_assets.models.lm.base import Base
from slm_assets.models.lm.calibrating import Scale
from slm_assets.models.lm.chat import Chat
from slm_assets.models.lm.decoding import Constraint, engine_tokenizer
from slm_assets.models.lm.observed import Observed, Seen
from slm_assets.models.lm.predictor import LanguageModel
from slm_assets.models.lm.settings import Settings

FORMAT = 1
WEIGHTS, ADAPTER, HEAD = "model.safetensors", "adapter.safetensors", "model.json"


@dataclass(frozen=True)
class Parts:
    """What a checkpoint is written from."""

    role: str
    prompt: str | None
    recipe: str
    base_name: str
    base_digest: str
    config: dict[str, Any]
    tokenizer: str
    settings: Settings
    observed: Observed
    weights: dict[str, Any] = field(repr=False)
    adapter: dict[str, Any] = field(repr=False)


def base_parts(base: Base) -> tuple[dict[str, Any], str]:
    """The known part of a base's config, and its tokenizer."""
    return network.known_config(base.config()), base.tokenizer_json()


def assembled(parts: Parts, schema: dict[str, Any], net: Any, scale: Scale) -> LanguageModel:
    """The engine of a role around a network."""
    tokenizer = tokenizer_of(parts.tokenizer)
    chat = Chat(tokenizer, parts.role, parts.prompt)
    engine = engine_of(parts.tokenizer, int(parts.config["vocab_size"]), tuple(chat.ends))
    constraint = Constraint(schema, engine, parts.settings.bounds(), parts.observed)
    limit = int(parts.config["max_position_embeddings"])
    return LanguageModel(net, chat, constraint, Validator(schema), limit, parts.settings.constrained, scale)


def tokenizer_of(text: str) -> Any:
    """The tokenizer of a tokenizer.json."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare exceptions
        raise BadInputError(f"tokenizer.json cannot be read: {error}") from None


@lru_cache(maxsize=4)
def engine_of(text: str, width: int, ends: tuple[int, ...]) -> Any:
    """llguidance's view of it, which takes a second to make."""
    return engine_tokenizer(text, width, ends)


def save(parts: Parts, model: LanguageModel, folder: Path) -> None:
    """Write the role's files; model.json last."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(parts.weights, folder / WEIGHTS)
    save_file({name: tensor.contiguous() for name, tensor in parts.adapter.items()}, folder / ADAPTER)
    canonical.write_json(folder / "config.json", parts.config)
    canonical.write_bytes(folder / "tokenizer.json", parts.tokenizer.encode())
    canonical.write_bytes(folder / "grammar.lark", model.constraint.rule(None).grammar.text.encode())
    head = {
        "format": FORMAT, "role": parts.role, "prompt": parts.prompt, "recipe": parts.recipe,
        "base": {"name": parts.base_name, "sha256": parts.base_digest}, "chat": model.chat.name,
        "settings": parts.settings.model_dump(mode="json"), "max_tokens": model.constraint.max_tokens,
        "observed": {place: asdict(seen) for place, seen in parts.observed.items()},
        "scale": asdict(model.scale), "contract": canonical.digest(model.constraint.schema),
    }  # fmt: skip
    canonical.write_json(folder / HEAD, head)


def read_head(folder: Path) -> dict[str, Any]:
    """model.json. ArtifactError for a format that is not known here."""
    try:
        head: dict[str, Any] = canonical.read_json(folder / HEAD)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder.name} holds no language model: {error}") from None
    if head.get("format") != FORMAT:
        raise ArtifactError(f"language model of format {head.get('format')!r}; this release reads {FORMAT}")
    return head


def load(folder: Path, schema: dict[str, Any]) -> LanguageModel:
    """The role's engine. ArtifactError where the files are of another format or another contract."""
    head = read_head(folder)
    if head["contract"] != canonical.digest(schema):
        raise ArtifactError(
            f"the language model of role {head['role']} was trained for another contract",
            cure="train a new version: the contract has changed since",
        )
    observed = {place: Seen(**seen) for place, seen in head["observed"].items()}
    config = canonical.read_json(folder / "config.json")
    parts = Parts(
        head["role"], head["prompt"], head["recipe"], head["base"]["name"], head["base"]["sha256"], config,
        (folder / "tokenizer.json").read_text(encoding="utf-8"), Settings.model_validate(head["settings"]), observed,
        {}, {},
    )  # fmt: skip
    net = _network(canonical.digest_file(folder / WEIGHTS), str(folder), canonical.text(config))
    return assembled(parts, schema, net, Scale(**head["scale"]))


_networks: dict[tuple[str, str], Any] = {}
_KEPT = 4


def _network(digest: str, folder: str, config: str) -> Any:
    """Roles with the same weights share one network. One thread on a CPU, so that every process answers alike."""
    import orjson
    import torch

    if (digest, config) not in _networks:
        if len(_networks) >= _KEPT:
            _networks.pop(next(iter(_networks)))
        torch.set_num_threads(1)
        found = network.load(Path(folder), orjson.loads(config))
        _networks[(digest, config)] = found.to("cuda") if torch.cuda.is_available() else found
    return _networks[(digest, config)]
