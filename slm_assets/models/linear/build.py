"""The steps of one training: structure, tagger, features, classifiers. They share rows and seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.models.linear.align import Occurrence
from slm_assets.models.linear.crf import Crf
from slm_assets.models.linear.examples import FINAL, ROUGH, Examples, Split, one_tagger, split_by
from slm_assets.models.linear.features import Embedder, Featurizer, Parts
from slm_assets.models.linear.fills import Fill, learn_fill
from slm_assets.models.linear.gazetteer import Gazetteer
from slm_assets.models.linear.holes import Corpus, Hole
from slm_assets.models.linear.learner import fit_svm, folds
from slm_assets.models.linear.lexicon import Lexicon
from slm_assets.models.linear.paths import Path, general
from slm_assets.models.linear.rank_fit import fit_choices, tasks_of
from slm_assets.models.linear.settings import BALANCES, LinearSettings
from slm_assets.models.linear.shapes import Layout
from slm_assets.models.linear.spans import Label, documents
from slm_assets.models.linear.stages import (
    activate,
    grow_tree,
    names_of_stage,
    stage_keys,
    stage_of,
    staged,
)
from slm_assets.models.linear.structure import Factor, Structure, Template, template
from slm_assets.models.linear.tagger import Tagger

_TUNING_ROWS: Final = 2_000
_MANY_LABELS: Final = 12
_MANY_GROUPS: Final = 200

Ints = NDArray[np.int64]


class Build:
    """Called in the order structure, tag, featurise, fit; `problems` and `x` then hold what was fitted."""

    def __init__(
        self,
        parts: list[Parts],
        groups: Sequence[str],
        corpus: Corpus,
        holes: dict[str, Hole],
        settings: LinearSettings,
        seed: int,
        embedder: Embedder | None = None,
    ) -> None:
        self.parts = parts
        self.groups = groups
        self.corpus = corpus
        self.holes = holes
        self.settings = settings
        self.seed = seed
        self.stages = stage_keys(corpus.base, corpus.keys)
        self.features = Featurizer(settings, sorted(corpus.text_names), embedder)
        self.problems: list[tuple[Ints, Ints]] = []
        self.x: list[Any] = []
        self.columns = 0
        self._tagger: Tagger | None = None
        self._tags: list[list[str]] = [[] for _ in parts]
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
        fills: dict[tuple[int, int], list[Fill]] = {}
        for u, unit in enumerate(layout.units):
            by_shape: dict[int, list[int]] = {}
            for row in sorted(keys[u]):
                by_shape.setdefault(shapes[keys[u][row]], []).append(row)
            for shape, rows in sorted(by_shape.items()):
                paths = [(*unit.path, *below) for below in templates[shape].holes]
                if paths:
                    fills[u, shape] = [self._fill(path, rows) for path in paths]
        factors: list[Factor] = []
        for units in layout.factors:
            rows = sorted(keys[units[0]])
            named = [tuple(shapes[keys[u][row]] for u in units) for row in rows]
            classes = sorted(set(named))
            at = {name: k for k, name in enumerate(classes)}
            self.problems.append((np.asarray(rows, np.int64), np.asarray([at[name] for name in named], np.int64)))
            stage = min(stage_of(layout.units[u].path, self.stages) for u in units)
            label = _told_by(units, classes, templates, fills)
            start = 0 if label else self._reserve(len(classes))
            factors.append(Factor(units, [list(name) for name in classes], start, stage, label=label))
        counts = Counter(canonical.text(output) for output in self.corpus.outputs)
        fallback = min(counts, key=lambda text: (-counts[text], text)).encode()
        return Structure(
            units=layout.units,
            factors=factors,
            stages=self.stages,
            templates=templates,
            fills=fills,
            fallback=fallback,
            fallback_valid=fallback_valid,
            shape_keys=shape_keys,
            items={name: hole.listed.items for name, hole in sorted(self.holes.items()) if hole.listed is not None},
        )

    def _reserve(self, count: int) -> int:
        start = self.columns
        self.columns += count if count > 1 else 0
        return start

    def _fill(self, path: Path, rows: list[int]) -> Fill:
        hole = self.holes[general(path)]
        codes = np.asarray([self._codes[row, path] for row in rows], np.int32)
        fill, texts = learn_fill(hole, rows, path, codes, self.corpus.interner)
        fill.sources = [replace(s, extra=hole.name) if s.kind == "text" else s for s in fill.sources]
        if texts:
            self._texts.setdefault(hole.name, set()).update((row, path) for row in texts)
        common = Counter(codes.tolist()).most_common()
        most, fill.resort = min((-n, self.corpus.interner.texts[code]) for code, n in common)
        fill.common = round(-most / len(rows), 4)
        if fill.rows:
            fill.start = self._reserve(len(fill.sources)) if len(fill.sources) > 1 else -1
        return fill

    def tag(self, structure: Structure) -> Tagger | None:
        """The tagger of the values that some fill reads from texts.

        Where classifiers may see them, its mentions become features; those of the training rows come from
        taggers that have not seen the row's group.
        """
        labels = []
        arrays = []
        found: list[list[Occurrence]] = []
        for name in sorted(self._texts):
            hole = self.holes[name]
            if hole.label is not None:
                labels.append(hole.label)
                arrays.append("")
                found.append([o for o in hole.found if (o.row, o.path) in self._texts[name]])
        for name in structure.items:
            listed = self.holes[name].listed
            for label, occurrences in listed.labels if listed is not None else ():
                labels.append(label)
                arrays.append(name)
                found.append(occurrences)
        if not labels:
            return None
        docs = self.corpus.docs
        choices = fit_choices(docs, labels, tasks_of(labels, arrays, found, self._unknown(labels, arrays)))
        running = [k for k, label in enumerate(labels) if not label.scanner]
        if not running:
            self._tagger = Tagger(labels, Gazetteer({}), [Crf(Lexicon({}), np.zeros((0, 0), np.float32), [])], None, {})
            self._tagger.choose(choices)
            if any(not silent for choice in choices for silent in choice.silent):
                structure.mentions = 0
                self._tags = [self._tagger.read(own, 0).mentions() for own in docs]
            return self._tagger
        found = [own if not label.scanner else [] for label, own in zip(labels, found, strict=True)]
        split = self._split(labels, found)
        examples = Examples(docs, labels, arrays, found, split, self.groups)
        self._tagger = examples.train(set(), iterations=FINAL)
        self._tagger.choose(choices)
        first = 0 if split.path is None else 1 + stage_of(split.path, self.stages)
        if all(stage < first for stage, *_ in self._classifiers(structure)):
            return self._tagger
        structure.mentions = first
        fold = folds(self.groups, 2)
        for half in (0, 1):
            outside = np.flatnonzero(fold == half).tolist()
            tagger = examples.train(set(outside), iterations=ROUGH) if 0 < len(outside) < len(docs) else self._tagger
            tagger.choose(choices)
            known: dict[tuple[Any, ...], list[str]] = {}
            for row in outside:
                key = (split.of_row[row], *((document.place, document.text) for document in docs[row]))
                if key not in known:
                    known[key] = tagger.read(docs[row], split.of_row[row]).mentions()
                self._tags[row] = known[key]
        return self._tagger

    def _unknown(self, labels: Sequence[Label], arrays: Sequence[str]) -> list[set[int]]:
        """Per label, the rows that have a value: those of which no place is known teach nothing."""
        rows = {
            name: set(self.corpus.places[name].rows) for name in {*(label.name for label in labels), *arrays} if name
        }
        laid: dict[str, set[int]] = {}
        for name, hole in self.holes.items():
            if hole.listed is not None:
                laid[name] = rows[name] - hole.listed.rows if name in rows else set()
        return [laid[array] if array else rows[label.name] for label, array in zip(labels, arrays, strict=True)]

    def _split(self, labels: Sequence[Label], found: Sequence[Sequence[Occurrence]]) -> Split:
        """By a listed value that stands before all labels and halves the work of the CRFs or better."""
        count = len(self.corpus.outputs)
        if len(labels) <= _MANY_LABELS:
            return one_tagger(count)
        stage = min(stage_of(o.path, self.stages) for own in found for o in own[:1])
        per_row: list[set[int]] = [set() for _ in range(count)]
        for k, own in enumerate(found):
            for occurrence in own:
                per_row[occurrence.row].add(k)
        best: tuple[float, str, Split] = (0.5 * count * len(labels) ** 2, "", one_tagger(count))
        for name, place in self.corpus.places.items():
            path = place.paths[0]
            alone = "/*" not in name and name not in self.holes and stage_of(path, self.stages) < stage
            distinct = {self.corpus.interner.texts[code] for code in set(place.codes)} if alone else set()
            if not 2 <= len(distinct) <= _MANY_GROUPS or any(text[0] in "{[" for text in distinct):
                continue
            values: list[str | None] = [None] * count
            for row, code in zip(place.rows, place.codes, strict=True):
                values[row] = self.corpus.interner.texts[code]
            if any(value is None and per_row[row] for row, value in enumerate(values)):
                continue
            split = split_by(path, values)
            known: dict[int, set[int]] = {}
            for row, group in enumerate(split.of_row):
                known.setdefault(group, set()).update(per_row[row])
            cost = float(sum(len(known[group]) ** 2 for group in split.of_row))
            best = min(best, (cost, name, split), key=lambda item: item[:2])
        return best[2]

    def featurise(self, structure: Structure) -> Featurizer:
        """Fit the vocabulary and the trees, and set the matrices of all stages."""
        features, outputs = self.features, self.corpus.outputs
        earlier = range(len(self.stages) - 1)
        given = [
            [*own.names, *tags, *(name for k in earlier for name in names_of_stage(output, self.stages, k))]
            for own, tags, output in zip(self.parts, self._tags, outputs, strict=True)
        ]
        features.fit(given, self.parts)
        active = activate(features, self.parts, self._tags, structure.mentions, outputs, self.stages)
        if features.names and self.settings.tree_weight:
            for k, known in enumerate(active):
                features.trees.append(grow_tree(features, known, self._joint(structure, k), self.seed))
        self.x = staged(features, self.parts, active)
        if self.settings.tune > 1 and self.settings.path_weight * self.settings.char_weight > 0:
            chosen = self._balance(structure)  # the vocabulary does not depend on it
            if chosen != (features.settings.path_weight, features.settings.char_weight):
                features.settings = replace(features.settings, path_weight=chosen[0], char_weight=chosen[1])
                self.x = staged(features, self.parts, active)
        features.settings = replace(features.settings, tune=1)
        return features

    def _balance(self, structure: Structure) -> tuple[float, float]:
        """Block weights that beat the settings' out of fold, on the largest factor of each stage, or those.

        Judged on whole groups of a few thousand rows; better means by 1.5 standard errors over groups.
        """
        features, s = self.features, self.features.settings
        parts = folds(self.groups, max(1, round(len(self.groups) / _TUNING_ROWS)))
        subset = np.flatnonzero(parts == 0)
        fold = np.full(len(parts), -1, np.int64)
        fold[subset] = folds([self.groups[row] for row in subset.tolist()], s.tune)
        largest: dict[int, int] = {}
        for f, factor in enumerate(structure.factors):
            known = largest.get(factor.stage)
            if factor.label:
                continue
            if known is None or len(factor.classes) > len(structure.factors[known].classes):
                largest[factor.stage] = f
        hard = {stage: f for stage, f in largest.items() if structure.factors[f].scored}
        _, group = np.unique(np.asarray(self.groups), return_inverse=True)
        words = len(features.names) + len(features.words)
        own = self._foretold(hard, np.ones(features.size), fold)
        best, chosen = 1.5, (s.path_weight, s.char_weight)
        for path_weight, char_weight in BALANCES:
            scale = np.ones(features.size)
            scale[: len(features.names)] = path_weight / s.path_weight
            scale[words : words + len(features.chars)] = char_weight / s.char_weight
            gain = np.bincount(group, self._foretold(hard, scale, fold) - own)
            t = float(gain.sum() / np.sqrt(max((gain**2).sum(), 1e-9)))
            if t > best:
                best, chosen = t, (path_weight, char_weight)
        return chosen

    def _foretold(self, largest: dict[int, int], scale: NDArray[np.float64], fold: Ints) -> NDArray[np.float64]:
        """Per row, how many of some factors (by stage) come out right out of fold, with the columns scaled."""
        from scipy import sparse

        right = np.zeros(len(fold))
        for stage, f in largest.items():
            rows, truth = self.problems[f]
            x = self.x[stage] @ sparse.diags(scale)
            for k in range(int(fold.max()) + 1):
                inside = np.flatnonzero((fold[rows] >= 0) & (fold[rows] != k))
                outside = np.flatnonzero(fold[rows] == k)
                if len(inside) and len(outside):
                    c, seed = self.settings.c, self.seed
                    classes, w, b = fit_svm(x[rows[inside]], truth[inside], c=c, seed=seed, tolerance=0.1)
                    found = classes[np.argmax(x[rows[outside]] @ w + b, axis=1)]
                    right[rows[outside]] += found == truth[outside]
        return right

    def _joint(self, structure: Structure, stage: int) -> Ints:
        """One class a row for what a whole stage decides; classes of fewer than three rows are one."""
        chosen = [
            problem
            for factor, problem in zip(structure.factors, self.problems, strict=True)
            if factor.stage == stage and factor.scored
        ]
        table = np.full((len(self.parts), max(1, len(chosen))), -1, np.int64)
        for column, (rows, truth) in enumerate(chosen):
            table[rows, column] = truth
        _, joint, counts = np.unique(table, axis=0, return_inverse=True, return_counts=True)
        joint = joint.reshape(-1)
        return np.where(counts[joint] < 3, -1, joint).astype(np.int64)

    def unseen(self, structure: Structure, inputs: Sequence[Json], outputs: Sequence[Json]) -> list[Any]:
        """The matrices of rows that were not trained on, with their true outputs as earlier stages."""
        parts = [self.features.parts(value) for value in inputs]
        tags: list[list[str]] = [[] for _ in parts]
        if self._tagger is not None and structure.mentions >= 0:
            tagger = self._tagger
            tags = [
                tagger.read(documents(part.texts), tagger.group(output)).mentions()
                for part, output in zip(parts, outputs, strict=True)
            ]
        active = activate(self.features, parts, tags, structure.mentions, outputs, structure.stages)
        return staged(self.features, parts, active)

    def _classifiers(self, structure: Structure) -> list[tuple[int, int, Ints, Ints]]:
        """(stage, first column, rows, classes) of every classifier with more than one class."""
        out = [
            (factor.stage, factor.start, rows, truth)
            for factor, (rows, truth) in zip(structure.factors, self.problems, strict=True)
            if factor.scored
        ]
        for (u, _), fills in sorted(structure.fills.items()):
            stage = stage_of(structure.units[u].path, self.stages)
            out += [(stage, f.start, np.asarray(f.rows), np.asarray(f.truth)) for f in fills if f.start >= 0]
        return out

    def fit(self, structure: Structure) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weights [features, columns] and bias [columns], rounded to what a checkpoint keeps."""
        weights = np.zeros((self.features.size, self.columns), np.float32)
        bias = np.zeros(self.columns, np.float32)
        for stage, start, rows, truth in self._classifiers(structure):
            classes, w, b = self.svm(stage, rows, truth)
            weights[:, start + classes] = w
            bias[start + classes] = b
        return weights.astype(np.float16).astype(np.float32), bias

    def svm(self, stage: int, rows: Ints, truth: Ints) -> tuple[NDArray[Any], Any, Any]:
        """One classifier of some rows at a stage: classes, weights, intercepts."""
        s = self.settings
        return fit_svm(self.x[stage][rows], truth, c=s.c, seed=self.seed, tolerance=s.tolerance, max_iter=s.max_iter)


def _told_by(
    units: Sequence[int],
    classes: Sequence[tuple[int, ...]],
    templates: Sequence[Template],
    fills: dict[tuple[int, int], list[Fill]],
) -> str:
    """The label whose presence in a text decides a factor: one unit that is nothing but a span, or is not."""
    shapes = [name[0] for name in classes if templates[name[0]].holes]
    if len(units) != 1 or len(classes) != 2 or len(shapes) != 1 or templates[shapes[0]].holes != [()]:
        return ""
    sources = fills[units[0], shapes[0]][0].sources
    return sources[0].extra if all(source.kind == "text" for source in sources) else ""
