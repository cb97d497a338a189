"""From files to the corpus: every row mapped, checked against the contracts, or put aside with a reason."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.config import RowFields, Vocabulary
from slm_assets.domain.contracts import Validator, enum_paths
from slm_assets.errors import BadInputError
from slm_assets.stages.rows.corpus import Corpus, Kind, Row, content_id, tail_of
from slm_assets.stages.rows.fields import Parts, RowError, RowShape, hash64, steps, values_at
from slm_assets.stages.rows.names import ALWAYS_EVAL, CAPTURED, OWN_SHAPE
from slm_assets.stages.rows.reading import Line, SourceFile, quarantined, read_rows, source_files

MAX_REMEMBERED = 20_000
LABEL_BREACH, INPUT_BREACH = "the label breaks the contract", "the input breaks the contract"
Progress = Callable[[float, str], None]


@dataclass
class Tally:
    """What happened while reading. `repeated`: rows given twice word for word; `outside_contract`: rows of the
    organisation's own that were refused because they break a contract."""

    read: int = 0
    frozen: int = 0
    captured: int = 0
    captured_refused: int = 0
    repeated: int = 0
    relabelled: int = 0
    unlabelled_frozen: int = 0
    lost_frozen: int = 0
    outside_contract: int = 0
    unknown_roles: Counter[str] = field(default_factory=Counter)
    quarantine: Counter[str] = field(default_factory=Counter)
    first_reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Labels:
    """What is known about one distinct label object."""

    data: bytes
    hash: int
    facts: tuple[str, ...]
    values: frozenset[str]
    error: str
    kinds: dict[tuple[str, str, tuple[str, ...]], Kind]
    """The kinds of rows with this label, by source, label source and slices."""


class Breach(NamedTuple):
    """The first thing by which a turn, or a role's label, breaks the contract: its JSON path, and what it is."""

    role: str
    path: str
    message: str


class Contracts:
    """The contracts of a domain, as far as rows of the corpus must meet them.

    `values`: role → place → the closed list of values there, of the vocabulary or of the contract.
    """

    def __init__(self, domain: Any) -> None:
        config = domain.config
        self.inputs: dict[str, Validator] = {}
        self.outputs: dict[str, Validator] = {}
        self.values: dict[str, dict[str, list[Json]]] = {}
        self._enums: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
        for role in config.roles:
            schema = domain.output_schema(role.id)
            self.outputs[role.id] = Validator(schema)
            declared = {
                entry.path: domain.vocabulary(name)
                for name, entry in config.vocab.items()
                if isinstance(entry, Vocabulary) and entry.role == role.id
            }
            self.values[role.id] = dict(sorted({**enum_paths(schema), **declared}.items()))
            self._enums[role.id] = [(f"{role.id}:{path}", steps(path)) for path in self.values[role.id]]
            reads_turn = domain.input_schema(role.id) if not role.reads else None
            if reads_turn is not None:
                self.inputs[role.id] = Validator(reads_turn)
        self.slices = [(part.id, steps(part.path), part.values) for part in config.eval.slices]
        self.least = {part.id: part.min_n for part in config.eval.slices}
        self._labels: dict[bytes, _Labels] = {}

    def input_breach(self, value: Json) -> Breach | None:
        """The first violation of a turn, if there is one."""
        for role, validator in self.inputs.items():
            if not validator.is_valid(value):
                return Breach(role, *validator.errors(value)[0])
        return None

    def check_input(self, value: Json) -> None:
        """Errors: RowError with the JSON path of the first violation."""
        if breach := self.input_breach(value):
            raise RowError(f"{INPUT_BREACH} of {breach.role}: {breach.message[:200]}", breach.path)

    def labels(self, labels: dict[str, Json]) -> _Labels:
        """Check a row's labels and list the facts in them; equal labels are looked at once."""
        data = canonical.dumps(labels)
        known = self._labels.get(data)
        if known is None:
            error = next(self._violations(labels), "")
            facts = () if error else tuple(self._facts(labels))
            values = frozenset(fact for fact in facts if fact.startswith("value\0"))
            known = _Labels(data, hash64(data) if labels else 0, facts, values, error, {})
            if len(self._labels) >= MAX_REMEMBERED:
                self._labels.clear()
            self._labels[data] = known
        return known

    def breaches(self, labels: dict[str, Json]) -> Iterator[Breach]:
        """The first violation of each label that has one. All roles must be known."""
        for role, label in labels.items():
            if not self.outputs[role].is_valid(label):
                yield Breach(role, *self.outputs[role].errors(label)[0])

    def holds(self, role: str, label: Json) -> bool:
        """Whether the role exists and the label meets its contract."""
        return role in self.outputs and self.outputs[role].is_valid(label)

    def lacks_only(self, role: str, label: Json) -> bool:
        """Whether nothing is wrong with a label but that required places are missing."""
        return bool(self.outputs[role].lacking(label))

    def _violations(self, labels: dict[str, Json]) -> Iterator[str]:
        for role, path, message in self.breaches(labels):
            yield f"{LABEL_BREACH} of {role}: {message[:200]} at {path}"

    def _facts(self, labels: dict[str, Json]) -> Iterator[str]:
        for role in sorted(labels):
            yield f"role\0{role}"
            for name, path in self._enums[role]:
                seen = {
                    value if isinstance(value, str) else canonical.text(value)
                    for value in values_at(labels[role], path)
                    if not isinstance(value, dict | list)
                }
                for value in sorted(seen):
                    yield f"value\0{name}\0{value}"

    def slices_of(self, row: Json) -> tuple[str, ...]:
        """Ids of the slices that a row belongs to."""
        found = []
        for name, path, wanted in self.slices:
            values = values_at(row, path)
            if values and (not wanted or any(_equal(value, want) for value in values for want in wanted)):
                found.append(name)
        return tuple(sorted(found))


def _entry(name: str, breach: Breach) -> dict[str, Json]:
    return {"id": name, "role": breach.role, "path": breach.path, "message": breach.message}


def _equal(value: Json, want: Any) -> bool:
    return bool(value == want) and isinstance(value, bool) == isinstance(want, bool)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Rows leave no reference cycles behind: looking for them all the time costs a fifth of the read."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@dataclass
class Reader:
    """Reads one build's rows into a corpus.

    `parent`: the digest of the dataset whose frozen rows are read first, and `changed`: whether it was made
    under other contracts. `outside`: id of a frozen row → how it breaks the contract of now, one entry a role.
    """

    domain: Any
    corpus: Corpus
    contracts: Contracts
    quarantine: Path
    parent: str = ""
    changed: bool = False
    tally: Tally = field(default_factory=Tally)
    fixed: bool = False
    outside: dict[str, list[Json]] = field(default_factory=dict)

    def read_frozen(self, file: Path) -> None:
        """The parent's eval rows: kept as they are, also when they left the seed.

        A label that the contract does not take any more is no label: it stands under `previous` in its row.
        """
        for row in canonical.read_jsonl(file):
            self.tally.read += 1
            self.tally.frozen += 1
            name, turn = row["id"], row["input"]
            breach = self.contracts.input_breach(turn)
            if breach:
                self.tally.lost_frozen += 1
                self.outside[name] = [{**_entry(name, breach), "input": turn}]
                continue
            before = {**row.get("previous", {}).get("labels", {}), **row["labels"]}
            known = {role: label for role, label in before.items() if role in self.contracts.outputs}
            breaches = {breach.role: breach for breach in self.contracts.breaches(known)}
            kept = {role: label for role, label in known.items() if role not in breaches}
            old = {role: known[role] for role in breaches}
            parts = Parts(name, turn, kept, row["label_source"] if kept or old else "", ())
            previous = self._before(old) if old else None
            made = self._row(name, parts, row["source"], self.contracts.labels(kept), row["group"], previous)
            index = self.corpus.put(made)
            if old:
                self.corpus.outdated.add(index)
            wrong = [one for role, one in breaches.items() if not self.contracts.lacks_only(role, old[role])]
            self.tally.unlabelled_frozen += len(known) < len(before) or bool(wrong)
            if wrong:
                self.outside[name] = [{**_entry(name, one), "label": old[one.role]} for one in wrong]

    def _before(self, labels: dict[str, Json], *, link: bool = True) -> Json:
        """What a row keeps of before: with `link` the dataset in which its labels stand, and those of them that
        the contract of now does not take as they are."""
        linked = {"dataset": self.parent} if link else {}
        return {**linked, "labels": labels} if labels else linked

    def read_folder(self, folder: Path, progress: Progress) -> None:
        """All files of the seed folder, in order; bad rows go to the quarantine file."""
        files = source_files(folder)
        total = sum(file.path.stat().st_size for file in files) or 1
        done = 0
        config = self.domain.config.data
        given = RowShape(config.fields, config.split.group_by)
        own = self._own_shape()
        self.fixed = config.split.kind == "fixed"
        with self.quarantine.open("wb") as bad, _rare_collections():
            for file in files:
                progress(done / total, f"reading {file.name}")
                shape = own if file.source in OWN_SHAPE else given
                for line in read_rows(file, config.max_row_bytes):
                    self.tally.read += 1
                    if self.tally.read % 50_000 == 0:
                        progress(done / total, f"{self.tally.read:,} rows")
                    reason = line.error or self._take(file, line, shape)
                    if reason:
                        self._refuse(bad, file, line, reason)
                done += file.path.stat().st_size

    def read_captured(self, rows: Iterable[Json]) -> None:
        """Turns of live traffic; those that do not fit go to the quarantine file too."""
        file, shape = SourceFile(CAPTURED, f"{CAPTURED}.jsonl", Path()), self._own_shape()
        with self.quarantine.open("ab") as bad:
            for number, row in enumerate(rows, 1):
                index = self.corpus.ids.get(row["id"])
                if index is not None and self.corpus.source_of(index) in ALWAYS_EVAL:
                    continue  # a person decided it
                self.tally.read += 1
                self.tally.captured += 1
                line = Line(number, canonical.dumps(row), row)
                reason = self._take(file, line, shape)
                if reason:
                    self._refuse(bad, file, line, reason)

    def _own_shape(self) -> RowShape:
        """Live turns have one form in every domain; those of one conversation stay together."""
        return RowShape(RowFields(), [*self.domain.config.data.split.group_by, "/conversation"])

    def stop_if_too_many(self, share: float) -> None:
        """Errors: BadInputError when more than `share` of the rows were refused, or none is left."""
        # What strangers sent must not be able to stop a build.
        refused = sum(self.tally.quarantine.values()) - self.tally.captured_refused
        read = self.tally.read - self.tally.captured - self.tally.frozen
        reasons = "\n".join(f"  {reason}" for reason in self.tally.first_reasons)
        if refused > share * read:
            outside, old, cure = self.tally.outside_contract, "", "correct the rows or data.fields"
            if self.changed and outside:
                old = f"; a contract changed since the version that serves, and {outside} of them break the new one"
                cure = (
                    "rewrite these rows for the new contract; where their labels only lack what it requires, "
                    "data.incomplete_labels: complete lets the oracle add it"
                )
            raise BadInputError(
                f"{refused} of {read} rows cannot be used, "
                f"expected at most {share:.1%} (data.max_quarantine_share){old}; the first:\n{reasons}",
                cure=f"{cure}, or raise data.max_quarantine_share",
            )
        if not len(self.corpus):
            raise BadInputError(
                f"the corpus of {self.domain.name} is empty: found {self.tally.read} rows, expected at least one",
                cure="put .jsonl, .jsonl.gz or .parquet files where data.seed_corpus points",
            )

    def _take(self, file: SourceFile, line: Line, shape: RowShape) -> str:
        """Put one row into the corpus; returns why it cannot be, or nothing."""
        try:
            parts = shape.take(line.value)
            self.contracts.check_input(parts.input)
        except RowError as error:
            self.tally.outside_contract += str(error).startswith(INPUT_BREACH) and file.source != CAPTURED
            return str(error)
        if not parts.labels.keys() <= self.contracts.outputs.keys():
            unknown = [role for role in parts.labels if role not in self.contracts.outputs]
            self.tally.unknown_roles.update(unknown)
            labels = {role: label for role, label in parts.labels.items() if role not in unknown}
            parts = Parts(parts.id, parts.input, labels, parts.label_source if labels else "", parts.keys)
        checked = self.contracts.labels(parts.labels)
        name = parts.id or content_id(parts)
        old: dict[str, Json] = {}
        if checked.error:
            old = self._incomplete(parts.labels)
            if not old:
                self.tally.outside_contract += file.source != CAPTURED
                return checked.error
            kept = {role: label for role, label in parts.labels.items() if role not in old}
            parts, checked = parts._replace(labels=kept), self.contracts.labels(kept)
        index = self.corpus.ids.get(name)
        frozen = index in self.corpus.frozen
        moved = self.changed and frozen and index is not None and not self.corpus.same_labels(index, checked.hash)
        previous = self._before(old, link=frozen) if old or moved else None
        row = self._row(name, parts, file.source, checked, previous=previous)
        return self._place(row, given_id=parts.id is not None, incomplete=bool(old))

    def _incomplete(self, labels: dict[str, Json]) -> dict[str, Json]:
        """The labels that lack something, where the domain lets the oracle complete them and nothing else is
        wrong with the row; otherwise none."""
        if self.domain.config.data.incomplete_labels != "complete":
            return {}
        found = {breach.role: labels[breach.role] for breach in self.contracts.breaches(labels)}
        return found if all(self.contracts.lacks_only(role, label) for role, label in found.items()) else {}

    def _place(self, row: Row, *, given_id: bool, incomplete: bool) -> str:
        """Decide what a row is whose id may have been seen; returns why it is refused, or nothing."""
        corpus = self.corpus
        index = corpus.ids.get(row.id)
        if index is None:
            corpus.put(row)
            return ""
        same = corpus.same(index, row)
        if index in corpus.frozen:
            if not corpus.same_input(index, row):
                return f"id {row.id} is in the frozen eval set with another input: give the changed row a new id"
            self.tally.relabelled += not same
            corpus.put(row._replace(group=corpus.frozen[index]))
            self.outside.pop(row.id, None)
            if not incomplete:
                corpus.outdated.discard(index)
        elif self.fixed and (corpus.source_of(index) != row.kind.source or (same and not given_id)):
            corpus.put(row._replace(id=self._free_id(row.id)))
        elif same:
            self.tally.repeated += 1
        else:
            return f"id {row.id} was given before: with other content"
        return ""

    def _free_id(self, name: str) -> str:
        number = 2
        while f"{name}~{number}" in self.corpus.ids:
            number += 1
        return f"{name}~{number}"

    def _row(
        self, name: str, parts: Parts, source: str, checked: _Labels, group: str = "", previous: Json | None = None
    ) -> Row:
        old = previous.get("labels", {}) if previous else {}
        slices: tuple[str, ...] = ()
        if self.contracts.slices:
            row = {"id": name, "input": parts.input, "labels": {**old, **parts.labels}, "source": source}
            slices = self.contracts.slices_of(row)
        key = (source, parts.label_source, slices)
        kind = checked.kinds.get(key)
        if kind is None or previous:
            label_source = [f"label_source\0{parts.label_source}"] if parts.label_source else []
            in_slices = [f"slice\0{part}" for part in slices]
            before = [f"previous\0{role}" for role in sorted(old)]
            facts = (f"source\0{source}", *label_source, *in_slices, *before, *checked.facts)
            tail = tail_of(parts.label_source, checked.data, slices, source, previous)
            kind = Kind(source, facts, checked.hash, tail)
            if not previous:
                checked.kinds[key] = kind
        return Row(name, parts.input, parts.keys, kind, canonical.dumps(parts.input), group)

    def _refuse(self, bad: Any, file: SourceFile, line: Line, reason: str) -> None:
        captured = file.source == CAPTURED
        self.tally.captured_refused += captured
        kind = reason.partition(":")[0][:80]
        self.tally.quarantine[kind] += 1
        if len(self.tally.first_reasons) < 5 and not captured:
            self.tally.first_reasons.append(f"{file.name}:{line.number}: {reason}")
        record = quarantined(file.name, line, reason)
        if captured:
            record["id"] = line.value["id"]  # by which an erasure finds it
        bad.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
