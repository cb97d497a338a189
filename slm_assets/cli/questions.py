"""The answers of `slm versions`, `metrics`, `compare`, `ladder` and `lineage` as tables and trees for a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from slm_assets import canonical
from slm_assets.cli.render import CONSOLE, gates, number, paint

if TYPE_CHECKING:
    from slm_assets.api import (
        Artifact,
        Branch,
        DomainVersions,
        History,
        Lineage,
        Point,
        Rung,
        Score,
        Series,
        Version,
    )
    from slm_assets.stages.experiments.changes import Change
    from slm_assets.stages.experiments.compare import Comparison
    from slm_assets.stages.experiments.pairing import Example, Paired
    from slm_assets.stages.experiments.rows import DataChange
    from slm_assets.stages.experiments.turn import Explanation

T = TypeVar("T")
CHANGES = 20
"""Config changes that are shown; --json has all."""

WIDTH = 100
NEWEST = 40
"""Versions in a table, unless all are asked for: a terminal takes seconds to lay out hundreds."""


def versions(domains: Sequence[DomainVersions], *, everything: bool) -> None:
    """A table per domain."""
    for domain in domains:
        serving = ", ".join(f"{role}: {version or 'oracle'}" for role, version in domain.serving.items())
        CONSOLE.print(f"[bold]{domain.domain}[/bold] {serving or 'no role promoted yet'}")
        if domain.versions:
            heads = ("version", "state", "opened", "by", "why", "dataset from", "judged against", "train rows")
            table = Table(*heads, "primary metric")
            for version in _newest(domain.versions, everything):
                table.add_row(*_version(version))
            CONSOLE.print(table)
            _say_left_out(domain.versions, everything)


def metrics(found: History, *, everything: bool) -> None:
    """A line per series and version, and what else there is."""
    if not found.series:
        CONSOLE.print(f"{found.domain}: no version has these numbers")
    for series in found.series:
        words = [series.role or "whole turn", series.metric, series.subject, series.slice, series.mode]
        title = " ".join(escape(word.replace("_", " ")) for word in words if word)
        table = Table("version", "opened", "value", "interval", "n", "epoch", title=title, title_justify="left")
        for point in _newest(series.points, everything):
            table.add_row(*_point(point))
        CONSOLE.print(table)
        _say_left_out(series.points, everything)
        CONSOLE.print(f"  {series.trend[-NEWEST:]}{_epochs(series)}", soft_wrap=True)
    CONSOLE.print(f"--metric: {', '.join(found.metrics)}", style="dim", soft_wrap=True, markup=False)
    if found.slices:
        CONSOLE.print(f"--slice: {', '.join(found.slices)}", style="dim", soft_wrap=True, markup=False)


def compare(found: Comparison) -> None:
    """Who answers better, then what changed."""
    CONSOLE.print(f"[bold]{found.domain} {found.before} → {found.after}[/bold]")
    for roles, version in ((found.roles_only_before, found.before), (found.roles_only_after, found.after)):
        if roles:
            CONSOLE.print(f"only {version} has the roles {', '.join(roles)}: they are not compared")
    for note in found.notes:
        CONSOLE.print(f"[yellow]{escape(note)}[/yellow]")
    if found.paired:
        _paired(found, found.paired)
    _changes("opened with", found.plan)
    _changes("config", found.config)
    if found.data:
        _data(found, found.data)


def ladder(found: Sequence[Rung]) -> None:
    """A line per role and rung, then why each is kept or not."""
    table = Table("role", "rung", "on", "metrics", "n", "p50 / p95 ms", "size", "training", "per 1,000", "verdict")
    for rung in found:
        shown = "\n".join(f"{m['metric']} {_bounded(m['value'], m['low'], m['high'])}" for m in rung.metrics)
        times = "" if rung.p50_ms is None or rung.p95_ms is None else f"{rung.p50_ms:.3g} / {rung.p95_ms:.3g}"
        name = f"[bold]{escape(rung.rung)}[/bold]" if rung.kept else escape(rung.rung)
        table.add_row(
            rung.role, name, rung.on, shown, str(rung.n), times,
            "" if rung.bytes is None else f"{rung.bytes:,} B",
            _cost(rung.train_seconds, "s", rung.train_usd), _cost(rung.minutes_per_1000, "min", rung.usd_per_1000),
            paint(rung.verdict),
        )  # fmt: skip
    CONSOLE.print(table if found else "nothing was trained yet")
    for rung in found:
        if rung.why:
            CONSOLE.print(f"  {rung.role} {escape(rung.rung)} on {rung.on}: {escape(rung.why)}", soft_wrap=True)


def _cost(amount: float | None, unit: str, usd: float | None) -> str:
    if amount is None:
        return ""
    return f"{amount:.3g} {unit}" + ("" if usd is None else f", ${usd:.3g}")


def lineage(found: Lineage) -> None:
    """The tree, each node once."""
    word = "was made from" if found.direction == "up" else "was made into"
    CONSOLE.print(f"[bold]{found.root}[/bold] {word}")
    tree = Tree(_node(found.artifacts[found.root]))
    _grow(tree, found.tree, found)
    CONSOLE.print(tree)


def turn(found: Explanation) -> None:
    """The turn, and for each role what its answer was learned from."""
    CONSOLE.print(f"[bold]{escape(found.turn_id)}[/bold] at {found.at[:19]}, kept in {escape(found.kept)}")
    CONSOLE.print(f"  {_text(found.input)}", soft_wrap=True, markup=False)
    for outcome in found.outcomes:
        CONSOLE.print(f"  then: {outcome['signal']} {_text(outcome['detail'])}", soft_wrap=True, markup=False)
    for trail in found.trails:
        answer = trail.answer
        CONSOLE.print(f"[bold]{trail.role}[/bold] by {answer.get('version') or answer['engine']}, ", end="")
        CONSOLE.print(f"confidence {answer.get('confidence')}: {_text(answer['output'])}", soft_wrap=True, markup=False)
        if trail.release:
            CONSOLE.print(f"  {trail.release} ← {trail.model} ← {trail.train_rows} rows of {trail.dataset}")
            table = Table("train row", "alike", "from", "label", "label by", "input")
            for row in trail.nearest:
                told = [escape(_text(part)) for part in (row.label, row.label_source, row.input)]
                table.add_row(escape(row.id), f"{row.similarity:.2f}", row.source, *told)
            CONSOLE.print(table)
            gates(list(trail.gates))


def _newest(rows: Sequence[T], everything: bool) -> Sequence[T]:
    return rows if everything else rows[-NEWEST:]


def _say_left_out(rows: Sequence[object], everything: bool) -> None:
    if len(rows) > NEWEST and not everything:
        CONSOLE.print(f"  {len(rows) - NEWEST} earlier versions: --all", style="dim")


def _version(version: Version) -> tuple[str, ...]:
    serves = f" {', '.join(version.serves)}" if version.serves else ""
    judged = ", ".join(f"{role} {against}" for role, against in version.incumbents.items())
    rows = "" if version.train_rows is None else f"{version.train_rows:,}"
    return (
        version.version, paint(version.state) + serves, version.opened_at[:19], escape(version.opener),
        escape(version.reason), version.parent or "", judged or "oracle", rows,
        "\n".join(map(_score, version.primary)),
    )  # fmt: skip


def _score(score: Score) -> str:
    return f"{score.role} {score.metric} {_bounded(score.value, score.low, score.high)}"


def _point(point: Point) -> tuple[str, ...]:
    interval = "" if point.low is None or point.high is None else f"{point.low:.4f} … {point.high:.4f}"
    return point.version, point.opened_at[:19], number(point.value), interval, str(point.n), str(point.epoch)


def _epochs(series: Series) -> str:
    if len({point.epoch for point in series.points}) < 2:
        return ""
    return "  the eval rows changed with the epoch: `slm compare` takes two versions on the same rows"


def _paired(found: Comparison, paired: Paired) -> None:
    rows = paired.rows
    CONSOLE.print(
        f"{rows.common:,} eval rows in both, {rows.only_before:,} only in {found.before}, "
        f"{rows.only_after:,} only in {found.after}, {rows.other_input:,} with another input under their id"
    )
    table = Table("role", "metric", found.before, found.after, "difference", "95 % interval", "n", "better", "worse")
    for m in paired.metrics:
        sure = "green" if m.low > 0 else "red" if m.high < 0 else ""
        difference = f"{m.difference:+.4f}"
        table.add_row(
            m.role or "whole turn", m.metric, number(m.before), number(m.after),
            f"[{sure}]{difference}[/{sure}]" if sure else difference,
            f"{m.low:+.4f} … {m.high:+.4f}" if m.n else "", str(m.n), str(m.better), str(m.worse),
        )  # fmt: skip
    CONSOLE.print(table)
    for skipped in paired.skipped:
        CONSOLE.print(f"  {skipped.role} {skipped.metric} is not compared: {skipped.why}")
    for name, places in paired.left_out.items():
        CONSOLE.print(f"  {name}: the contracts differ, compared without {escape(', '.join(places))}")
    for role in paired.roles:
        moved = f", {role.relabelled} relabelled and not judged" if role.relabelled else ""
        CONSOLE.print(
            f"[bold]{role.role}[/bold] by {role.metric}: [green]{len(role.better)} better[/green], "
            f"[red]{len(role.worse)} worse[/red] of {role.judged}{moved}"
        )
        for word, examples in (("better", role.better_examples), ("worse", role.worse_examples)):
            for example in examples:
                _example(word, example, found)


def _example(word: str, example: Example, found: Comparison) -> None:
    CONSOLE.print(f"  {word} {escape(example.id)}: {_text(example.input)}")
    answers = (("label", example.label), (found.before, example.before), (found.after, example.after))
    for who, value in answers:
        CONSOLE.print(f"    {who:<6}{_text(value)}")


def _changes(title: str, changes: Sequence[Change]) -> None:
    if not changes:
        CONSOLE.print(f"[bold]{title}[/bold]: the same")
        return
    CONSOLE.print(f"[bold]{title}[/bold]: {len(changes)} changed")
    for change in changes[:CHANGES]:
        place = f"{change.file} {change.path}" if change.file else change.path
        CONSOLE.print(f"  {escape(place)} {_changed(change)}", soft_wrap=True)
    if len(changes) > CHANGES:
        CONSOLE.print(f"  … {len(changes) - CHANGES} more, all in --json")


def _changed(change: Change) -> str:
    if change.kind == "text":
        lines = str(change.after).splitlines()
        plus, minus = (sum(line.startswith(sign) for line in lines) for sign in "+-")
        return f"[green]+{plus}[/green] [red]-{minus}[/red] lines"
    if change.kind == "changed":
        return f"{_text(change.before)} → {_text(change.after)}"
    if change.path == "$":
        return change.kind
    value = _text(change.after if change.kind == "added" else change.before)
    return f"[green]+ {value}[/green]" if change.kind == "added" else f"[red]- {value}[/red]"


def _data(found: Comparison, data: DataChange) -> None:
    table = Table("rows", found.before, found.after, "added", "removed", "other input", "labels from")
    for split in data.splits:
        numbers = (split.before, split.after, split.added, split.removed, split.changed)
        table.add_row(split.split, *(f"{n:,}" for n in numbers), _mix(found, split.split))
    CONSOLE.print(table)
    for way, rows in data.moved.items():
        CONSOLE.print(f"  {rows:,} rows went {way}")
    moved = [one for one in data.labels if one.changed or one.added or one.removed or one.resourced]
    if not moved:
        CONSOLE.print("[bold]labels[/bold]: the same on every common row")
    for one in moved:
        CONSOLE.print(
            f"[bold]labels[/bold] {one.split} {one.role}: {one.changed:,} changed, {one.added:,} added, "
            f"{one.removed:,} removed, {one.resourced:,} equal from another source, {one.same:,} the same"
        )
        for example in one.examples:
            was = f"{_text(example.before)} ({example.source_before})"
            CONSOLE.print(f"  {escape(example.id)}: {was} → {_text(example.after)} ({example.source_after})")


def _mix(found: Comparison, split: str) -> str:
    """Label sources of the split, all roles, as before → after where they differ."""
    sides = []
    for version in (found.before, found.after):
        total: dict[str, int] = {}
        for by_source in found.sources[version].get(split, {}).values():
            for source, count in by_source.items():
                total[source] = total.get(source, 0) + count
        sides.append(", ".join(f"{source} {count:,}" for source, count in sorted(total.items())))
    return sides[0] if sides[0] == sides[1] else f"{sides[0]} → {sides[1]}"


def _grow(tree: Tree, branch: Branch, found: Lineage) -> None:
    for below in branch.branches:
        said = " [dim]see above[/dim]" if below.again else ""
        _grow(tree.add(_node(found.artifacts[below.urn]) + said), below, found)
    if branch.more:
        tree.add(f"[dim]… {branch.more} more, --depth[/dim]")


def _node(artifact: Artifact) -> str:
    rows = "" if artifact.rows is None else f" {artifact.rows:,} rows"
    digest = artifact.sha256[:12] or "[red]not registered[/red]"
    return f"[bold]{artifact.kind}[/bold] {artifact.name}@{artifact.version} [dim]{digest}{rows}[/dim]"


def _bounded(value: float | None, low: float | None, high: float | None) -> str:
    return number(value) + ("" if low is None or high is None else f" [dim]{low:.4f} … {high:.4f}[/dim]")


def _text(value: Any) -> str:
    shown = value if isinstance(value, str) else canonical.text(value)
    return escape(shown if len(shown) <= WIDTH else f"{shown[: WIDTH - 1]}…")
