"""What the service counts, for Prometheus. Labels are names that exist, never a caller's words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from slm_assets.serving.turns import Turn

_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Metrics:
    """The counters of one service."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        labels = ("domain", "role", "engine")
        self._answers = Counter("slm_answers", "Answers given.", labels, registry=self._registry)
        self._fallbacks = Counter(
            "slm_fallbacks", "Answers of the oracle in a release's place.", ("domain", "role", "reason"),
            registry=self._registry,
        )  # fmt: skip
        self._unanswered = Counter(
            "slm_unanswered", "Roles of a whole turn without an answer.", ("domain", "role", "code"),
            registry=self._registry,
        )  # fmt: skip
        self._problems = Counter("slm_problems", "Requests without an answer.", ("code",), registry=self._registry)
        self._seconds = Histogram(
            "slm_turn_seconds", "From a checked body to the answer.", ("domain",), buckets=_BUCKETS,
            registry=self._registry,
        )  # fmt: skip
        self._answered = lru_cache(4096)(self._answers.labels)
        self._timed = lru_cache(1024)(self._seconds.labels)

    def turn(self, turn: Turn) -> None:
        """Count an answered turn."""
        self._timed(turn.domain).observe(turn.seconds)
        for role, answer in turn.answers.items():
            self._answered(turn.domain, role, answer.version or answer.engine).inc()
            if answer.fallback:
                self._fallbacks.labels(turn.domain, role, answer.fallback).inc()

        for role, why in turn.unanswered.items():
            self._unanswered.labels(turn.domain, role, why.code).inc()

    def problem(self, code: str) -> None:
        """Count a request that got none; `code` is one of the service's own."""
        self._problems.labels(code).inc()

    def watch(self, read: Callable[[], Mapping[str, tuple[str, Mapping[str, float]]]]) -> None:
        """Show further numbers, read when asked: name → (help, label "kind" → value); `_total` ones count."""
        self._registry.register(_Watched(read))

    def add(self, collector: Collector) -> None:
        """Show what another collector has."""
        self._registry.register(collector)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)


class _Watched(Collector):
    def __init__(self, read: Callable[[], Mapping[str, tuple[str, Mapping[str, float]]]]) -> None:
        self._read = read

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        """The families as they stand now."""
        for name, (told, values) in self._read().items():
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            metric = family(name, told, labels=["kind"])
            for kind, value in values.items():
                metric.add_metric([kind], value)
            yield metric
