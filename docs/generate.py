"""Write docs/config.md from the config's own models: `python docs/generate.py`; a test keeps it current."""

from __future__ import annotations

from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from slm_assets.domain.config import DomainConfig
from slm_assets.domain.keys import READERS, WAITS, walk
from slm_assets.domain.policies import PromotionGates

TARGET = Path(__file__).parent / "config.md"
BLOCKS = {
    "roles": "1. Contracts",
    "vocab": "Vocabulary",
    "data": "2. Data",
    "teachers": "3. Teachers",
    "model": "4. Model",
    "eval": "5. Gates",
    "serving": "6. Serving",
    "improvement": "7. Improvement",
}
HEAD = """# Config keys

`domains/<name>/slm.config.yaml` has one top key, `slm_domain`. Unknown keys are refused, with the nearest right
one named; `slm validate` shows every fault at once, and `slm schema` prints the JSON Schema for editors. Paths are
relative to the folder and never leave it. Pointers are JSON pointers (RFC 6901), `*` stands for each item. Keys
marked *validated only* are checked and kept, and wait for the capability that reads them.

This page is generated from `slm_assets/domain/config.py`.
"""


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    fields = list(walk(DomainConfig))
    waits = {key.removeprefix("slm_domain.") for key, reader in READERS.items() if reader.startswith(WAITS)}
    lines += ["## The domain", "", *_table([(k, f) for k, f in fields if _block(k) not in BLOCKS], waits), ""]
    for block, title in BLOCKS.items():
        own = [(k, f) for k, f in fields if _block(k) == block]
        lines += [f"## {title}: `{block}`", "", *_table(own, waits), ""]
    gates = list(walk(PromotionGates))
    lines += ["## The file behind `improvement.promotion_gates`", "", *_table(gates, set()), ""]
    return "\n".join(lines)


def _block(key: str) -> str:
    return key.split(".")[0].split("[")[0]


def _table(fields: list[tuple[str, FieldInfo]], waits: set[str]) -> list[str]:
    lines = ["| key | type | default | |", "|---|---|---|---|"]
    for key, field in fields:
        note = (field.description or "").replace("\n", " ").replace("|", "\\|")
        note += " *validated only*" if key in waits else ""
        lines.append(f"| `{key}` | {_kind(field.annotation)} | {_default(field)} | {note.strip()} |")
    return lines


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_kind(a) for a in arguments if a is not NoneType))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return f"map to {_kind(arguments[1])}"
    if origin is not None and arguments:
        return _kind(arguments[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "block"
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Any": "any value"}
    return names.get(getattr(annotation, "__name__", str(annotation)), str(annotation))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value in (None, "", [], {}, PydanticUndefined) or isinstance(value, BaseModel):
        return ""
    return f"`{value}`"


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
