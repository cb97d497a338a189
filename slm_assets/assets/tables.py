"""Markdown tables for people: metrics with their intervals, gates with their numbers and reasons, versions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slm_assets.stages.experiments.history import Point, Series
    from slm_assets.stages.experiments.ladder import Rung
    from slm_assets.stages.experiments.lineage import Artifact, Branch, Lineage
    from slm_assets.stages.experiments.pairing import Paired
    from slm_assets.stages.experiments.versions import Version

SUBJECTS = ("challenger", "incumbent", "floor", "majority", "ceiling", "baseline")


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; cells are escaped, floats shown with up to four digits."""
    lines = [head, ["---"] * len(head), *([cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def metrics(values: Sequence[Mapping[str, Any]]) -> str:
    """Every metric over all rows: one line per role, metric and mode, one column per subject; "" where
    there are none."""
    whole = [value for value in values if not value.get("slice")]
    lines: dict[tuple[str, str, str], dict[str, Mapping[str, Any]]] = {}
    for value in whole:
        key = (value.get("role", ""), value["metric"], value.get("mode", ""))
        lines.setdefault(key, {})[value.get("subject", "challenger")] = value
    known = {value.get("subject", "challenger") for value in whole}
    subjects = [subject for subject in SUBJECTS if subject in known]
    subjects += sorted(known - set(subjects))
    rows = []
    for (role, metric, mode), by_subject in sorted(lines.items()):
        n = next(iter(by_subject.values())).get("n", 0)
        numbers = [_interval(by_subject.get(subject)) for subject in subjects]
        rows.append([role or "whole turn", metric, mode.replace("_", " "), *numbers, n])
    return table(["role", "metric", "mode", *subjects, "n"], rows) if rows else ""


def slices(values: Sequence[Mapping[str, Any]]) -> str:
    """The same per slice, challenger and incumbent side by side; "" where there are none."""
    lines: dict[tuple[str, str, str, str], dict[str, Mapping[str, Any]]] = {}
    for value in values:
        if value.get("slice"):
            key = (value["slice"], value.get("role", ""), value["metric"], value.get("mode", ""))
            lines.setdefault(key, {})[value.get("subject", "challenger")] = value
    rows: list[list[Any]] = []
    for key, by_subject in sorted(lines.items()):
        n = next(iter(by_subject.values())).get("n", 0)
        numbers = [_interval(by_subject.get(subject)) for subject in SUBJECTS[:2]]
        rows.append([*key[:3], key[3].replace("_", " "), *numbers, n])
    return table(["slice", "role", "metric", "mode", *SUBJECTS[:2], "n"], rows) if rows else ""


def verdicts(rows: Iterable[Mapping[str, Any]], *, gate: bool = True) -> str:
    """Verdicts with value, interval, threshold, n and reason; `gate` False leaves the gate's name out."""
    head = ["gate"] if gate else []
    head += ["role", "verdict", "metric", "value", "low", "high", "threshold", "n", "n needed", "reason"]
    return table(head, [[_field(row, name) for name in head] for row in rows])


def history(series: Sequence[Series]) -> str:
    """A line per version, a column per series, and the change to the version before; of one epoch only,
    as the numbers of two are of different rows."""
    by_version: dict[str, dict[int, Point]] = {}
    for column, one in enumerate(series):
        for point in one.points:
            by_version.setdefault(point.version, {})[column] = point
    rows: list[list[Any]] = []
    before: dict[int, Point] = {}
    for version in sorted(by_version, key=lambda name: int(name[1:])):
        own = by_version[version]
        first = next(iter(own.values()))
        row: list[Any] = [version, first.opened_at[:19], first.epoch]
        for column in range(len(series)):
            now = own.get(column)
            row += [_interval(vars(now)), _change(before.get(column), now), now.n] if now else [None] * 3
        before |= own
        rows.append(row)
    head = [part for one in series for part in (f"{one.role} {one.metric}".strip(), "change", "n")]
    return table(["version", "opened", "epoch", *head], rows)


def versions(found: Sequence[Version]) -> str:
    """A line per version: how far it came, who opened it and why, from what, how good."""
    head = ["version", "state", "opened", "by", "why", "dataset from", "judged against", "train rows", "primary metric"]
    return table(
        head,
        [
            [
                v.version,
                f"{v.state} {', '.join(v.serves)}".strip(),
                v.opened_at[:19],
                v.opener,
                v.reason,
                v.parent,
                ", ".join(f"{role} {version}" for role, version in v.incumbents.items()) or "oracle",
                v.train_rows,
                "; ".join(f"{score.role} {score.metric} {_interval(vars(score))}" for score in v.primary),
            ]
            for v in found
        ],
    )


def ladder(found: Sequence[Rung]) -> str:
    """A line per role and rung: how good, how fast, how large, at what cost, and what the gates say."""
    head = ["role", "rung", "on", "metrics", "n", "p50 ms", "p95 ms", "bytes", "training s", "training $"]
    head += ["minutes per 1,000", "$ per 1,000", "verdict", "why"]
    rows = [
        [
            r.role, f"{r.rung} (kept)" if r.kept and r.on == "validation" else r.rung, r.on,
            "; ".join(f"{m['metric']} {_interval(m)}" for m in r.metrics), r.n, r.p50_ms, r.p95_ms, r.bytes,
            r.train_seconds, r.train_usd, r.minutes_per_1000, r.usd_per_1000, r.verdict, r.why,
        ]
        for r in found
    ]  # fmt: skip
    return table(head, rows)


def differences(paired: Paired, before: str, after: str) -> str:
    """Paired differences on the common eval rows, and what was left out of them."""
    head = ["role", "metric", before, after, "difference", "low", "high", "n", "groups", "better", "worse"]
    rows = [
        [
            m.role or "whole turn", m.metric, m.before, m.after,
            *(f"{x:+.4f}" for x in (m.difference, m.low, m.high)), m.n, m.groups, m.better, m.worse,
        ]
        for m in paired.metrics
    ]  # fmt: skip
    r = paired.rows
    left_out = r.only_before + r.only_after + r.other_input
    relabelled = sum(role.relabelled for role in paired.roles)
    note = f"{r.common} common eval rows; {left_out} in one version only; {relabelled} labels changed and not judged."
    return f"{table(head, rows)}\n\n{note} Two-sided 95 % intervals over content groups."


def tree(found: Lineage) -> str:
    """A lineage as a nested list; what stands above already is named again and not unfolded."""
    return "\n".join(_items(found.tree, found.artifacts, 0))


def _items(branch: Branch, artifacts: Mapping[str, Artifact], level: int) -> Iterator[str]:
    own = artifacts[branch.urn]
    rows = "" if own.rows is None else f", {own.rows:,} rows"
    again = ", see above" if branch.again else f", {branch.more} more" if branch.more else ""
    digest = f"`{own.sha256[:12]}`" if own.sha256 else "not registered"
    yield f"{'  ' * level}- **{own.kind}** {own.name} {own.version} {digest}{rows}{again}"
    for below in branch.branches:
        yield from _items(below, artifacts, level + 1)


def cell(value: Any) -> str:
    """A value as the text of a table cell."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _change(before: Point | None, now: Point) -> str | None:
    if before is None or before.epoch != now.epoch or before.value is None or now.value is None:
        return None
    return f"{now.value - before.value:+.4f}"


def _field(row: Mapping[str, Any], name: str) -> Any:
    value = row.get(name.replace(" ", "_"))
    if name == "role":
        return value or "all"
    if name == "verdict" and not row.get("blocking", True):
        return f"{value} (warning)"
    if name == "metric" and row.get("slice"):
        return f"{value} in {row['slice']}"
    return value


def _interval(value: Mapping[str, Any] | None) -> str:
    if value is None or value.get("value") is None:
        return "–"
    shown = cell(float(value["value"]))
    if value.get("low") is None or value.get("high") is None:
        return shown
    return f"{shown} [{cell(float(value['low']))}, {cell(float(value['high']))}]"
