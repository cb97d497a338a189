"""The one way into a domain's folder: relative paths that stay inside of it, symlinks included."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from slm_assets.domain.documents import MAX_FILE_BYTES

DATA_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


class Refused(Exception):  # noqa: N818  (carries the parts of a fault to whoever knows the place)
    """A path that may not or cannot be read."""

    def __init__(self, message: str, *, found: str = "", expected: str = "", cure: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.found = found
        self.expected = expected
        self.cure = cure

    @property
    def parts(self) -> dict[str, str]:
        """Keyword arguments of the fault."""
        return {"found": self.found, "expected": self.expected, "cure": self.cure}


class Absent(Refused):
    """Nothing lies at the path."""


@dataclass(frozen=True)
class Folder:
    """A domain's folder, resolved once."""

    root: Path

    @classmethod
    def at(cls, path: Path) -> Folder:
        """The folder at a path; raises Refused where there is none."""
        try:
            root = path.resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            raise Refused("no such folder", found=str(path), expected="a domain's folder") from None
        if not root.is_dir():
            raise Refused("not a folder", found=str(path), expected="a domain's folder")
        return cls(root)

    def locate(self, relative: str) -> Path:
        """Absolute path of a relative one, existing or not. Raises Refused where it leaves the folder."""
        name = normal(relative)
        try:
            place = (self.root / name).resolve()
        except (OSError, RuntimeError, ValueError):
            raise Refused("unusable path", found=relative, cure="is it a symlink to itself?") from None
        if not place.is_relative_to(self.root):
            raise Refused(
                "leads out of the domain's folder",
                found=f"{relative} (a symlink)",
                expected="a file inside of the folder",
                cure="copy the file into the folder",
            )
        return place

    def read(self, relative: str, limit: int = MAX_FILE_BYTES) -> bytes:
        """A file's bytes. Raises Refused where it is missing, no regular file, too large or outside."""
        place = self.locate(relative)
        try:
            if not place.is_file():
                raise Absent("no such file", found=relative, cure=self._nearest(relative))
            size = place.stat().st_size
            if size > limit:
                raise Refused("file too large", found=f"{size} bytes", expected=f"at most {limit} bytes")
            return place.read_bytes()
        except OSError as error:
            raise Refused("cannot be read", found=f"{relative}: {error.strerror or error}") from None

    def exists(self, relative: str) -> bool:
        """Whether something lies there, inside of the folder."""
        try:
            return self.locate(relative).exists()
        except (OSError, Refused):
            return False

    def data_files(self, relative: str) -> list[str]:
        """Relative paths of the data files that a path means: itself, or a folder's, sorted.

        Empty where the folder is absent or holds none; raises Refused for a missing or odd file.
        """
        place = self.locate(relative)
        name = normal(relative)
        if place.is_dir():
            inside = sorted(child.name for child in place.iterdir() if child.name.endswith(DATA_SUFFIXES))
            found = [f"{name}/{child}" for child in inside]
            for child in found:
                self.locate(child)
            return found
        if place.is_file():
            if name.endswith(DATA_SUFFIXES):
                return [name]
            raise Refused("not a data file", found=relative, expected=" ".join(DATA_SUFFIXES))
        if name.endswith(DATA_SUFFIXES):
            raise Absent("no such file", found=relative, cure=self._nearest(relative))
        return []

    def json_files(self, limit: int = 2_000) -> list[str]:
        """Relative paths of the `.json` files in the folder, sorted; the first `limit` of them."""
        found = (path.relative_to(self.root).as_posix() for path in self.root.rglob("*.json"))
        return sorted(found)[:limit]

    def _nearest(self, relative: str) -> str:
        wanted = PurePosixPath(normal(relative))
        folder = self.root / wanted.parent
        if not folder.is_dir():
            return f"the folder {wanted.parent} does not exist"
        names = sorted(child.name for child in folder.iterdir())
        close = difflib.get_close_matches(wanted.name, names, n=1)
        return f"did you mean {(wanted.parent / close[0]).as_posix()}?" if close else ""


def normal(relative: str) -> str:
    """A relative path in its one POSIX spelling. Raises Refused for absolute, `..`, `~` and odd ones."""
    expected = "a path relative to the domain's folder"
    if "\\" in relative or any(ord(char) < 32 for char in relative):
        raise Refused("unusable path", found=repr(relative)[:80], expected=f"{expected}, with /")
    path = PurePosixPath(relative)
    if path.is_absolute() or relative.startswith("~") or (len(relative) > 1 and relative[1] == ":"):
        raise Refused("absolute path", found=relative, expected=expected)
    if ".." in path.parts:
        raise Refused("leaves the domain's folder", found=relative, expected=f"{expected}, without ..")
    return path.as_posix()
