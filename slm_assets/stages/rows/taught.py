"""What teachers say of a dataset's rows: collected before the rows are labelled, beside each row.

A role that reads earlier ones gets a given label of theirs, else the teacher's own answer: what it saw is named by
its digest, and where the label that is chosen in the end is another one, the opinion is on something else.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.domain import Domain
from slm_assets.domain.turns import role_input
from slm_assets.models.teacher.asking import Asking, Opinion, Question
from slm_assets.registry.teaching import Cost
from slm_assets.stages.rows.fields import hash64
from slm_assets.stages.rows.names import CAPTURED
from slm_assets.stages.rows.opinions import KEY
from slm_assets.stages.runtime import Progress, StageContext
from slm_assets.stages.teaching import measured_of, open_teacher, teacher_of, told_of

BATCH = 500


class Taught:
    """A dataset's splits with opinions beside their rows, in a folder of the stage's own."""

    def __init__(self, folder: Path, measured: Mapping[str, float], summary: Json) -> None:
        self.folder, self.measured, self.summary = folder, dict(measured), summary


def teach(ctx: StageContext, splits: Sequence[str]) -> Taught | None:
    """Ask the teachers that the policy names; None where it names none.

    SlmError where a teacher is away: what it answered is kept for the next run.
    """
    config = ctx.domain.config
    named = {"given": config.labels.teacher, CAPTURED: config.improvement.relabel.teacher}
    teachers = {kind: teacher_of(ctx.domain, name) for kind, name in named.items() if name}
    if not any(teachers.values()):
        return None
    with ExitStack() as stack:
        open_: dict[str, Asking] = {}
        by_kind: dict[str, Asking] = {}
        for kind, teacher in teachers.items():
            if teacher is not None:
                if teacher.id not in open_:
                    open_[teacher.id] = stack.enter_context(open_teacher(ctx, teacher))
                by_kind[kind] = open_[teacher.id]
        work = _Work(ctx.domain, by_kind, ctx.inputs["dataset"], splits)
        estimates = work.estimate()
        for name, (requests, likely) in sorted(estimates.items()):
            tokens = likely.tokens_in + likely.tokens_out
            ctx.progress(0.02, f"{name}: {requests:,} new requests, about {tokens:,} tokens, {likely.usd:.2f} USD")
        folder = ctx.scratch / "taught"
        folder.mkdir()
        for split in splits:
            canonical.write_jsonl(folder / f"{split}.jsonl", work.rows(split, ctx.progress))
        told = [told_of(asking, *estimates[name]) for name, asking in sorted(open_.items())]
        return Taught(folder, measured_of(open_), told)


class _Work:
    def __init__(self, domain: Domain, asking: Mapping[str, Asking], dataset: Path, splits: Sequence[str]) -> None:
        self._roles, self._policy, self._asking, self._dataset = (
            domain.config.roles,
            domain.config.labels,
            asking,
            dataset,
        )
        self._splits = splits
        self._done: Counter[str] = Counter()
        self._total = sum(1 for split in splits for row in self._read(split) if self._wanted(row))
        self._chosen = self._draw()

    def estimate(self) -> dict[str, tuple[int, Cost]]:
        """Teacher → how many questions are new to it, and what they are likely to cost. A role that reads others is
        estimated on the labels that were given."""
        found: dict[str, tuple[int, Cost]] = {}
        for split in self._splits:
            rows = self._read(split)
            while batch := list(islice(rows, BATCH)):
                for asking in {id(one): one for one in self._asking.values()}.values():
                    questions = [
                        Question(role.id, role_input(role, row["input"], row["labels"]), row["id"])
                        for row in batch
                        for role in self._roles
                        if self._by(row, role.id) is asking
                    ]
                    number, cost = asking.estimate(questions)
                    before = found.get(asking.teacher.id, (0, Cost()))
                    found[asking.teacher.id] = (before[0] + number, before[1] + cost)
        return found

    def rows(self, split: str, progress: Progress) -> Iterator[Json]:
        """The split's rows, those that were asked about with their opinions."""
        rows = self._read(split)
        while batch := list(islice(rows, BATCH)):
            opinions: list[dict[str, Json]] = [{} for _ in batch]
            for role in self._roles:
                self._ask(role, batch, opinions)
            self._done[split] += len(batch)
            progress(0.05, f"{sum(self._done.values()):,} rows shown to the teacher")
            yield from (row | ({KEY: own} if own else {}) for row, own in zip(batch, opinions, strict=True))

    def _ask(self, role: Any, batch: Sequence[Json], opinions: Sequence[dict[str, Json]]) -> None:
        for asking in {id(one): one for one in self._asking.values()}.values():
            questions: list[tuple[int, Question]] = []
            for index, row in enumerate(batch):
                if self._by(row, role.id) is asking:
                    earlier = {name: self._earlier(row, opinions[index], name) for name in role.reads}
                    if all(value is not None for value in earlier.values()):
                        value = role_input(role, row["input"], earlier)
                        questions.append((index, Question(role.id, value, row["id"])))
            found = asking.ask([question for _, question in questions])
            for (index, question), opinion in zip(questions, found, strict=True):
                opinions[index][role.id] = _told(question, opinion)

    def _earlier(self, row: Json, own: Mapping[str, Json], role: str) -> Json:
        return row["labels"][role] if role in row["labels"] else own.get(role, {}).get("output")

    def _by(self, row: Json, role: str) -> Asking | None:
        """Who is asked about a role of a row."""
        if self._policy.asked == "unlabelled" and role in row["labels"]:
            return None
        asking = self._asking.get(CAPTURED if row["source"] == CAPTURED else "given")
        return asking if asking and (self._chosen is None or row["id"] in self._chosen) else None

    def _wanted(self, row: Json) -> bool:
        given = self._policy.asked == "unlabelled" and all(role.id in row["labels"] for role in self._roles)
        return not given and (CAPTURED if row["source"] == CAPTURED else "given") in self._asking

    def _draw(self) -> set[str] | None:
        """The rows that are asked about where they are too many; None: all."""
        most = self._policy.max_rows
        if most is None or self._total <= most:
            return None
        names = (row["id"] for split in self._splits for row in self._read(split) if self._wanted(row))
        return set(heapq.nsmallest(most, names, key=lambda name: (hash64(name.encode()), name)))

    def _read(self, split: str) -> Iterator[Json]:
        return canonical.read_jsonl(self._dataset / f"{split}.jsonl")


def _told(question: Question, opinion: Opinion) -> Json:
    return {
        "request": opinion.request,
        "model": opinion.model,
        "input": canonical.digest(question.value),
        "output": opinion.output,
        "error": opinion.error,
    }
