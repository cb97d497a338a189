"""The one builder of prompts, for training, evaluation and serving: token numbers, never a rendered template.

Each family's turns are written here; a template that comes with a model is data and is not looked at. What a turn of
traffic says is encoded as plain text, so that it cannot forge the signs between the turns of the conversation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.errors import BadInputError

SYSTEM = "Answer with one JSON object that follows the contract, and nothing else."
_Part = str
"""Of a turn: `{system}` and `{user}` are texts; everything else is a sign or a plain piece."""


@dataclass(frozen=True)
class Format:
    """How a family writes a conversation: pieces before the answer, and the sign after it. `signs`: those pieces
    that are one token of their own."""

    signs: tuple[str, ...]
    pieces: tuple[_Part, ...]
    end: str


FORMATS = {
    "chatml": Format(
        ("<|im_start|>", "<|im_end|>"),
        ("<|im_start|>", "system\n", "{system}", "<|im_end|>", "\n", "<|im_start|>", "user\n", "{user}", "<|im_end|>",
         "\n", "<|im_start|>", "assistant\n"),
        "<|im_end|>",
    ),
    "llama-3": Format(
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        ("<|begin_of_text|>", "<|start_header_id|>", "system", "<|end_header_id|>", "\n\n", "{system}", "<|eot_id|>",
         "<|start_header_id|>", "user", "<|end_header_id|>", "\n\n", "{user}", "<|eot_id|>", "<|start_header_id|>",
         "assistant", "<|end_header_id|>", "\n\n"),
        "<|eot_id|>",
    ),
    "phi-3.5": Format(
        ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        ("<|system|>", "\n", "{system}", "<|end|>", "\n", "<|user|>", "\n", "{user}", "<|end|>", "\n",
         "<|assistant|>", "\n"),
        "<|end|>",
    ),
}  # fmt: skip
"""SmolLM2 and Qwen2.5 write ChatML; a model of another make is taken by the signs that its tokenizer has."""


class Chat:
    """Prompts of one role for one tokenizer."""

    def __init__(self, tokenizer: Any, role: str, prompt: str | None) -> None:
        """`tokenizer`: a `tokenizers.Tokenizer`. BadInputError for one without the signs of any known family."""
        self.name, self._format = _format_of(tokenizer)
        self._tokenizer = tokenizer
        self._tokenizer.encode_special_tokens = True
        self.ends = [tokenizer.token_to_id(self._format.end)]
        self._system = f"[{role}] {(prompt or SYSTEM).strip()}"

    def prefix(self) -> list[int]:
        """What every prompt of the role begins with."""
        return self._tokens(self._format.pieces[: self._format.pieces.index("{user}")], "")

    def rest(self, value: Json) -> list[int]:
        """What follows the prefix for one input."""
        return self._tokens(self._format.pieces[self._format.pieces.index("{user}") :], canonical.text(value))

    def answer(self, text: str) -> list[int]:
        """The answer as it is learned, its end included."""
        return [*self._plain(text), *self.ends]

    def text(self, tokens: list[int]) -> str:
        """Tokens as text."""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=False))

    def _tokens(self, pieces: tuple[_Part, ...], user: str) -> list[int]:
        found: list[int] = []
        for piece in pieces:
            if piece in self._format.signs:
                found.append(self._tokenizer.token_to_id(piece))
            else:
                found += self._plain({"{system}": self._system, "{user}": user}.get(piece, piece))
        return found

    def _plain(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _format_of(tokenizer: Any) -> tuple[str, Format]:
    for name, one in FORMATS.items():
        if all(tokenizer.token_to_id(sign) is not None for sign in one.signs):
            return name, one
    raise BadInputError(
        "the base model's tokenizer has the signs of no known conversation format",
        cure=f"use an instruction-tuned model of one of these: {', '.join(FORMATS)}",
    )
