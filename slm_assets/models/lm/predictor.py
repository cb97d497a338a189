"""A language model that answers for one role: the prompt's fixed beginning is read once, the rest per input."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from slm_assets.canonical import Json
from slm_assets.domain.contracts import Validator
from slm_assets.models.base import Prediction
from slm_assets.models.lm.calibrating import Scale
from slm_assets.models.lm.chat import Chat
from slm_assets.models.lm.decoding import Constraint, Decoded, decode


class Answer(NamedTuple):
    """What was decoded: as a value (None where it is no JSON), as text, and how."""

    value: Json
    text: str
    decoded: Decoded


@dataclass
class LanguageModel:
    """One role's engine. `limit`: tokens that prompt and answer may have together."""

    network: Any = field(repr=False)
    chat: Chat
    constraint: Constraint
    contract: Validator
    limit: int
    constrained: bool = True
    scale: Scale = field(default_factory=Scale)
    report: dict[str, Any] = field(default_factory=dict)
    _read: Any = field(default=None, repr=False)

    def predict(self, value: Json) -> Prediction:
        """Answer one input. An input that leaves no room, or an answer that is no JSON, has output None."""
        answer = self.answer(value, constrained=self.constrained)
        if answer is None or (answer.value is None and answer.text != "null"):
            return Prediction(None, 0.0, valid=False)
        confidence = self.scale.confidence(answer.decoded.log_probability)
        return Prediction(answer.value, confidence, valid=self.contract.is_valid(answer.value))

    def predict_many(self, values: Sequence[Json]) -> list[Prediction]:
        """Answer many inputs, one by one: a batch would change last bits."""
        return [self.predict(value) for value in values]

    def answer(self, value: Json, *, constrained: bool) -> Answer | None:
        """Decode an answer, held to the contract or not; None where the input leaves no room for one."""
        import torch

        rest = self.chat.rest(value)
        with torch.inference_mode():
            cache, length = self._prefix()
            room = self.limit - length - len(rest)
            if room < 1:
                return None
            step = _Stepping(self.network, copy.deepcopy(cache), rest)
            if constrained:
                found = decode(self.constraint.rule(value), step, limit=room, ends=self.chat.ends)
            else:
                found = _free(step, min(room, self.constraint.max_tokens), self.chat.ends)
        text = self.chat.text(found.tokens)
        try:
            return Answer(orjson.loads(text), text, found)
        except orjson.JSONDecodeError:
            return Answer(None, text, found)

    def forget(self) -> None:
        """Read the prefix anew: the weights have changed."""
        self._read = None

    def _prefix(self) -> tuple[Any, int]:
        import torch
        from transformers import DynamicCache

        if self._read is None:
            tokens = self.chat.prefix()
            cache = DynamicCache()
            ids = torch.tensor([tokens], device=self.network.device)
            self.network(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            self._read = (cache, len(tokens))
        return self._read[0], self._read[1]


@dataclass
class _Stepping:
    """Logits of the next token, from the tokens that are new since the last."""

    network: Any
    cache: Any
    waiting: list[int]

    def __call__(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        import torch

        ids = torch.tensor([[*self.waiting, *tokens]], device=self.network.device)
        self.waiting = []
        out = self.network(input_ids=ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        logits: NDArray[np.float32] = out.logits[0, -1].float().cpu().numpy()
        return logits


def _free(step: _Stepping, limit: int, ends: Sequence[int]) -> Decoded:
    """Greedy decoding with nothing held."""
    tokens: list[int] = []
    new: list[int] = []
    total = 0.0
    while len(tokens) < limit:
        logits = step(new)
        token = int(logits.argmax())
        total -= float(np.log(np.exp(logits - logits[token], dtype=np.float64).sum()))
        if token in ends:
            return Decoded(tokens, total, len(tokens) + 1, True, 0.0)
        tokens.append(token)
        new = [token]
    return Decoded(tokens, total, len(tokens), False, 0.0)
