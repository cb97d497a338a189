"""Forget a user or a conversation: in the captured traffic, in every dataset made of it, down to the bytes.

Stored trees are named by their content, and plans and receipts name them. So a tree that held such a turn keeps its
name and gets a manifest of files without it; the registry says which, and nothing else is believed. A model keeps
what it has learned: the versions trained on erased turns are named, and where one of them serves, or may yet, the
retrain that takes its place is asked for.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.errors import ArtifactError
from slm_assets.registry import captures, erasures, teaching, windows
from slm_assets.registry.erasures import ASKED, DONE, Thinned, forgotten
from slm_assets.registry.registry import Registry, Row
from slm_assets.stages.traffic import store

_NAMES = ("turn_id", "id", "turn")
"""Keys by which a row, a label or an answer names the turn that it comes from."""


def thin_out(registry: Registry, domain: str) -> list[Row]:
    """Carry out every erasure of a domain that was asked for or left half done; returns them, done."""
    carried = []
    for number in [row["id"] for row in erasures.erasures(registry, domain) if row["detail"]["state"] != DONE]:
        if _row(registry, domain, number)["detail"]["state"] == ASKED:
            erasure = _row(registry, domain, number)
            with tempfile.TemporaryDirectory(prefix="slm-erase-") as scratch:
                trees = _trees(registry, domain)
                work = _Work(registry, erasure, Path(scratch))
                work.find(sha for sha, of in trees.items() if of & {"traffic", "incoming"})
                teaching.forget(registry, domain, work.turns)
                erasures.begin(registry, erasure, work.thin(trees))
        erasure = _row(registry, domain, number)
        for sha256 in erasure["detail"]["trees"]:
            registry.store.retire_tree(sha256)
        for sha256 in erasure["detail"]["blobs"]:
            registry.store.remove_file(sha256)
        erasures.finish(registry, erasure, _due(registry, domain, erasure["detail"]["versions"]))
        carried.append(_row(registry, domain, number))
    registry.forget_log()
    shutil.rmtree(registry.home.cache, ignore_errors=True)  # vectors of erased texts among them
    for left in (registry.home.runs / domain).glob("*/*/*"):
        if left.name in ("in", "out", "scratch"):  # of a run that was killed
            shutil.rmtree(left, ignore_errors=True)
    return carried


def _due(registry: Registry, domain: str, versions: list[str]) -> str:
    """Why a version without the erased turns is to be made: what serves has learned from them, or what was opened
    since and may be promoted yet. "" where only earlier versions have."""
    serving = [flag.number for flag in registry.flags(domain).values() if flag.number]
    learned = [version for version in versions if int(version[1:]) >= min(serving, default=1)]
    return f"erasure: {', '.join(learned)} learned from turns that were erased" if learned else ""


def _row(registry: Registry, domain: str, number: int) -> Row:
    return next(row for row in erasures.erasures(registry, domain) if row["id"] == number)


def _trees(registry: Registry, domain: str) -> dict[str, set[str]]:
    """Every stored tree that may hold a turn of the domain → what it is, with versions as v3."""
    found: dict[str, set[str]] = {}

    def add(sha256: str | None, *what: str) -> None:
        if sha256:
            found.setdefault(sha256, set()).update(what)

    window = windows.latest(registry, domain)
    for number in range(1, window.number + 1 if window else 1):
        one = windows.window(registry, domain, number)
        if one is not None:
            add(one.incoming, "incoming")
    for plan in registry.plans(domain):
        add(plan.seed, "seed", plan.version)
    for cell in registry.cells(domain):
        version = f"{'w' if cell['stage'] in ('capture', 'drift') else 'v'}{cell['number']}"
        for kind, artifact in cell["receipt"]["outputs"].items():
            add(artifact["sha256"], kind, version)
        # Decisions on turns are an input that no stage made.
        add(cell["receipt"].get("request", {}).get("inputs", {}).get("reviews"), "reviews", version)
    add(captures.mark(registry, domain).artifact, "captured")
    return found


class _Work:
    """One erasure while it is worked out; nothing stored is changed before the registry knows."""

    def __init__(self, registry: Registry, erasure: Row, scratch: Path) -> None:
        self._store, self._erasure, self._scratch = registry.store, erasure, scratch
        self.turns: set[str] = set()
        self._rewritten: dict[str, str] = {}
        self._rows: dict[str, int] = {}

    def find(self, trees: Iterator[str]) -> None:
        """The ids of the person's turns, from everything that still has them."""
        seen: set[str] = set()
        for tree in trees:
            for name, sha256 in self._files(tree):
                if sha256 not in seen and name.endswith((".jsonl", ".open")):
                    seen.add(sha256)
                    self.turns.update(
                        row["turn_id"]
                        for row in self._rows_of(sha256)
                        if isinstance(row.get("turn_id"), str) and "at" in row and forgotten([self._erasure], row)
                    )

    def thin(self, trees: dict[str, set[str]]) -> Thinned:
        """Rewrite every file that names one of them, and the manifests of the trees that hold such a file."""
        trees_now: dict[str, str] = {}
        versions: set[str] = set()
        for tree, what in sorted(trees.items()):
            files = self._files(tree)
            changed = {name: new for name, sha256 in files if (new := self._thinned(name, sha256)) != sha256}
            if not changed:
                continue
            inventory = dict(files).get(store.MANIFEST)
            if inventory is not None:
                changed[store.MANIFEST] = self._recounted(changed.get(store.MANIFEST, inventory), what, changed)
            trees_now[tree] = self._store.put_manifest({name: changed.get(name, sha) for name, sha in files})
            if "dataset" in what:
                versions.update(one for one in what if one[0] == "v" and one[1:].isdecimal())
        gone = sorted(old for old, new in self._rewritten.items() if old != new)
        return Thinned(trees_now, gone, len(self.turns), sorted(versions, key=lambda one: int(one[1:])))

    def _files(self, tree: str) -> list[tuple[str, str]]:
        try:
            return sorted(self._store.describe(tree).files.items())
        except ArtifactError:
            return []  # no longer in the store: nothing of it is left

    def _thinned(self, name: str, sha256: str) -> str:
        """The digest of the file without the person's turns; the same where it names none."""
        if sha256 not in self._rewritten:
            self._rewritten[sha256] = sha256
            if name.endswith((".jsonl", ".open")):
                self._rewritten[sha256] = self._lines(sha256)
            elif name.endswith(".json"):
                self._rewritten[sha256] = self._document(sha256)
        return self._rewritten[sha256]

    def _lines(self, sha256: str) -> str:
        kept: list[bytes] = []
        dropped = 0
        with self._store.open_file(sha256) as lines:
            for line in lines:
                row = orjson.loads(line)
                if self._names(row.get("data", row)):
                    dropped += 1
                else:
                    kept.append(line)
        if not dropped:
            return sha256
        return self._put(b"".join(kept), len(kept))

    def _document(self, sha256: str) -> str:
        with self._store.open_file(sha256) as file:
            value = orjson.loads(file.read())
        clean = self._without(value)
        return sha256 if clean == value else self._put(canonical.dumps(clean) + b"\n", 0)

    def _without(self, value: Json) -> Json:
        if isinstance(value, list):
            return [self._without(item) for item in value if not self._names(item)]
        if isinstance(value, dict):
            return {key: self._without(item) for key, item in value.items() if not self._names(item)}
        return value

    def _names(self, value: Json) -> bool:
        return isinstance(value, dict) and any(
            isinstance(value.get(key), str) and value[key] in self.turns for key in _NAMES
        )

    def _put(self, data: bytes, rows: int) -> str:
        path = self._scratch / "file"
        path.write_bytes(data)
        new = self._store.put_file(path)
        self._rows[new] = rows
        return new

    def _recounted(self, sha256: str, what: set[str], changed: dict[str, str]) -> str:
        """The manifest of a traffic, a dataset or a bundle, with what it says of the files as they are now."""
        with self._store.open_file(sha256) as file:
            manifest = orjson.loads(file.read())
        for name, new in changed.items():
            kind, _, part = name.partition("/")
            if "traffic" in what and kind in (store.TURNS, store.OUTCOMES):
                manifest["parts"][part.removesuffix(".jsonl")][kind] = self._rows[new]
            elif "dataset" in what and name in manifest["rows"]:
                manifest["rows"][name] = {"rows": self._rows[new], "sha256": new}
            elif "release" in what and name in manifest["files"]:
                manifest["files"][name] = new
        if "traffic" in what:
            manifest["turns"] = sum(part["turns"] for part in manifest["parts"].values())
        return self._put(canonical.dumps(manifest) + b"\n", 0)

    def _rows_of(self, sha256: str) -> Iterator[dict[str, Any]]:
        with self._store.open_file(sha256) as lines:
            for line in lines:
                row = orjson.loads(line)
                yield row.get("data", row)
