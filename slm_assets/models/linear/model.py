"""The trained model: scores factors, fills holes, checks the contract, falls back to the next best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from heapq import heappop, heappush
from math import exp, log
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from slm_assets.canonical import Json
from slm_assets.models.base import Prediction, Span
from slm_assets.models.linear.features import Featurizer
from slm_assets.models.linear.fills import Fill
from slm_assets.models.linear.items import Items
from slm_assets.models.linear.paths import ABSENT, Path, get, pointer
from slm_assets.models.linear.schema import Contract
from slm_assets.models.linear.sources import Source, resolve
from slm_assets.models.linear.spans import Document, Found, documents, in_order
from slm_assets.models.linear.stages import names_of_stage, stage_of
from slm_assets.models.linear.structure import Factor, Structure, holds, own_copy, placed
from slm_assets.models.linear.tagger import Reading, Tagger

_TRIES: Final = 24
_DOUBTS: Final = 30
_ALTERNATIVES: Final = 4
_LAST_RESORT: Final = 0.02
_DIM: Final = 0.01
_GAINS: Final = 10_000

Weights = NDArray[np.float32]


class _Turn:
    """What one prediction knows of its input; texts are tokenised and tagged at most once."""

    def __init__(self, model: LinearModel, value: Json) -> None:
        self.value = value
        self._tagger = model.tagger
        parts = model.features.parts(value)
        names = list(parts.names)
        self._docs: list[Document] = []
        self._readings: dict[int, Reading] = {}
        if self._tagger is not None:
            self._docs = documents(parts.texts)
            self._ranked = self._tagger.rank(self._docs)
            if model.structure.mentions == 0:
                names += self.read(ABSENT).mentions()
        self.active = model.features.known(names)
        index, amounts = model.features.row(self.active, parts)
        self.scores = model.bias + model.sum_rows(index, amounts)

    def read(self, decoded: Json) -> Reading:
        """The texts under the CRF that goes with the output decoded so far."""
        assert self._tagger is not None
        group = self._tagger.group(decoded)
        if group not in self._readings:
            self._readings[group] = self._tagger.read(self._docs, group, self._ranked)
        return self._readings[group]


@dataclass(slots=True)
class _Filled:
    value: Any
    probability: float
    span: Found | None = None
    forced: bool = False
    inside: tuple[tuple[Path, Found], ...] = ()


@dataclass
class _Made:
    """One assembled output. `options`: per point (("f", factor) or (unit, hole)) its alternatives'
    log-probabilities; `forced`: the part of `logp` that holes cost which no source could fill."""

    output: Json
    options: dict[tuple[Any, int], list[float]]
    logp: float
    spans: list[tuple[Path, Found]]
    complete: bool
    scores: Weights
    forced: float = 0.0
    reading: Reading | None = None


class LinearModel:
    """One role's model. Made by `train` or `load`."""

    def __init__(
        self,
        contract: Contract,
        features: Featurizer,
        weights: Weights,
        bias: Weights,
        structure: Structure,
        tagger: Tagger | None,
        report: dict[str, Json],
    ) -> None:
        self.contract = contract
        self.features = features
        self.weights = weights
        self.bias = bias
        self.structure = structure
        self.tagger = tagger
        self.report = report
        self._units: list[list[int]] = [[] for _ in structure.stages]
        for u, unit in enumerate(structure.units):
            self._units[stage_of(unit.path, structure.stages)].append(u)
        self._asked = _asked(structure)
        self._heard = [_is_heard(features, stage) for stage in structure.stages]
        self._gains: dict[tuple[int, ...], Weights] = {}
        self._factor_of = {u: f for f, factor in enumerate(structure.factors) for u in factor.units}
        self._labels = {label.name: k for k, label in enumerate(tagger.labels)} if tagger else {}
        self._there = [
            next((k for k, shapes in enumerate(f.classes) if structure.templates[shapes[0]].holes), 0) if f.label else 0
            for f in structure.factors
        ]

    @property
    def shape_index(self) -> dict[str, int]:
        """Shape key → index of its template."""
        return {key: k for k, key in enumerate(self.structure.shape_keys)}

    def predict(self, value: Json) -> Prediction:
        """Answer one input: any JSON value, also one unlike the training rows."""
        return self._decode(_Turn(self, value))

    def forget(self) -> None:
        """Drop the vectors that are remembered of earlier texts."""
        if self.features.embedder is not None:
            self.features.embedder.forget()

    def sum_rows(self, index: NDArray[np.int64], amounts: Weights) -> Weights:
        """Scores that some features add; one order of additions on every machine."""
        out: Weights = np.add.reduce(self.weights.take(index, axis=0) * amounts[:, None], axis=0)
        return out

    def predict_many(self, values: Sequence[Json]) -> list[Prediction]:
        """Answer many inputs, in order; equal inputs are worked out once."""
        known: dict[bytes, Prediction] = {}
        out: list[Prediction] = []
        for value in values:
            try:
                key = orjson.dumps(value)
            except (TypeError, ValueError):
                out.append(self.predict(value))
                continue
            again = known.get(key)
            if again is None:
                if len(known) > 10_000:
                    known.clear()
                known[key] = again = self.predict(value)
                out.append(again)
            else:
                out.append(replace(again, output=own_copy(again.output)))
        return out

    def _decode(self, turn: _Turn) -> Prediction:
        """Best-first over the alternatives of every choice until an output meets the contract, and, where
        a hole of it could not be filled, until nothing that could be filled is likelier."""
        queue: list[tuple[float, int, tuple[tuple[Any, int], ...]]] = [(0.0, 0, ())]
        seen: set[tuple[Any, ...]] = {()}
        order = 0
        best: tuple[Json, _Made] | None = None
        for _ in range(_TRIES):
            if not queue or (best is not None and (order > _DOUBTS or queue[0][0] >= -best[1].logp)):
                break
            _, _, moved = heappop(queue)
            made = self._make(turn, dict(moved))
            if made.complete and (best is None or made.logp > best[1].logp):
                output = own_copy(made.output)
                if output is not ABSENT and self.contract.is_valid(output):
                    best = (output, made)
                    if made.forced == 0.0:
                        break
            current = dict(moved)
            for point, options in made.options.items():
                at = current.get(point, 0)
                if at + 1 < len(options):
                    step = tuple(sorted({**current, point: at + 1}.items(), key=repr))
                    if step not in seen:
                        seen.add(step)
                        order += 1
                        heappush(queue, (options[at] - options[at + 1] + made.forced - made.logp, order, step))
        if best is not None:
            return self._answer(*best)
        fallback = self.structure
        return Prediction(orjson.loads(fallback.fallback), 0.0, fallback.fallback_valid)

    def _answer(self, output: Json, made: _Made) -> Prediction:
        confidence = round(min(1.0, max(0.0, exp(made.logp * self.structure.calibration))), 6)
        spans = tuple(Span(pointer(path), pointer(found.path), found.start, found.end) for path, found in made.spans)
        return Prediction(output, confidence, True, spans)

    def _rank_factor(self, factor: Factor, scores: Weights) -> list[tuple[float, int]]:
        """(log-probability, class) of the most likely classes, the best first."""
        count = len(factor.classes)
        if count == 1:
            return [(0.0, 0)]
        own = (scores[factor.start : factor.start + count] / np.float32(factor.temperature)).tolist()
        top = sorted(range(count), key=own.__getitem__, reverse=True)[:_ALTERNATIVES]
        best = own[top[0]]
        total = log(sum(exp(score - best) for score in own))
        return [(own[k] - best - total, k) for k in top]

    def _told(self, turn: _Turn, made: _Made, f: int) -> list[tuple[float, int]]:
        """Both classes of a factor that the tagger decides, the better first: what it says holds."""
        factor, there = self.structure.factors[f], self._there[f]
        label = self._labels[factor.label]
        reading = self._reading(turn, made)
        if label not in reading:
            return [(0.0, 1 - there)]
        found = reading.find(label, must=False)
        if found:
            chance = min(max(found[0].probability, 0.5), 1 - 1e-6)
            return [(0.0, there), (log(1 - chance) - log(chance), 1 - there)]
        chance = min(max(reading.possible(label), 1e-6), 0.5)
        return [(log(1 - chance), 1 - there), (log(chance), there)]

    def _reading(self, turn: _Turn, made: _Made) -> Reading:
        """The texts under the CRF of the output so far; what chooses it is decided once."""
        assert self.tagger is not None
        if made.reading is not None:
            return made.reading
        reading = turn.read(made.output)
        if self.tagger.group(made.output) >= 0:
            made.reading = reading
        return reading

    def _make(self, turn: _Turn, moved: dict[Any, int]) -> _Made:
        """Decide and fill stage by stage. `moved`: the points that take another than their best choice."""
        structure = self.structure
        made = _Made(ABSENT, {}, 0.0, [], True, turn.scores)
        chosen: dict[int, list[int]] = {}
        active = set(turn.active)
        known = 0
        for k, units in enumerate(self._units):
            if self._asked[k]:
                self._enter(turn, made, active, range(known, k + 1))
                known = k + 1
            for u in units:
                unit = structure.units[u]
                if unit.parent >= 0 and not holds(made.output, unit):
                    continue
                f = self._factor_of[u]
                if f not in chosen:
                    chosen[f] = self._choose(turn, made, f, moved)
                shape = chosen[f][structure.factors[f].units.index(u)]
                if not self._place(turn, made, u, shape, moved):
                    made.complete = False
                    return made
        made.complete = made.output is not ABSENT
        return made

    def _enter(self, turn: _Turn, made: _Made, active: set[int], stages: range) -> None:
        """Add to the scores what some stages know beyond the ones before them."""
        features, k = self.features, stages[-1]
        names: list[str] = []
        for stage in stages:
            if stage and self._heard[stage - 1]:
                names += names_of_stage(made.output, self.structure.stages, stage - 1)
            if stage and stage == self.structure.mentions:
                names += turn.read(made.output).mentions()
        fresh = [i for i in features.known(dict.fromkeys(names)) if i not in active] if names else []
        active.update(fresh)
        passed = features.trees[k].passed(active) if k < len(features.trees) else []
        if fresh or passed:
            rows = (len(fresh), *fresh, *passed)
            gain = self._gains.get(rows)
            if gain is None:
                amounts = [features.settings.path_weight] * len(fresh) + [features.settings.tree_weight] * len(passed)
                gain = self.sum_rows(np.asarray(rows[1:], np.int64), np.asarray(amounts, np.float32))
                if len(self._gains) >= _GAINS:
                    self._gains.clear()
                self._gains[rows] = gain
            made.scores = made.scores + gain

    def _choose(self, turn: _Turn, made: _Made, f: int, moved: dict[Any, int]) -> list[int]:
        """The shapes that a factor gives its units."""
        factor = self.structure.factors[f]
        ranked = self._told(turn, made, f) if factor.label else self._rank_factor(factor, made.scores)
        logp, chosen = ranked[min(moved.get(("f", f), 0), len(ranked) - 1)]
        made.logp += logp
        if len(ranked) > 1:
            made.options["f", f] = [each for each, _ in ranked]
        return factor.classes[chosen]

    def _place(self, turn: _Turn, made: _Made, u: int, shape: int, moved: dict[Any, int]) -> bool:
        """Put a unit's shape into the output and fill its holes; False where one cannot be filled."""
        unit, made_of = self.structure.units[u], self.structure.templates[shape]
        if made_of.tree is None:
            if made_of.member:
                get(made.output, unit.path).append(orjson.loads(unit.member))
            return True
        made.output = placed(made.output, unit.path, orjson.loads(made_of.tree))
        return all(
            self._fill(turn, made, (u, h), shape, (*unit.path, *below), moved) for h, below in enumerate(made_of.holes)
        )

    def _fill(
        self, turn: _Turn, made: _Made, point: tuple[int, int], shape: int, path: Path, moved: dict[Any, int]
    ) -> bool:
        fill = self.structure.fills[point[0], shape][point[1]]
        want = moved.get(point, 0)
        if want == 0 and fill.start < 0:
            first = fill.sources[0]
            if first.kind not in ("text", "items"):
                value = resolve(first, turn.value, made.output)
                if value is not ABSENT:
                    made.options[point] = [0.0, log(0.05)] if len(fill.sources) > 1 else [0.0]
                    made.output = placed(made.output, path, value)
                    return True
        options = self._options(turn, fill, path, made)
        if want >= len(options):
            return False
        made.options[point] = [log(max(o.probability, 1e-9)) for o in options]
        chosen = options[want]
        made.logp += made.options[point][want]
        if chosen.forced:
            made.forced += made.options[point][want]
        if chosen.span is not None:
            made.spans.append((path, chosen.span))
        made.spans += [((*path, *below), found) for below, found in chosen.inside]
        made.output = placed(made.output, path, chosen.value)
        return True

    def _options(self, turn: _Turn, fill: Fill, path: Path, made: _Made) -> list[_Filled]:
        """What the sources of a hole yield, the best first, with a probability each."""
        order = list(range(len(fill.sources)))
        weight = [1.0] * len(order)
        if fill.start >= 0:
            own = (made.scores[fill.start : fill.start + len(order)] * 2).tolist()
            highest = max(own)
            raised = [exp(score - highest) for score in own]
            total = sum(raised)
            weight = [score / total for score in raised]
            order.sort(key=weight.__getitem__, reverse=True)
        out: list[_Filled] = []
        for place, k in enumerate(order):
            source = fill.sources[k]
            if out and weight[k] < _DIM:
                break
            chance = weight[k] if fill.start >= 0 else (1.0 if not out else 0.05)
            if source.kind == "text":
                last = place + 1 == len(order) or fill.start >= 0
                out += self._read(turn, source, path, made.output, chance, must=last and not out)
                continue
            if source.kind == "items":
                out.append(self._list(turn, self.structure.items[source.extra], made.output, chance))
                continue
            value = resolve(source, turn.value, made.output)
            if value is not ABSENT:
                out.append(_Filled(value, chance))
        resort = _Filled(orjson.loads(fill.resort), max(_LAST_RESORT, fill.common))
        doubtful = bool(out) and out[0].span is not None and not out[0].span.told
        if doubtful and resort.probability > out[0].probability:
            return [resort, *out[:8]]
        return [*out[:8], _Filled(resort.value, _LAST_RESORT, forced=True)]

    def _list(self, turn: _Turn, items: Items, decoded: Json, chance: float) -> _Filled:
        """An array from the pieces of the texts that the tagger takes for its fields."""
        reading = turn.read(decoded)
        pieces = sorted(
            (d, found.start, line, name, found)
            for name, label in items.fields.items()
            for d, line, found in reading.told(self._labels[label])
        )
        value: list[Json] = []
        inside: list[tuple[Path, Found]] = []
        for item, parts in items.read(
            [
                (line, name, found.value, found.probability if not found.told else 1.0)
                for _, _, line, name, found in pieces
            ]
        ):
            inside += [((len(value), name), pieces[k][4]) for name, k in sorted(parts.items())]
            value.append(item)
        for _, found in inside:
            chance *= max(found.probability, 0.01)
        if not value:
            chance *= 1 - min(0.99, max(reading.possible(self._labels[label]) for label in items.fields.values()))
        return _Filled(value, chance, inside=tuple(inside))

    def _read(
        self, turn: _Turn, source: Source, path: Path, decoded: Json, chance: float, *, must: bool
    ) -> list[_Filled]:
        found = turn.read(decoded).find(self._labels[source.extra], source.cast, must=must)
        at = _last_item(path)
        if at >= 0:
            array = get(decoded, path[:at])
            items = in_order(found, len(array))
            k = int(path[at])
            found = [items[k]] if k < len(items) else []
        return [_Filled(item.value, chance * item.probability, item) for item in found[:4]]


@lru_cache(1_000)
def _last_item(path: Path) -> int:
    """Where a path last enters an item of an array, −1 for nowhere."""
    return max((i for i, step in enumerate(path) if isinstance(step, int)), default=-1)


def _is_heard(features: Featurizer, stage: Path) -> bool:
    """Whether any feature tells of what a stage decides."""
    return bool(stage) and any(name.startswith(f"out:/{stage[-1]}") for name in features.names)


def _asked(structure: Structure) -> list[bool]:
    """Per stage, whether a classifier decides anything in it: others need no scores."""
    asked = [False] * len(structure.stages)
    for factor in structure.factors:
        asked[factor.stage] |= factor.scored
    for (u, _), fills in structure.fills.items():
        asked[stage_of(structure.units[u].path, structure.stages)] |= any(fill.start >= 0 for fill in fills)
    return asked
