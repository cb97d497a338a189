"""One label per row and role: the given one first, else the one that the policy puts first of the oracle's, the
teacher's and what both say; and whether they agree.

A given label of an earlier contract stays as far as it goes: the oracle adds what the contract of now requires,
and `completed` names those places. Where it cannot, the role has no label there, and the row waits for a person
among the disagreements (what breaks the contract otherwise waits in the dataset's list).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.config import PlaybookOracle
from slm_assets.domain.turns import role_input
from slm_assets.stages.rows.completing import complete
from slm_assets.stages.rows.ingest import Contracts
from slm_assets.stages.rows.opinions import KEY, by_policy, compare, usable

MAX_REASONS = 20
PATIENCE_S = 30.0
NO_MATCH = "no rule matched"


class Answered(NamedTuple):
    """What an oracle said to one input: an output, or an error."""

    output: Json
    error: str


class Labelled(NamedTuple):
    """A row's labels; where the oracle and a given label disagree; where a teacher and the others do."""

    row: Json
    disagreements: list[Json]
    divergences: list[Json]


Ask = Callable[[Json], Any]
"""An oracle's `answer`: an input → (output, error)."""


def oracles_of(domain: Any) -> dict[str, Any]:
    """Role → oracle, for the oracles that can run here (a playbook's cannot)."""
    from slm_assets.models.oracle import load_oracle

    found = {}
    for role in domain.config.roles:
        if role.deterministic_oracle and not isinstance(role.deterministic_oracle, PlaybookOracle):
            found[role.id] = load_oracle(domain, role.id)
    return found


@dataclass
class Tally:
    """Counts of labelling some rows; tallies of parts add up to that of the whole.

    `counts` keys: ("label", role, source), ("oracle", role, what): asked, agreed, disagreed, silent,
    failed, gold, gold_right; ("earlier", role, what): completed, left; ("teacher", role, what): see Teaching.
    `lost` holds the first rows without
    a label, `reasons` of failures.
    """

    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    seen: dict[str, set[str]] = field(default_factory=dict)
    lost: list[Json] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    hopeless: bool = False

    def add(self, other: Tally) -> None:
        """Take in the tally of the next part."""
        self.counts.update(other.counts)
        for who, values in other.seen.items():
            self.seen.setdefault(who, set()).update(values)
        self.lost = (self.lost + other.lost)[:MAX_REASONS]
        self.reasons = (self.reasons + other.reasons)[:MAX_REASONS]
        self.hopeless |= other.hopeless

    def to_json(self) -> Json:
        """The tally as JSON, for the way between processes."""
        return {
            "counts": [[*key, number] for key, number in sorted(self.counts.items())],
            "seen": {who: sorted(values) for who, values in sorted(self.seen.items())},
            "lost": self.lost,
            "reasons": self.reasons,
            "hopeless": self.hopeless,
        }

    @classmethod
    def from_json(cls, data: Json) -> Tally:
        """The tally that `to_json` wrote."""
        counts = Counter({(kind, role, what): number for kind, role, what, number in data["counts"]})
        seen = {who: set(values) for who, values in data["seen"].items()}
        return cls(counts, seen, data["lost"], data["reasons"], data["hopeless"])


class Labeller:
    """Labels rows of one domain. `ask`: role → its oracle's `answer`."""

    def __init__(self, domain: Any, contracts: Contracts, ask: Mapping[str, Ask]) -> None:
        self._roles = domain.config.roles
        self._contracts = contracts
        self._ask = ask
        self._order = domain.config.labels.order

    def label(self, rows: Sequence[Json], tally: Tally, lost: str = "") -> list[Labelled]:
        """The label row of each row, with its disagreements and divergences.

        With `lost`, no oracle is asked: it is the reason why it cannot answer for these rows. Gives up
        (`tally.hopeless`) on an oracle that is slow at failing; the result is then short.
        """
        started = time.monotonic()
        found = []
        for row in rows:
            found.append(self._label(row, tally, lost))
            failed = sum(tally.counts["oracle", role.id, "failed"] for role in self._roles)
            if failed > 10 and 2 * failed > len(found) and time.monotonic() - started > PATIENCE_S:
                tally.hopeless = True
                break
        return found

    def _label(self, row: Json, tally: Tally, lost: str) -> Labelled:
        chosen: dict[str, Json] = {}
        labels: dict[str, Json] = {}
        agrees: dict[str, bool | None] = {}
        disagreements: list[Json] = []
        divergences: list[Json] = []
        for role in self._roles:
            given = role.id in row["labels"]
            earlier = None if given else row.get("previous", {}).get("labels", {}).get(role.id)
            answer = self._answer(role, row["input"], chosen, tally, lost)
            agrees[role.id] = None
            opinion = self._opinion(role, row, chosen)
            valid = answer.output if answer is not None and not answer.error else None
            if opinion is not None:
                divergences += compare(row, role.id, opinion, valid, tally.counts)
            completed: list[str] = []
            if earlier is not None:
                found = self._complete(role.id, earlier, answer)
                tally.counts["earlier", role.id, "completed" if found else "left"] += 1
                if found is None:
                    if self._contracts.lacks_only(role.id, earlier):
                        said = answer.output if answer else None
                        disagreements.append({"id": row["id"], "role": role.id, "label": earlier, "oracle": said})
                    self._lose(tally, row["id"], role.id, "its label is of an earlier contract and was not completed")
                    continue
                label, completed = found
                source = f"{row['label_source']}+oracle"
            elif given:
                label, source = row["labels"][role.id], row["label_source"]
            if given or completed:
                if answer is not None and answer.output is not None:
                    right = not answer.error and canonical.dumps(answer.output) == canonical.dumps(label)
                    agrees[role.id] = right
                    tally.counts["oracle", role.id, "right" if right else "wrong"] += 1
                    if not right:
                        entry = {"id": row["id"], "role": role.id, "label": label, "oracle": answer.output}
                        disagreements.append(entry)
            elif policy := by_policy(self._order, valid, opinion):
                label, source = policy
            else:
                why = answer.error if answer and answer.error else "no given label, and no oracle"
                self._lose(
                    tally, row["id"], role.id, why if valid is None else "the policy takes no answer as its label"
                )
                continue
            chosen[role.id] = label
            labels[role.id] = {"output": label, "source": source, **({"completed": completed} if completed else {})}
            tally.counts["label", role.id, source] += 1
            self._see(tally, "labels", role.id, label)
        return Labelled({"id": row["id"], "labels": labels, "oracle": agrees}, disagreements, divergences)

    def _opinion(self, role: Any, row: Json, chosen: dict[str, Json]) -> Mapping[str, Json] | None:
        if KEY not in row or any(name not in chosen for name in role.reads):
            return None
        return usable(row, role.id, role_input(role, row["input"], chosen))

    def _lose(self, tally: Tally, row: str, role: str, reason: str) -> None:
        tally.counts["label", role, "none"] += 1
        if len(tally.lost) < MAX_REASONS:
            tally.lost.append({"id": row, "role": role, "reason": reason})

    def _complete(self, role: str, earlier: Json, answer: Answered | None) -> tuple[Json, list[str]] | None:
        usable = answer is not None and not answer.error
        return complete(self._contracts.outputs[role], earlier, answer.output) if usable and answer else None

    def _answer(self, role: Any, turn: Json, chosen: dict[str, Json], tally: Tally, lost: str) -> Answered | None:
        ask = self._ask.get(role.id)
        if ask is None:
            return None
        missing = [name for name in role.reads if name not in chosen]
        tally.counts["oracle", role.id, "asked"] += 1
        if lost:
            answer = Answered(None, lost)
        elif missing:
            answer = Answered(None, f"it reads {missing[0]}, which has no label here")
        else:
            output, error = ask(role_input(role, turn, chosen))
            answer = Answered(output, error)
        if not answer.error:
            tally.counts["oracle", role.id, "answered"] += 1
            self._see(tally, "oracle", role.id, answer.output)
        elif missing or answer.error.startswith(NO_MATCH):
            tally.counts["oracle", role.id, "silent"] += 1
        else:
            tally.counts["oracle", role.id, "failed"] += 1
            if len(tally.reasons) < MAX_REASONS:
                tally.reasons.append(f"{role.id}: {answer.error[:300]}")
        return answer

    def _see(self, tally: Tally, who: str, role: str, output: Json) -> None:
        """Remember which values of closed lists occur."""
        seen = tally.seen.setdefault(who, set())
        seen |= self._contracts.labels({role: output}).values - seen
