"""What came of the turns that were sent: counted as they go, in a few numbers however many they are."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slm_assets.canonical import Json
from slm_assets.simulation.judge import Seen


@dataclass
class Tally:
    """The counts of one phase, or of several together. `first`: who answered → seconds after the start."""

    turns: int = 0
    answers: Counter[tuple[str, str, str | None, str]] = field(default_factory=Counter)
    first: dict[tuple[str, str, str | None, str], float] = field(default_factory=dict)
    invalid: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    judged: Counter[str] = field(default_factory=Counter)
    pools: Counter[tuple[str, str]] = field(default_factory=Counter)
    feedback: Counter[str] = field(default_factory=Counter)
    forgotten: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    latencies: array[float] = field(default_factory=lambda: array("d"))

    def answered(self, roles: Mapping[str, Mapping[str, Any]], at: float, latency: float | None = None) -> None:
        """Count a turn's answers: role → what the service says of it; `at` and `latency` in seconds."""
        if latency is not None:
            self.latencies.append(latency)
        for role, answer in roles.items():
            fallback = answer.get("fallback")
            key = (role, answer["engine"], answer.get("version"), fallback["reason"] if fallback else "")
            self.answers[key] += 1
            self.first.setdefault(key, at)
            self.invalid[role] += not answer["valid"]

    def compared(self, pool: str, seen: Seen, right: Mapping[str, bool]) -> None:
        """Count what was right."""
        self.pools[pool, seen] += 1
        for role, good in right.items():
            self.judged[role] += 1
            self.right[role] += good

    def failed(self, code: str) -> None:
        """Count a request without an answer."""
        self.errors[code] += 1

    def add(self, other: Tally) -> None:
        """Take the counts of another one in."""
        self.turns += other.turns
        self.forgotten += other.forgotten
        for name in ("answers", "invalid", "right", "judged", "pools", "feedback", "errors"):
            getattr(self, name).update(getattr(other, name))
        for key, at in other.first.items():
            self.first[key] = min(at, self.first.get(key, at))
        self.latencies.extend(other.latencies)

    def shown(self) -> dict[str, Json]:
        """The counts as JSON, and the shares and quantiles they come to."""
        shown: dict[str, Json] = {
            "turns": self.turns,
            "failed_requests": sum(self.errors.values()),
            "errors": dict(sorted(self.errors.items())),
            "answers": [
                {
                    "role": role, "engine": engine, "version": version, "fallback": fallback or None,
                    "turns": count, "first_s": round(self.first[role, engine, version, fallback], 3),
                }
                for (role, engine, version, fallback), count in sorted(self.answers.items(), key=str)
            ],
            "invalid": dict(sorted((role, count) for role, count in self.invalid.items() if count)),
            "right": {
                role: {"n": n, "right": self.right[role], "share": round(self.right[role] / n, 4)}
                for role, n in sorted(self.judged.items())
            },
            "pools": {
                pool: {case: self.pools[pool, case] for case in ("right", "wrong", "unknown")}
                for pool in sorted({pool for pool, _ in self.pools})
            },
            "feedback": dict(sorted(self.feedback.items())),
            "feedback_not_kept": self.forgotten,
        }  # fmt: skip
        if self.latencies:
            ordered = sorted(self.latencies)
            quantiles = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
            shown["latency_ms"] = {name: round(quantile(ordered, share) * 1e3, 3) for name, share in quantiles.items()}
        return shown


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    index = -(-len(ordered) * share // 1)
    return ordered[max(0, min(len(ordered), int(index)) - 1)]
