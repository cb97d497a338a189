"""A tokenizer of bytes and a language model of random weights, made on the spot."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def byte_tokenizer() -> Any:
    """Every byte is a token; a few merges give tokens of several bytes; ChatML's three signs are special."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {sign: number for number, sign in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [('"', ":"), (",", '"'), ("{", '"'), ('"', "}"), ("a", "b"), ("1", "0"), ('":', '"'), ("t", "r")]
    for pair in merges:
        vocabulary["".join(pair)] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    signs = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens([AddedToken(sign, special=True) for sign in signs])
    return tokenizer


def tiny_base(models: Path, name: str = "tiny", layers: int = 2) -> Path:
    """A llama of random weights as a base model's folder."""
    import torch
    from safetensors.torch import save_file

    from slm_assets.models.lm import network

    tokenizer = byte_tokenizer()
    config = {
        "model_type": "llama", "hidden_act": "silu", "hidden_size": 48, "intermediate_size": 96,
        "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "vocab_size": tokenizer.get_vocab_size(), "tie_word_embeddings": True,
    }  # fmt: skip
    folder = models / name
    folder.mkdir(parents=True)
    torch.manual_seed(1)
    made = network.empty(config)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.08)
    weights = {k: v.contiguous() for k, v in made.state_dict().items() if k != "lm_head.weight"}
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
