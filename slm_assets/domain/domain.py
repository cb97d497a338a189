"""A loaded domain: its config, the bytes of every file it refers to, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.config import DomainConfig, Role, Vocabulary
from slm_assets.domain.documents import Document, Place, read_document
from slm_assets.domain.files import Folder, Refused, normal
from slm_assets.domain.places import enum_paths
from slm_assets.domain.policies import PromotionGates
from slm_assets.domain.redaction import RedactionPolicy
from slm_assets.domain.references import Schemas, first_with_id
from slm_assets.domain.triggers import RetrainTriggers
from slm_assets.errors import BadInputError, Fault

CONFIG_NAME = "slm.config.yaml"


@dataclass(frozen=True)
class Domain:
    """A domain that was loaded without a fault.

    `files` holds every referenced file by its path relative to the folder, data rows excepted, and the
    config itself; two domains with equal files are the same domain. `folder` is None for one that was
    read from a bundle: it then has no data.
    """

    name: str
    config: DomainConfig
    files: Mapping[str, bytes]
    folder: Path | None = None
    warnings: tuple[Fault, ...] = ()

    @cached_property
    def digest(self) -> str:
        """sha256 over the paths and contents of `files`."""
        return canonical.digest({path: canonical.digest_bytes(data) for path, data in self.files.items()})

    def role(self, role_id: str) -> Role:
        """The role of that id; raises BadInputError naming those there are."""
        for role in self.config.roles:
            if role.id == role_id:
                return role
        names = ", ".join(role.id for role in self.config.roles)
        raise BadInputError(f"domain {self.name}: no role {role_id!r}", cure=f"its roles are {names}")

    def output_schema(self, role_id: str) -> dict[str, Json]:
        """The role's output contract, self-contained: every `$ref` points into it."""
        return self._bundled(self.role(role_id).output_schema)

    def input_schema(self, role_id: str) -> dict[str, Json] | None:
        """The role's input contract, self-contained, or None."""
        name = self.role(role_id).input_schema
        return None if name is None else self._bundled(name)

    def prompt(self, role_id: str) -> str | None:
        """The role's system prompt, or None."""
        name = self.role(role_id).system_prompt
        return None if name is None else self.text(name)

    def text(self, path: str) -> str:
        """A referenced file as text."""
        return self.files[self.path(path)].decode("utf-8-sig")

    def document(self, path: str) -> Json:
        """A referenced YAML or JSON file as a JSON value, parsed once: not to be changed."""
        return self._read(self.path(path)).value

    def path(self, written: str) -> str:
        """Key in `files` of a path as the config spells it; `<domain>` stands for the domain's name."""
        name = normal(written)
        return name if name in self.files else name.replace("<domain>", self.name)

    @cached_property
    def gates(self) -> PromotionGates:
        """The promotion policy; the built-in one where the config names none."""
        name = self.config.improvement.promotion_gates
        return PromotionGates() if name is None else PromotionGates.model_validate(self.document(name))

    @cached_property
    def triggers(self) -> RetrainTriggers:
        """When to retrain; the built-in policy where the config names none."""
        name = self.config.improvement.retrain_triggers
        return RetrainTriggers() if name is None else RetrainTriggers.model_validate(self.document(name))

    @cached_property
    def redaction(self) -> RedactionPolicy:
        """What is removed from captured turns; the built-in policy where the config names none."""
        name = self.config.data.redaction_policy
        return RedactionPolicy() if name is None else RedactionPolicy.model_validate(self.document(name))

    def hyperparams(self) -> dict[str, Any]:
        """The recipe's hyperparameters, from the config or its file; empty where none are given."""
        given = self.config.model.hyperparams
        if isinstance(given, str):
            return dict(self.document(given))
        return dict(given or {})

    def rules(self, role_id: str) -> dict[str, Json]:
        """The parsed rules file of a role whose oracle is of that kind; raises BadInputError otherwise."""
        oracle = self.role(role_id).deterministic_oracle
        if oracle is None or oracle.kind != "rules":
            kind = oracle.kind if oracle else "none"
            raise BadInputError(f"domain {self.name}, role {role_id}: the oracle is {kind}, not rules")
        return dict(self.document(oracle.path))

    def vocabulary(self, name: str) -> list[Json]:
        """The values of one entry of `vocab`, in the order of its file, list or contract."""
        entry = self.config.vocab[name]
        if isinstance(entry, list):
            return list(entry)
        if isinstance(entry, str):
            return vocabulary_values(self.document(entry)) or []
        return self._closed_list(entry)

    def _closed_list(self, entry: Vocabulary) -> list[Json]:
        if entry.file is not None:
            return vocabulary_values(self.document(entry.file)) or []
        return enum_paths(self.output_schema(entry.role)).get(entry.path, [])

    def data_files(self) -> dict[str, Path]:
        """The corpus: `<label>/<file name>` → path, sorted; labels seed, adversarial, holdout, golden.

        Raises BadInputError for a domain without folder, a missing file, or two of one name.
        """
        if self.folder is None:
            raise BadInputError(f"domain {self.name}: a bundle holds no data", cure="load its folder")
        found: dict[str, Path] = {}
        for _, label, written in data_paths(self.config):
            try:
                folder = Folder.at(self.folder)
                for relative in folder.data_files(self._data_path(folder, written)):
                    path = folder.locate(relative)
                    key = f"{label}/{relative.rpartition('/')[2]}"
                    if found.setdefault(key, path) != path:
                        raise Refused("two data files of one name", found=key, cure="rename one")
            except Refused as refused:
                message = f"domain {self.name}, {label}: {refused.message}: {refused.found}"
                raise BadInputError(message, cure=refused.cure) from None
        return dict(sorted(found.items()))

    def _data_path(self, folder: Folder, written: str) -> str:
        return written if folder.exists(written) else written.replace("<domain>", self.name)

    @cached_property
    def _schemas(self) -> Schemas:
        return Schemas(self._read, self._with_id)

    def _with_id(self, uri: str) -> str | None:
        names = sorted(name for name in self.files if name.endswith(".json"))
        return first_with_id(map(self._read, names), uri)

    def _bundled(self, written: str) -> dict[str, Json]:
        schema, _ = self._schemas.bundle(self.path(written))
        return schema

    def _read(self, path: str) -> Document:
        if path not in self.files:
            raise Refused("no such file", found=path)
        if path not in self._parsed:
            self._parsed[path] = read_document(self.files[path], path)
        return self._parsed[path]

    @cached_property
    def _parsed(self) -> dict[str, Document]:
        return {}


def data_paths(config: DomainConfig) -> list[tuple[Place, str, str]]:
    """(place under slm_domain, label, path as written) of everything that rows come from."""
    sources: list[tuple[Place, str, str | list[str] | None]] = [
        (("data", "seed_corpus"), "seed", config.data.seed_corpus),
        (("data", "adversarial"), "adversarial", config.data.adversarial),
        (("eval", "eval_sets", "holdout"), "holdout", config.eval.eval_sets.holdout),
        (("eval", "eval_sets", "golden_replay"), "golden", config.eval.eval_sets.golden_replay),
    ]
    found: list[tuple[Place, str, str]] = []
    for place, label, given in sources:
        if isinstance(given, list):
            found += [((*place, index), label, path) for index, path in enumerate(given)]
        elif given is not None:
            found.append((place, label, given))
    return found


def vocabulary_values(value: Json) -> list[Json] | None:
    """Values of a vocabulary file: a list of them, of objects with a `name` or `id`, or one such list
    under any key. None where the file is neither."""
    if isinstance(value, dict):
        lists = [item for item in value.values() if isinstance(item, list)]
        return vocabulary_values(lists[0]) if len(lists) == 1 else None
    if not isinstance(value, list):
        return None
    named = [item.get("name", item.get("id")) if isinstance(item, dict) else item for item in value]
    scalar = all(isinstance(item, str | int | float) and not isinstance(item, bool) for item in named)
    return named if named and scalar else None
