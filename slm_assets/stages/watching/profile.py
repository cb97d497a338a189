"""What a version was trained on and how it did, small enough to travel: profile.json of its eval artifact, and
sample.jsonl, some of the training inputs as rows of a table, without their texts.

Live traffic is held against it, so that nobody fetches the rows for that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from slm_assets.canonical import Json
from slm_assets.domain.domain import Domain
from slm_assets.domain.places import enum_paths
from slm_assets.gates import drift, metrics
from slm_assets.gates.clusters import DIGITS
from slm_assets.gates.intervals import clustering_of
from slm_assets.stages.evaluation.numbers import Columns
from slm_assets.stages.evaluation.rows import Mask
from slm_assets.stages.evaluation.scoring import Scoreboard
from slm_assets.stages.evaluation.subjects import has_oracle
from slm_assets.stages.rows import manifest as manifests
from slm_assets.stages.rows_io import labelled_rows
from slm_assets.stages.watching.fields import Cells, Known, LabelValues, Training, cells_of

MAX_ROWS = 100_000
"""Of more training rows every so manieth is looked at."""
SAMPLED = 2_000
"""So many training inputs go along, for a person's eyes."""
UNLIKE = 0.0125
"""The share of turns like the eval rows that each score may call novel: needs 79 eval rows, and the two scores
together stay well under the threshold of the trigger."""
STRANGE = 0.15
"""A turn with a smaller share of words that training had not is not novel for them, whatever the eval rows were."""
ABSENT = "(none)"


def make_profile(
    domain: Domain, dataset: Path, labels: Path, board: Scoreboard, classes: dict[str, Columns]
) -> tuple[dict[str, Any], list[Cells]]:
    """The profile of a version that was judged on `board`, and a sample of its training inputs; `classes`: role → its
    class columns."""
    rows = _rows(dataset)
    training, step, shown = Training(), _step(rows, MAX_ROWS), _step(rows, SAMPLED)
    sample: list[Json] = []
    given = {role.id: LabelValues(enum_paths(domain.output_schema(role.id))) for role in board.roles}
    for number, row in enumerate(labelled_rows(dataset, labels, "train")):
        if number % step == 0:
            training.add(row.turn)
        if number % shown == 0:
            sample.append(row.turn)
        for role, values in given.items():
            if role in row.labels:
                values.add(row.labels[role])
    inputs = training.profile()
    known = Known(inputs)
    unknown = [known.look(row.turn)[1] for row in board.rows]
    cut = drift.conformal_cut(unknown, UNLIKE)
    profile = {
        "inputs": inputs,
        "unknown_words": {"n": len(unknown), "cut": None if cut is None else max(cut, STRANGE)},
        "contracts": contracts_of(domain),
        "labels": {role: values.counts() for role, values in given.items()},
        "roles": {
            role.id: _score(board, role.id, classes[role.id], oracle=has_oracle(domain, role)) for role in board.roles
        },
    }
    return profile, [cells_of(known, turn) for turn in sample]


def contracts_of(domain: Domain) -> dict[str, str]:
    """Role → digest of its contract."""
    return {
        role.id: manifests.contract_digest(
            {"input": domain.input_schema(role.id), "output": domain.output_schema(role.id)}
        )
        for role in domain.config.roles
    }


def stratum_of(output: Json, place: str) -> str:
    """The class that an answer gave, at the place by which a score is reweighted."""
    return metrics.class_names([output], place, ABSENT)[0] if place else ""


def _rows(dataset: Path) -> int:
    with (dataset / "train.jsonl").open("rb") as lines:
        return sum(1 for _ in lines)


def _step(rows: int, most: int) -> int:
    return max(1, -(-rows // most))


def _score(board: Scoreboard, role: str, columns: Columns, *, oracle: bool) -> dict[str, Any]:
    """How the version did on the eval rows by the class that it answered: against the labels, by the role's primary
    metric, and against the oracle, which is what it can be asked about live turns; and how sure it was."""
    primary = board.primary(role)
    everyone = board.all_of("challenger")
    answers, floor = board.answers(role, everyone), board.answers(role, board.all_of("floor"))
    place = primary.pointer if primary.pointer in columns else next(iter(sorted(columns)), "")
    names: list[str] = []
    agreed: list[bool] = []
    for ours, theirs in zip(answers, floor, strict=True):
        names.append(stratum_of(ours, place))
        agreed.append(bool(metrics.score([ours], [theirs], primary.pointer, primary.absent)[0]))
    # An oracle that had no answer is no reference.
    answered = floor.valid if oracle else np.zeros(len(names), dtype=np.bool_)
    cut = drift.conformal_cut(-np.round(answers.confidence, 4), UNLIKE)
    return {
        "primary": {"id": primary.id, "pointer": primary.pointer, "absent": primary.absent},
        "place": place,
        "labels": _by_class(board, names, board.correct(role, everyone, primary), board.labelled(role)),
        "oracle": _by_class(board, names, np.array(agreed, dtype=np.bool_), answered),
        "confidence": {"n": len(names), "cut": None if cut is None else round(-cut, 4)},
    }


def _by_class(board: Scoreboard, names: list[str], right: Mask, rows: Mask) -> dict[str, Any]:
    """{"strata": class → (rows, right ones), "effect": the design effect of the rows' groups}."""
    strata: dict[str, list[int]] = {}
    for number in np.flatnonzero(rows).tolist():
        own = strata.setdefault(names[number], [0, 0])
        own[0] += 1
        own[1] += int(right[number])
    effect = float(clustering_of(right[rows], board.groups_of(rows)).effect()[0]) if rows.any() else 1.0
    return {"strata": dict(sorted(strata.items())), "effect": round(effect, DIGITS)}
