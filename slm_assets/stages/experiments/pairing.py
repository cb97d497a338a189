"""Two versions' own answers on the eval rows that both have: paired differences, and the rows that turned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.contracts import Validator
from slm_assets.domain.domain import Domain
from slm_assets.errors import ArtifactError
from slm_assets.gates import metrics as scoring
from slm_assets.gates.clusters import DIGITS
from slm_assets.gates.paired import paired
from slm_assets.stages.evaluation.common import Common, leave_out
from slm_assets.stages.evaluation.scoring import EXACT, TURN, VALIDITY, Compared, compared_metrics
from slm_assets.stages.experiments.rows import EXAMPLES, same_input, same_label, side_by_side
from slm_assets.stages.plans import primary_metric
from slm_assets.stages.rows_io import LabelledRow, labelled_rows

CONFIDENCE = 0.95
BATCH = 1_000
PREDICTIONS = "predictions.jsonl"


@dataclass(frozen=True)
class MetricDifference:
    """A metric of a role ("": the whole turn), `after` minus `before` on the same rows: the mean of each,
    the difference with its two-sided 95 % interval (content groups respected), and how many rows got
    better and worse. The means are None where there is no such row."""

    role: str
    metric: str
    before: float | None
    after: float | None
    difference: float
    low: float
    high: float
    n: int
    groups: int
    better: int
    worse: int


@dataclass(frozen=True)
class Example:
    """A row on which the two differ: its input, its label and what each answered."""

    id: str
    input: Json
    label: Json
    before: Json
    after: Json


@dataclass(frozen=True)
class RoleRows:
    """The ids of the rows of a role that turned, by its `metric`, and a few of them in full.

    `relabelled`: common rows that have another label now (but for what only one of two contracts names), or one
    on one side only. They are not judged: no difference comes from a truth that moved.
    """

    role: str
    metric: str
    judged: int
    relabelled: int
    better: list[str]
    worse: list[str]
    better_examples: list[Example]
    worse_examples: list[Example]


@dataclass(frozen=True)
class EvalRows:
    """Eval rows by id and input: in both, in one only, or under the same id with another input."""

    common: int
    only_before: int
    only_after: int
    other_input: int


@dataclass(frozen=True)
class Skipped:
    """A metric that the two versions do not have in the same sense, and why."""

    role: str
    metric: str
    why: str


@dataclass(frozen=True)
class Paired:
    """Both versions' own answers, end to end, on their common eval rows. `left_out`: role → the places that
    only one of the two contracts names: no metric looks at them."""

    rows: EvalRows
    metrics: list[MetricDifference]
    roles: list[RoleRows]
    skipped: list[Skipped]
    left_out: dict[str, list[str]]


class Side(NamedTuple):
    """A version to be paired: its number, its domain, and folders with its dataset, labels and eval."""

    number: int
    domain: Domain
    folders: Mapping[str, Path]


class _Answered(NamedTuple):
    row: LabelledRow
    outputs: Mapping[str, Json]


_Pair = tuple[_Answered, _Answered]


@dataclass
class _Column:
    """Scores of one metric, with the group and id of each row."""

    before: list[bool] = field(default_factory=list)
    after: list[bool] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    def turned(self, *, better: bool) -> list[str]:
        """Ids of the rows that only the later version has right (or wrong)."""
        wanted = (False, True) if better else (True, False)
        return [i for i, b, a in zip(self.ids, self.before, self.after, strict=True) if (b, a) == wanted]


def pair(before: Side, after: Side) -> Paired:
    """Score both on the same rows by the metrics that both define alike; rows are streamed."""
    pairing = _Pairing(before, after)
    common = pairing.common()
    while batch := list(islice(common, BATCH)):
        pairing.score(batch)
    return pairing.result()


class _Pairing:
    def __init__(self, before: Side, after: Side) -> None:
        self.before, self.after = before, after
        names = [[role.id for role in side.domain.config.roles] for side in (before, after)]
        self.roles = [name for name in names[1] if name in names[0]]
        self.whole = set(names[0]) == set(names[1])
        schemas = [{role: side.domain.output_schema(role) for role in self.roles} for side in (before, after)]
        self.shared = {role: Common.of(schemas[1][role], schemas[0][role]) for role in self.roles}
        self.metrics: dict[str, list[Compared]] = {}
        self.skipped: list[Skipped] = []
        for role in self.roles:
            self._choose(role)
        self.primary = {role: self._primary(role) for role in self.roles}
        self.validators = [{role: Validator(own[role]) for role in self.roles} for own in schemas]
        self.counts: Counter[str] = Counter()
        self.relabelled: Counter[str] = Counter()
        self.columns: dict[tuple[str, str], _Column] = {}
        self.examples: dict[tuple[str, bool], list[Example]] = {}

    def _choose(self, role: str) -> None:
        old, new = ({m.id: m for m in compared_metrics(side.domain.config, role)} for side in (self.before, self.after))
        self.metrics[role] = []
        for name in dict.fromkeys([*new, *old]):
            if name not in old or name not in new:
                side = self.after if name in new else self.before
                self.skipped.append(Skipped(role, name, f"only v{side.number} has it"))
            elif (old[name].pointer, old[name].absent) != (new[name].pointer, new[name].absent):
                self.skipped.append(Skipped(role, name, "it compares another place of the output"))
            elif (apart := self.shared[role].without(new[name].pointer)) is None:
                self.skipped.append(Skipped(role, name, "the two contracts share nothing of it"))
            else:
                self.metrics[role].append(replace(new[name], apart=apart))

    def _primary(self, role: str) -> str:
        wanted = primary_metric(self.after.domain.config, role)
        return wanted if any(m.id == wanted for m in self.metrics[role]) else EXACT

    def common(self) -> Iterator[_Pair]:
        """Eval rows with the same id and input on both sides; the others are counted."""
        before, after = _answered(self.before), _answered(self.after)
        for left, right in side_by_side(before, after, row_of=lambda answered: answered.row):
            if left is None or right is None:
                self.counts["only_before" if left else "only_after"] += 1
            elif same_input(left.row, right.row):
                self.counts["common"] += 1
                yield left, right
            else:
                self.counts["other_input"] += 1

    def score(self, batch: Sequence[_Pair]) -> None:
        """Score a batch of common rows by every metric."""
        exact: list[dict[str, tuple[bool, bool]]] = [{} for _ in batch]
        for role in self.roles:
            old, new = (validators[role] for validators in self.validators)
            valid = [(old.is_valid(a.outputs[role]), new.is_valid(b.outputs[role])) for a, b in batch]
            self._add(role, VALIDITY, batch, valid)
            apart = self.shared[role].apart
            places = [i for i, (left, right) in enumerate(batch) if same_label(left.row, right.row, role, apart)]
            judged = [batch[i] for i in places]
            known = sum(role in left.row.labels or role in right.row.labels for left, right in batch)
            self.relabelled[role] += known - len(judged)
            for metric in self.metrics[role]:
                scores = _scores(judged, role, metric)
                self._add(role, metric.id, judged, scores)
                if metric.id == self.primary[role]:
                    self._keep_examples(role, judged, scores)
                if metric.id == EXACT:
                    for i, right in zip(places, scores, strict=True):
                        exact[i][role] = right
        if self.whole:
            full = [i for i, own in enumerate(exact) if len(own) == len(self.roles)]
            turns = [(all(b for b, _ in exact[i].values()), all(a for _, a in exact[i].values())) for i in full]
            self._add("", TURN, [batch[i] for i in full], turns)

    def result(self) -> Paired:
        """The paired differences of all that was scored."""
        rows = EvalRows(*(self.counts[name] for name in ("common", "only_before", "only_after", "other_input")))
        names = [(role, m.id) for role in self.roles for m in self.metrics[role]]
        names += [(role, VALIDITY) for role in self.roles] + ([("", TURN)] if self.whole else [])
        differences = [_difference(*name, self.columns.get(name, _Column())) for name in names]
        left_out = {role: list(common.apart) for role, common in self.shared.items() if common.apart}
        return Paired(rows, differences, [self._rows_of(role) for role in self.roles], self.skipped, left_out)

    def _add(self, role: str, metric: str, pairs: Sequence[_Pair], scores: Sequence[tuple[bool, bool]]) -> None:
        column = self.columns.setdefault((role, metric), _Column())
        # The later dataset has seen more rows, so its groups join more of them.
        late = 1 if self.after.number > self.before.number else 0
        column.groups += [both[late].row.group for both in pairs]
        column.ids += [left.row.id for left, _ in pairs]
        column.before += [old for old, _ in scores]
        column.after += [new for _, new in scores]

    def _keep_examples(self, role: str, pairs: Sequence[_Pair], scores: Sequence[tuple[bool, bool]]) -> None:
        for (left, right), (old, new) in zip(pairs, scores, strict=True):
            if old == new:
                continue
            kept = self.examples.setdefault((role, new), [])
            if len(kept) < EXAMPLES:
                label = right.row.labels[role]
                kept.append(Example(left.row.id, left.row.turn, label, left.outputs[role], right.outputs[role]))

    def _rows_of(self, role: str) -> RoleRows:
        column = self.columns.get((role, self.primary[role]), _Column())
        return RoleRows(
            role=role,
            metric=self.primary[role],
            judged=len(column.ids),
            relabelled=self.relabelled[role],
            better=column.turned(better=True),
            worse=column.turned(better=False),
            better_examples=self.examples.get((role, True), []),
            worse_examples=self.examples.get((role, False), []),
        )


def _answered(side: Side) -> Iterator[_Answered]:
    rows = labelled_rows(side.folders["dataset"], side.folders["labels"], "eval")
    for row, got in zip(rows, canonical.read_jsonl(side.folders["eval"] / PREDICTIONS), strict=True):
        if row.id != got["id"]:
            raise ArtifactError(f"v{side.number}: dataset and predictions disagree, {got['id']!r} is not {row.id!r}")
        yield _Answered(row, got["outputs"])


def _scores(pairs: Sequence[_Pair], role: str, metric: Compared) -> list[tuple[bool, bool]]:
    labels = [leave_out(right.row.labels[role], metric.apart) for _, right in pairs]
    sides = ([leave_out(both[side].outputs[role], metric.apart) for both in pairs] for side in (0, 1))
    old, new = (scoring.score(outputs, labels, metric.pointer, metric.absent).tolist() for outputs in sides)
    return list(zip(old, new, strict=True))


def _difference(role: str, metric: str, column: _Column) -> MetricDifference:
    n = len(column.ids)
    found = paired(column.after, column.before, column.groups, confidence=(1 + CONFIDENCE) / 2)
    return MetricDifference(
        role=role,
        metric=metric,
        before=round(sum(column.before) / n, DIGITS) if n else None,
        after=round(sum(column.after) / n, DIGITS) if n else None,
        difference=found.diff,
        low=found.low,
        high=found.high,
        n=n,
        groups=found.n_groups,
        better=len(column.turned(better=True)),
        worse=len(column.turned(better=False)),
    )
