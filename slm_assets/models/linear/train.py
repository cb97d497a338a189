"""Training: rows → holes, shapes, factors, fills → tagger, features → one weight matrix, calibrated."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from slm_assets.canonical import Json
from slm_assets.errors import BadInputError
from slm_assets.models.linear.build import Build
from slm_assets.models.linear.calibrate import on_validation, out_of_fold
from slm_assets.models.linear.features import Embedder, Parts, find_texts, split_parts
from slm_assets.models.linear.holes import Corpus, find_holes
from slm_assets.models.linear.learner import folds
from slm_assets.models.linear.model import LinearModel
from slm_assets.models.linear.paths import pointer, text_of
from slm_assets.models.linear.schema import Contract
from slm_assets.models.linear.settings import LinearSettings
from slm_assets.models.linear.shapes import plan
from slm_assets.models.linear.sources import Interner
from slm_assets.models.linear.spans import documents

Pair = tuple[Json, Json]
Progress = Callable[[float, str], None]


def train(
    pairs: Sequence[Pair],
    schema: dict[str, Any],
    *,
    validation: Sequence[Pair] = (),
    settings: LinearSettings | None = None,
    seed: int = 0,
    groups: Sequence[str] | None = None,
    progress: Progress | None = None,
    embedder: Embedder | None = None,
) -> LinearModel:
    """Learn input → output from pairs, for any contract.

    `validation` rows calibrate the confidence; without them folds of the training rows do, split by
    `groups` (default: rows with equal texts stay together). `embedder` adds its vectors of the texts to the
    features. Outputs that break the contract are left out
    and counted in the report. No rows, or a schema that is none: BadInputError. Equal arguments give an
    equal model.
    """
    with _no_collector():
        return _train(pairs, schema, validation, settings or LinearSettings(), seed, groups, progress, embedder)


@contextmanager
def _no_collector() -> Iterator[None]:
    """Training makes millions of small values and no cycles; the collector would walk them over and over."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _train(
    pairs: Sequence[Pair],
    schema: dict[str, Any],
    validation: Sequence[Pair],
    settings: LinearSettings,
    seed: int,
    groups: Sequence[str] | None,
    progress: Progress | None,
    embedder: Embedder | None,
) -> LinearModel:
    say = progress or (lambda share, what: None)
    contract = Contract(schema)
    kept, valid = _usable(pairs, contract, groups)
    inputs, outputs = [pairs[k][0] for k in kept], [pairs[k][1] for k in kept]
    say(0.0, "sources")
    text_names = find_texts(inputs)
    parts = [split_parts(value, text_names) for value in inputs]
    names = [groups[k] for k in kept] if groups is not None else _text_groups(parts)
    docs = [documents(p.texts) for p in parts]
    corpus = Corpus(inputs, outputs, docs, text_names, contract, Interner())
    holes, uncovered = find_holes(corpus)
    say(0.3, "shapes")
    textual = {name for name, hole in holes.items() if hole.textual}
    layout, keys = plan(corpus, set(holes), textual, max_shapes=settings.max_shapes)
    build = Build(parts, names, corpus, holes, settings, seed, embedder)
    structure = build.structure(layout, keys, fallback_valid=valid)
    say(0.4, "spans")
    tagger = build.tag(structure)
    say(0.5, "features")
    features = build.featurise(structure)
    say(0.6, "classifiers")
    weights, bias = build.fit(structure)
    report: dict[str, Json] = {
        "n": len(kept),
        "dropped_rows": len(pairs) - len(kept),
        "features": features.size,
        "columns": int(weights.shape[1]),
        "path_weight": features.settings.path_weight,
        "char_weight": features.settings.char_weight,
        "holes": sorted(holes),
        "labels": [label.name for label in tagger.labels] if tagger else [],
        "tagger_split": pointer(tagger.split) if tagger and tagger.split is not None else None,
        "uncovered": sorted(uncovered, key=lambda leaf: (-leaf["share_of_rows"], leaf["path"])),
    }
    model = LinearModel(contract, features, weights, bias, structure, tagger, report)
    say(0.8, "calibration")
    checked = [pair for pair in validation if _writable(pair)]
    if checked:
        seen = build.unseen(structure, [value for value, _ in checked], [target for _, target in checked])
        report["factors"] = on_validation(model, layout, set(holes), build.problems, build.x, seen, checked)
    else:
        fold = folds(build.groups, settings.folds)
        report["factors"] = out_of_fold(model, build.problems, build.x, fold, build.svm)
    report["calibration"] = model.structure.calibration
    say(1.0, "done")
    return model


def _usable(pairs: Sequence[Pair], contract: Contract, groups: Sequence[str] | None) -> tuple[list[int], bool]:
    """Rows to train on: those whose output meets the contract, or all where none does, and whether any did."""
    if not pairs:
        raise BadInputError("no rows to train on", cure="give at least one labelled row")
    if groups is not None and len(groups) != len(pairs):
        raise BadInputError(f"{len(groups)} groups for {len(pairs)} rows", cure="give one group a row")
    written = [k for k, pair in enumerate(pairs) if _writable(pair)]
    if not written:
        raise BadInputError(
            f"none of the {len(pairs)} training rows is JSON that can be written",
            cure="look for lone surrogates and integers past 64 bits",
        )
    valid = [k for k in written if contract.is_valid(pairs[k][1])]
    return valid or written, bool(valid)


def _writable(pair: Pair) -> bool:
    return text_of(pair[0]) is not None and text_of(pair[1]) is not None


def _text_groups(parts: Sequence[Parts]) -> list[str]:
    """Rows with equal texts share a group, rows without text stand alone."""
    return ["\n".join(t for _, _, t in p.texts) or f"\0{k}" for k, p in enumerate(parts)]
