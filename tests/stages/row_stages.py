"""Small domains and contexts for the tests of the row stages, as the runner would make them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from slm_assets import canonical
from slm_assets.domain.loading import Domain, load_domain
from slm_assets.stages import dataset, label
from slm_assets.stages.contract import StageResult

INTENTS = ["order", "refund", "other"]
OUTPUT = {
    "type": "object",
    "properties": {"intent": {"enum": INTENTS}, "note": {"type": "string", "maxLength": 40}},
    "required": ["intent"],
    "additionalProperties": False,
}
INPUT = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "channel": {"type": "string"}},
    "required": ["text"],
}
RULES = "rules: []\ndefault: {intent: other}\n"


def make_domain(
    folder: Path,
    *,
    data: Mapping[str, Any] | None = None,
    oracle: Mapping[str, Any] | None = None,
    files: Mapping[str, str] | None = None,
    **blocks: Any,
) -> Domain:
    """A domain of one role, `route`, whose input has a text."""
    role: dict[str, Any] = {"id": "route", "input_schema": "in.json", "output_schema": "out.json"}
    if oracle:
        role["deterministic_oracle"] = dict(oracle)
    config = {
        "name": "desk",
        "roles": [role],
        "data": {"seed_corpus": "seed", **(data or {})},
        "eval": {"floor": "majority"},
        **blocks,
    }
    (folder / "seed").mkdir(parents=True)
    contents = {"in.json": json.dumps(INPUT), "out.json": json.dumps(OUTPUT), "oracle.yaml": RULES, **(files or {})}
    for name, text in contents.items():
        (folder / name).write_text(text)
    (folder / "seed" / "unused.jsonl").write_text('{"id": "0", "input": {"text": "unused"}}\n')
    (folder / "slm.config.yaml").write_text(yaml.safe_dump({"slm_domain": config}))
    return load_domain(folder)


def row(number: int, text: str, intent: str | None = "order", **more: Any) -> dict[str, Any]:
    """A row of the corpus."""
    labels = {"labels": {"route": {"intent": intent}}} if intent else {}
    return {"id": f"r{number:04d}", "input": {"text": text}, **labels, **more}


def phrases(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Rows that share no words: no two are near each other."""
    return [row(n, " ".join(f"w{n}x{k}" for k in range(6)), INTENTS[n % 3]) for n in range(start, start + count)]


class Build:
    """Runs the row stages in folders of its own."""

    def __init__(self, base: Path, domain: Domain) -> None:
        self.base, self.domain = base, domain

    def seed(self, name: str, rows: Iterable[Any] | bytes, source: str = "seed", version: str = "seed") -> Path:
        """Put a file into the seed input."""
        path = self.base / version / source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(rows, bytes):
            path.write_bytes(rows)
        else:
            path.write_text("".join(json.dumps(one) + "\n" for one in rows))
        return self.base / version

    def dataset(
        self, out: str = "dataset", *, seed: str = "seed", parent: str = "", **params: Any
    ) -> tuple[Path, StageResult]:
        """Run stage dataset."""
        inputs = {"seed": self.base / seed}
        if parent:
            inputs["parent"] = self.base / parent
        context = self._context(inputs, "dataset", out, {"epoch": 1, **params})
        return self.base / out, dataset.run(context)

    def label(self, out: str = "labels", *, source: str = "dataset", workers: int = 0) -> tuple[Path, StageResult]:
        """Run stage label with a number of processes."""
        context = self._context({"dataset": self.base / source}, "labels", out, {})
        result = label.label_dataset(
            self.domain, context.inputs["dataset"], context.out["labels"], context.scratch, workers, context.progress
        )
        return self.base / out, result

    def _context(self, inputs: Mapping[str, Path], name: str, out: str, params: Mapping[str, Any]) -> Any:
        scratch = self.base / f"scratch-{out}"
        for folder in (scratch, self.base / out):
            folder.mkdir()
        return SimpleNamespace(
            request=SimpleNamespace(
                params=dict(params), inputs={part: canonical.digest(path.name) for part, path in inputs.items()}
            ),
            domain=self.domain,
            inputs=inputs,
            out={name: self.base / out},
            scratch=scratch,
            progress=lambda share, note: None,
        )


def ids(folder: Path, split: str) -> list[str]:
    """Ids of a split file, in its order."""
    return [one["id"] for one in canonical.read_jsonl(folder / f"{split}.jsonl")]


def manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a dataset."""
    return dict(canonical.read_json(folder / "manifest.json"))


def verdicts(result: StageResult, gate: str) -> list[tuple[str, bool]]:
    """Answers of a gate and whether they block."""
    return [(one.verdict, one.blocking) for one in result.verdicts if one.gate == gate]


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
