"""A role's two answers over many live turns: how far they agree, who was right, and whether that is decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from slm_assets.canonical import Json
from slm_assets.domain.config import Role
from slm_assets.gates.intervals import wilson
from slm_assets.gates.latency import median_bounds
from slm_assets.gates.sequential import decision, per_conversation
from slm_assets.gates.types import MetricValue
from slm_assets.gates.verdicts import Level
from slm_assets.stages.evaluation.scoring import EXACT, Compared
from slm_assets.stages.shadowing.judging import Judge, agrees, differences
from slm_assets.stages.shadowing.replay import Pair, Side, replay
from slm_assets.stages.shadowing.turns import LiveTurn

STEP = 250
"""Turns between two looks at whether it is decided."""
WARM = 20
"""Answers of each role that are not timed: the first ones pay for what the later ones find ready."""
SHOWN = 200
WHOLE = Compared(EXACT, "")


@dataclass
class Tally:
    """What one role's pairs came to. `worst` and `best`: metric → the differences, a turn each."""

    judge: Judge
    metrics: Sequence[Compared]
    level: Level
    keys: list[str] = field(default_factory=list)
    worst: dict[str, list[float]] = field(default_factory=dict)
    best: dict[str, list[float]] = field(default_factory=dict)
    agreed: Counter[str] = field(default_factory=Counter)
    fields: Counter[str] = field(default_factory=Counter)
    judged_by: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    invalid: Counter[str] = field(default_factory=Counter)
    fallbacks: Counter[str] = field(default_factory=Counter)
    milliseconds: dict[str, list[float]] = field(default_factory=lambda: {"challenger": [], "incumbent": []})
    shown: list[dict[str, Any]] = field(default_factory=list)

    def add(self, pair: Pair) -> None:
        """Count one pair."""
        self.keys.append(pair.turn.conversation)
        outputs = (pair.challenger.output, pair.incumbent.output)
        exact = agrees(*outputs, WHOLE)
        label = None if exact else self.judge.label(pair)
        self.agreed[EXACT] += exact
        for metric in self.metrics:
            low, high = differences(pair, metric, label)
            self.worst.setdefault(metric.id, []).append(low)
            self.best.setdefault(metric.id, []).append(high)
            if metric.id != EXACT:
                self.agreed[metric.id] += agrees(*outputs, metric)
        self._fields(pair)
        for name, answer in (("challenger", pair.challenger), ("incumbent", pair.incumbent)):
            self.invalid[name] += not answer.valid
            self.fallbacks[name] += answer.fallback is not None
        if not exact:
            self._judged(pair, label)
        if len(self.keys) > WARM:
            self.milliseconds["challenger"].append(pair.challenger_ms)
            self.milliseconds["incumbent"].append(pair.incumbent_ms)

    def _fields(self, pair: Pair) -> None:
        outputs = (pair.challenger.output, pair.incumbent.output)
        for name in sorted({name for output in outputs if isinstance(output, dict) for name in output}):
            place = "/" + name.replace("~", "~0").replace("/", "~1")
            self.fields[place] += 1
            self.agreed[f"field:{place}"] += agrees(*outputs, Compared("", place))

    def _judged(self, pair: Pair, label: tuple[Json, str] | None) -> None:
        self.judged_by[label[1] if label else "nobody"] += 1
        if label is not None:
            for name, answer in (("challenger", pair.challenger), ("incumbent", pair.incumbent)):
                self.right[name] += agrees(answer.output, label[0], WHOLE)
        if len(self.shown) < SHOWN:
            self.shown.append(
                {
                    "turn_id": pair.turn.id, "role": pair.role, "input": pair.value,
                    "challenger": pair.challenger.output, "incumbent": pair.incumbent.output,
                    "label": label[0] if label else None, "judged_by": label[1] if label else None,
                }
            )  # fmt: skip

    def units(self, metric: str) -> tuple[np.typing.NDArray[np.float64], np.typing.NDArray[np.float64]]:
        """(worst, best) difference of each conversation."""
        worst, best = self.worst.get(metric, []), self.best.get(metric, [])
        return per_conversation(self.keys, worst), per_conversation(self.keys, best)

    def decided(self, margin: float) -> bool:
        """Whether more turns change nothing: one metric failed, or all passed."""
        if not self.keys:
            return False
        found = {decision(*self.units(m.id), margin=margin, level=self.level)[0] for m in self.metrics}
        return "FAIL" in found or found == {"PASS"}

    def report(self) -> dict[str, Any]:
        """The counts, none of them measured in seconds."""
        return {
            "turns": len(self.keys),
            "conversations": len(set(self.keys)),
            "agreement": {name: _share(self.agreed[name], len(self.keys)) for name in sorted({EXACT, *self.worst})},
            "fields": {place: _share(self.agreed[f"field:{place}"], n) for place, n in sorted(self.fields.items())},
            "differ": sum(self.judged_by.values()),
            "judged_by": dict(sorted(self.judged_by.items())),
            "right_where_they_differ": {name: self.right[name] for name in ("challenger", "incumbent")},
            "invalid": {name: self.invalid[name] for name in ("challenger", "incumbent")},
            "fallbacks": {name: self.fallbacks[name] for name in ("challenger", "incumbent")},
        }

    def numbers(self, role: str) -> list[MetricValue]:
        """The same as metrics, with intervals, and the latency of both."""
        n = len(self.keys)
        if not n:
            return []
        found = [_metric(role, "shadow_agreement", self.agreed[EXACT], n)]
        found += [
            _metric(role, f"shadow_agreement:{place}", self.agreed[f"field:{place}"], count)
            for place, count in sorted(self.fields.items())
        ]
        judged = sum(self.judged_by.values()) - self.judged_by["nobody"]
        for name in ("challenger", "incumbent"):
            found.append(_metric(role, "shadow_validity", n - self.invalid[name], n, name))
            if judged:
                found.append(_metric(role, "shadow_right_where_they_differ", self.right[name], judged, name))
            times = np.array(self.milliseconds[name])
            for metric, share in (("shadow_latency_p50_ms", 0.5), ("shadow_latency_p95_ms", 0.95)):
                if len(times):
                    value = round(float(np.quantile(times, share)), 4)
                    found.append(MetricValue(role=role, subject=name, metric=metric, value=value, n=len(times)))
        if self.milliseconds["challenger"]:
            ours, theirs = (np.array(self.milliseconds[name]) for name in ("challenger", "incumbent"))
            value, low, high = median_bounds(ours / np.maximum(theirs, 1e-9), self.level)
            bounds = {"low": low if np.isfinite(low) else None, "high": high if np.isfinite(high) else None}
            found.append(MetricValue(role=role, metric="shadow_latency_ratio", value=value, n=len(ours), **bounds))
        return found


def study(
    turns: Sequence[LiveTurn],
    roles: Sequence[Role],
    sides: tuple[Side, Side],
    tallies: Mapping[str, Tally],
    margin: float,
) -> int:
    """Replay the turns in order until every tally is decided; returns how many were refused by a contract."""
    refused = 0
    for number, turn in enumerate(turns):
        pairs = replay(roles, *sides, turn, first=number % 2 == 0)
        refused += not pairs
        for pair in pairs:
            if pair.role in tallies:
                tallies[pair.role].add(pair)
        if (number + 1) % STEP == 0 and all(tally.decided(margin) for tally in tallies.values()):
            break
    return refused


def _share(hits: int, n: int) -> float | None:
    return round(hits / n, 6) if n else None


def _metric(role: str, name: str, hits: int, n: int, subject: str = "challenger") -> MetricValue:
    low, high = (round(bound, 6) for bound in wilson(hits, n))
    return MetricValue(role=role, subject=subject, metric=name, value=round(hits / n, 6), low=low, high=high, n=n)
