"""A model as two files: `model.json` (canonical JSON) and `weights.safetensors` (float16 and float32)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path as FilePath
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.errors import ArtifactError
from slm_assets.models.linear.choice import Choice
from slm_assets.models.linear.crf import Crf, Layer
from slm_assets.models.linear.features import Embedder, Featurizer, Tree
from slm_assets.models.linear.fills import Fill
from slm_assets.models.linear.gazetteer import Gazetteer
from slm_assets.models.linear.items import Items
from slm_assets.models.linear.lexicon import Lexicon
from slm_assets.models.linear.model import LinearModel
from slm_assets.models.linear.schema import Contract
from slm_assets.models.linear.settings import from_hyperparams
from slm_assets.models.linear.shapes import Unit
from slm_assets.models.linear.spans import Label
from slm_assets.models.linear.structure import Factor, Structure, template
from slm_assets.models.linear.tagger import Tagger

FORMAT: Final = "slm-linear-4"
MODEL_FILE: Final = "model.json"
WEIGHTS_FILE: Final = "weights.safetensors"


def save(model: LinearModel, folder: FilePath) -> None:
    """Write the two files; equal models give equal bytes."""
    structure, tagger = model.structure, model.tagger
    document = {
        "format": FORMAT,
        "settings": asdict(model.features.settings),
        "texts": sorted(model.features.text_names),
        "vocabulary": model.features.vocabulary(),
        "units": [[list(u.path), u.parent, u.member] for u in structure.units],
        "factors": [[f.units, f.classes, f.start, f.stage, f.temperature, f.label] for f in structure.factors],
        "stages": [list(path) for path in structure.stages],
        "trees": [[t.feature, t.absent, t.present, t.start] for t in model.features.trees],
        "shapes": structure.shape_keys,
        "fills": [[u, s, [fill.to_json() for fill in fills]] for (u, s), fills in sorted(structure.fills.items())],
        "fallback": [structure.fallback.decode(), structure.fallback_valid],
        "calibration": structure.calibration,
        "items": [[name, items.to_json()] for name, items in sorted(structure.items.items())],
        "mentions": structure.mentions,
        "tagger": _tagger_document(tagger) if tagger else None,
        "report": model.report,
    }
    arrays: dict[str, NDArray[Any]] = {
        "weights": model.weights.astype(np.float16),
        "bias": model.bias,
        "idf": model.features.idf,
    }
    for k, crf in enumerate(tagger.crfs if tagger else []):
        feature, tag = np.nonzero(crf.weights)
        arrays[f"crf{k}.feature"] = feature.astype(np.uint32)
        arrays[f"crf{k}.tag"] = tag.astype(np.uint16)
        arrays[f"crf{k}.weight"] = crf.weights[feature, tag].astype(np.float16)
        for n, layer in enumerate(crf.layers):
            arrays[f"crf{k}.transitions{n}"] = layer.transitions.astype(np.float16)
    for k, choice in enumerate(tagger.choices if tagger else []):
        arrays[f"choice{k}.weights"] = choice.weights.astype(np.float16)
    canonical.write_bytes(folder / WEIGHTS_FILE, save_arrays(arrays))
    canonical.write_json(folder / MODEL_FILE, document)


def _tagger_document(tagger: Tagger) -> Json:
    return {
        "labels": [label.to_json() for label in tagger.labels],
        "phrases": tagger.gazetteer.to_json(),
        "split": None if tagger.split is None else list(tagger.split),
        "groups": tagger.groups,
        "choices": [
            [c.kind, c.labels, _by_template(c.names), c.silent, c.listed, sorted(c.barren)] for c in tagger.choices
        ],
        "crfs": [
            {"layers": [layer.labels for layer in crf.layers], "names": crf.lexicon.names()} for crf in tagger.crfs
        ],
    }


def _by_template(names: Sequence[tuple[int, str]]) -> Json:
    """[template, [name, …]] of neighbours that share a template."""
    return [[template, [name for _, name in own]] for template, own in groupby(names, key=lambda each: each[0])]


def load(folder: FilePath, schema: dict[str, Any], embedder: Embedder | None = None) -> LinearModel:
    """Read a model for a contract, with the embedder that it was trained with, if any.

    What is missing, altered or of another format: ArtifactError.
    """
    try:
        document = canonical.read_json(folder / MODEL_FILE)
        arrays = load_arrays((folder / WEIGHTS_FILE).read_bytes())
        found = document["format"] if isinstance(document, dict) else None
        if found != FORMAT:
            raise ArtifactError(
                f"{folder}: format {found!r}, expected {FORMAT!r}", cure="train again with this release"
            )
        return _assemble(document, arrays, schema, embedder)
    except (OSError, orjson.JSONDecodeError, SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ArtifactError(
            f"{folder}: no readable checkpoint of recipe linear ({type(error).__name__}: {error})",
            cure="restore the folder from the registry or train again",
        ) from error


def _assemble(
    document: dict[str, Any], arrays: dict[str, Any], schema: dict[str, Any], embedder: Embedder | None
) -> LinearModel:
    features = Featurizer(from_hyperparams(document["settings"]), document["texts"], embedder)
    features.restore(document["vocabulary"], arrays["idf"], [Tree(*tree) for tree in document["trees"]])
    shape_keys = document["shapes"]
    structure = Structure(
        units=[Unit(tuple(path), parent, member) for path, parent, member in document["units"]],
        factors=[Factor(*factor) for factor in document["factors"]],
        stages=[tuple(path) for path in document["stages"]],
        templates=[template(key) for key in shape_keys],
        fills={(u, s): [Fill.from_json(fill) for fill in fills] for u, s, fills in document["fills"]},
        fallback=document["fallback"][0].encode(),
        fallback_valid=document["fallback"][1],
        shape_keys=shape_keys,
        calibration=document["calibration"],
        mentions=document["mentions"],
        items={name: Items.from_json(items) for name, items in document["items"]},
    )
    weights, bias = arrays["weights"].astype(np.float32), arrays["bias"]
    if weights.shape != (features.size, len(bias)) or len(features.idf) > features.size:
        raise ValueError(f"weights {weights.shape} do not fit {features.size} features and {len(bias)} columns")
    tagger = _tagger(document["tagger"], arrays) if document["tagger"] else None
    return LinearModel(Contract(schema), features, weights, bias, structure, tagger, document["report"])


def _tagger(document: dict[str, Any], arrays: dict[str, Any]) -> Tagger:
    crfs = []
    for k, part in enumerate(document["crfs"]):
        lexicon = Lexicon.from_names(part["names"])
        layers: list[Layer] = []
        for n, own in enumerate(part["layers"]):
            jumps = arrays[f"crf{k}.transitions{n}"].astype(np.float32)
            if jumps.shape != (1 + 2 * len(own),) * 2:
                raise ValueError(f"transitions {jumps.shape} of CRF {k} do not fit {len(own)} labels")
            layers.append(Layer(own, jumps, layers[-1].columns.stop if layers else 0))
        weights = np.zeros((lexicon.size, layers[-1].columns.stop if layers else 0), np.float32)
        weights[arrays[f"crf{k}.feature"], arrays[f"crf{k}.tag"]] = arrays[f"crf{k}.weight"]
        crfs.append(Crf(lexicon, weights, layers))
    labels = [Label.from_json(item) for item in document["labels"]]
    split = None if document["split"] is None else tuple(document["split"])
    choices = []
    for k, (kind, own, known, silent, listed, barren) in enumerate(document["choices"]):
        names = [(template, name) for template, listing in known for name in listing]
        rows = arrays[f"choice{k}.weights"].astype(np.float32)
        if rows.shape != (len(names), len(own)) or not len(own) == len(silent) == len(listed):
            raise ValueError(f"weights {rows.shape} of choice {k} do not fit {len(names)} features, {len(own)} labels")
        choices.append(Choice(kind, own, names, rows, silent, listed, frozenset(barren)))
    return Tagger(labels, Gazetteer.from_json(document["phrases"]), crfs, split, document["groups"], choices)
