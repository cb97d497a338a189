"""The ten scenarios that every shipped domain has, for the tiny one: so small that each takes a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RARE = "zorblax"
"""The word of the poisoned source; nobody else says it."""
POLICY = """\
min_turns: 100
page: demand
volume: {turns: 5000}
"""
SCENARIOS = """\
pools:
  known: {rows: simulation/known.jsonl}
  misread: {rows: simulation/misread.jsonl}       # known words that mean something else now
  newcomers: {rows: simulation/newcomers.jsonl}
  poisoned: {rows: simulation/poisoned.jsonl}
  vendor: {rows: simulation/vendor.jsonl, answers: /answers}
outcomes:
  usual: &usual
    right: {success: 0.1, abandonment: 0.01}
    wrong: {correction: 0.15, retry: 0.1, tool_error: 0.03, abandonment: 0.1}
  helpful:
    right: {success: 0.1, abandonment: 0.01}
    wrong: {correction: 0.6, retry: 0.1, abandonment: 0.05}
  annoyed:
    right: {tool_error: 0.06, retry: 0.05, abandonment: 0.04}
    wrong: {correction: 0.4, retry: 0.2, tool_error: 0.1, abandonment: 0.1}
  broken:
    right: {tool_error: 0.3, retry: 0.1, abandonment: 0.1}
    wrong: {correction: 0.4, tool_error: 0.3, retry: 0.2}
  insists:
    wrong: {correction: 1.0}
scenarios:
  steady:
    about: Nothing but volume may fire.
    phases:
      - {id: first, turns: 300, mix: [{pool: known, outcomes: usual}]}
      - {id: second, turns: 300, mix: [{pool: known, outcomes: usual}]}
  quality_loss:
    about: A fifth of the turns is answered wrongly.
    phases:
      - {id: before, turns: 300, mix: [{pool: known, outcomes: helpful}]}
      - id: shift
        turns: 300
        mix: [{pool: known, weight: 0.8, outcomes: helpful}, {pool: misread, weight: 0.2, outcomes: helpful}]
  rising_corrections:
    about: The turns stay as they are, the users do not.
    phases:
      - {id: before, turns: 600, mix: [{pool: known, outcomes: usual}]}
      - {id: shift, turns: 500, mix: [{pool: known, outcomes: annoyed}]}
  invalid_outputs:
    about: Another engine answered.
    recorded: {engine: vendor, version: "2026-10"}
    phases:
      - id: recorded
        turns: 1000
        mix: [{pool: known, weight: 97, outcomes: usual}, {pool: vendor, weight: 3, outcomes: usual}]
  new_intents:
    about: Words that were never seen.
    phases:
      - {id: before, turns: 200, mix: [{pool: known, outcomes: helpful}]}
      - id: shift
        turns: 300
        mix: [{pool: known, weight: 0.6, outcomes: helpful}, {pool: newcomers, weight: 0.4, outcomes: helpful}]
  volume:
    about: Many turns.
    phases:
      - {id: volume, turns: 250, mix: [{pool: known, outcomes: usual}]}
  contract_change:
    about: A new optional field.
    overlay: simulation/contract_change
    phases:
      - {id: steady, turns: 120, mix: [{pool: known, outcomes: usual}]}
  staleness:
    about: Hardly anything.
    phases:
      - {id: quiet, turns: 20, mix: [{pool: known, outcomes: usual, users: 5}]}
  poisoned_source:
    about: One user's rare word.
    phases:
      - id: poisoned
        turns: 400
        mix:
          - {pool: known, weight: 0.9, outcomes: helpful}
          - {pool: poisoned, weight: 0.1, outcomes: insists, users: 1, turns_per_conversation: 20}
  regression_after_promotion:
    about: Tools fail after a promotion.
    phases:
      - {id: before, turns: 200, mix: [{pool: known, outcomes: usual}]}
      - {id: after, turns: 200, mix: [{pool: known, outcomes: broken}]}
"""
COLOURS = ["green", "silver", "red", "blue", "black", "white", "orange", "purple"]
INTENTS = ["refund", "track", "cancel", "greet"]


def write_loop(folder: Path) -> None:
    """Give a copy of the tiny domain the scenarios, their pools, and a policy of its triggers."""
    rows = [json.loads(line) for line in (folder / "data" / "messages.jsonl").read_text().splitlines()]
    plain = [{"input": {"text": _said_anew(row["input"]["text"])}, "labels": row["labels"]} for row in rows]
    strange = ["qwertu", "asdfil", "yxcvbo", "plokan", "mnbiru", "hzgtafu", "drezok", "vfrumi", "tgbowe", "zhnala"]
    odd = [" ".join(strange[(n + step) % 10] for step in (0, 3, n % 7, 5)) for n in range(60)]
    greet = {"triage": {"intent": "greet", "urgent": False}}
    pools: dict[str, list[dict[str, Any]]] = {
        "known": plain,
        "misread": [{**row, "labels": {"triage": _other(row["labels"]["triage"])}} for row in plain],
        "newcomers": [{"input": {"text": text}, "labels": greet} for text in odd],
        "poisoned": [
            {"input": {"text": f"{row['input']['text']} {RARE}"}, "labels": greet}
            for row in plain
            if row["labels"]["triage"]["intent"] == "refund"
        ],
        "vendor": [{**row, "answers": {"triage": {"intent": "sing"}}} for row in plain[:20]],
    }
    place = folder / "simulation"
    place.mkdir()
    for name, found in pools.items():
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    (place / "scenarios.yaml").write_text(SCENARIOS)
    contract = json.loads((folder / "contracts" / "triage.schema.json").read_text())
    contract["properties"]["mood"] = {"enum": ["calm", "angry"]}
    changed = place / "contract_change" / "contracts" / "triage.schema.json"
    changed.parent.mkdir(parents=True)
    changed.write_text(json.dumps(contract))
    (folder / "policies" / "retrain_gates.yaml").write_text(POLICY)
    config = folder / "slm.config.yaml"
    added = "    simulation: simulation/scenarios.yaml\n    retrain_triggers: policies/retrain_gates.yaml\n"
    config.write_text(config.read_text().replace("  improvement:\n", f"  improvement:\n{added}"))


def _said_anew(text: str) -> str:
    """The same with other colours: a turn like those of the corpus, and none of it."""
    return " ".join(COLOURS[(COLOURS.index(word) + 3) % 8] if word in COLOURS else word for word in text.split())


def _other(label: dict[str, Any]) -> dict[str, Any]:
    return {**label, "intent": INTENTS[(INTENTS.index(label["intent"]) + 1) % 4]}
