"""Stage `dataset`: from rows of any origin to train, validation and a frozen eval set without leakage.

Inputs: `seed` (files as `<source>/<name>`), and where there are any `traffic`, what was captured, and `parent`, the
dataset of the incumbent. Params: `train_fraction`, and `epoch`, the parent's eval epoch. Output `dataset`:
train.jsonl, validation.jsonl, eval.jsonl, reserve.jsonl, quarantine.jsonl and manifest.json; with traffic also
captured.jsonl, the turns that were chosen of it, for the reviewers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.errors import BadInputError
from slm_assets.stages.contract import StageResult, Verdict
from slm_assets.stages.rows import manifest as manifests
from slm_assets.stages.rows.captured import FILE as CAPTURED_FILE
from slm_assets.stages.rows.captured import take
from slm_assets.stages.rows.corpus import Corpus, Ints, Mask
from slm_assets.stages.rows.ingest import Contracts, Reader
from slm_assets.stages.rows.names import ALWAYS_EVAL, OUTSIDE, REVIEWED
from slm_assets.stages.rows.near_duplicates import Units, components, near_to, units_of
from slm_assets.stages.rows.splitting import (
    DROPPED,
    EVAL,
    NAMES,
    RESERVE,
    TRAIN,
    VALIDATION,
    Assignment,
    Parent,
    assign,
    assign_fixed,
    drop_duplicates,
    group_rows,
    thin_out,
)
from slm_assets.stages.rows_io import write_lines
from slm_assets.stages.runtime import StageContext

GROUPING_SEED = 1
LEAKAGE_SEEDS = (1_009, 2_003, 3_001, 4_001)


def run(ctx: StageContext) -> StageResult:
    """Build the dataset.

    Errors: BadInputError when too many rows are unusable, nothing is left, or a parameter is wrong.
    """
    fraction = ctx.request.params.get("train_fraction", 1.0)
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction <= 1:
        raise BadInputError(
            f"train_fraction: found {fraction!r}, expected a number in (0, 1]",
            cure="leave it out for all rows",
        )
    corpus = Corpus(ctx.scratch)
    try:
        return _build(ctx, corpus, float(fraction))
    finally:
        corpus.close()


def _build(ctx: StageContext, corpus: Corpus, fraction: float) -> StageResult:
    config = ctx.domain.config
    contracts = Contracts(ctx.domain)
    contract = manifests.contract_digest(_schemas(ctx.domain))
    before = _before(ctx)
    changed = bool(before) and before["contract"] != contract
    reader = Reader(
        ctx.domain,
        corpus,
        contracts,
        ctx.scratch / "quarantine.jsonl",
        parent=before.get("dataset", ""),
        changed=changed,
    )
    parent = None
    if before and config.data.split.kind != "fixed":
        parent = Parent.load(ctx.inputs["parent"], before["epoch"])
        reader.read_frozen(ctx.inputs["parent"] / "eval.jsonl")
    reader.read_folder(ctx.inputs["seed"], lambda share, note: ctx.progress(share * 0.5, note))
    captured = None
    if "traffic" in ctx.inputs and config.improvement.relabel.status == "enabled":
        ctx.progress(0.5, "choosing captured turns")
        captured = take(ctx.domain, ctx.inputs["traffic"], corpus, contracts)
        reader.read_captured(captured.rows)
    reader.stop_if_too_many(config.data.max_quarantine_share)
    corpus.seal()

    split = _split(ctx, corpus, parent, contract, fraction)
    if parent is None:
        split.result.epoch = int(ctx.request.params.get("epoch", 1)) + changed
    ctx.progress(0.9, "writing")
    out = ctx.out["dataset"]
    files = _write(out, corpus, split.result)
    quarantined = map(canonical.dumps, canonical.read_jsonl(reader.quarantine))
    files["quarantine.jsonl"] = write_lines(out / "quarantine.jsonl", quarantined)
    if captured is not None:
        files[CAPTURED_FILE] = write_lines(out / CAPTURED_FILE, map(canonical.dumps, captured.records))
    refused = int(files["quarantine.jsonl"]["rows"])
    reader.quarantine.unlink()
    outside = list(_outside(reader, split.result))
    files[OUTSIDE] = write_lines(out / OUTSIDE, map(canonical.dumps, outside))
    sizes = {name: int(files[f"{name}.jsonl"]["rows"]) for name in NAMES.values()}
    counts = manifests.count_facts(corpus, split.result)
    tally = reader.tally
    document = {
        "domain": ctx.domain.name,
        "epoch": split.result.epoch,
        "contract": contract,
        "rows": files,
        "read": tally.read,
        "quarantine": {"rows": refused, "reasons": dict(sorted(tally.quarantine.items()))},
        "repeated": tally.repeated,
        **split.notes,
        **split.result.notes,
        "frozen": {
            "relabelled": tally.relabelled,
            "without_label": tally.unlabelled_frozen,
            "outside_contract": tally.lost_frozen,
            "with_earlier_label": counts["eval"].get("previous", {}),
            "to_review": len(outside),
        },
        "previous": before if changed else None,
        "unknown_roles": dict(sorted(tally.unknown_roles.items())),
        "counts": counts,
        "values_without_eval_rows": manifests.missing_values(counts)[: manifests.MAX_LISTED],
        "text": manifests.text_statistics(corpus, split.result),
        "warnings": _warnings(split.result, tally.unknown_roles),
        **({"captured": captured.notes} if captured else {}),
    }
    canonical.write_json(out / "manifest.json", document)
    verdicts = [*split.verdicts, *manifests.coverage_verdicts(config, counts, sizes)]
    return StageResult(
        rows={"dataset": sum(sizes.values())},
        verdicts=verdicts,
        summary={
            **sizes,
            **{name: document[name] for name in ("epoch", "read", "duplicates", "near_duplicates")},
            "decontaminated": document["decontaminated"],
            "quarantined": refused,
            "outside_contract": len(outside),
            "new_contract": changed,
            "conflicts": split.notes["conflicts"]["inputs"],
            "leakage": split.notes["leakage"],
            "groups": split.notes["groups"],
            "warnings": document["warnings"],
            **(captured.summary if captured else {}),
        },
    )


def _before(ctx: StageContext) -> dict[str, Any]:
    """The incumbent's dataset: its digest, contract and eval epoch; nothing where there is none."""
    if "parent" not in ctx.inputs:
        return {}
    contract = canonical.read_json(ctx.inputs["parent"] / "manifest.json")["contract"]
    epoch = int(ctx.request.params.get("epoch", 1))
    return {"dataset": ctx.request.inputs["parent"], "contract": contract, "epoch": epoch}


def _outside(reader: Reader, result: Assignment) -> Iterator[Json]:
    """How frozen rows break the contract, in the order of their ids; without those that were rewritten."""
    for name, entries in sorted(reader.outside.items()):
        index = reader.corpus.ids.get(name)
        if index is None or result.split[index] != DROPPED:
            yield from entries


@dataclass
class _Split:
    result: Assignment
    notes: dict[str, Json]
    verdicts: list[Verdict]


def _split(ctx: StageContext, corpus: Corpus, parent: Parent | None, contract: str, fraction: float) -> _Split:
    config = ctx.domain.config
    near = config.data.near_duplicates
    always_eval = _of_sources(corpus, ALWAYS_EVAL) | corpus.frozen_mask()
    fixed = config.data.split.kind == "fixed"
    kept: Mask = np.ones(len(corpus), dtype=np.bool_)
    notes: dict[str, Json] = {"duplicates": 0, "conflicts": {"inputs": 0, "examples": []}}
    if not fixed:
        kept, notes = drop_duplicates(corpus, always_eval)
    ctx.progress(0.5, "searching near-duplicates")
    units = units_of(corpus, kept, near.min_words)
    component = components(corpus, units, near.threshold, GROUPING_SEED)
    of_row = np.where(kept, component[units.of_row], 0)
    distinct = len(np.unique(of_row[kept]))
    notes["near_duplicates"] = int(kept.sum()) - distinct
    group = group_rows(corpus, kept, of_row)
    if fixed:
        result = assign_fixed(corpus, group, always_eval, config.data.split)
    else:
        cases = _of_sources(corpus, {REVIEWED})
        result = assign(corpus, kept, group, always_eval, cases, config.data.split, parent, contract)
    notes["groups"] = {name: len(np.unique(result.group[result.split == number])) for number, name in NAMES.items()}
    ctx.progress(0.65, "looking for leakage")
    if fixed:
        leakage, verdict = _overlap(corpus, units, result, near.threshold)
        notes["decontaminated"] = 0
    else:
        notes["decontaminated"], leakage, verdict = _decontaminate(ctx, corpus, units, result, near.threshold)
    notes["leakage"] = leakage
    thin_out(corpus, result, fraction)
    return _Split(result, notes, [verdict])


def _of_sources(corpus: Corpus, wanted: Collection[str]) -> Mask:
    names = [number for number, name in enumerate(corpus.sources) if name in wanted]
    return np.isin(corpus.ints("source"), np.array(names, dtype=np.int64))


def _near_rows(corpus: Corpus, units: Units, split: Ints, threshold: float, seed: int) -> Mask:
    """Train and validation rows that are equal or near to an eval or reserve row."""
    training = np.isin(split, (TRAIN, VALIDATION))
    wanted = np.zeros(len(units), dtype=np.bool_)
    searched = wanted.copy()
    wanted[units.of_row[np.isin(split, (EVAL, RESERVE))]] = True
    searched[units.of_row[training]] = True
    found = near_to(corpus, units, wanted, searched, threshold, seed)
    return np.asarray(found[units.of_row] & training, dtype=np.bool_)


def _decontaminate(
    ctx: StageContext, corpus: Corpus, units: Units, result: Assignment, threshold: float
) -> tuple[int, Json, Verdict]:
    """Drop train rows near an eval row until a search with fresh hashes finds none: that last search is
    the leakage check. Returns how many were dropped, and the check's numbers and verdict."""
    dropped = 0
    first, *others = LEAKAGE_SEEDS
    found = _near_rows(corpus, units, result.split, threshold, first)
    for turn, seed in enumerate(others):
        result.split[found] = DROPPED
        dropped += int(found.sum())
        ctx.progress(0.7 + 0.06 * turn, f"{dropped:,} train rows near an eval row dropped")
        found = _near_rows(corpus, units, result.split, threshold, seed)
        if not found.any():
            break
    leakage = _leakage(corpus, result.split, found)
    return dropped, leakage, _verdict(leakage, blocking=True, note=f"; {dropped} were dropped before")


def _overlap(corpus: Corpus, units: Units, result: Assignment, threshold: float) -> tuple[Json, Verdict]:
    """What given splits share; reported, not refused."""
    found = _near_rows(corpus, units, result.split, threshold, LEAKAGE_SEEDS[0])
    leakage = _leakage(corpus, result.split, found)
    return leakage, _verdict(leakage, blocking=False, note=" in the given files")


def _leakage(corpus: Corpus, split: Ints, found: Mask) -> dict[str, int]:
    """Rows for training that are equal (`exact`) or only near to a held-out one, of how many."""
    inputs = corpus.hashes("input")
    training = np.isin(split, (TRAIN, VALIDATION))
    exact = np.isin(inputs, inputs[np.isin(split, (EVAL, RESERVE))]) & training
    return {"exact": int(exact.sum()), "near": int((found & ~exact).sum()), "n_checked": int(training.sum())}


def _verdict(leakage: dict[str, int], *, blocking: bool, note: str) -> Verdict:
    total = leakage["exact"] + leakage["near"]
    return Verdict(
        gate="leakage",
        role="",
        verdict="PASS" if total == 0 else "FAIL",
        value=total,
        threshold=0,
        n=leakage["n_checked"],
        blocking=blocking,
        reason=f"{total} of {leakage['n_checked']} train and validation rows are equal or near to an eval row{note}",
    )


def _write(out: Path, corpus: Corpus, result: Assignment) -> dict[str, dict[str, Json]]:
    """The four split files, each sorted by id."""
    ordered = corpus.by_id()
    files = {}
    for number, name in NAMES.items():
        rows = ordered[result.split[ordered] == number]
        files[f"{name}.jsonl"] = write_lines(out / f"{name}.jsonl", corpus.lines(rows, result.group))
    return files


def _schemas(domain: Any) -> dict[str, Json]:
    return {
        role.id: {"input": domain.input_schema(role.id), "output": domain.output_schema(role.id)}
        for role in domain.config.roles
    }


def _warnings(result: Assignment, unknown_roles: dict[str, int]) -> list[str]:
    unknown = [
        f"labels of {name} were ignored in {count} rows: the config has no such role"
        for name, count in sorted(unknown_roles.items())
    ]
    return [*result.warnings, *unknown]
