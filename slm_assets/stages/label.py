"""Stage `label`: one label per row and role, each with its source, and where the oracle disagrees.

Input `dataset`. Output `labels`: train.jsonl, validation.jsonl, eval.jsonl in the dataset's order,
disagreements.jsonl and report.json. A given label (gold, reviewed) stands before the oracle's; one of an earlier
contract is completed by it, or waits among the disagreements. Where the policy names a teacher, also teacher.jsonl,
what it said, and divergences.jsonl, where it says otherwise than the oracle or a given label.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.config import PlaybookOracle, PythonOracle
from slm_assets.domain.contracts import Validator
from slm_assets.domain.loading import write_bundle
from slm_assets.errors import BadInputError
from slm_assets.stages.contract import StageResult, Verdict
from slm_assets.stages.line_worker import cores
from slm_assets.stages.rows import fanout
from slm_assets.stages.rows.ingest import Contracts
from slm_assets.stages.rows.label_worker import Part, label_part
from slm_assets.stages.rows.labelling import Labeller, Tally, oracles_of
from slm_assets.stages.rows.opinions import agreement
from slm_assets.stages.rows.taught import Taught, teach
from slm_assets.stages.rows_io import write_lines
from slm_assets.stages.runtime import Progress, StageContext

SPLITS = ("train", "validation", "eval")
PART_ROWS = 500
ALONE_ROWS = 2_000
"""Up to so many rows are labelled before another process would be ready."""

MAX_FAILED_SHARE = 0.2
"""An oracle that fails on more of the inputs than this is refused."""

MAX_LISTED = 200
START_SECONDS = 30.0
ROW_SECONDS = 0.25
"""The longest a part of the rows may take: at the start, and for each row of a rules oracle."""


def run(ctx: StageContext) -> StageResult:
    """Label the dataset.

    Errors: BadInputError when an oracle fails on too many rows, or no train row gets a label.
    """
    taught = teach(ctx, SPLITS)
    dataset = taught.folder if taught else ctx.inputs["dataset"]
    out, scratch = ctx.out["labels"], ctx.scratch
    return label_dataset(ctx.domain, dataset, out, scratch, cores(), ctx.progress, taught)


def label_dataset(
    domain: Any, dataset: Path, out: Path, scratch: Path, workers: int, progress: Progress, taught: Taught | None = None
) -> StageResult:
    """Label a dataset's splits with this many processes; their number changes no byte of the result.

    `taught`: what teachers say of the rows, which are then read from its folder.
    """
    contracts = Contracts(domain)
    oracles = oracles_of(domain)
    labeller = Labeller(domain, contracts, {role: oracle.answer for role, oracle in oracles.items()})
    tallies: dict[str, Tally] = {}
    parts_folder = scratch / "parts"
    parts_folder.mkdir()
    parts = {split: _parts(dataset / f"{split}.jsonl", parts_folder, split) for split in SPLITS}
    total = sum(part.count for some in parts.values() for part in some)
    if total <= ALONE_ROWS or not oracles:
        workers = 0
    bundle = scratch / "bundle"
    if workers:
        write_bundle(domain, bundle)
    try:
        done = 0
        everything = [part for some in parts.values() for part in some]
        names = {part.index: split for split, some in parts.items() for part in some}
        found: dict[Part, Tally] = {}
        for part, tally in _label_all(everything, labeller, bundle, workers, _seconds(domain)):
            found[part] = tally
            done += part.count
            progress(0.9 * done / max(total, 1), f"{done:,} of {total:,} rows labelled")
            if tally.hopeless:
                raise _refused(tally)
        for part in sorted(found):
            tallies.setdefault(names[part.index], Tally()).add(found[part])
    finally:
        for oracle in oracles.values():
            oracle.close()
    whole = Tally()
    for tally in tallies.values():
        whole.add(tally)
    _stop_if_failing(domain, whole)
    files = _gather(parts_folder, names, out, teacher=taught is not None)
    shutil.rmtree(parts_folder)
    report = _report(domain, contracts, whole, tallies, files)
    after = _check_written(out, domain)
    if taught:
        report["teacher"] = {role.id: agreement(whole.counts, role.id) for role in domain.config.roles}
    report["validity"] = {"after": after, "before": _validity_before(domain, whole)}
    canonical.write_json(out / "report.json", report)
    result = _result(domain, report, total)
    return result if taught is None else _with_teachers(result, report, taught)


def _with_teachers(result: StageResult, report: dict[str, Json], taught: Taught) -> StageResult:
    """The result with what the teachers said and cost. Money and why they stopped are in no artifact."""
    told = {
        "teachers": taught.summary,
        "teacher": report["teacher"],
        "divergences": report["rows"]["divergences.jsonl"]["rows"],
    }
    return result.model_copy(update={"summary": result.summary | told, "measured": taught.measured})


def _parts(file: Path, out: Path, split: str) -> list[Part]:
    """A split file cut into parts at line ends. Parts of later splits sort after those of earlier ones."""
    base = SPLITS.index(split) * 1_000_000
    found: list[Part] = []
    start, count, position = 0, 0, 0
    with file.open("rb") as handle:
        for line in handle:
            position += len(line)
            count += 1
            if count == PART_ROWS:
                found.append(Part(base + len(found), 0, str(file), start, count, str(out)))
                start, count = position, 0
    if count:
        found.append(Part(base + len(found), 0, str(file), start, count, str(out)))
    return found


def _label_all(
    parts: list[Part], labeller: Labeller, bundle: Path, workers: int, row_seconds: float
) -> Iterator[tuple[Part, Tally]]:
    if not workers:
        for part in parts:
            yield part, label_part(labeller, part)
        return

    def seconds(part: Part) -> float:
        return START_SECONDS + row_seconds * part.count

    for part, tally in fanout.label_parts(parts, bundle, workers, seconds):
        yield part, tally if isinstance(tally, Tally) else label_part(labeller, part, lost=tally)


def _seconds(domain: Any) -> float:
    """The longest time that one row may take, all roles together: a python oracle has its own limit."""
    limits = [
        oracle.timeout_s + 1 if isinstance(oracle, PythonOracle) else ROW_SECONDS
        for oracle in (role.deterministic_oracle for role in domain.config.roles)
        if oracle is not None
    ]
    return float(sum(limits))


def _refused(tally: Tally) -> BadInputError:
    shown = "\n".join(f"  {reason}" for reason in tally.reasons[:5])
    return BadInputError(
        f"the oracle fails on too many rows; the first reasons:\n{shown}",
        cure="correct the oracle, or take deterministic_oracle out of the role",
    )


def _stop_if_failing(domain: Any, tally: Tally) -> None:
    counts = tally.counts
    for role in domain.config.roles:
        asked, failed = counts["oracle", role.id, "asked"], counts["oracle", role.id, "failed"]
        if failed > MAX_FAILED_SHARE * asked:
            shown = "\n".join(f"  {reason}" for reason in tally.reasons[:5])
            raise BadInputError(
                f"the oracle of {role.id} failed on {failed} of {asked} rows, "
                f"expected at most {MAX_FAILED_SHARE:.0%}; the first reasons:\n{shown}",
                cure="correct the oracle, or take deterministic_oracle out of the role",
            )


def _gather(parts_folder: Path, names: dict[int, str], out: Path, *, teacher: bool) -> dict[str, Json]:
    """Join the parts' files in order."""

    def lines(suffix: str, splits: tuple[str, ...]) -> Iterator[bytes]:
        for path in sorted(parts_folder.glob(f"*{suffix}")):
            if names[int(path.name[:8])] in splits:
                yield from path.read_bytes().splitlines()

    files: dict[str, Json] = {}
    for split in SPLITS:
        files[f"{split}.jsonl"] = write_lines(out / f"{split}.jsonl", lines(".labels", (split,)))
    files["disagreements.jsonl"] = write_lines(out / "disagreements.jsonl", lines(".disagreements", SPLITS))
    if teacher:
        files["divergences.jsonl"] = write_lines(out / "divergences.jsonl", lines(".divergences", SPLITS))
        files["teacher.jsonl"] = write_lines(out / "teacher.jsonl", lines(".taught", SPLITS))
    return files


def _check_written(out: Path, domain: Any) -> dict[str, Json]:
    """Read the labels again: per role, how many there are and how many break their contract."""
    validators = {role.id: Validator(domain.output_schema(role.id)) for role in domain.config.roles}
    found = {role: {"labels": 0, "invalid": 0} for role in validators}
    for split in SPLITS:
        for row in canonical.read_jsonl(out / f"{split}.jsonl"):
            for role, label in row["labels"].items():
                found[role]["labels"] += 1
                found[role]["invalid"] += not validators[role].is_valid(label["output"])
    return found


def _validity_before(domain: Any, tally: Tally) -> dict[str, Json]:
    """Per role: inputs that the oracle was asked, answers within the contract, silence, failures."""
    kinds = ("asked", "answered", "silent", "failed")
    return {role.id: {kind: tally.counts["oracle", role.id, kind] for kind in kinds} for role in domain.config.roles}


def _report(
    domain: Any, contracts: Contracts, whole: Tally, tallies: dict[str, Tally], files: dict[str, Json]
) -> dict[str, Json]:
    roles = [role.id for role in domain.config.roles]
    sources = {
        split: {
            role: {what: n for (kind, who, what), n in sorted(tally.counts.items()) if (kind, who) == ("label", role)}
            for role in roles
        }
        for split, tally in tallies.items()
    }
    on_given = {
        split: {
            role: {
                "n": tally.counts["oracle", role, "right"] + tally.counts["oracle", role, "wrong"],
                "right": tally.counts["oracle", role, "right"],
            }
            for role in roles
        }
        for split, tally in tallies.items()
    }
    return {
        "domain": domain.name,
        "rows": files,
        "sources": sources,
        "oracle_on_given_labels": on_given,
        "without_oracle": [
            role.id
            for role in domain.config.roles
            if role.deterministic_oracle is None or isinstance(role.deterministic_oracle, PlaybookOracle)
        ],
        "unreachable": _unreachable(contracts, whole),
        "earlier_labels": {
            role: {what: whole.counts["earlier", role, what] for what in ("completed", "left")}
            for role in roles
            if whole.counts["earlier", role, "completed"] + whole.counts["earlier", role, "left"]
        },
        "lost": whole.lost,
        "failures": whole.reasons,
    }


def _unreachable(contracts: Contracts, tally: Tally) -> dict[str, Json]:
    """Per role and place: values of the closed list that no label and no oracle answer has."""
    seen = set().union(*tally.seen.values())
    labelled = tally.seen.get("labels", set())
    found: dict[str, Json] = {}
    for role, places in contracts.values.items():
        for path, values in places.items():
            shown = [value if isinstance(value, str) else canonical.text(value) for value in values]
            nowhere = [one for one in shown if f"value\0{role}:{path}\0{one}" not in seen]
            unlabelled = [one for one in shown if f"value\0{role}:{path}\0{one}" not in labelled]
            if unlabelled:
                entry = {"values": len(shown), "nowhere": nowhere[:MAX_LISTED], "unlabelled": len(unlabelled)}
                found.setdefault(role, {})[path] = entry
    return found


def _result(domain: Any, report: dict[str, Json], total: int) -> StageResult:
    train = report["sources"].get("train", {})
    labelled = {
        role.id: sum(n for source, n in train.get(role.id, {}).items() if source != "none")
        for role in domain.config.roles
    }
    if not any(labelled.values()):
        raise BadInputError(
            f"no train row of {domain.name} has a label for any role, expected at least one",
            cure="give rows with labels (data.fields.labels), or a role its deterministic_oracle",
        )
    verdicts = []
    for role, count in labelled.items():
        checked = report["validity"]["after"][role]
        bad = checked["invalid"] > 0 or not count
        reason = f"{checked['invalid']} of {checked['labels']} labels break the contract"
        if not count:
            reason = f"no train row has a label for {role}: give labels or an oracle"
        verdicts.append(
            Verdict(
                gate="contract",
                role=role,
                verdict="FAIL" if bad else "PASS",
                value=checked["invalid"],
                threshold=0,
                n=checked["labels"],
                reason=reason,
            )
        )
        verdicts.append(_vocabulary_verdict(role, report["unreachable"].get(role, {}), checked["labels"]))
    return StageResult(
        rows={"labels": total},
        verdicts=verdicts,
        summary={
            "sources": report["sources"],
            "oracle_on_given_labels": report["oracle_on_given_labels"],
            "disagreements": report["rows"]["disagreements.jsonl"]["rows"],
            "earlier_labels": report["earlier_labels"],
            "lost": len(report["lost"]),
            "failures": report["failures"][:5],
        },
    )


def _vocabulary_verdict(role: str, places: dict[str, Json], n: int) -> Verdict:
    missing = {path: entry["nowhere"] for path, entry in places.items() if entry["nowhere"]}
    count = sum(map(len, missing.values()))
    shown = "; ".join(f"{path}: {', '.join(values[:5])}" for path, values in list(missing.items())[:3])
    return Verdict(
        gate="vocabulary",
        role=role,
        verdict="INSUFFICIENT" if count else "PASS",
        value=count,
        threshold=0,
        n=n,
        blocking=False,
        reason=f"neither a label nor the oracle ever has {shown}" if count else "every closed value occurs",
    )
