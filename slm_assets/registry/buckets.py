"""Objects in a bucket of S3, of a store that speaks its protocol, or of Google Cloud Storage; through fsspec.

An upload is visible when it is complete, and conditional: of two writers of one key the first one wins. What
a store or a network refuses for the moment is tried again for a while; the rest is told with its cure. The
clients find credentials and endpoints by themselves, in the environment, and nothing here reads them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from slm_assets import canonical
from slm_assets.errors import BadInputError, SlmError
from slm_assets.registry.bucket_errors import exists_already, passes, told
from slm_assets.registry.objects import Found, changed, copied

T = TypeVar("T")
PATIENCE_SECONDS = 60.0
"""How long a store that is away or busy is tried again."""
PART_BYTES = 16 << 20
"""Files of twice that size and more go up in parts of it."""
MAX_PARTS = 10_000
_MEBIBYTE = 1 << 20
_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {
        # Tried again here, where the whole operation is known; a hung connection ends early.
        "config_kwargs": {
            "connect_timeout": 10, "read_timeout": 60, "retries": {"mode": "standard", "max_attempts": 2},
        },
        "default_fill_cache": False,
    },
    "gs": {"consistency": "md5", "timeout": 60},
}  # fmt: skip
_EXTRAS = {"s3": "s3", "gs": "gcs"}


def open_bucket(scheme: str, bucket: str, prefix: str) -> Bucket:
    """A bucket, or a folder in it. Nothing is connected to yet."""
    import fsspec

    try:
        # Listings are never cached: another process's write would not be seen.
        fs = fsspec.filesystem(scheme, use_listings_cache=False, **_OPTIONS[scheme])
    except ImportError:
        raise BadInputError(
            f"SLM_ARTIFACTS names a {scheme}:// bucket, and the client for it is not installed",
            cure=f"pip install 'slm-assets[{_EXTRAS[scheme]}]'",
        ) from None
    return Bucket(fs, scheme, bucket, prefix)


class Bucket:
    """Objects as fsspec's `fs` keeps them."""

    def __init__(self, fs: Any, scheme: str, bucket: str, prefix: str) -> None:
        self._fs = fs
        self._scheme = scheme
        self._bucket = bucket
        self.root = f"{bucket}/{prefix}" if prefix else bucket

    def find(self, key: str) -> Found | None:
        """The object of that key, or None."""
        try:
            # Whether the bucket is there at all, the next read or write tells: this is asked before every write.
            info = self._tried(lambda: self._fs.info(key), key)
        except FileNotFoundError:
            return None
        return _found(info) if info["type"] == "file" else None

    def put_file(self, key: str, source: Path, sha256: str, *, replace: bool = False) -> None:
        """Upload a file, in parts where it is large; the store compares checksums of what arrives."""
        size = source.stat().st_size
        if size < 2 * PART_BYTES:
            data = source.read_bytes()
            if canonical.digest_bytes(data) != sha256:
                raise changed(source)
            self.put_bytes(key, data, replace=replace)
            return
        part = max(PART_BYTES, -(-size // MAX_PARTS // _MEBIBYTE) * _MEBIBYTE)
        self._put(lambda mode: self._fs.put_file(str(source), key, chunksize=part, mode=mode), key, size, replace)
        if canonical.digest_file(source) != sha256:
            self.remove(key)
            raise changed(source)

    def put_bytes(self, key: str, data: bytes, *, replace: bool = False) -> None:
        """Upload some bytes with their checksum."""
        checked: dict[str, Any] = {"chunksize": max(2 * PART_BYTES, len(data) + 1)}
        if self._scheme == "s3":
            checked |= {"ChecksumSHA256": base64.b64encode(hashlib.sha256(data).digest()).decode()}
        self._put(lambda mode: self._fs.pipe_file(key, data, mode=mode, **checked), key, len(data), replace)

    def fetch(self, key: str, target: Path | None) -> str | None:
        """Download an object, hashing what arrives."""

        def once() -> str:
            with self._fs.open(key, "rb") as reader:
                if target is None:
                    return hashlib.file_digest(reader, "sha256").hexdigest()
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as writer:
                    return copied(reader, writer)

        return self._or_none(once, key)

    def read(self, key: str) -> bytes | None:
        """All bytes of an object, or None."""
        found: bytes | None = self._or_none(lambda: self._fs.cat_file(key), key)
        return found

    def open(self, key: str) -> BinaryIO:
        """An object to read from."""
        return cast(BinaryIO, self._again(lambda: self._fs.open(key, "rb"), key))

    def remove(self, key: str) -> None:
        """Delete an object, if it is there."""
        self._or_none(lambda: self._fs.rm_file(key), key)

    def listed(self, prefix: str) -> Iterator[Found]:
        """Every object under a folder."""
        found = self._or_none(lambda: self._fs.find(prefix, detail=True), prefix) or {}
        return (_found(info) for _, info in sorted(found.items()) if info["type"] == "file")

    def unfinished(self, prefix: str) -> Iterator[Found]:
        """Uploads in parts that nobody completed; Google ends such ones by itself."""
        if self._scheme != "s3":
            return
        path = f"{prefix.removeprefix(self._bucket).strip('/')}/"
        ask: dict[str, Any] = {"Bucket": self._bucket, "Prefix": path.lstrip("/")}
        while True:
            page = self._again(partial(self._fs.call_s3, "list_multipart_uploads", **ask), prefix)
            for upload in page.get("Uploads", []):
                yield Found(f"{upload['Key']}?uploadId={upload['UploadId']}", 0, upload["Initiated"])
            if not page.get("IsTruncated"):
                return
            ask |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def discard(self, unfinished: Found) -> None:
        """Abort such an upload; the store forgets its parts."""
        key, _, upload = unfinished.key.rpartition("?uploadId=")
        ask = {"Bucket": self._bucket, "Key": key, "UploadId": upload}
        self._or_none(lambda: self._fs.call_s3("abort_multipart_upload", **ask), key)

    def address(self, key: str) -> str:
        """Its URL, such as s3://bucket/key."""
        return f"{self._scheme}://{key}"

    def _put(self, put: Callable[[str], Any], key: str, size: int, replace: bool) -> None:
        def once() -> None:
            try:
                put("overwrite" if replace else "create")
            except Exception as error:
                # Somebody was faster, or this upload came through and its answer was lost.
                there = self.find(key) if not replace and exists_already(error) else None
                if there is None or there.bytes != size:
                    raise

        self._again(once, key)

    def _or_none(self, work: Callable[[], T], key: str) -> T | None:
        try:
            return self._again(work, key)
        except FileNotFoundError:
            return None

    def _again(self, work: Callable[[], T], key: str) -> T:
        """Do it, and again while the store is away. FileNotFoundError where the object, not the bucket, is missing."""
        try:
            return self._tried(work, key)
        except FileNotFoundError:
            if self._there():
                raise
            raise SlmError(
                f"the artifact store has no bucket {self._scheme}://{self._bucket}",
                cure="create the bucket, or name the right one in SLM_ARTIFACTS",
            ) from None

    def _tried(self, work: Callable[[], T], key: str) -> T:
        from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

        tries = Retrying(
            stop=stop_after_delay(PATIENCE_SECONDS),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            retry=retry_if_exception(passes),
            reraise=True,
        )
        try:
            return tries(work)
        except (FileNotFoundError, SlmError):
            raise
        except Exception as error:
            raise told(error, f"{self._scheme}://{key}", PATIENCE_SECONDS) from None

    def _there(self) -> bool:
        """Whether the bucket exists, as far as it can be seen."""
        try:
            if self._scheme == "s3":
                self._fs.call_s3("head_bucket", Bucket=self._bucket)
            else:
                self._fs.ls(self._bucket, refresh=True)
        except FileNotFoundError:
            return False
        except Exception:
            return True
        return True


def _found(info: dict[str, Any]) -> Found:
    modified: Any = info.get("LastModified") or info.get("mtime") or info["updated"]
    if isinstance(modified, str):
        modified = datetime.fromisoformat(modified)
    return Found(info["name"], int(info["size"]), modified.astimezone(UTC))
