"""What people are asked: conflicts, suspicions and samples that a dataset found, and turns that would decide a gate."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.contracts import Validator
from slm_assets.domain.domain import Domain
from slm_assets.domain.loading import read_bundle
from slm_assets.domain.turns import role_input
from slm_assets.errors import BadInputError
from slm_assets.registry import reviews
from slm_assets.registry.registry import Plan, Registry, Row
from slm_assets.registry.windows import newest_traffic
from slm_assets.stages.rows.captured import FILE
from slm_assets.stages.rows.fields import hash64
from slm_assets.stages.rows.ingest import Contracts
from slm_assets.stages.rows.labelling import oracles_of
from slm_assets.stages.rows.names import OUTSIDE
from slm_assets.stages.traffic import store
from slm_assets.stages.traffic.selection import REVIEW
from slm_assets.stages.traffic.told import Told, roles_of, told_of

WHY = ("audit", "need", "contract", "conflict", "planted", "complaint", "divergence", "disagreement")
"""Why somebody is asked, in order of urgency."""
MAX_PLANTED = 5
"""Of turns that look planted, so many of one user and output are shown: they tell the story of all."""
MAX_NEEDED = 500
"""Most turns that are queued at once to decide gates."""
Item = dict[str, Any]


def refresh(registry: Registry, plan: Plan, *, actor: str) -> int:
    """Open what a version's dataset found worth a person's look and nobody was asked before; returns how many."""
    cell = registry.cell(plan.domain, plan.number, "dataset")
    if cell is None or cell["status"] != "succeeded":
        return 0
    sha = cell["receipt"]["outputs"]["dataset"]["sha256"]
    records, outside, held_out = (_lines(registry, sha, name) for name in (FILE, OUTSIDE, "eval.jsonl"))
    if not records and not outside:
        return 0
    turns = {row["id"]: row["input"] for row in held_out} if outside else {}
    with _Asking(registry, plan.config) as asking:
        found = [item for record in records for item in asking.items(record)]
        found += [asking.outdated(row, turns[row["id"]]) for row in outside if row["id"] in turns and "label" in row]
        most = asking.domain.config.improvement.relabel.review_items
    found.sort(key=lambda item: (WHY.index(item["why"]), hash64(item["turn"].encode())))
    return reviews.offer(registry, plan.domain, _some_planted(found), actor=actor, most=most)


def refresh_divergences(registry: Registry, plan: Plan, *, actor: str) -> int:
    """Open what a teacher said otherwise than the oracle or a given label about a version's rows; returns how many."""
    cells = {stage: registry.cell(plan.domain, plan.number, stage) for stage in ("dataset", "label")}
    outputs = [cell["receipt"]["outputs"] for cell in cells.values() if cell and cell["status"] == "succeeded"]
    if len(outputs) < len(cells):
        return 0
    dataset, labels = outputs[0]["dataset"]["sha256"], outputs[1]["labels"]["sha256"]
    found = {(row["role"], row["id"]): row for row in _lines(registry, labels, "divergences.jsonl")}
    if not found:
        return 0
    wanted = {name for _, name in found}
    inputs: dict[str, Json] = {}
    for split in ("train", "validation", "eval"):
        rows = _lines(registry, dataset, f"{split}.jsonl")
        inputs |= {row["id"]: row["input"] for row in rows if row["id"] in wanted}
    people = {record["id"]: record for record in _lines(registry, dataset, FILE) if record["id"] in wanted}
    items = [_diverged(row, inputs[row["id"]], people.get(row["id"], {})) for row in found.values()]
    items.sort(key=lambda item: hash64(item["turn"].encode()))
    with _Asking(registry, plan.config) as asking:
        most = asking.domain.config.improvement.relabel.review_items
    return reviews.offer(registry, plan.domain, items, actor=actor, most=most)


def _diverged(row: Mapping[str, Any], turn: Json, record: Mapping[str, Any]) -> Item:
    candidates = {name: row[key] for name, key in (("teacher", "teacher"), ("oracle", "oracle"), ("label", "label"))
                  if key in row}  # fmt: skip
    return {
        "role": row["role"], "turn": row["id"], "why": "divergence", "input": turn, "candidates": candidates,
        "user": record.get("user", ""), "conversation": record.get("conversation", ""),
    }  # fmt: skip


def _lines(registry: Registry, sha256: str, name: str) -> list[Any]:
    """The rows of one file of a dataset; none where it has no such file."""
    if name not in registry.store.describe(sha256).files:
        return []
    return [orjson.loads(line) for line in registry.store.read(sha256, name).splitlines()]


def _some_planted(found: list[Item]) -> Iterator[Item]:
    """All items; of what one user planted with the same output only the first."""
    shown: Counter[tuple[str, bytes]] = Counter()
    for item in found:
        key = (item["user"] or item["conversation"], canonical.dumps(item["candidates"].get("correction")))
        shown[key] += item["why"] == "planted"
        if item["why"] != "planted" or shown[key] <= MAX_PLANTED:
            yield item


def refresh_newest(registry: Registry, domain: str, *, actor: str) -> int:
    """As `refresh`, of the newest version that has a dataset."""
    made = [plan for plan in registry.plans(domain) if registry.cell(domain, plan.number, "dataset")]
    return refresh(registry, made[-1], actor=actor) if made else 0


def needed(registry: Registry, domain: str) -> list[dict[str, Any]]:
    """What the newest judged version lacks: {version, role, gate, metric, slice, n, n_needed, missing} for each
    undecided gate that says how many turns would decide it."""
    for plan in reversed(registry.plans(domain)):
        rows = [row for row in registry.verdicts(domain, plan.number) if row["stage"] == "evaluate"]
        if rows:
            keys = ("role", "gate", "metric", "slice", "n", "n_needed")
            return [
                {"version": plan.version, **{key: row[key] for key in keys}, "missing": row["n_needed"] - row["n"]}
                for row in rows
                if row["verdict"] == "INSUFFICIENT" and row["blocking"] and (row["n_needed"] or 0) > row["n"]
            ]
    return []


def open_needed(registry: Registry, domain: Domain, *, actor: str, most: int = MAX_NEEDED) -> dict[str, Any]:
    """Queue turns of the uniform sample that would decide what is held; {"needed", "opened"}.

    They are drawn by hash: whoever picks hard or easy ones would say more about his choice than about the version.
    """
    wanted = needed(registry, domain.name)
    window = newest_traffic(registry, domain.name)
    found: dict[tuple[str, str], tuple[int, Item]] = {}
    if wanted and window:
        with tempfile.TemporaryDirectory(prefix="slm-review-") as scratch:
            folder = Path(scratch) / "traffic"
            registry.store.get(window["traffic"], folder)
            contracts = Contracts(domain)
            for number, one in enumerate(wanted):
                least: list[tuple[int, Item]] = []
                for turn in store.turns(folder):
                    if turn["sampled"] and one["role"] in roles_of(turn, domain.config.roles):
                        item = _needed_item(turn, one, domain, contracts)
                        least += [(hash64(turn["turn_id"].encode()), item)] if item else []
                for order, item in sorted(least, key=lambda pair: pair[0])[: min(one["missing"], most)]:
                    found.setdefault((item["role"], item["turn"]), (number * 2**64 + order, item))
    ordered = [item for _, item in sorted(found.values(), key=lambda pair: pair[0])]
    return {"needed": wanted, "opened": reviews.offer(registry, domain.name, ordered, actor=actor, most=most)}


def decide(registry: Registry, domain: Domain, name: str, label: Json, *, revision: int, actor: str) -> Row:
    """Label an item. BadInputError with the JSON path where the label breaks the contract of the role."""
    row = reviews.item(registry, domain.name, name)
    validator = Validator(domain.output_schema(row["role"]))
    if not validator.is_valid(label):
        path, message = validator.errors(label)[0]
        raise BadInputError(f"the label breaks the contract of {row['role']}: {message[:300]} at {path}")
    return reviews.change(registry, domain.name, row["item"], "decided", revision=revision, actor=actor, label=label)


class _Asking:
    """The frozen domain of a version and its oracles, until the block ends."""

    def __init__(self, registry: Registry, config: str) -> None:
        self._stack = ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="slm-review-"))) / "config"
        registry.store.get(config, folder)
        self.domain = read_bundle(folder)
        self._oracles = oracles_of(self.domain)
        for oracle in self._oracles.values():
            self._stack.callback(oracle.close)

    def __enter__(self) -> _Asking:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def outdated(self, row: Mapping[str, Any], turn: Json) -> Item:
        """The item of a held-out row whose label a changed contract refuses."""
        role = next(one for one in self.domain.config.roles if one.id == row["role"])
        candidates = {"earlier": row["label"]}
        if role.id in self._oracles and not role.reads:
            output, error = self._oracles[role.id].answer(turn)
            candidates |= {} if error or output is None else {"oracle": output}
        return {
            "role": role.id, "turn": row["id"], "why": "contract", "input": turn, "candidates": candidates,
            "user": "", "conversation": "",
        }  # fmt: skip

    def items(self, record: Mapping[str, Any]) -> Iterator[Item]:
        """The items of one record of captured.jsonl."""
        told = {role: Told(**own) for role, own in record["roles"].items()}
        served = {role: own.served for role, own in told.items()}
        for role in self.domain.config.roles:
            if role.id not in told:
                continue
            oracle = None
            if role.id in self._oracles:
                output, error = self._oracles[role.id].answer(role_input(role, record["input"], served))
                oracle = None if error else output
            why = _why(record, told[role.id], oracle)
            if why:
                yield _item(record["id"], role.id, why, record, told[role.id], oracle)


def _why(record: Mapping[str, Any], told: Told, oracle: Json) -> str:
    """Why a person should decide a role of a turn; "" where nobody needs to."""
    if REVIEW in record["why"]:
        return "audit"
    if record["planted"]:
        return "planted"
    said = told.label if told.label is not None else told.correction
    answer = said if said is not None else told.served
    differs = oracle is not None and canonical.dumps(oracle) != canonical.dumps(answer)
    if told.disputed or (said is not None and (told.label is None or differs)):
        return "conflict"
    if "outcome" in record["why"] and said is None:
        return "complaint"
    return "disagreement" if differs and told.served is not None else ""


def _item(turn: str, role: str, why: str, record: Mapping[str, Any], told: Told, oracle: Json) -> Item:
    candidates = {
        "oracle": oracle,
        "served": told.served,
        "correction": told.label if told.correction is None else told.correction,
    }
    return {
        "role": role,
        "turn": turn,
        "why": why,
        "input": record["input"],
        "candidates": {name: output for name, output in candidates.items() if output is not None},
        "user": record["user"],
        "conversation": record["conversation"],
    }


def _needed_item(turn: Mapping[str, Any], one: Mapping[str, Any], domain: Domain, contracts: Contracts) -> Item | None:
    told = told_of(turn, roles_of(turn, domain.config.roles), contracts.holds)
    if one["slice"]:
        labels = {role: own.served for role, own in told.items() if own.served is not None}
        row = {"id": turn["turn_id"], "input": turn["input"], "labels": labels, "source": "captured"}
        if one["slice"] not in contracts.slices_of(row):
            return None
    return _item(turn["turn_id"], one["role"], "need", turn, told.get(one["role"], Told()), None)
