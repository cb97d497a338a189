"""Vectors that are kept: on disk by the digest of the text, so that the next training does not compute them again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np

from slm_assets import canonical
from slm_assets.models.encoder.session import Encoder, Vector
from slm_assets.registry.home import Home

_AT_ONCE: Final = 256
_WAIT_S: Final = 60


class TextEmbedder:
    """The embedder of a model: an encoder's vectors, their length the block's weight. `known`: text → vector."""

    def __init__(self, encoder: Encoder, weight: float) -> None:
        self.encoder = encoder
        self.weight = weight
        self.known: dict[str, Vector] = {}

    @property
    def size(self) -> int:
        """Numbers in a vector."""
        return self.encoder.size

    def embed(self, text: str) -> Vector:
        """The vector of a text."""
        vector = self.known.get(text)
        if vector is None:
            vector = self.encoder.encode(text)
        scaled: Vector = vector * np.float32(self.weight)
        return scaled

    def forget(self) -> None:
        """Compute again what is remembered."""
        self.encoder.forget()


def vectors_of(encoder: Encoder, texts: Sequence[str], tell: Callable[[float], None]) -> dict[str, Vector]:
    """Text → vector, read from $SLM_HOME/cache where they are known, else computed and kept there."""
    path = Home.from_env().cache / "embeddings" / f"{encoder.digest}.db"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _remembered(path, encoder, texts, tell)
    except (OSError, sqlite3.Error):  # a home that cannot be written, a file that is no database: only slower
        return {text: encoder.encode(text) for text in texts}


def _remembered(path: Path, encoder: Encoder, texts: Sequence[str], tell: Callable[[float], None]) -> dict[str, Vector]:
    found: dict[str, Vector] = {}
    with closing(sqlite3.connect(path, timeout=_WAIT_S)) as db:
        db.execute("CREATE TABLE IF NOT EXISTS vectors (text BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID")
        for some in _parts(texts):
            keys = {bytes.fromhex(canonical.digest_bytes(text.encode("utf-8", "surrogatepass"))): text for text in some}
            marks = ",".join("?" * len(keys))
            rows = db.execute(f"SELECT text, vector FROM vectors WHERE text IN ({marks})", list(keys))  # noqa: S608
            found |= {keys[key]: np.frombuffer(data, "<f4") for key, data in rows if len(data) == 4 * encoder.size}
            fresh = {key: encoder.encode(text) for key, text in keys.items() if text not in found}
            with db:  # what is computed is kept, whatever happens to the rest
                db.executemany(
                    "INSERT OR REPLACE INTO vectors VALUES (?, ?)",
                    [(key, vector.astype("<f4").tobytes()) for key, vector in fresh.items()],
                )
            found |= {keys[key]: vector for key, vector in fresh.items()}
            tell(len(found) / len(texts))
    return found


def _parts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), _AT_ONCE):
        yield texts[start : start + _AT_ONCE]
