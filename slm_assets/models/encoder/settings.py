"""What may be set about the encoder rung beside the settings of the linear one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Final

from slm_assets.errors import BadInputError
from slm_assets.models import linear
from slm_assets.models.linear import LinearSettings

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class EncoderSettings:
    """Hyperparameters. `encoder`: null for the shipped one, or the name of a folder of the deployment's
    SLM_ENCODERS, or of a hub repository (`owner/name`). `encoder_digest`: what it must be; any but the shipped
    one needs it, so that equal requests train on equal encoders. `quantize`: null, or int8 for dynamic
    quantisation. `embedding_weight`: the vectors' length, as the weights of the linear rung's blocks.
    """

    encoder: str | None = None
    encoder_digest: str | None = None
    quantize: str | None = None
    embedding_weight: float = 2.0


DEFAULTS: Final[Mapping[str, Any]] = MappingProxyType({"c": 0.5})
"""Where the linear rung's default is not the best beside the vectors, by cross-validation on train rows."""
OWN: Final = tuple(field.name for field in fields(EncoderSettings))


def from_hyperparams(values: Mapping[str, Any]) -> tuple[EncoderSettings, LinearSettings]:
    """Both rungs' settings; an unknown key or a wrong value is a BadInputError."""
    own = {key: value for key, value in values.items() if key in OWN}
    rest = {**DEFAULTS, **{key: value for key, value in values.items() if key not in OWN}}
    _check(own, "encoder", lambda v: isinstance(v, str) and _NAME.fullmatch(v), "a name such as owner/model, or null")
    _check(own, "encoder_digest", lambda v: isinstance(v, str) and _DIGEST.fullmatch(v), "64 hexadecimal digits")
    _check(own, "quantize", lambda v: v == "int8", "int8 or null")
    weight = own.get("embedding_weight", EncoderSettings.embedding_weight)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < 1e9:
        raise BadInputError(
            f"hyperparams.embedding_weight: found {weight!r}, expected a positive number",
            cure="for a model without embeddings take recipe linear",
        )
    settings = EncoderSettings(**{**own, "embedding_weight": float(weight)})
    if settings.encoder is None and settings.encoder_digest is not None:
        raise BadInputError(
            "hyperparams.encoder_digest without hyperparams.encoder", cure="name the encoder, or leave both out"
        )
    return settings, linear.from_hyperparams(rest, recipe="encoder", also=(*OWN, linear.AUGMENT))


def _check(own: Mapping[str, Any], key: str, fits: Any, expected: str) -> None:
    value = own.get(key)
    if value is not None and not fits(value):
        raise BadInputError(
            f"hyperparams.{key}: found {str(value)[:80]!r}, expected {expected}", cure="leave it out for the default"
        )
