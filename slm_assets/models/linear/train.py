"""Training: rows → holes, shapes, factors, fills → one weight matrix, calibrated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.errors import BadInputError
from slm_assets.models.linear.calibrate import on_validation, out_of_fold
from slm_assets.models.linear.align import Occurrence, train_tagger
from slm_assets.models.linear.features import Featurizer, Parts, find_texts, matrix, split_parts
from slm_assets.models.linear.fills import Fill, learn_fill
from slm_assets.models.linear.holes import Corpus, Hole, find_holes
from slm_assets.models.linear.learner import fit_svm, folds
from slm_assets.models.linear.model import Factor, LinearModel, Structure, template
from slm_assets.models.linear.paths import Path, general, text_of
from slm_assets.models.linear.schema import Contract
from slm_assets.models.linear.settings import LinearSettings
from slm_assets.models.linear.shapes import Layout, plan
from slm_assets.models.linear.sources import Interner, Source
from slm_assets.models.linear.spans import Tagger, documents

Pair = tuple[Json, Json]
Progress = Callable[[float, str], None]


@dataclass
class _Data:
    """Training rows as features."""

    inputs: list[Json]
    outputs: list[Json]
    parts: list[Parts]
    features: Featurizer
    x: Any


def train(
    pairs: Sequence[Pair],
    schema: dict[str, Any],
    *,
    validation: Sequence[Pair] = (),
    settings: LinearSettings | None = None,
    seed: int = 0,
    groups: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> LinearModel:
    """Learn input → output from pairs, for any contract.

    `validation` rows calibrate the confidence; without them folds of the training rows do, split by
    `groups` (default: rows with equal texts stay together). Outputs that break the contract are left out
    and counted in the report. No rows, or a schema that is none: BadInputError. Equal arguments give an
    equal model.
    """
    settings = settings or LinearSettings()
    say = progress or (lambda share, what: None)
    contract = Contract(schema)
    if not pairs:
        raise BadInputError("no rows to train on", cure="give at least one labelled row")
    if groups is not None and len(groups) != len(pairs):
        raise BadInputError(f"{len(groups)} groups for {len(pairs)} rows", cure="give one group a row")
    usable = [
        k for k, (source, target) in enumerate(pairs) if text_of(target) is not None and text_of(source) is not None
    ]
    valid = [k for k in usable if contract.is_valid(pairs[k][1])]
    kept = valid or usable
    if not kept:
        raise BadInputError(
            "no row of the training set is JSON that can be written",
            cure="check for lone surrogates and integers past 64 bits",
        )
    say(0.0, "features")
    data = _featurise([pairs[k] for k in kept], settings)
    say(0.2, "sources")
    corpus = Corpus(data.inputs, data.outputs, [documents(p.texts) for p in data.parts], data.features.text_names, contract, Interner())
    holes, uncovered = find_holes(corpus)
    say(0.4, "shapes")
    build = _Build(data, corpus, holes, settings, seed)
    layout, keys = plan(corpus, set(holes), max_shapes=settings.max_shapes)
    structure = build.structure(layout, keys, fallback_valid=bool(valid))
    say(0.5, "spans")
    tagger = build.tagger()
    say(0.6, "classifiers")
    weights, bias = build.fit(structure)
    report: dict[str, Json] = {
        "n": len(kept),
        "dropped_rows": len(pairs) - len(kept),
        "features": data.features.size,
        "columns": int(weights.shape[1]),
        "holes": sorted(holes),
        "labels": [label.name for label in tagger.labels] if tagger else [],
        "uncovered": sorted(uncovered, key=lambda leaf: (-leaf["share_of_rows"], leaf["path"])),
    }
    model = LinearModel(contract, data.features, weights, bias, structure, tagger, report)
    say(0.8, "calibration")
    if validation:
        report["factors"] = on_validation(model, layout, set(holes), build.problems, data.x, validation)
    else:
        names = [groups[k] for k in kept] if groups is not None else _text_groups(data.parts)
        report["factors"] = out_of_fold(model, build.problems, data.x, folds(names, settings.folds), build.svm)
    report["calibration"] = model.structure.calibration
    say(1.0, "done")
    return model


def _featurise(pairs: Sequence[Pair], settings: LinearSettings) -> _Data:
    inputs = [source for source, _ in pairs]
    text_names = find_texts(inputs)
    parts = [split_parts(value, text_names) for value in inputs]
    features = Featurizer(settings, sorted(text_names))
    features.fit(parts)
    x = matrix([features.row(p) for p in parts], features.size)
    return _Data(inputs, [target for _, target in pairs], parts, features, x)


def _text_groups(parts: Sequence[Parts]) -> list[str]:
    """Rows with equal texts share a group, rows without text stand alone."""
    return ["\n".join(t for _, _, t in p.texts) or f"\0{k}" for k, p in enumerate(parts)]


class _Build:
    """The steps of one training, sharing rows and random state."""

    def __init__(
        self, data: _Data, corpus: Corpus, holes: dict[str, Hole], settings: LinearSettings, seed: int
    ) -> None:
        self.data = data
        self.corpus = corpus
        self.holes = holes
        self.settings = settings
        self.seed = seed
        self.problems: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        self.columns = 0
        self._texts: dict[str, set[tuple[int, Path]]] = {}
        self._codes: dict[tuple[int, Path], int] = {}
        for name in holes:
            place = corpus.places[name]
            self._codes.update(zip(zip(place.rows, place.paths, strict=True), place.codes, strict=True))

    def structure(self, layout: Layout, keys: Sequence[dict[int, str]], *, fallback_valid: bool) -> Structure:
        """Classes of all factors and fills of all holes; `problems` gets the class of each factor's rows."""
        shape_keys = sorted({key for unit in keys for key in unit.values()})
        shapes = {key: k for k, key in enumerate(shape_keys)}
        templates = [template(key) for key in shape_keys]
        factors: list[Factor] = []
        for units in layout.factors:
            rows = sorted(keys[units[0]])
            named = [tuple(shapes[keys[u][row]] for u in units) for row in rows]
            classes = sorted(set(named))
            at = {name: k for k, name in enumerate(classes)}
            self.problems.append((np.asarray(rows), np.asarray([at[name] for name in named], np.int64)))
            factors.append(Factor(units, [list(name) for name in classes], self._reserve(len(classes))))
        fills: dict[tuple[int, int], list[Fill]] = {}
        for u, unit in enumerate(layout.units):
            by_shape: dict[int, list[int]] = {}
            for row in sorted(keys[u]):
                by_shape.setdefault(shapes[keys[u][row]], []).append(row)
            for shape_index, rows in sorted(by_shape.items()):
                paths = [(*unit.path, *below) for below in templates[shape_index].holes]
                if paths:
                    fills[u, shape_index] = [self._fill(path, rows) for path in paths]
        counts = Counter(canonical.text(output) for output in self.corpus.outputs)
        fallback = min(counts, key=lambda text: (-counts[text], text)).encode()
        return Structure(layout.units, factors, templates, fills, fallback, fallback_valid, shape_keys)

    def _reserve(self, count: int) -> int:
        start = self.columns
        self.columns += count if count > 1 else 0
        return start

    def _fill(self, path: Path, rows: list[int]) -> Fill:
        hole = self.holes[general(path)]
        codes = np.asarray([self._codes[row, path] for row in rows], np.int32)
        fill, texts = learn_fill(hole, rows, path, codes, self.corpus.interner)
        fill.sources = [Source("text", extra=hole.name) if s.kind == "text" else s for s in fill.sources]
        if texts:
            self._texts.setdefault(hole.name, set()).update((row, path) for row in texts)
        common = Counter(codes.tolist()).most_common()
        fill.resort = min((-n, self.corpus.interner.texts[code]) for code, n in common)[1]
        if fill.rows:
            fill.start = self._reserve(len(fill.sources)) if len(fill.sources) > 1 else -1
        return fill

    def tagger(self) -> Tagger | None:
        """The tagger of the values that some fill reads from texts."""
        labels = []
        found: list[list[Occurrence]] = []
        for name in sorted(self._texts):
            hole = self.holes[name]
            if hole.label is not None:
                labels.append(hole.label)
                found.append([o for o in hole.found if (o.row, o.path) in self._texts[name]])
        if not labels:
            return None
        return train_tagger(self.corpus.docs, labels, found, seed=self.seed)

    def _classifiers(self, structure: Structure) -> list[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
        """(first column, rows, classes) of every classifier with more than one class."""
        out = [
            (factor.start, rows, truth)
            for factor, (rows, truth) in zip(structure.factors, self.problems, strict=True)
            if len(factor.classes) > 1
        ]
        out += [
            (fill.start, np.asarray(fill.rows), np.asarray(fill.truth))
            for _, fills in sorted(structure.fills.items())
            for fill in fills
            if fill.start >= 0
        ]
        return out

    def fit(self, structure: Structure) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weights [features, columns] and bias [columns], rounded to what a checkpoint keeps."""
        weights = np.zeros((self.data.features.size, self.columns), np.float32)
        bias = np.zeros(self.columns, np.float32)
        for start, rows, truth in self._classifiers(structure):
            classes, w, b = self.svm(rows, truth)
            weights[:, start + classes] = w
            bias[start + classes] = b
        return weights.astype(np.float16).astype(np.float32), bias

    def svm(self, rows: NDArray[np.int64], truth: NDArray[np.int64]) -> tuple[NDArray[Any], Any, Any]:
        """One classifier of some rows: classes, weights, intercepts."""
        s = self.settings
        return fit_svm(self.data.x[rows], truth, c=s.c, seed=self.seed, tolerance=s.tolerance, max_iter=s.max_iter)
