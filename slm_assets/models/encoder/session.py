"""Texts to vectors by ONNX Runtime: one thread, one text at a time."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, Final
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from slm_assets.errors import ArtifactError, BadInputError
from slm_assets.models.encoder.files import EXTRA, MODEL, EncoderFiles

MAX_TOKENS: Final = 256
"""Of a text the rest is not read; the shipped encoder was trained on as many."""
_REMEMBERED: Final = 2_048

Vector = NDArray[np.float32]


class Encoder:
    """An open encoder. Each text has a run of its own: what it is padded with would be in the last bits of its vector,
    and training and serving must see the same."""

    def __init__(self, files: EncoderFiles) -> None:
        onnxruntime, tokenizers = _runtime()
        self.name = files.name
        self.digest = files.digest
        try:
            self._tokenizer = tokenizers.Tokenizer.from_buffer(files.tokenizer)
            self._session = onnxruntime.InferenceSession(
                files.model, _options(onnxruntime), providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ArtifactError(
                f"encoder {files.name} cannot be opened: {str(error)[:300]}",
                cure=f"it must be a sentence encoder: {MODEL} without external data, and its tokenizer",
            ) from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._inputs = {given.name for given in self._session.get_inputs()}
        self.encode = lru_cache(_REMEMBERED)(self._encode)
        """The vector of a text, of length 1."""
        self.size = len(self.encode("a"))

    def forget(self) -> None:
        """Compute again what is remembered."""
        self.encode.cache_clear()

    def _encode(self, text: str) -> Vector:
        ids = np.asarray([self._tokenizer.encode(text).ids], np.int64)
        given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        found = self._session.run(None, {name: given[name] for name in self._inputs})[0][0]
        vector: Vector = (found.mean(axis=0) if found.ndim == 2 else found).astype(np.float32)
        vector /= max(float(np.sqrt(np.add.reduce(vector * vector))), 1e-12)
        vector.flags.writeable = False  # it is remembered
        return vector


_OPEN: WeakValueDictionary[str, Encoder] = WeakValueDictionary()
_LOCK = Lock()


def opened(files: EncoderFiles) -> Encoder:
    """The encoder, opened once for all roles that use it, and closed with the last of them."""
    with _LOCK:
        encoder = _OPEN.get(files.digest)
        if encoder is None:
            encoder = _OPEN[files.digest] = Encoder(files)
        return encoder


def quantized(files: EncoderFiles) -> EncoderFiles:
    """The encoder with int8 weights, a scale for each channel, activations quantised as they come. Equal files
    give equal bytes."""
    onnxruntime, _ = _runtime()
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise BadInputError("hyperparams.quantize: the ONNX package is not installed", cure=EXTRA) from error
    with tempfile.TemporaryDirectory(prefix="slm-quantize-") as scratch:
        plain, small = Path(scratch) / "plain.onnx", Path(scratch) / "small.onnx"
        options = _options(onnxruntime)
        # Weights that are computed from others, as in the shipped file, become plain ones first.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(plain)
        onnxruntime.InferenceSession(files.model, options, providers=["CPUExecutionProvider"])
        quantize_dynamic(plain, small, per_channel=True, weight_type=QuantType.QInt8)
        return EncoderFiles(files.name, small.read_bytes(), files.tokenizer, "int8")


def _options(onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _runtime() -> tuple[Any, Any]:
    try:
        import onnxruntime
        import tokenizers
    except ImportError as error:
        raise BadInputError(f"recipe encoder: {error.name} is not installed", cure=EXTRA) from error
    return onnxruntime, tokenizers
