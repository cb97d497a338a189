"""The artifact store: folders of files, addressed by the digest of what they hold.

A tree is a manifest `{"files": {path: {"sha256", "bytes"}}}`; its name is the sha256 of that
manifest's canonical JSON. Blobs and manifests are written once, under their digest, per tenant and
project. Every read is verified; what does not match is refused, never repaired.

What nothing refers to is collected when it is old (registry/garbage.py). So what is stored again is written
again where it has become old, under the lock that the collection takes: whoever stores it may refer to it.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from slm_assets import canonical
from slm_assets.errors import ArtifactError
from slm_assets.registry.objects import open_objects

FRESH = timedelta(days=1)
"""What was stored longer ago is written again when somebody stores it again."""
Lock = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Tree:
    """A stored folder: its digest, the bytes of its files, and each file's digest by relative path."""

    sha256: str
    bytes: int
    files: dict[str, str]


class ArtifactStore:
    """Blobs and trees of one tenant and project, in a folder or a bucket."""

    def __init__(
        self, url: str, tenant: str, project: str,
        replaced: Callable[[str], str | None] = lambda _sha: None, lock: Lock = nullcontext,
    ) -> None:  # fmt: skip
        """`replaced`: of a tree that an erasure thinned out, the digest of the one that stands in its place. `lock`:
        the one that a collection of garbage holds while it deletes."""
        self._replaced = replaced
        self._lock = lock
        self.objects = open_objects(url)
        self.root = f"{self.objects.root}/{tenant}/{project}"

    def put(self, folder: Path) -> Tree:
        """Store every file under `folder`; equal content is stored once. Returns its tree."""
        files: dict[str, dict[str, Any]] = {}
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = path.relative_to(folder).as_posix()
            sha = canonical.digest_file(path)
            files[name] = {"sha256": sha, "bytes": path.stat().st_size}
            self._put_file(sha, path)
        manifest = canonical.dumps({"files": files})
        tree = canonical.digest_bytes(manifest)
        self._put_bytes(self._tree(tree), manifest)
        return _tree(tree, files)

    def describe(self, sha256: str) -> Tree:
        """The tree of that digest. ArtifactError where it is missing or altered."""
        manifest = self.objects.read(self._tree(sha256))
        if manifest is None:
            raise ArtifactError(
                f"artifact {sha256} is not in the store at {self.root}",
                cure="restore the store from a backup, or run the stage that made it again",
            )
        if canonical.digest_bytes(manifest) != sha256:
            instead = self._replaced(sha256)
            if instead is None:
                raise _altered(sha256, "its manifest")
            return Tree(sha256, *_parts(self.describe(instead)))
        return _tree(sha256, orjson.loads(manifest)["files"])

    def get(self, sha256: str, folder: Path, only: Collection[str] | None = None) -> Tree:
        """Copy a tree into `folder` (made anew), verifying every byte on the way; of its files those in
        `only`, default all. ArtifactError where one of them is not in the tree."""
        tree = self.describe(sha256)
        absent = sorted(set(only or ()) - tree.files.keys())
        if absent:
            raise ArtifactError(f"artifact {sha256} holds no file {absent[0]!r}; it holds {sorted(tree.files)}")
        beside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
        beside.mkdir(parents=True)
        try:
            for name, sha in tree.files.items():
                if only is None or name in only:
                    self._get_file(sha, _inside(beside, name), f"{sha256}/{name}")
            if folder.exists():
                shutil.rmtree(folder)
            beside.replace(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return tree

    def put_file(self, path: Path) -> str:
        """Store one file; returns its digest."""
        sha = canonical.digest_file(path)
        self._put_file(sha, path)
        return sha

    def open_file(self, sha256: str) -> Any:
        """A stored file to read from, not verified."""
        return self.objects.open(self._blob(sha256))

    def put_manifest(self, files: dict[str, str]) -> str:
        """Store the manifest of files that are stored already, name → digest; returns the tree's digest."""
        sizes: dict[str, int] = {}
        for sha in set(files.values()):
            there = self.objects.find(self._blob(sha))
            if there is None:
                raise self._missing(sha)
            sizes[sha] = there.bytes
        manifest = canonical.dumps({"files": {n: {"sha256": sha, "bytes": sizes[sha]} for n, sha in files.items()}})
        sha256 = canonical.digest_bytes(manifest)
        self._put_bytes(self._tree(sha256), manifest)
        return sha256

    def write_note(self, key: str, data: bytes) -> None:
        """Keep a small document under a name of its own: what one process hands to another through the store."""
        self.objects.put_bytes(self._note(key), data, replace=True)

    def read_note(self, key: str) -> bytes | None:
        """The document of that name, or None. Nothing vouches for it but the store's own access rights."""
        return self.objects.read(self._note(key))

    def retire_tree(self, sha256: str) -> None:
        """Take a tree's own manifest away: from here on the registry says what stands in its place."""
        self.objects.put_bytes(self._tree(sha256), b"{}", replace=True)

    def remove_file(self, sha256: str) -> None:
        """Forget the bytes of one file."""
        self.objects.remove(self._blob(sha256))

    def address(self, sha256: str) -> str:
        """The URL of a tree's manifest."""
        return self.objects.address(self._tree(sha256))

    def verify(self, sha256: str) -> Tree:
        """Re-hash a whole tree in place. ArtifactError names the first file that does not match."""
        tree = self.describe(sha256)
        for name, sha in tree.files.items():
            self._get_file(sha, None, f"{sha256}/{name}")
        return tree

    def read(self, sha256: str, name: str) -> bytes:
        """One verified file of a tree."""
        tree = self.describe(sha256)
        if name not in tree.files:
            raise ArtifactError(f"artifact {sha256} holds no file {name!r}; it holds {sorted(tree.files)}")
        data = self.objects.read(self._blob(tree.files[name]))
        if data is None:
            raise self._missing(f"{sha256}/{name}")
        if canonical.digest_bytes(data) != tree.files[name]:
            raise _altered(sha256, name)
        return data

    def _blob(self, sha256: str) -> str:
        return f"{self.root}/blobs/{sha256[:2]}/{sha256}"

    def _tree(self, sha256: str) -> str:
        return f"{self.root}/trees/{sha256[:2]}/{sha256}.json"

    def _note(self, key: str) -> str:
        return f"{self.root}/notes/{key}"

    def _put_file(self, sha256: str, source: Path) -> None:
        key, size = self._blob(sha256), source.stat().st_size
        self._keep(key, size, lambda replace: self.objects.put_file(key, source, sha256, replace=replace))

    def _put_bytes(self, key: str, data: bytes) -> None:
        self._keep(key, len(data), lambda replace: self.objects.put_bytes(key, data, replace=replace))

    def _keep(self, key: str, size: int, put: Callable[[bool], None]) -> None:
        there = self.objects.find(key)
        if there is None:
            put(False)
        elif there.bytes != size:
            put(True)  # torn by a machine that died
        elif there.modified < datetime.now(UTC) - FRESH:
            with self._lock():
                put(True)

    def _get_file(self, sha256: str, target: Path | None, label: str) -> None:
        found = self.objects.fetch(self._blob(sha256), target)
        if found is None:
            raise self._missing(label)
        if found != sha256:
            raise _altered(sha256, label)

    def _missing(self, label: str) -> ArtifactError:
        return ArtifactError(
            f"artifact {label} is missing from the store at {self.root}",
            cure="restore the store from a backup, or run the stage that made it again",
        )


def _tree(sha256: str, files: dict[str, dict[str, Any]]) -> Tree:
    return Tree(sha256, sum(f["bytes"] for f in files.values()), {n: f["sha256"] for n, f in files.items()})


def _parts(tree: Tree) -> tuple[int, dict[str, str]]:
    return tree.bytes, tree.files


def _inside(folder: Path, name: str) -> Path:
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts:
        raise ArtifactError(f"artifact manifest names a path outside of its folder: {name!r}")
    return folder / parts


def _altered(sha256: str, what: str) -> ArtifactError:
    return ArtifactError(
        f"artifact {sha256}: {what} does not match its digest; it was altered or torn and is refused",
        cure="delete the file and run the stage that made it again, or restore it from a backup",
    )
