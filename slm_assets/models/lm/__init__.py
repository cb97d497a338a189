"""The language model rungs: a small causal language model, fine-tuned, its answers constrained by the contract."""
