"""The numbers of the report: every subject on every metric, with n and a 95 % interval on each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from slm_assets.domain.places import enum_paths
from slm_assets.gates import metrics as scoring
from slm_assets.gates.intervals import proportion
from slm_assets.gates.types import MetricValue
from slm_assets.stages.evaluation.scoring import EXACT, TURN, VALIDITY, Compared, Mask, Scoreboard

CONFIDENCE = 0.95
SUBJECTS = ("challenger", "incumbent", "floor", "majority")
CLASSES = 60
"""A place with more values than this in the labels is no class."""


def numbers(board: Scoreboard, schemas: dict[str, dict[str, Any]]) -> list[MetricValue]:
    """Per role end to end and on reference input, per field, per slice, and for the whole turn."""
    found: list[MetricValue] = []
    for role in board.roles:
        found += _role(board, role.id)
        if role.reads:
            found += _reference(board, role.id)
        found += _fields(board, role.id, schemas[role.id])
        found += _slices(board, role.id)
        found += _recalls(board, role.id, schemas[role.id])
    for subject in SUBJECTS:
        mask, right = board.whole_turn(board.all_of(subject))
        found.append(_value(board, right, mask, metric=TURN, subject=subject, mode="end_to_end"))
    return found


def _role(board: Scoreboard, role: str) -> Iterator[MetricValue]:
    mask = board.labelled(role)
    for subject in SUBJECTS:
        everyone = board.all_of(subject)
        for metric in board.compared(role):
            right = board.correct(role, everyone, metric)
            yield _value(board, right, mask, role=role, metric=metric.id, subject=subject, mode="end_to_end")
        valid = board.valid(role, everyone)
        every = np.ones(len(valid), dtype=np.bool_)
        yield _value(board, valid, every, role=role, metric=VALIDITY, subject=subject, mode="end_to_end")


def _reference(board: Scoreboard, role_id: str) -> Iterator[MetricValue]:
    role = next(role for role in board.roles if role.id == role_id)
    mask = board.labelled(role_id)
    for subject in ("challenger", "floor"):
        for metric in board.compared(role_id):
            right = board.reference(role, subject, metric)
            yield _value(board, right, mask, role=role_id, metric=metric.id, subject=subject, mode="reference")


def _fields(board: Scoreboard, role: str, schema: dict[str, Any]) -> Iterator[MetricValue]:
    """The top-level fields of the output, by the challenger."""
    mask = board.labelled(role)
    names = sorted({name for row in board.rows for name in _keys(row.labels.get(role))})
    for name in names:
        pointer = "/" + name.replace("~", "~0").replace("/", "~1")
        right = board.correct(role, board.all_of("challenger"), Compared(f"field:{pointer}", pointer))
        yield _value(board, right, mask, role=role, metric=f"field:{pointer}", mode="end_to_end")


def _slices(board: Scoreboard, role: str) -> Iterator[MetricValue]:
    primary = board.primary(role)
    for one in board.config.eval.slices:
        mask = board.labelled(role) & board.in_slice(one.id)
        for subject in ("challenger", "incumbent", "floor"):
            for metric in {primary.id: primary, EXACT: Compared(EXACT, "")}.values():
                right = board.correct(role, board.all_of(subject), metric)
                yield _value(
                    board, right, mask, role=role, metric=metric.id, subject=subject, mode="end_to_end",
                    slice=one.id,
                )  # fmt: skip


def _recalls(board: Scoreboard, role: str, schema: dict[str, Any]) -> Iterator[MetricValue]:
    for pointer, (predicted, true) in class_columns(board, role, schema).items():
        for line in scoring.recall_per_class(predicted, true, CONFIDENCE):
            yield MetricValue(
                role=role, metric=f"recall:{pointer}={line['class']}"[:128], mode="end_to_end",
                value=line["recall"], low=line["low"], high=line["high"], n=line["n"],
            )  # fmt: skip


def class_columns(board: Scoreboard, role: str, schema: dict[str, Any]) -> dict[str, tuple[list[str], list[str]]]:
    """The role's closed vocabularies outside of arrays of many: pointer → (predicted, true) classes."""
    mask = board.labelled(role)
    labels = [row.labels[role] for row, there in zip(board.rows, mask, strict=True) if there]
    answers = board.answers(role, board.all_of("challenger"))
    outputs = [p.output for p, there in zip(answers, mask, strict=True) if there]
    columns: dict[str, tuple[list[str], list[str]]] = {}
    for pointer, values in enum_paths(schema).items():
        place = pointer.replace("/*", "/0")
        if len(values) < 2:
            continue
        true = scoring.class_names(labels, place, "(none)")
        if 1 < len(set(true)) <= CLASSES:
            columns[place] = (scoring.class_names(outputs, place, "(none)"), true)
    return columns


def calibration(board: Scoreboard, role: str) -> dict[str, Any]:
    """The challenger's confidence against its exact frames, and its accuracy at coverage."""
    mask = board.labelled(role)
    everyone = board.all_of("challenger")
    sure = np.array([p.confidence for p in board.answers(role, everyone)])[mask]
    right = board.correct(role, everyone, Compared(EXACT, ""))[mask]
    table: dict[str, Any] = scoring.calibration(np.round(sure, 6), right)
    return {**table, "coverage": scoring.accuracy_at_coverage(np.round(sure, 6), right)}


def _value(board: Scoreboard, right: Mask, mask: Mask, **names: Any) -> MetricValue:
    own = right[mask]
    if not len(own):
        return MetricValue(value=None, n=0, **names)
    found = proportion(own, board.groups_of(mask), CONFIDENCE)
    return MetricValue(value=found.value, low=found.low, high=found.high, n=found.n, **names)


def _keys(label: Any) -> list[str]:
    return list(label) if isinstance(label, dict) else []
