"""Follows a Dockerfile without a container: its stages in folders, its commands with the image's paths moved there.

What is not followed: the base image, its users, and the two settings that only say how uv writes files. Ownership
and layers are the builder's; everything that is installed, copied, set and started is as the file says.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

OURS = ("opt", "src", "wheels", "domains", "var/lib/slm")
"""The folders of an image that are not the base image's."""
_MOVED = re.compile(rf"(?<![\w./-])/(?={'|'.join(OURS)})")
_OFFLINE = re.compile(r"dns error|error sending request|Failed to fetch|Temporary failure in name|NewConnectionError")
QUICK = {"UV_LINK_MODE": "hardlink", "UV_COMPILE_BYTECODE": "0"}


@dataclass(frozen=True)
class Stage:
    """One stage as it stands: its folder, variables and what it starts."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    args: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    def moved(self, text: str) -> str:
        """A text of the image with its own paths where they are now."""
        return _MOVED.sub(f"{self.root}/", text)

    def environment(self, **more: str) -> dict[str, str]:
        """The variables of a process in the image; the base image's Python and the package index are this machine's."""
        left_out = ("PYTHONPATH", "VIRTUAL_ENV", "DAGSTER_HOME")
        mine = {k: v for k, v in os.environ.items() if k not in left_out and not k.startswith("SLM_")}
        own = {name: self.moved(value) for name, value in self.env.items()}
        python = str(Path(sys.base_prefix) / "bin")
        return {**mine, **own, **QUICK, **more, "PATH": f"{own.get('PATH', '')}:{python}:{os.environ['PATH']}"}

    def starts(self, *arguments: str) -> list[str]:
        """The command line of the image: with its own arguments, or with these."""
        return [self.moved(part) for part in (*self.entrypoint, *(arguments or self.command))]


class Build:
    """The stages of one Dockerfile, each followed once."""

    def __init__(self, file: Path, context: Path, folder: Path) -> None:
        self._context, self._folder = context, folder
        self._lines = _stages(file.read_text())
        self._made: dict[str, Stage] = {}

    def stage(self, name: str) -> Stage:
        """A stage by name. Skips the test where the package index cannot be reached."""
        if name not in self._made:
            self._made[name] = self._follow(name)
        return self._made[name]

    def _follow(self, name: str) -> Stage:
        (_, parent), *lines = self._lines[name]
        stage = Stage(self._folder / name)
        stage.root.mkdir()
        if parent in self._lines:
            before = self.stage(parent)
            shutil.copytree(before.root, stage.root, symlinks=True, dirs_exist_ok=True)
            stage = replace(before, root=stage.root, args={})
        for word, rest in lines:
            stage = self._step(stage, word, rest)
        return stage

    def _step(self, stage: Stage, word: str, rest: str) -> Stage:
        if word == "RUN":
            self._run(stage, re.sub(r"--mount=\S+\s+", "", rest))
        elif word == "COPY":
            self._copy(stage, rest)
        elif word == "ARG":
            name, _, value = rest.partition("=")
            return replace(stage, args={**stage.args, name: value})
        elif word == "ENV":
            known = {**stage.args, **stage.env}
            pairs = (pair.partition("=") for pair in shlex.split(rest))
            found = {name: re.sub(r"\$\{(\w+)\}", lambda m: known[m[1]], value) for name, _, value in pairs}
            return replace(stage, env={**stage.env, **found})
        elif word == "WORKDIR":
            Path(stage.moved(rest)).mkdir(parents=True, exist_ok=True)
            return replace(stage, workdir=rest)
        elif word == "USER":
            return replace(stage, user=rest)
        elif word == "ENTRYPOINT":
            return replace(stage, entrypoint=tuple(json.loads(rest)), command=())
        elif word == "CMD":
            return replace(stage, command=tuple(json.loads(rest)))
        else:
            assert word == "EXPOSE", f"{word}: say here how it is followed"
        return stage

    def _run(self, stage: Stage, command: str) -> None:
        command = re.sub(r" -o \d+ -g \d+", "", command)  # whom a folder belongs to is the builder's
        done = subprocess.run(
            ["sh", "-euc", stage.moved(command)],
            cwd=stage.moved(stage.workdir), env=stage.environment(), capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        if done.returncode and _OFFLINE.search(done.stderr):
            pytest.skip(f"the package index cannot be reached: {done.stderr.strip()[-300:]}")
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    def _copy(self, stage: Stage, rest: str) -> None:
        *given, target = [part for part in rest.split() if not part.startswith("--")]
        found = re.search(r"--from=(\S+)", rest)
        into = Path(stage.moved(target))
        if found:  # a virtual environment knows where it lies, which in the images is one path
            into.parent.mkdir(parents=True, exist_ok=True)
            into.symlink_to(self.stage(found[1]).moved(given[0]))
            return
        for name in given:
            source = self._context / name
            assert source.exists(), f"COPY {name}: there is no such file"
            if source.is_dir():
                shutil.copytree(source, into, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, into / source.name if target.endswith("/") else into)


def _stages(text: str) -> dict[str, list[tuple[str, str]]]:
    """Stage → its instructions, the first one FROM and its parent."""
    found: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        word, _, rest = line.strip().partition(" ")
        if not word or word.startswith("#"):
            continue
        if word == "FROM":
            parent, _, name = rest.split()
            current = found[name] = [(word, parent)]
        elif current:
            current.append((word, rest.strip()))
    return found
