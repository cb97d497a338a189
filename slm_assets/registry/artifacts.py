"""The artifact store: folders of files, addressed by the digest of what they hold.

A tree is a manifest `{"files": {path: {"sha256", "bytes"}}}`; its name is the sha256 of that
manifest's canonical JSON. Blobs and manifests are written once, under their digest, per tenant and
project. Every read is verified; what does not match is refused, never repaired.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from slm_assets import canonical
from slm_assets.errors import ArtifactError


@dataclass(frozen=True)
class Tree:
    """A stored folder: its digest, the bytes of its files, and each file's digest by relative path."""

    sha256: str
    bytes: int
    files: dict[str, str]


class ArtifactStore:
    """Blobs and trees of one tenant and project under a local folder or any fsspec URL."""

    def __init__(
        self, url: str, tenant: str, project: str, replaced: Callable[[str], str | None] = lambda _sha: None
    ) -> None:
        """`replaced`: of a tree that an erasure thinned out, the digest of the one that stands in its place."""
        import fsspec

        self._replaced = replaced

        self._fs, root = fsspec.core.url_to_fs(url, auto_mkdir=True)
        self._local = "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else ())
        self._root = f"{root.rstrip('/')}/{tenant}/{project}"

    def put(self, folder: Path) -> Tree:
        """Store every file under `folder`; equal content is stored once. Returns its tree."""
        files: dict[str, dict[str, Any]] = {}
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = path.relative_to(folder).as_posix()
            sha = canonical.digest_file(path)
            files[name] = {"sha256": sha, "bytes": path.stat().st_size}
            self._put_file(self._blob(sha), path)
        manifest = canonical.dumps({"files": files})
        tree = canonical.digest_bytes(manifest)
        self._put_bytes(self._tree(tree), manifest)
        return _tree(tree, files)

    def describe(self, sha256: str) -> Tree:
        """The tree of that digest. ArtifactError where it is missing or altered."""
        try:
            manifest = self._fs.cat_file(self._tree(sha256))
        except FileNotFoundError:
            raise ArtifactError(
                f"artifact {sha256} is not in the store at {self._root}",
                cure="restore the store from a backup, or run the stage that made it again",
            ) from None
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
        self._put_file(self._blob(sha), path)
        return sha

    def open_file(self, sha256: str) -> Any:
        """A stored file to read from, not verified."""
        return self._fs.open(self._blob(sha256), "rb")

    def put_manifest(self, files: dict[str, str]) -> str:
        """Store the manifest of files that are stored already, name → digest; returns the tree's digest."""
        sizes = {name: {"sha256": sha, "bytes": self._fs.size(self._blob(sha))} for name, sha in files.items()}
        manifest = canonical.dumps({"files": sizes})
        sha256 = canonical.digest_bytes(manifest)
        self._put_bytes(self._tree(sha256), manifest)
        return sha256

    def write_note(self, key: str, data: bytes) -> None:
        """Keep a small document under a name of its own: what one process hands to another through the store."""
        if self._local:
            canonical.write_bytes(Path(self._note(key)), data)
        else:
            self._fs.pipe_file(self._note(key), data)

    def read_note(self, key: str) -> bytes | None:
        """The document of that name, or None. Nothing vouches for it but the store's own access rights."""
        try:
            data: bytes = self._fs.cat_file(self._note(key))
        except FileNotFoundError:
            return None
        return data

    def retire_tree(self, sha256: str) -> None:
        """Take a tree's own manifest away: from here on the registry says what stands in its place."""
        if self._local:
            canonical.write_bytes(Path(self._tree(sha256)), b"{}")
        else:
            self._fs.pipe_file(self._tree(sha256), b"{}")

    def remove_file(self, sha256: str) -> None:
        """Forget the bytes of one file."""
        if self._fs.exists(self._blob(sha256)):
            self._fs.rm_file(self._blob(sha256))

    def address(self, sha256: str) -> str:
        """The URL of a tree's manifest."""
        return str(self._fs.unstrip_protocol(self._tree(sha256)))

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
        data: bytes = self._fs.cat_file(self._blob(tree.files[name]))
        if canonical.digest_bytes(data) != tree.files[name]:
            raise _altered(sha256, name)
        return data

    def _blob(self, sha256: str) -> str:
        return f"{self._root}/blobs/{sha256[:2]}/{sha256}"

    def _tree(self, sha256: str) -> str:
        return f"{self._root}/trees/{sha256[:2]}/{sha256}.json"

    def _note(self, key: str) -> str:
        return f"{self._root}/notes/{key}"

    def _put_file(self, target: str, source: Path) -> None:
        # A stored file of another size was torn by a machine that died: write it again.
        if self._fs.exists(target) and self._fs.size(target) == source.stat().st_size:
            return
        if not self._local:
            self._fs.put_file(str(source), target)
            return
        path = Path(target)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            with source.open("rb") as reader, beside.open("wb") as writer:
                shutil.copyfileobj(reader, writer, canonical.CHUNK)
                writer.flush()
                os.fsync(writer.fileno())
            beside.chmod(0o444)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)

    def _put_bytes(self, target: str, data: bytes) -> None:
        if self._fs.exists(target) and self._fs.size(target) == len(data):
            return
        if self._local:
            canonical.write_bytes(Path(target), data)
        else:
            self._fs.pipe_file(target, data)

    def _get_file(self, sha256: str, target: Path | None, label: str) -> None:
        hasher = hashlib.sha256()
        try:
            reader = self._fs.open(self._blob(sha256), "rb")
        except FileNotFoundError:
            raise ArtifactError(f"artifact {label} is missing from the store at {self._root}") from None
        with reader:
            if target is None:
                while chunk := reader.read(canonical.CHUNK):
                    hasher.update(chunk)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as writer:
                    while chunk := reader.read(canonical.CHUNK):
                        hasher.update(chunk)
                        writer.write(chunk)
        if hasher.hexdigest() != sha256:
            raise _altered(sha256, label)


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
