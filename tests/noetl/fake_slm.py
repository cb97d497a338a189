"""A `slm` that writes down what it was called with and answers as told: what reaches it is all that a shell saw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEPLOY = Path(__file__).parents[2] / "deploy" / "noetl"

SCRIPT = """#!/bin/bash
set -eu
here={here}
{{ printf '%s\\0' "$@"; printf '\\n\\0'; }} >> "$here/calls"
case "$1" in
  open)
    version=v3 run_dir=$here/run gate= named=
    while [ $# -gt 0 ]; do
      [ "$1" = --window ] && {{ printf '{{"window": "w1", "window_dir": "%s"}}\\n' "$here/window"; exit 0; }}
      [ "$1" = --retrain ] && gate=go && [ -f "$here/answers/open" ] && gate=$(cat "$here/answers/open")
      [ "$1" = --version ] && version=$2 named=yes
      [ "$1" = --run-dir ] && run_dir=$2
      shift
    done
    [ -z "$gate" ] || [ -z "$named" ] || gate=go
    printf '{{"version": "%s", "run_dir": "%s", "gate": "%s"}}\\n' "$version" "$run_dir" "$gate" ;;
  stage)
    stage=$3
    while [ $# -gt 0 ]; do
      [ "$1" = --run-dir ] && run_dir=$2
      [ "$1" = --version ] && version=$2
      shift
    done
    answer=$here/answers/$stage
    [ -f "$answer.fails" ] && {{ echo 'the planted fault' >&2; exit 1; }}
    [ -f "$answer.silent" ] && exit 0
    gate=$(cat "$answer")
    printf '{{"gate":"%s","run_dir":"%s","stage":"%s","version":"%s"}}\\n' "$gate" "$run_dir" "$stage" "$version" |
      tee "$run_dir/$stage.json" ;;
  engine) [ -f "$here/engine.json" ] || exit 1; cat "$here/engine.json" ;;
  *) echo '{{}}' ;;
esac
"""


@dataclass(frozen=True)
class FakeSlm:
    """Its folder; `bin` goes first on PATH."""

    folder: Path
    run_dir: Path
    window_dir: Path

    @classmethod
    def at(cls, folder: Path) -> FakeSlm:
        own = cls(folder, folder / "run", folder / "window")
        for part in ("bin", "answers", "run", "window"):
            (folder / part).mkdir(parents=True)
        program = folder / "bin" / "slm"
        program.write_text(SCRIPT.format(here=folder))
        program.chmod(0o755)
        return own

    def answers(self, stage: str, gate: str) -> None:
        """What the stage's outcome says from now on."""
        (self.folder / "answers" / stage).write_text(gate)

    def breaks(self, stage: str, how: str) -> None:
        """`fails`: exits 1; `silent`: exits 0 and leaves nothing."""
        (self.folder / "answers" / f"{stage}.{how}").touch()

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of every call, byte for byte."""
        path = self.folder / "calls"
        text = path.read_bytes().decode(errors="surrogateescape") if path.exists() else ""
        found: list[list[str]] = [[]]
        for part in text.split("\0"):
            if part == "\n":
                found.append([])
            else:
                found[-1].append(part)
        return [call for call in found if call and call != [""]]

    def forget(self) -> None:
        (self.folder / "calls").unlink(missing_ok=True)
