"""The captured turns of a dataset: chosen, labelled by what became of them, and kept out where they look planted."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.domain import Domain
from slm_assets.domain.turns import role_input
from slm_assets.stages.rows.corpus import Corpus
from slm_assets.stages.rows.ingest import Contracts
from slm_assets.stages.rows.labelling import oracles_of
from slm_assets.stages.rows.so_far import fact_counts, texts
from slm_assets.stages.traffic import store
from slm_assets.stages.traffic.poison import Pair, Sent, planted, words_in
from slm_assets.stages.traffic.selection import Chosen, Turn, select
from slm_assets.stages.traffic.told import Told, roles_of, told_of

MAX_ASKED = 20_000
"""So many turns are held against the oracle, the first ones; each costs an answer."""
FILE = "captured.jsonl"


@dataclass
class Captured:
    """`rows` as the corpus takes them; `records` of every chosen turn, for the reviewers; `notes` for the manifest."""

    rows: list[Json]
    records: list[Json]
    notes: dict[str, Json]

    @property
    def summary(self) -> dict[str, Json]:
        """Two numbers for people."""
        return {"captured": len(self.rows), "planted": self.notes["planted"]["turns"]}


def take(domain: Domain, traffic: Path, corpus: Corpus, contracts: Contracts) -> Captured:
    """The turns of stored traffic that join `corpus`, which holds the given rows so far."""
    policy = domain.config.improvement.relabel
    roles = domain.config.roles
    given = len(corpus)
    most = policy.max_turns
    if given:
        most = min(most, int(policy.max_share / (1 - policy.max_share) * given))
    lacks = _Lacking(corpus, contracts)
    with ExitStack() as stack:
        selection = select(
            lambda: store.turns(traffic),
            policy,
            most,
            usable=lambda turn: bool(roles_of(turn, roles)),
            uncovered=lacks.covers_not,
            disagrees=_Reference(domain, stack),
        )
    told = [told_of(one.turn, roles_of(one.turn, roles), contracts.holds) for one in selection.turns]
    sent = [_sent(one.turn, own, contracts) for one, own in zip(selection.turns, told, strict=True)]
    found = planted(
        sent,
        lambda words: (_given_words(corpus, words), given),
        min_users=policy.min_users,
        max_lift=policy.max_lift,
    )
    pairs = list(zip(selection.turns, told, strict=True))
    rows = [_row(one.turn, own) for index, (one, own) in enumerate(pairs) if index not in found]
    records = [_record(one, own, found.get(index)) for index, (one, own) in enumerate(pairs)]
    notes = {
        **selection.counts,
        "why": dict(sorted(Counter(why for one in selection.turns for why in one.why).items())),
        "labelled_by_outcome": sum("label_source" in row for row in rows),
        # The words themselves stand with their turns alone, from where an erasure takes them.
        "planted": {"turns": len(found), "pairs": len(set(found.values()))},
    }
    return Captured(rows, records, notes)


def _row(turn: Turn, told: dict[str, Told]) -> Json:
    labels = {role: one.label for role, one in told.items() if one.label is not None}
    row = {"id": turn["turn_id"], "input": turn["input"]}
    row |= {"labels": labels, "label_source": "outcome"} if labels else {}
    return row | ({"conversation": turn["conversation"]} if turn["conversation"] else {})


def _record(one: Chosen, told: dict[str, Told], pair: Pair | None) -> Json:
    turn = one.turn
    return {
        "id": turn["turn_id"],
        "input": turn["input"],
        "conversation": turn["conversation"],
        "user": turn["user"],
        "why": list(one.why),
        "roles": {role: own.to_json() for role, own in told.items()},
        "planted": pair.reason if pair else "",
    }


def _sent(turn: Turn, told: dict[str, Told], contracts: Contracts) -> Sent:
    """What a turn would teach: its label by outcome, else what was served, which stands for what the oracle says."""
    outputs = {role: one.label if one.label is not None else one.served for role, one in told.items()}
    labels: set[str] = set()
    for role, output in outputs.items():
        if output is not None:
            values = contracts.labels({role: output}).values
            labels |= {value.partition("\0")[2].replace("\0", "=") for value in values}
            labels |= set() if values else {f"{role}={canonical.text(output)[:200]}"}
    return Sent(words_in(turn["input"]), frozenset(labels), turn["user"] or turn["conversation"])


def _given_words(corpus: Corpus, words: set[bytes]) -> Counter[bytes]:
    found: Counter[bytes] = Counter()
    for text in texts(corpus):
        found.update(words.intersection(text.split()))
    return found


class _Lacking:
    """What the given rows have too little of: slices under their `min_n`, values of closed lists without a label."""

    def __init__(self, corpus: Corpus, contracts: Contracts) -> None:
        self._contracts = contracts
        counts = fact_counts(corpus)
        self._values = {fact for fact in counts if fact.startswith("value\0")}
        self._roles = {fact.split("\0")[1] for fact in counts if fact.startswith("role\0")}
        self._thin = {name for name, least in contracts.least.items() if counts[f"slice\0{name}"] < least}

    def covers_not(self, turn: Turn) -> bool:
        """Whether a turn is of such a slice, or was answered with such a value."""
        served = {
            role: answer["output"]
            for role, answer in turn["answers"].items()
            if answer["valid"] and self._contracts.holds(role, answer["output"])
        }
        if self._thin:
            row = {"id": turn["turn_id"], "input": turn["input"], "labels": served, "source": "captured"}
            if self._thin.intersection(self._contracts.slices_of(row)):
                return True
        known = {role: output for role, output in served.items() if role in self._roles}
        return bool(known) and not self._contracts.labels(known).values <= self._values


class _Reference:
    """Whether the oracle answers otherwise, where the domain's quality is held against the oracle."""

    def __init__(self, domain: Domain, stack: ExitStack) -> None:
        wanted = domain.triggers.quality.reference == "oracle"
        self._roles = domain.config.roles
        self._oracles: dict[str, Any] = oracles_of(domain) if wanted else {}
        self._left = iter(range(MAX_ASKED))
        for oracle in self._oracles.values():
            stack.callback(oracle.close)

    def __call__(self, turn: Turn) -> bool:
        """Ask for each answered role, on what the earlier roles answered."""
        if not self._oracles or next(self._left, None) is None:
            return False
        served = {role: answer["output"] for role, answer in turn["answers"].items()}
        for role in self._roles:
            if role.id in served and role.id in self._oracles and (turn["role"] is None or not role.reads):
                output, error = self._oracles[role.id].answer(role_input(role, turn["input"], served))
                if not error and canonical.dumps(output) != canonical.dumps(served[role.id]):
                    return True
        return False
