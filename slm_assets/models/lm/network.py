"""The network: built from known classes by plain numbers, its weights from safetensors, nothing else.

A base's config may name code, quantisers or templates; none of its keys but the known ones is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slm_assets.errors import ArtifactError, BadInputError

_KEYS = frozenset(
    {"hidden_act", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim",
     "num_key_value_heads", "max_position_embeddings", "original_max_position_embeddings", "rms_norm_eps",
     "rope_theta", "rope_parameters", "rope_scaling", "vocab_size", "bos_token_id", "eos_token_id", "pad_token_id",
     "tie_word_embeddings", "attention_bias", "mlp_bias", "sliding_window", "use_sliding_window",
     "max_window_layers", "partial_rotary_factor", "resid_pdrop", "embd_pdrop"}
)  # fmt: skip
KINDS = {"llama": ("LlamaConfig", "LlamaForCausalLM"), "qwen2": ("Qwen2Config", "Qwen2ForCausalLM"),
         "phi3": ("Phi3Config", "Phi3ForCausalLM")}  # fmt: skip
"""Known kinds of network: SmolLM2 and Llama-3.2, Qwen2.5, Phi-3.5."""


def known_config(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a config.json that is read. BadInputError for a kind of network that is not known."""
    kind = config.get("model_type")
    if kind not in KINDS:
        raise BadInputError(
            f"a base model of type {kind!r} is not known here", cure=f"choose one of type {', '.join(KINDS)}"
        )
    return {"model_type": kind, **{key: value for key, value in config.items() if key in _KEYS}}


def empty(config: dict[str, Any]) -> Any:
    """The network without weights yet, in evaluation mode."""
    import torch
    import transformers

    config = known_config(config)
    make, network = (getattr(transformers, name) for name in KINDS[config["model_type"]])
    settings = make(**{key: value for key, value in config.items() if key != "model_type"})
    settings._attn_implementation = "sdpa"
    from transformers.initialization import no_init_weights

    with torch.random.fork_rng(devices=[]), no_init_weights():
        return network(settings).eval()


def load(folder: Path, config: dict[str, Any]) -> Any:
    """The network with the weights in the folder's safetensors, as 32-bit floats."""
    network = empty(config)
    weights: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        if not path.name.startswith("adapter"):
            weights |= read(path)
    fill(network, weights)
    return network


def read(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file. ArtifactError for anything else."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ArtifactError(f"{path.name} cannot be read: {error}") from None


def fill(network: Any, weights: dict[str, Any]) -> None:
    """Set all weights of a plain network. ArtifactError where names or shapes are others."""
    import torch

    wide = {name: tensor.to(torch.float32) for name, tensor in weights.items()}
    try:
        lacking, odd = network.load_state_dict(wide, strict=False)
    except RuntimeError as error:
        raise ArtifactError(f"the weights are not of this network: {str(error)[:300]}") from None
    network.tie_weights()
    tied = network.config.tie_word_embeddings
    lacking = [name for name in lacking if not (tied and name == "lm_head.weight")]
    if lacking or odd:
        raise ArtifactError(f"the weights are not of this network: lacking {lacking[:3]}, odd {odd[:3]}")


def with_adapter(network: Any, rank: int, alpha: float, dropout: float, targets: list[str]) -> Any:
    """The network with a fresh low-rank adapter on those of the projections that it has."""
    from peft import LoraConfig, get_peft_model

    there = {name.rpartition(".")[2] for name, _ in network.named_modules()}
    chosen = [name for name in targets if name in there]
    if not chosen:
        raise BadInputError(f"hyperparams.targets {targets}: the base model has none of these projections")
    return get_peft_model(
        network,
        LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=chosen, task_type="CAUSAL_LM"),
    )


def trainable(network: Any) -> dict[str, Any]:
    """The parameters that learn, by name."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def put(network: Any, weights: dict[str, Any]) -> None:
    """Set the parameters that learn. ArtifactError where names or shapes are others."""
    import torch

    own = trainable(network)
    if own.keys() != weights.keys() or any(own[name].shape != weights[name].shape for name in own):
        raise ArtifactError("the weights are of another adapter")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(weights[name])


def merged(network: Any) -> dict[str, Any]:
    """The weights of the plain network with its adapter folded in, as bf16; the network is used up."""
    import torch

    plain = network.merge_and_unload() if hasattr(network, "merge_and_unload") else network
    tied = plain.config.tie_word_embeddings
    return {
        name: tensor.detach().to("cpu", torch.bfloat16).contiguous()
        for name, tensor in plain.state_dict().items()
        if not (tied and name == "lm_head.weight")
    }


def quantised(network: Any) -> Any:
    """The network with its projections in 4 bits (NF4), on the GPU. BadInputError where that cannot be."""
    import torch

    try:
        import bitsandbytes as bnb
    except ImportError:
        raise BadInputError(
            "recipe qlora needs bitsandbytes", cure="pip install bitsandbytes, or recipe lora"
        ) from None
    if not torch.cuda.is_available():
        raise BadInputError("recipe qlora needs a CUDA device", cure="choose recipe lora")
    for name, module in list(network.named_modules()):
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            parent = network.get_submodule(name.rpartition(".")[0])
            small = bnb.nn.Linear4bit(
                module.in_features, module.out_features, bias=module.bias is not None,
                compute_dtype=torch.bfloat16, quant_type="nf4",
            )  # fmt: skip
            small.weight = bnb.nn.Params4bit(module.weight.data, requires_grad=False, quant_type="nf4")
            if module.bias is not None:
                small.bias = module.bias
            setattr(parent, name.rpartition(".")[2], small)
    return network.to("cuda")
