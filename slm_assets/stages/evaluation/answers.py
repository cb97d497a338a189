"""What every engine answers on the eval rows: each asked once, its outputs on disk, its scores in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.config import Role
from slm_assets.domain.turns import role_input
from slm_assets.gates import metrics as scoring
from slm_assets.models.base import Prediction
from slm_assets.models.chain import Assignment, ancestors
from slm_assets.stages.evaluation.asking import Asking
from slm_assets.stages.evaluation.common import leave_out
from slm_assets.stages.evaluation.rows import EvalRows, Mask
from slm_assets.stages.rows_io import LabelledRow

REMEMBERED = 20_000
"""Answers kept per engine: equal inputs, of whatever way or row, are answered once within so many."""

Place = tuple[str, str, tuple[str, ...]]
"""Where an output is compared with the label: a JSON pointer, the JSON of what stands for absence, and the
places that are left out on both sides."""

Tell = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Answers:
    """One role's answers on all rows. `outputs`: a JSON line each; `right`: place → whether each row's
    output equals its label there, False without a label. `by`: rung of a cascade → the rows that it answered."""

    outputs: Path
    confidence: NDArray[np.float64]
    valid: Mask
    right: Mapping[Place, Mask]
    by: Mapping[str, Mask]

    def __iter__(self) -> Iterator[Json]:
        with self.outputs.open("rb") as lines:
            yield from map(orjson.loads, lines)


class AnswerBook:
    """Rows run through the roles in order: a role reads what the engines of the earlier ones answered.

    `places`: role → where its outputs are compared. Memory grows by bytes a row, not by its content.
    """

    def __init__(
        self,
        roles: Sequence[Role],
        rows: EvalRows,
        asking: Asking,
        places: Mapping[str, Sequence[Place]],
        scratch: Path,
        tell: Tell,
    ) -> None:
        self._roles = {role.id: role for role in roles}
        self._rows = rows
        self._asking = asking
        self._engines = asking.engines
        self._places = places
        self._scratch = scratch
        self._tell = tell
        self._made: dict[tuple[object, ...], Answers] = {}
        self._known: dict[int, dict[bytes, Prediction]] = {}

    def end_to_end(self, role_id: str, assignment: Assignment) -> Answers:
        """The role's answers where each role is answered by the engine that the assignment names."""
        # By engine, not by name: an incumbent that is the floor is not asked twice.
        key = tuple((name, id(self._engines[name][assignment[name]])) for name in self.ancestors(role_id))
        if key not in self._made:
            role = self._roles[role_id]
            upstream = {name: self.end_to_end(name, assignment) for name in role.reads}
            self._made[key] = self._ask(role, assignment[role_id], upstream)
        return self._made[key]

    def on_reference(self, role_id: str, engine: str) -> Answers:
        """The role's answers on reference input: the earlier roles' labels instead of their answers."""
        key = ("reference", role_id, id(self._engines[role_id][engine]))
        if key not in self._made:
            self._made[key] = self._ask(self._roles[role_id], engine, None)
        return self._made[key]

    def ancestors(self, role_id: str) -> list[str]:
        """The role and all that its answer depends on, in the config's order."""
        return ancestors(self._roles, role_id)

    def _ask(self, role: Role, name: str, upstream: Mapping[str, Answers] | None) -> Answers:
        outputs = self._scratch / f"answers-{len(self._made)}-{role.id}.jsonl"
        size = len(self._rows)
        confidence, valid = np.empty(size), np.empty(size, dtype=np.bool_)
        right = {place: np.empty(size, dtype=np.bool_) for place in self._places[role.id]}
        by: dict[str, Mask] = {}
        done = 0
        with ExitStack() as stack:
            out = stack.enter_context(outputs.open("wb"))
            earlier = {n: iter(answers) for n, answers in (upstream or {}).items()}
            for rows in self._rows.batches():
                inputs = self._inputs(role, rows, None if upstream is None else earlier)
                found = self._predict(role.id, name, inputs)
                out.writelines(canonical.dumps(one.output) + b"\n" for one in found)
                part = slice(done, done + len(rows))
                confidence[part] = [one.confidence for one in found]
                valid[part] = [one.valid for one in found]
                for rung in {one.by for one in found if one.by}:
                    by.setdefault(rung, np.zeros(size, dtype=np.bool_))[part] = [one.by == rung for one in found]
                labels = [row.labels.get(role.id) for row in rows]
                for (pointer, absent, apart), scores in right.items():
                    ours, truth = [one.output for one in found], labels
                    if apart:
                        ours, truth = ([leave_out(value, apart) for value in side] for side in (ours, truth))
                    scores[part] = scoring.score(ours, truth, pointer, orjson.loads(absent))
                done += len(rows)
                self._tell(f"{role.id} by {name}: {done:,} of {size:,} turns")
        labelled = self._rows.scored(role.id)
        return Answers(outputs, confidence, valid, {place: scores & labelled for place, scores in right.items()}, by)

    def _inputs(
        self, role: Role, rows: Sequence[LabelledRow], earlier: Mapping[str, Iterator[Json]] | None
    ) -> list[Json]:
        if earlier is None:
            return [role_input(role, row.turn, row.labels) for row in rows]
        columns = {name: list(islice(outputs, len(rows))) for name, outputs in earlier.items()}
        return [role_input(role, row.turn, {name: columns[name][i] for name in columns}) for i, row in enumerate(rows)]

    def _predict(self, role: str, name: str, inputs: Sequence[Json]) -> list[Prediction]:
        known = self._known.setdefault(id(self._engines[role][name]), {})
        keys = [canonical.dumps(value) for value in inputs]
        fresh = {key: value for key, value in zip(keys, inputs, strict=True) if key not in known}
        if len(known) + len(fresh) > REMEMBERED:
            known.clear()
            fresh = dict(zip(keys, inputs, strict=True))
        known.update(zip(fresh, self._asking.ask(role, name, list(fresh.values())), strict=True))
        return [known[key] for key in keys]
