"""The numbers of the report: every subject on every metric, with n and a 95 % interval on each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slm_assets.domain.places import enum_paths
from slm_assets.gates import calibration as calibrating
from slm_assets.gates import metrics as scoring
from slm_assets.gates.intervals import proportion
from slm_assets.gates.types import MetricValue
from slm_assets.stages.evaluation.rows import Mask
from slm_assets.stages.evaluation.scoring import EXACT, GOLDEN, TURN, VALIDITY, Compared, Scoreboard

CONFIDENCE = 0.95
SUBJECTS = ("challenger", "incumbent", "floor", "majority")
ECE, AT_COVERAGE = "ece", "accuracy_at_coverage_"
"""Expected calibration error, and the accuracy of the surest answers, in percent of all."""
CLASSES = 60
"""A place with more values than this in the labels is no class."""

Columns = dict[str, tuple[list[str], list[str]]]
"""Pointer → (predicted, true) class of each row."""


def numbers(board: Scoreboard, classes: dict[str, Columns]) -> list[MetricValue]:
    """Per role end to end and on reference input, per field, per slice, and for the whole turn.

    `classes`: role → its class columns.
    """
    found: list[MetricValue] = []
    for role in board.roles:
        found += _role(board, role.id)
        if role.reads:
            found += _reference(board, role.id)
        found += _fields(board, role.id)
        found += _slices(board, role.id)
        found += _replayed(board, role.id)
        found += _abstentions(board, role.id)
        found += _recalls(role.id, classes[role.id])
    for subject in SUBJECTS:
        mask, right = board.whole_turn(board.all_of(subject))
        found.append(value_of(board, right, mask, metric=TURN, subject=subject, mode="end_to_end"))
    return found


def _role(board: Scoreboard, role: str) -> Iterator[MetricValue]:
    mask = board.labelled(role)
    for subject in SUBJECTS:
        everyone = board.all_of(subject)
        for metric in board.compared(role):
            right, rows = _seen(board, role, subject, metric, mask)
            yield value_of(board, right, rows, role=role, metric=metric.id, subject=subject, mode="end_to_end")
        valid = board.valid(role, everyone)
        every = np.ones(len(valid), dtype=np.bool_)
        yield value_of(board, valid, every, role=role, metric=VALIDITY, subject=subject, mode="end_to_end")


def _seen(board: Scoreboard, role: str, subject: str, metric: Compared, mask: Mask) -> tuple[Mask, Mask]:
    """Which rows a subject has right, and which of them count: none where its contract does not name the place."""
    seen = board.shared(role, subject, metric)
    right = board.correct(role, board.all_of(subject), seen or metric)
    return right, mask if seen else np.zeros(len(mask), dtype=np.bool_)


def _reference(board: Scoreboard, role: str) -> Iterator[MetricValue]:
    mask = board.labelled(role)
    for subject in ("challenger", "floor"):
        for metric in board.compared(role):
            right = board.reference(role, subject, metric)
            yield value_of(board, right, mask, role=role, metric=metric.id, subject=subject, mode="reference")


def _fields(board: Scoreboard, role: str) -> Iterator[MetricValue]:
    """The top-level fields of the output, by the challenger."""
    mask = board.labelled(role)
    for field in board.fields(role):
        right = board.correct(role, board.all_of("challenger"), field)
        yield value_of(board, right, mask, role=role, metric=field.id, mode="end_to_end")


def _slices(board: Scoreboard, role: str) -> Iterator[MetricValue]:
    primary = board.primary(role)
    for one in board.config.eval.slices:
        mask = board.labelled(role) & board.in_slice(one.id)
        for subject in ("challenger", "incumbent", "floor"):
            for metric in {primary.id: primary, EXACT: Compared(EXACT, "")}.values():
                right, rows = _seen(board, role, subject, metric, mask)
                yield value_of(
                    board, right, rows, role=role, metric=metric.id, subject=subject, mode="end_to_end",
                    slice=one.id,
                )  # fmt: skip


def _replayed(board: Scoreboard, role: str) -> Iterator[MetricValue]:
    """The golden-replay set, where there is one."""
    mask = board.rows.replayed(role)
    for subject in ("challenger", "incumbent", "floor") if mask.any() else ():
        for metric in board.compared(role):
            right, rows = _seen(board, role, subject, metric, mask)
            yield value_of(
                board, right, rows, role=role, metric=metric.id, subject=subject, mode="end_to_end", slice=GOLDEN
            )


def _recalls(role: str, columns: Columns) -> Iterator[MetricValue]:
    for pointer, (predicted, true) in columns.items():
        for line in scoring.recall_per_class(predicted, true, CONFIDENCE):
            yield MetricValue(
                role=role, metric=f"recall:{pointer}={line['class']}", mode="end_to_end",
                value=line["recall"], low=line["low"], high=line["high"], n=line["n"],
            )  # fmt: skip


def class_columns(board: Scoreboard, role: str, schema: dict[str, Any]) -> Columns:
    """The role's closed vocabularies outside of arrays of many."""
    places = [pointer.replace("/*", "/0") for pointer, values in enum_paths(schema).items() if len(values) > 1]
    columns: Columns = {place: ([], []) for place in places}
    names: dict[str, str] = {}
    outputs = iter(board.answers(role, board.all_of("challenger")))
    labelled = iter(board.labelled(role).tolist())
    for rows in board.rows.batches():
        answered = list(islice(outputs, len(rows)))
        there = [i for i, is_labelled in enumerate(islice(labelled, len(rows))) if is_labelled]
        for place, (predicted, true) in columns.items():
            for column, values in ((predicted, answered), (true, [row.labels.get(role) for row in rows])):
                found = scoring.class_names([values[i] for i in there], place, "(none)")
                # One string a class, not one a row.
                column += [names.setdefault(name, name) for name in found]
    return {place: pair for place, pair in columns.items() if 1 < len(set(pair[1])) <= CLASSES}


def calibration(board: Scoreboard, role: str) -> dict[str, Any]:
    """The challenger's confidence against its exact frames, and its accuracy at coverage."""
    sure, right, _ = _confidence(board, role)
    table: dict[str, Any] = calibrating.calibration(sure, right)
    return {**table, "coverage": calibrating.accuracy_at_coverage(sure, right)}


def _abstentions(board: Scoreboard, role: str) -> Iterator[MetricValue]:
    """The same as metrics: the calibration error, and how good the surest share of the answers is."""
    sure, right, mask = _confidence(board, role)
    if not len(sure):
        return
    found = calibrating.ece_interval(sure, right, board.groups_of(mask), CONFIDENCE)
    names = {"role": role, "mode": "end_to_end"}
    yield MetricValue(metric=ECE, value=found.value, low=found.low, high=found.high, n=found.n, **names)
    for line in calibrating.accuracy_at_coverage(sure, right):
        kept = mask.copy()
        kept[mask] = sure >= line["threshold"] - 1e-9
        exact = board.correct(role, board.all_of("challenger"), Compared(EXACT, ""))
        yield value_of(board, exact, kept, metric=f"{AT_COVERAGE}{round(100 * line['asked'])}", **names)


def _confidence(board: Scoreboard, role: str) -> tuple[NDArray[np.float64], Mask, Mask]:
    """The challenger's confidence on labelled rows, whether it was exactly right, and which rows these are."""
    mask = board.labelled(role)
    everyone = board.all_of("challenger")
    sure = np.round(board.answers(role, everyone).confidence[mask], 6)
    return sure, board.correct(role, everyone, Compared(EXACT, ""))[mask], mask


def value_of(board: Scoreboard, right: Mask, mask: Mask, **names: Any) -> MetricValue:
    """The share of right rows among those of a mask, with its interval over their groups."""
    own = right[mask]
    if not len(own):
        return MetricValue(value=None, n=0, **names)
    found = proportion(own, board.groups_of(mask), CONFIDENCE)
    return MetricValue(value=found.value, low=found.low, high=found.high, n=found.n, **names)
