"""Every key has a description and a reader; the ones still waiting for theirs are listed here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import slm_assets
from slm_assets.domain import keys
from slm_assets.domain.config import ConfigFile
from slm_assets.domain.policies import PromotionGates

PACKAGE = Path(slm_assets.__file__).parent


def waiting() -> dict[str, str]:
    return {key: why for key, why in keys.READERS.items() if why.startswith(keys.WAITS)}


def sources(reader: str) -> str:
    """Text of a module, or of all modules of a package."""
    place = PACKAGE.joinpath(*reader.split("."))
    files = sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    assert files, f"no module slm_assets.{reader}"
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def test_the_table_lists_exactly_the_keys_of_the_config() -> None:
    assert set(keys.READERS) == set(keys.patterns(ConfigFile))


@pytest.mark.parametrize("model", [ConfigFile, PromotionGates])
def test_every_key_is_described(model: type[ConfigFile]) -> None:
    assert [path for path, info in keys.walk(model) if not info.description] == []


def test_every_reader_mentions_the_key_it_reads() -> None:
    silent = []
    for key, reader in keys.READERS.items():
        if reader == "people" or reader.startswith(keys.WAITS):
            continue
        name = re.split(r"[.\[]", key.replace("[]", ""))[-1]
        if not re.search(rf"\.{name}\b", sources(reader)):
            silent.append(f"{key}: {reader}")
    assert silent == []


WAITING = {
    "eval.candidate",
    "eval.metrics[].enforced_by",
    "eval.metrics[].schema_valid",
    "eval.metrics[].target_relative",
    "model.candidates",
    "model.status",
    "roles[].decoding_grammar",
    "serving.consuming_playbook",
    "serving.engine_flags",
    "serving.quantization",
    "serving.status",
    "serving.target",
}


def test_keys_that_still_wait_for_a_reader() -> None:
    """Shrinks as capabilities land: a key that gets its reader leaves this list."""
    assert {key.removeprefix("slm_domain.") for key in waiting()} == WAITING


def test_replaced_keys_are_no_keys() -> None:
    assert not set(keys.REPLACED) & set(keys.READERS)


@pytest.mark.parametrize(
    ("place", "pattern"),
    [
        (("slm_domain", "roles", 0, "id"), "slm_domain.roles[].id"),
        (
            ("slm_domain", "teachers", 1, "pricing", "big", "input"),
            "slm_domain.teachers[].pricing.*.input",
        ),
        (("slm_domain", "vocab", "tools", "path"), "slm_domain.vocab.*.path"),
    ],
)
def test_pattern_of_a_place(place: tuple[str | int, ...], pattern: str) -> None:
    assert keys.pattern(ConfigFile, place) == pattern
    assert keys.knows(ConfigFile, place)
