"""The encoder rung as the ladder has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import orjson

from slm_assets import canonical
from slm_assets.errors import ArtifactError, BadInputError
from slm_assets.models import linear
from slm_assets.models.encoder import files
from slm_assets.models.encoder.files import EncoderFiles
from slm_assets.models.encoder.session import opened, quantized
from slm_assets.models.encoder.settings import EncoderSettings, from_hyperparams
from slm_assets.models.encoder.vectors import TextEmbedder, vectors_of
from slm_assets.models.ladder import Training
from slm_assets.models.linear import LinearModel

FORMAT: Final = "slm-encoder-1"
HEAD: Final = "encoder.json"
_EMBEDDING: Final = 0.5
"""The share of the progress that the embeddings are."""


class Embedding(TextEmbedder):
    """A model's embedder fresh from training, with the files that a checkpoint must carry, if any."""

    files: EncoderFiles | None = None


def train(training: Training) -> LinearModel:
    """Learn one role: embed the texts once, then as the linear rung, with the vectors as one more block."""
    training, added = linear.augmented(training)
    settings, own = from_hyperparams(training.hyperparams)
    chosen = _chosen(settings)
    embedder = Embedding(opened(chosen), settings.embedding_weight)
    say = training.progress or (lambda share, what: None)
    pairs = [*training.pairs, *training.validation]
    texts = linear.texts_of([value for value, _ in pairs], linear.find_texts([value for value, _ in training.pairs]))
    embedder.known = vectors_of(embedder.encoder, texts, lambda share: say(share * _EMBEDDING, "embeddings"))
    model = linear.train(
        training.pairs,
        training.schema,
        validation=training.validation,
        groups=training.groups,
        settings=own,
        seed=training.seed,
        progress=lambda share, what: say(_EMBEDDING + share * (1 - _EMBEDDING), what),
        embedder=embedder,
    )
    embedder.known = {}
    if chosen.name != files.SHIPPED or chosen.quantized:
        embedder.files = chosen
    model.report["encoder"] = {"name": chosen.name, "digest": chosen.digest, "quantize": chosen.quantized}
    return linear.with_added(model, added)


def _chosen(settings: EncoderSettings) -> EncoderFiles:
    """The encoder of the settings, quantised where they say so. BadInputError where it is not the one pinned."""
    found = files.find(settings.encoder)
    if settings.encoder is not None and settings.encoder_digest != found.digest:
        raise BadInputError(
            f"encoder {settings.encoder}: found digest {found.digest}, expected {settings.encoder_digest or 'one'}",
            cure=f"if this is the encoder that you mean: hyperparams.encoder_digest: {found.digest}",
        )
    return quantized(found) if settings.quantize else found


def save(model: LinearModel, folder: Path) -> None:
    """Write the role's files; an encoder other than the shipped one lies beside them, once for all roles."""
    embedder = model.features.embedder
    assert isinstance(embedder, Embedding)
    if embedder.files is not None:
        files.carry(embedder.files, _beside(folder, embedder.encoder.digest))
    head = {
        "format": FORMAT,
        "name": embedder.encoder.name,
        "digest": embedder.encoder.digest,
        "carried": embedder.files is not None,
        "weight": embedder.weight,
    }
    canonical.write_json(folder / HEAD, head)
    linear.save(model, folder)


def load(folder: Path, schema: dict[str, Any]) -> LinearModel:
    """What was saved, with its encoder. ArtifactError where that is not the one it was trained with."""
    try:
        head = canonical.read_json(folder / HEAD)
        form, name, digest, weight = head["format"], head["name"], head["digest"], float(head["weight"])
        is_carried, _ = head["carried"], bytes.fromhex(digest)  # it is part of a path
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{folder}: no readable checkpoint of recipe encoder ({type(error).__name__}: {error})",
            cure="restore the folder from the registry or train again",
        ) from error
    if form != FORMAT:
        raise ArtifactError(f"{folder}: format {form!r}, expected {FORMAT!r}", cure="train again with this release")
    found = files.carried(name, _beside(folder, digest)) if is_carried else files.find(None)
    if found.digest != digest:
        raise ArtifactError(
            f"{folder}: trained with encoder {name} of digest {digest}, found {found.digest}",
            cure="install the packages of slm-assets[encoder] as they were at training, or train again",
        )
    return linear.load(folder, schema, TextEmbedder(opened(found), weight))


def _beside(folder: Path, digest: str) -> Path:
    """A folder of the checkpoint that no role can have the name of."""
    return folder.parent / f"encoder-{str(digest)[:16]}"
