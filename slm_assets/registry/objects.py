"""Named bytes in a folder of this machine or in a bucket, written whole or not at all.

`open_objects` reads SLM_ARTIFACTS and gives one of the two places; buckets.py holds the other.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from slm_assets import canonical
from slm_assets.errors import ArtifactError, BadInputError

BUCKETS = ("s3", "gs")
_EXAMPLES = "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, file:///FOLDER or a folder"


@dataclass(frozen=True)
class Found:
    """A stored object: its key, its size, and when it was written last (UTC)."""

    key: str
    bytes: int
    modified: datetime


class Objects(Protocol):
    """A place for named bytes; every key begins with its `root`. SlmError says why a place cannot be used."""

    root: str

    def find(self, key: str) -> Found | None:
        """The object of that key, or None."""

    def put_file(self, key: str, source: Path, sha256: str, *, replace: bool = False) -> None:
        """Store a file whose digest is known, whole or not at all. Without `replace` one that was stored in the
        meantime stays, which has the same content. ArtifactError where the file is not of that digest."""

    def put_bytes(self, key: str, data: bytes, *, replace: bool = False) -> None:
        """Store some bytes, in the same way."""

    def fetch(self, key: str, target: Path | None) -> str | None:
        """Copy an object to a file, or only read it; returns the sha256 of what was read, None where there is none."""

    def read(self, key: str) -> bytes | None:
        """All bytes of an object, or None where there is none."""

    def open(self, key: str) -> BinaryIO:
        """An object to read from."""

    def remove(self, key: str) -> None:
        """Forget an object, if it is there."""

    def listed(self, prefix: str) -> Iterator[Found]:
        """Every object whose key begins with this folder."""

    def unfinished(self, prefix: str) -> Iterator[Found]:
        """What uploads under this folder left behind that never ended; nothing else ever sees it."""

    def discard(self, unfinished: Found) -> None:
        """Remove one of those."""

    def address(self, key: str) -> str:
        """The URL of an object."""


def open_objects(url: str) -> Objects:
    """The place that SLM_ARTIFACTS names. BadInputError, without repeating anything secret, where it names none."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        return Folder(Path(url))
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None
    if parts is None or "@" in parts.netloc or parts.query or parts.fragment:
        raise BadInputError(
            f"SLM_ARTIFACTS ({scheme}://…) has more in it than a bucket and a prefix",
            cure=f"expected {_EXAMPLES}; credentials and endpoints come from the environment of {scheme}'s own client, "
            "such as AWS_PROFILE, AWS_ENDPOINT_URL or GOOGLE_APPLICATION_CREDENTIALS",
        )
    if scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        return Folder(Path(unquote(parts.path)))
    if scheme not in BUCKETS or not parts.netloc:
        raise BadInputError(f"SLM_ARTIFACTS ({scheme}://…) names no folder and no bucket", cure=f"expected {_EXAMPLES}")
    from slm_assets.registry.buckets import open_bucket

    return open_bucket(scheme, parts.netloc, parts.path.strip("/"))


class Folder:
    """Objects as files: written beside, synced, renamed."""

    def __init__(self, root: Path) -> None:
        self.root = str(root.absolute())

    def find(self, key: str) -> Found | None:
        """The object of that key, or None."""
        try:
            return _found(Path(key))
        except FileNotFoundError:
            return None

    def put_file(self, key: str, source: Path, sha256: str, *, replace: bool = False) -> None:
        """Copy a file in, hashing what is written."""
        path = Path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            with source.open("rb") as reader, beside.open("wb") as writer:
                written = copied(reader, writer)
                writer.flush()
                os.fsync(writer.fileno())
            if written != sha256:
                raise changed(source)
            beside.chmod(0o444)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)

    def put_bytes(self, key: str, data: bytes, *, replace: bool = False) -> None:
        """Write some bytes atomically."""
        canonical.write_bytes(Path(key), data)

    def fetch(self, key: str, target: Path | None) -> str | None:
        """Copy a file out, hashing what is read."""
        try:
            with Path(key).open("rb") as reader:
                if target is None:
                    return hashlib.file_digest(reader, "sha256").hexdigest()
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as writer:
                    return copied(reader, writer)
        except FileNotFoundError:
            return None

    def read(self, key: str) -> bytes | None:
        """All bytes of a file, or None."""
        try:
            return Path(key).read_bytes()
        except FileNotFoundError:
            return None

    def open(self, key: str) -> BinaryIO:
        """A file to read from."""
        return Path(key).open("rb")

    def remove(self, key: str) -> None:
        """Delete a file, if it is there."""
        Path(key).unlink(missing_ok=True)

    def listed(self, prefix: str) -> Iterator[Found]:
        """Every file under a folder but those of writers that have not ended."""
        return (found for found in self._walked(prefix) if not _is_beside(found.key))

    def unfinished(self, prefix: str) -> Iterator[Found]:
        """What writers have not renamed."""
        return (found for found in self._walked(prefix) if _is_beside(found.key))

    def discard(self, unfinished: Found) -> None:
        """Delete what a writer left behind."""
        self.remove(unfinished.key)

    def address(self, key: str) -> str:
        """Its file URL."""
        return Path(key).as_uri()

    def _walked(self, prefix: str) -> Iterator[Found]:
        for path in sorted(Path(prefix).rglob("*")):
            with suppress(FileNotFoundError):
                if path.is_file():
                    yield _found(path)


def copied(reader: BinaryIO, writer: BinaryIO) -> str:
    """Copy all that is left to read; returns its sha256."""
    hasher = hashlib.sha256()
    while chunk := reader.read(canonical.CHUNK):
        hasher.update(chunk)
        writer.write(chunk)
    return hasher.hexdigest()


def changed(source: Path) -> ArtifactError:
    """A file that was written to while it was being stored."""
    return ArtifactError(
        f"{source} is not what it was when its digest was taken; nothing was stored",
        cure="let nobody write to the output of a stage that runs, and run it again",
    )


def _found(path: Path) -> Found:
    stat = path.stat()
    return Found(str(path), stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))


def _is_beside(key: str) -> bool:
    name = key.rpartition("/")[2]
    return name.startswith(".") and name.endswith(".tmp")
