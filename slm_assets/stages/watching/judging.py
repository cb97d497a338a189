"""From the columns of live turns to numbers with intervals, and to the verdicts of the triggers.

Rates are looked at twice: over all judged days, and over what the newest window brought, so that a sudden change is
not thinned out by the quiet days before it. Each look has its own baseline, which is all that came before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slm_assets.domain.triggers import RetrainTriggers
from slm_assets.gates import drift, triggers
from slm_assets.gates.clusters import Groups, group_rows
from slm_assets.gates.intervals import certified, proportion
from slm_assets.gates.triggers import Measured
from slm_assets.gates.types import LiveMetric, Trigger, TriggerName
from slm_assets.stages.watching.columns import FOREIGN, INSTEAD, NEW_BITS, OWN, Reading
from slm_assets.stages.watching.matching import UNKNOWN

Mask = NDArray[np.bool_]
ANY = "any"
"""Any bad outcome at all, beside each by itself."""


@dataclass(frozen=True, eq=False)
class Look:
    """Turns that are judged together, and those before them."""

    within: str
    now: Mask
    before: Mask


class Judging:
    """The numbers of one reading; groups of turns are counted once for each set of them."""

    def __init__(self, reading: Reading, policy: RetrainTriggers, window: int) -> None:
        self.reading, self.policy, self.window = reading, policy, window
        # The turns of the baseline first, then those that are judged.
        self.before, judged = len(reading.before), len(reading.conversation)
        self.conversation = np.concatenate([np.asarray(reading.before), np.asarray(reading.conversation)])
        self.said = np.concatenate([np.asarray(reading.said_before), np.asarray(reading.said)])
        self.new = self._padded(reading.new)
        now = np.arange(self.before + judged) >= self.before
        self.looks = [Look("", now, ~now)]
        newest = self._padded(reading.newest) == 1
        if newest.sum() >= policy.min_turns and judged - newest.sum() >= policy.min_turns:
            self.looks.append(Look(f" of window w{window}", newest, ~newest))
        self._groups: dict[bytes, Groups] = {}

    def _padded(self, column: Sequence[int]) -> NDArray[Any]:
        """A column of the judged turns, with zeros for those of the baseline."""
        return np.concatenate([np.zeros(self.before, dtype=np.int64), np.asarray(column, dtype=np.int64)])

    def quality(self) -> tuple[list[Measured], list[LiveMetric]]:
        """Live match per role against the promoted score for the same mix of classes."""
        found, live = [], []
        by = "oracle" if self.policy.quality.reference == "oracle" else "labels"
        scored = {role: own.score[by] for role, own in self.reading.serves.items() if own.score is not None}
        sure = triggers.confidence_of_each(self.policy.confidence, len(self.looks) * len(scored))
        for role, score in scored.items():
            right, stratum, names = self._answers(role)
            for look in self.looks:
                rows, before = (part & (right != UNKNOWN) for part in (look.now, look.before))
                promoted, then = (
                    drift.reweighted(score["strata"], _mix(names, stratum[part]), score["effect"], sure)
                    for part in (rows, before)
                )
                if promoted is None or then is None:
                    continue
                about = role
                if self.reading.earlier and before.sum() >= self.policy.min_turns:
                    told, used = (certified(right[part] == 0, self._groups_of(part), sure) for part in (rows, before))
                    value, bound = drift.drop_told(promoted, then, told, used)
                    about = f"{role}, complained of in {told.value:.1%} of turns and in {used.value:.1%} before"
                else:
                    interval = certified(right[rows] == 1, self._groups_of(rows), sure)
                    value, bound = drift.drop(promoted, interval)
                found.append(Measured(value, bound, int(rows.sum()), about, look.within, promoted.value))
                if look is self.looks[0] and rows.any():
                    live.append(self._metric("match", right == 1, rows, role))
                    live.append(LiveMetric(role=role, metric="promoted", value=promoted.value, n=promoted.n))
        return found, live

    def _answers(self, role: str) -> tuple[NDArray[Any], NDArray[Any], Mapping[str, int]]:
        """Whether each turn was answered right, its class, and the classes' numbers; of the baseline nothing is known
        unless answers are judged by their outcomes."""
        own, earlier = self.reading.of[role], self.reading.earlier.get(role)
        unknown = np.full(self.before, UNKNOWN)
        columns = (earlier.right, earlier.stratum) if earlier else (unknown, unknown)
        right, stratum = (
            np.concatenate([np.asarray(then, dtype=np.int64), np.asarray(now, dtype=np.int64)])
            for then, now in zip(columns, (own.right, own.stratum), strict=True)
        )
        return right, stratum, own.names

    def outcome(self) -> tuple[list[Measured], list[LiveMetric]]:
        """How often each bad outcome came, now and before."""
        bits = {name: 1 << place for place, name in enumerate(self.reading.signals)}
        bad = {ANY: self.reading.bad} | {name: bit for name, bit in bits.items() if bit & self.reading.bad}
        sure = triggers.confidence_of_each(self.policy.confidence, len(self.looks) * len(bad))
        found = []
        for look in self.looks:
            enough = min(int(look.now.sum()), int(look.before.sum()))
            if enough < self.policy.min_turns:
                found.append(Measured(0.0, 0.0, enough))
                continue
            for name, bit in bad.items():
                said = (self.said & bit) != 0
                now, before = (certified(said[rows], self._groups_of(rows), sure) for rows in (look.now, look.before))
                value, bound = drift.ratio(now, before)
                about = "A bad outcome" if name == ANY else f"The outcome {name}"
                found.append(Measured(value, bound, now.n, about, look.within, now.value))
        whole = self.looks[0].now
        shown = {ANY: bad[ANY], **bits}
        live = [self._metric(f"outcome:{name}", (self.said & bit) != 0, whole) for name, bit in shown.items()]
        return found, live

    def validity(self) -> tuple[list[Measured], list[LiveMetric]]:
        """Answers within their contract, of what serves each role, and of engines that are none of ours."""
        found, live = [], []
        answers: list[tuple[str, Mask, Mask]] = []
        for role, columns in self.reading.of.items():
            by, valid = self._padded(columns.by), self._padded(columns.valid) == 1
            answered = (by == OWN) | (by == INSTEAD)
            answers.append((role, answered, valid))
            if (foreign := by == FOREIGN).any():
                answers.append((f"{role} by other engines", foreign, valid))
            rows = self.looks[0].now & answered
            live.append(self._metric("validity", valid, rows, role))
            live.append(self._metric("instead", by == INSTEAD, rows, role))
        sure = triggers.confidence_of_each(self.policy.confidence, len(self.looks) * len(answers))
        for about, answered, valid in answers:
            for look in self.looks:
                rows = look.now & answered
                interval = certified(valid[rows], self._groups_of(rows), sure)
                found.append(Measured(interval.value, interval.high, interval.n, about, look.within))
        return found, live

    def distribution(self) -> tuple[list[Measured], list[LiveMetric]]:
        """Turns that are new to what serves, whatever is new in them; and each kind of novelty by itself."""
        sure = triggers.confidence_of_each(self.policy.confidence, len(self.looks))
        found = []
        for look in self.looks:
            interval = certified(self.new[look.now] != 0, self._groups_of(look.now), sure)
            found.append(Measured(interval.value, interval.low, interval.n, within=look.within))
        whole = self.looks[0].now
        live = [self._metric("new", self.new != 0, whole)]
        live += [self._metric(f"new:{name}", (self.new & bit) != 0, whole) for name, bit in NEW_BITS.items()]
        return found, live

    def _metric(self, name: str, scores: Mask, rows: Mask, role: str = "") -> LiveMetric:
        found = proportion(scores[rows], self._groups_of(rows), self.policy.confidence)
        if not found.n:
            return LiveMetric(role=role, metric=name, value=None)
        return LiveMetric(role=role, metric=name, value=found.value, low=found.low, high=found.high, n=found.n)

    def _groups_of(self, rows: Mask) -> Groups:
        key = np.packbits(rows).tobytes()
        if key not in self._groups:
            self._groups[key] = group_rows(self.conversation[rows], int(rows.sum()))
        return self._groups[key]


@dataclass(frozen=True)
class Facts:
    """What is not counted from turns. `missing`: why nothing can be held against a version, or "". `ages`: role →
    days; `changed`: roles whose contract changed; `wanted`: new confident turns that are enough."""

    missing: str
    ages: Mapping[str, float]
    changed: list[str]
    wanted: int


def judge(
    reading: Reading, policy: RetrainTriggers, window: int, facts: Facts
) -> tuple[list[Trigger], list[LiveMetric]]:
    """Every trigger's verdict, in their order, and the live numbers."""
    judging = Judging(reading, policy, window)
    verdicts: list[Trigger] = []
    live: list[LiveMetric] = []
    unserved = "" if facts.ages else "no version serves, the oracle answers"
    unasked = "no teacher can be asked" if policy.quality.reference == "teacher" else ""

    def statistical(name: TriggerName, why: str = "") -> Iterator[Trigger]:
        stopped = triggers.off(name, policy, why)
        if stopped:
            yield stopped
        else:
            found, numbers = getattr(judging, name)()
            live.extend(numbers)
            yield getattr(triggers, name)(policy, found)

    verdicts += statistical("quality", facts.missing or unasked)
    verdicts += statistical("outcome")
    verdicts += statistical("validity")
    verdicts += statistical("distribution", facts.missing)
    verdicts.append(triggers.volume(policy, reading.distinct_confident(), facts.wanted))
    verdicts.append(triggers.off("contract", policy, facts.missing) or triggers.contract(policy, facts.changed))
    verdicts.append(triggers.off("staleness", policy, unserved) or triggers.staleness(policy, facts.ages))
    return verdicts, live


def _mix(names: Mapping[str, int], classes: NDArray[Any]) -> dict[str, float]:
    """Class → how many of these turns were answered with it."""
    counts = np.bincount(classes, minlength=len(names)) if len(classes) else ()
    return {name: float(counts[code]) for name, code in names.items()} if len(counts) else {}
