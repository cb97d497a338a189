"""Many inputs to one engine, spread over processes that each have every engine loaded.

An engine answers each input by itself, so that the number of processes changes no answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import orjson

from slm_assets.canonical import Json
from slm_assets.domain.loading import Domain, read_bundle, write_bundle
from slm_assets.errors import SlmError
from slm_assets.models.base import Prediction
from slm_assets.stages import line_worker
from slm_assets.stages.evaluation.subjects import Engines, load_subjects

WORKER = ["-m", "slm_assets.stages.evaluation.asking"]
MAX_WORKERS = 7
ALONE = 1_000
"""Fewer rows than this are answered here before another process would be ready."""

SHARED = 100
"""Fewer inputs than this are not worth the way."""


def workers_for(rows: int) -> int:
    """How many processes help with so many rows, beside this one."""
    return 0 if rows < ALONE else min(line_worker.cores() - 1, MAX_WORKERS)


class Asking:
    """Engines to ask; `helpers` have the same ones loaded."""

    def __init__(self, engines: Engines, helpers: Sequence[line_worker.Process] = ()) -> None:
        self.engines = engines
        self._helpers = helpers

    def ask(self, role: str, subject: str, values: Sequence[Json]) -> list[Prediction]:
        """One answer per input, in order, without its spans. SlmError where a process is gone."""
        engine = self.engines[role][subject]
        if not self._helpers or len(values) < SHARED:
            return engine.predict_many(values)
        size = -(-len(values) // (len(self._helpers) + 1))
        parts = [values[i : i + size] for i in range(0, len(values), size)]
        busy = list(zip(self._helpers, parts[1:], strict=False))
        for process, part in busy:
            line_worker.send(process, orjson.dumps({"role": role, "subject": subject, "inputs": part}) + b"\n")
        found = engine.predict_many(parts[0])
        for process, part in busy:
            line = line_worker.answer(process)
            if not line.endswith(b"\n"):
                raise SlmError(
                    f"a process that evaluates ended (status {process.wait()})",
                    cure="free memory, then run again; its own message stands above",
                )
            answers = [Prediction(output, sure, valid, by=by) for output, sure, valid, by in orjson.loads(line)]
            if len(answers) != len(part):
                raise SlmError(f"a process that evaluates gave {len(answers)} answers to {len(part)} inputs")
            found += answers
        return found


@contextmanager
def open_asking(domain: Domain, inputs: Mapping[str, Path], scratch: Path, workers: int) -> Iterator[Asking]:
    """Every engine of the stage's inputs, loaded here and in `workers` more processes until the block ends."""
    helpers: list[line_worker.Process] = []
    try:
        if workers:
            bundle = scratch / "bundle"
            write_bundle(domain, bundle)
            hello = {"bundle": str(bundle), "inputs": {name: str(path) for name, path in inputs.items()}}
            helpers += (line_worker.start(WORKER, hello) for _ in range(workers))
        engines = load_subjects(domain, inputs)
        for process in helpers:
            line_worker.ready(process)
        yield Asking(engines, helpers)
    finally:
        for process in helpers:
            line_worker.end(process)


def main() -> None:
    """Serve until the input ends."""
    with line_worker.served() as (lines, answers):
        hello = orjson.loads(next(lines))
        inputs = {name: Path(path) for name, path in hello["inputs"].items()}
        engines = load_subjects(read_bundle(Path(hello["bundle"])), inputs)
        answers.write(line_worker.READY)
        answers.flush()
        for line in lines:
            wanted = orjson.loads(line)
            found = engines[wanted["role"]][wanted["subject"]].predict_many(wanted["inputs"])
            answers.write(orjson.dumps([[one.output, one.confidence, one.valid, one.by] for one in found]) + b"\n")
            answers.flush()


if __name__ == "__main__":
    main()
