"""The travel domain: its contracts, its generated corpus, and what its oracle is worth on it."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from slm_assets import canonical
from slm_assets.domain.contracts import Validator
from slm_assets.domain.domain import Domain
from slm_assets.domain.loading import load_domain
from slm_assets.domain.vocabularies import emitted_literals
from slm_assets.models.oracle import OraclePredictor, load_oracle
from slm_assets.models.rules import check_rules

FOLDER = Path(__file__).parents[2] / "domains" / "travel"
EVENTS = ("user_message", "user_widget_submit", "user_widget_cta_click")
Row = dict[str, Any]


def read(folder: Path) -> dict[str, list[Row]]:
    """Rows by event type."""
    found = {}
    for event in EVENTS:
        with gzip.open(folder / f"{event}.jsonl.gz", "rt", encoding="utf-8") as lines:
            found[event] = [json.loads(line) for line in lines]
    return found


@pytest.fixture(scope="module")
def domain() -> Domain:
    return load_domain(FOLDER)


@pytest.fixture(scope="module")
def corpus() -> dict[str, list[Row]]:
    return read(FOLDER / "datasets" / "seed")


@pytest.fixture(scope="module")
def rows(corpus: dict[str, list[Row]]) -> list[Row]:
    return [row for event in EVENTS for row in corpus[event]]


def intent(row: Row) -> Row:
    found: Row = row["labels"]["extract"]["render_intent"]
    return found


def test_it_loads_and_its_rules_compile(domain: Domain) -> None:
    assert domain.warnings == ()
    for role in ("extract", "render"):
        assert check_rules(domain.rules(role), role) == []


def test_the_oracle_can_reach_the_whole_vocabulary(domain: Domain) -> None:
    for role, names in {"extract": ("tools", "render_intents"), "render": ("widget_types",)}.items():
        emitted = emitted_literals(domain.rules(role))
        for name in names:
            assert set(domain.vocabulary(name)) <= set(emitted), name
    assert len(domain.vocabulary("tools")) == 7
    assert len(domain.vocabulary("render_intents")) == 16


def test_every_row_and_label_meets_its_contract(domain: Domain, rows: list[Row]) -> None:
    schemas = [domain.input_schema(role) or {} for role in ("extract", "render")]
    turns, frames = map(Validator, schemas)
    outputs = {role: Validator(domain.output_schema(role)) for role in ("extract", "render")}
    for row in rows:
        assert turns.is_valid(row["input"]), row["id"]
        assert frames.is_valid({"turn": row["input"], "extract": row["labels"]["extract"]}), row["id"]
        for role, validator in outputs.items():
            assert validator.is_valid(row["labels"][role]), (row["id"], validator.errors(row["labels"][role])[:2])


def test_the_corpus_is_large_varied_and_without_twins(corpus: dict[str, list[Row]], rows: list[Row]) -> None:
    assert len(rows) >= 8_000
    assert all(len(corpus[event]) >= 1_000 for event in EVENTS)
    assert len({row["id"] for row in rows}) == len(rows)
    inputs = Counter(canonical.text(row["input"]) for row in rows)
    assert sum(inputs.values()) - len(inputs) < 0.001 * len(rows)
    groups = Counter(row["template"] for row in rows)
    phrasings = {row["template"] for row in corpus["user_message"]}
    assert len(phrasings) >= 700
    assert max(groups.values()) < 0.02 * len(rows)


def test_gold_covers_the_vocabulary_and_the_hard_cases(domain: Domain, rows: list[Row]) -> None:
    kinds = Counter(intent(row)["kind"] for row in rows)
    tools = Counter(call["tool"] for row in rows for call in row["labels"]["extract"]["tool_requests"])
    widgets = Counter(widget["widget_type"] for row in rows for widget in row["labels"]["render"]["widgets"])
    assert min(kinds[kind] for kind in domain.vocabulary("render_intents")) >= 100
    assert min(tools[tool] for tool in domain.vocabulary("tools")) >= 100
    assert min(widgets[name] for name in domain.vocabulary("widget_types")) >= 100
    reasons = Counter(intent(row).get("reason", "") for row in rows)
    for reason in ("pii_redacted", "out_of_domain", "contradictory_constraints", "confirmation_required"):
        assert reasons[reason] >= 100, reason
    assert reasons["provider_unavailable"] >= 25
    asked_again = [
        row
        for row in rows
        if "region" in intent(row).get("missing", ())
        and "region" in row["input"]["slot_state"]
        and row["input"]["event_type"] == "user_message"
    ]
    assert len(asked_again) >= 15  # a city that is not served, where one was chosen before


def test_refusals_update_nothing_and_call_nothing(rows: list[Row]) -> None:
    for row in rows:
        frame = row["labels"]["extract"]
        if intent(row)["kind"] in ("clarify", "error", "collect_missing"):
            assert frame["tool_requests"] == []
        if intent(row).get("reason") in ("pii_redacted", "out_of_domain", "contradictory_constraints"):
            assert frame["slot_updates"] == {}


def test_the_generator_writes_the_committed_rows(corpus: dict[str, list[Row]], tmp_path: Path) -> None:
    for name in ("one", "two"):
        command = [sys.executable, str(FOLDER / "generate.py"), "--out", str(tmp_path / name), "--turns", "600"]
        subprocess.run(command, check=True, cwd=tmp_path)
    again = read(tmp_path / "one")
    for event in EVENTS:
        name = f"{event}.jsonl.gz"
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        assert again[event]
        assert again[event] == corpus[event][: len(again[event])]


def test_the_oracle_is_wrong_on_five_to_fifteen_percent(domain: Domain, corpus: dict[str, list[Row]]) -> None:
    extract, render = load_oracle(domain, "extract"), load_oracle(domain, "render")
    assert isinstance(extract, OraclePredictor)
    assert isinstance(render, OraclePredictor)
    wrong: Counter[str] = Counter()
    sample = {event: corpus[event][:: 4 if event == "user_message" else 8] for event in EVENTS}
    for event, taken in sample.items():
        for row in taken:
            frame, error = extract.answer(row["input"])
            assert not error, (row["id"], error)
            envelope, error = render.answer({"turn": row["input"], "extract": frame})
            assert not error, (row["id"], error)
            wrong[f"extract {event}"] += frame != row["labels"]["extract"]
            wrong[f"render {event}"] += envelope != row["labels"]["render"]
    total = sum(map(len, corpus.values()))
    for role in ("extract", "render"):
        shares = {event: wrong[f"{role} {event}"] / len(taken) for event, taken in sample.items()}
        share = sum(shares[event] * len(corpus[event]) for event in EVENTS) / total
        print(f"{role}: oracle wrong on {share:.1%} of {total} rows;", {k: round(v, 3) for k, v in shares.items()})  # noqa: T201
        assert 0.05 <= share <= 0.15
        assert shares["user_widget_submit"] <= 0.01
        assert shares["user_widget_cta_click"] <= 0.01


def test_nothing_of_travel_stands_in_the_package() -> None:
    words = ("hotel", "airport", "itinerary", "duffel", "traveller")
    package = FOLDER.parent.parent / "slm_assets"
    domain = package / "domain"  # what stands before a number or a name, or is called so, in anybody's text
    general = {*(domain / "recognisers").rglob("*.py"), domain / "redaction.py"}
    for path in set(package.rglob("*.py")) - general:
        text = path.read_text(encoding="utf-8").lower()
        assert not [word for word in words if word in text], path
