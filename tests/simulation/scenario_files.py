"""A small file of scenarios for the tiny domain, and its pools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCENARIOS = """\
pools:
  known: {rows: simulation/known.jsonl}
  odd: {rows: simulation/odd.jsonl}
  vendor: {rows: simulation/vendor.jsonl, answers: /answers}
  silent: {rows: simulation/silent.jsonl}
  broken: {rows: simulation/broken.jsonl}
outcomes:
  tells:
    right: {success: 1.0}
    wrong: {correction: 1.0}
  some:
    right: {success: 0.5}
    wrong: {correction: 0.5, retry: 0.25}
    unknown: {abandonment: 0.5}
scenarios:
  steady:
    about: Nothing special.
    phases:
      - {id: all, turns: 40, mix: [{pool: known, outcomes: tells}]}
  shift:
    about: Half of it is something else.
    phases:
      - {id: before, turns: 30, mix: [{pool: known, outcomes: some, users: 9}]}
      - id: after
        turns: 60
        mix: [{pool: known, outcomes: some, users: 9}, {pool: odd, outcomes: tells, users: 1, weight: 2}]
  quiet:
    about: Rows that do not say what is right.
    phases:
      - {id: all, turns: 20, mix: [{pool: silent, outcomes: some}]}
  refused:
    about: Inputs that break the contract.
    phases:
      - {id: all, turns: 12, mix: [{pool: known, outcomes: tells}, {pool: broken, outcomes: tells}]}
  elsewhere:
    about: Another engine answered.
    recorded: {engine: vendor, version: "7"}
    phases:
      - {id: all, turns: 50, mix: [{pool: known, outcomes: tells}, {pool: vendor, outcomes: tells}]}
  changed:
    about: The contract has a new field.
    note: Use the copy.
    overlay: simulation/changed
    phases:
      - {id: all, turns: 5, mix: [{pool: known, outcomes: tells}]}
"""


def write_scenarios(folder: Path) -> None:
    """Give a copy of the tiny domain scenarios, and pools from its own rows."""
    rows = [json.loads(line) for line in (folder / "data" / "messages.jsonl").read_text().splitlines()][:60]
    plain = [{"input": row["input"], "labels": row["labels"]} for row in rows]
    pools: dict[str, list[dict[str, Any]]] = {
        "known": plain,
        "odd": [{**row, "labels": {"triage": {"intent": "greet", "urgent": True}}} for row in plain[:7]],
        "vendor": [{**row, "answers": {"triage": {"intent": "refund"}}} for row in plain[:5]],
        "silent": [{"input": row["input"]} for row in plain],
        "broken": [{**row, "input": {"text": 5}} for row in plain[:3]],
    }
    place = folder / "simulation"
    place.mkdir()
    for name, found in pools.items():
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    (place / "scenarios.yaml").write_text(SCENARIOS)
    contract = json.loads((folder / "contracts" / "triage.schema.json").read_text())
    contract["properties"]["mood"] = {"enum": ["calm", "angry"]}
    changed = place / "changed" / "contracts" / "triage.schema.json"
    changed.parent.mkdir(parents=True)
    changed.write_text(json.dumps(contract))
    config = folder / "slm.config.yaml"
    config.write_text(
        config.read_text().replace("  improvement:\n", "  improvement:\n    simulation: simulation/scenarios.yaml\n")
    )
