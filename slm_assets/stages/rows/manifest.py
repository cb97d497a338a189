"""What a dataset's manifest counts: rows per source, slice, role and value, and its text lengths."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.config import DomainConfig
from slm_assets.stages.contract import Verdict
from slm_assets.stages.rows.corpus import Corpus
from slm_assets.stages.rows.splitting import NAMES, Assignment

Counts = dict[str, dict[str, dict[str, int]]]
"""split → kind (source, slice, role, label_source, value) → name → rows."""

MAX_LISTED = 2_000


def contract_digest(domain_schemas: dict[str, Json]) -> str:
    """One digest of all contracts of a domain: another one opens a new eval epoch."""
    return canonical.digest(domain_schemas)


def count_facts(corpus: Corpus, result: Assignment) -> Counts:
    """Rows of each split under each fact, names in order."""
    facts = corpus.ints("facts")
    counts: Counts = {}
    for number, split in NAMES.items():
        found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        sizes = np.bincount(facts[result.split == number], minlength=len(corpus.facts)).tolist()
        for entry, size in zip(corpus.facts, sizes, strict=True):
            for fact in entry if size else ():
                kind, name = fact.split("\0", 1)
                found[kind][name.replace("\0", "=")] += size
        counts[split] = {kind: dict(sorted(names.items())) for kind, names in sorted(found.items())}
    return counts


def text_statistics(corpus: Corpus, result: Assignment) -> Json:
    """Median, 95th percentile and maximum of words and characters per row, as whole numbers."""
    statistics: dict[str, dict[str, list[int]]] = {}
    for number, split in NAMES.items():
        rows = result.split == number
        if not rows.any():
            continue
        statistics[split] = {}
        for name in ("words", "chars"):
            ordered = np.sort(corpus.ints(name)[rows])
            at = [(len(ordered) - 1) * share // 100 for share in (50, 95, 100)]
            statistics[split][name] = ordered[at].tolist()
    return {"columns": ["p50", "p95", "max"], **statistics}


def missing_values(counts: Counts) -> list[str]:
    """Values that train has and eval has not ("role:/path=value"), in order."""
    train = counts["train"].get("value", {})
    held_out = counts["eval"].get("value", {})
    return [name for name in train if name not in held_out]


def coverage_verdicts(config: DomainConfig, counts: Counts, sizes: dict[str, int]) -> list[Verdict]:
    """FAIL when there is nothing to train on or to measure; thin slices and absent values warn."""
    verdicts = []
    empty = [name for name in ("train", "eval") if not sizes[name]]
    if empty:
        reason = (
            f"no rows for {' and '.join(empty)}: lower or raise data.split.eval_ratio, give more rows, "
            "or group them by a key that fewer rows share"
        )
        return [Verdict(gate="coverage", role="", verdict="FAIL", value=0, threshold=1, reason=reason)]
    for part in config.eval.slices:
        found = counts["eval"].get("slice", {}).get(part.id, 0)
        if found >= part.min_n:
            continue
        nothing = part.critical and not found
        verdicts.append(
            Verdict(
                gate="coverage",
                role="",
                verdict="FAIL" if nothing else "INSUFFICIENT",
                value=found,
                threshold=1 if nothing else part.min_n,
                n=found,
                n_needed=part.min_n,
                slice=part.id,
                blocking=nothing,
                reason=f"eval has {found} rows of slice {part.id}, wanted {part.min_n}: give more such rows",
            )
        )
    missing = missing_values(counts)
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        verdicts.append(
            Verdict(
                gate="coverage",
                role="",
                verdict="INSUFFICIENT",
                value=len(missing),
                threshold=0,
                n=sizes["eval"],
                metric="values_without_eval_rows",
                blocking=False,
                reason=f"{len(missing)} values occur in train and never in eval: {shown}",
            )
        )
    if not any(verdict.blocking for verdict in verdicts):
        verdicts.append(
            Verdict(
                gate="coverage",
                role="",
                verdict="PASS",
                value=sizes["eval"],
                threshold=1,
                n=sizes["eval"],
                reason=f"{sizes['train']} train and {sizes['eval']} eval rows; every critical slice has rows",
            )
        )
    return verdicts
