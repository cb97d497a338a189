"""A tokenizer of bytes and a language model of random weights, made on the spot."""

from __future__ import annotations

from functools import cache
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
