"""A llama model in GGUF as config.json, tokenizer.json and model.safetensors: weights dequantised, in numpy.

transformers reads the same file in minutes where this takes seconds, and leaves out that SmolLM2 splits digits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from slm_assets import canonical

_LAYER = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_CONTROL = 3
"""A token's type in GGUF: one that stands for itself."""


def convert(source: Path, folder: Path) -> None:
    """Write the three files; config.json last, so that without it there is nothing."""
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors.numpy import save_file

    reader = GGUFReader(str(source))
    facts = _facts(reader)
    heads = {"attn_q": facts["num_attention_heads"], "attn_k": facts["num_key_value_heads"]}
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Any] = {}
    for tensor in reader.tensors:
        stem = tensor.name.removesuffix(".weight")
        values = np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if stem in _WHOLE:
            name = _WHOLE[stem]
        else:
            _, layer, part = stem.split(".")
            name = f"model.layers.{layer}.{_LAYER[part]}"
            values = _unpermuted(values, heads[part]) if part in heads else values
        tensors[f"{name}.weight"] = np.ascontiguousarray(values)
    facts["tie_word_embeddings"] = "lm_head.weight" not in tensors
    beside = folder / ".model.safetensors.tmp"
    save_file(tensors, beside)
    beside.replace(folder / "model.safetensors")
    canonical.write_bytes(folder / "tokenizer.json", _tokenizer(reader).encode())
    canonical.write_json(folder / "config.json", facts)


def _facts(reader: Any) -> dict[str, Any]:
    def number(name: str) -> Any:
        return _value(reader, f"llama.{name}")[0].item()

    return {
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": number("embedding_length"),
        "intermediate_size": number("feed_forward_length"),
        "num_hidden_layers": number("block_count"),
        "num_attention_heads": number("attention.head_count"),
        "num_key_value_heads": number("attention.head_count_kv"),
        "max_position_embeddings": number("context_length"),
        "rms_norm_eps": round(number("attention.layer_norm_rms_epsilon"), 12),
        "rope_theta": number("rope.freq_base"),
        "vocab_size": len(reader.fields["tokenizer.ggml.tokens"].data),
        "bos_token_id": _value(reader, "tokenizer.ggml.bos_token_id")[0].item(),
        "eos_token_id": _value(reader, "tokenizer.ggml.eos_token_id")[0].item(),
    }


def _value(reader: Any, name: str) -> list[Any]:
    field = reader.fields[name]
    return [field.parts[index][0] for index in field.data]


def _strings(reader: Any, name: str) -> list[str]:
    field = reader.fields[name]
    return [bytes(field.parts[index]).decode() for index in field.data]


def _tokenizer(reader: Any) -> str:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = _strings(reader, "tokenizer.ggml.tokens")
    merges = [line.partition(" ")[::2] for line in _strings(reader, "tokenizer.ggml.merges")]
    made = Tokenizer(models.BPE(vocab={token: at for at, token in enumerate(tokens)}, merges=merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Digits(individual_digits=True)
    smollm = _strings(reader, "tokenizer.ggml.pre") == ["smollm"]
    made.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level]) if smollm else byte_level
    made.decoder = decoders.ByteLevel()
    kinds = _value(reader, "tokenizer.ggml.token_type")
    made.add_special_tokens(
        [AddedToken(token, special=True) for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    )
    return str(made.to_str())


def _unpermuted(values: Any, heads: int) -> Any:
    """llama.cpp keeps the two halves of each rotated head interleaved."""
    rows, columns = values.shape
    return values.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
