"""`slm versions`, `metrics`, `compare`, `ladder` and `lineage`: questions, nothing is changed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import orjson
import typer

experiments_app = typer.Typer()
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts, nothing else.")]
All = Annotated[bool, typer.Option("--all", help="Every version in the tables, not the newest 40; --json has all.")]
DomainName = Annotated[str, typer.Argument(metavar="DOMAIN", help="A folder of domains/.")]


@experiments_app.command()
def versions(
    domain: Annotated[str | None, typer.Argument(help="One domain; default: every one.")] = None,
    everything: All = False,
    json: AsJson = False,
) -> None:
    """List every version: how far it came, who serves, who opened it and why, from what, how good.

    JSON keys: domains: [{domain, serving, versions: [{version, state, serves, opened_at, opener, reason,
    parent, incumbents, epoch, params, train_rows, primary}]}].

    Example: `slm versions travel`
    """
    from slm_assets import api
    from slm_assets.cli import questions

    found = {"domains": api.versions(domain)}
    _print(found, json, lambda value: questions.versions(value["domains"], everything=everything))


@experiments_app.command()
def metrics(
    domain: DomainName,
    metric: Annotated[
        list[str] | None, typer.Option(help="Of these metrics; default: the primary one of each role.")
    ] = None,
    role: Annotated[str | None, typer.Option(help="Only of this role.")] = None,
    slice_id: Annotated[str, typer.Option("--slice", help="On the rows of this slice; default: all.")] = "",
    subject: Annotated[
        list[str] | None, typer.Option(help="Whose: challenger (default), incumbent, floor or majority.")
    ] = None,
    reference: Annotated[
        bool, typer.Option("--reference", help="Of a role that reads others: on their labels, not their answers.")
    ] = False,
    since: Annotated[str | None, typer.Option(help="From this version or day on: v3, 2026-11-22.")] = None,
    everything: All = False,
    json: AsJson = False,
) -> None:
    """Show numbers over versions, each with its 95 % interval and n.

    Each version was measured on its own eval rows; `slm compare` takes two on the same. JSON keys: domain,
    series: [{role, metric, subject, slice, mode, points: [{version, opened_at, value, low, high, n, epoch}]}],
    metrics, slices.

    Example: `slm metrics travel --metric exact --subject challenger --subject floor --since v3`
    """
    from slm_assets import api
    from slm_assets.cli import questions

    found = api.metrics(
        domain,
        metrics=metric or (),
        role=role,
        slice_id=slice_id,
        subjects=subject or ("challenger",),
        reference=reference,
        since=since,
    )
    _print(found, json, lambda history: questions.metrics(history, everything=everything))


@experiments_app.command()
def compare(
    domain: DomainName,
    before: Annotated[str, typer.Argument(metavar="V1", help="A version, such as v1.")],
    after: Annotated[str, typer.Argument(metavar="V2", help="The version compared with it, such as v2.")],
    json: AsJson = False,
) -> None:
    """Compare two versions: paired on the eval rows that both have; and what changed in config, data, labels.

    Differences are V2 minus V1, with two-sided 95 % intervals over content groups. JSON keys: domain, before,
    after, roles_in_both, roles_only_before, roles_only_after, paired: {rows, metrics, roles, skipped, left_out}, plan,
    config, data: {splits, moved, labels}, sources, notes.

    Example: `slm compare travel v1 v2`
    """
    from slm_assets import api
    from slm_assets.cli import questions

    _print(api.compare(domain, before, after), json, questions.compare)


@experiments_app.command()
def ladder(
    domain: DomainName,
    version: Annotated[str | None, typer.Argument(metavar="VERSION", help="Such as v3; default: the newest.")] = None,
    json: AsJson = False,
) -> None:
    """Show the rungs that a version tried: how good, how fast, how large, at what cost, and what the gates say.

    JSON keys: rungs: [{role, rung, recipe, on, kept, n, metrics: [{metric, value, low, high}], p50_ms, p95_ms,
    bytes, train_seconds, train_usd, minutes_per_1000, usd_per_1000, verdict, why}].

    Example: `slm ladder travel v3`
    """
    from slm_assets import api
    from slm_assets.cli import questions

    _print({"rungs": api.ladder(domain, version)}, json, lambda value: questions.ladder(value["rungs"]))


@experiments_app.command()
def lineage(
    urn: Annotated[str, typer.Argument(metavar="URN", help="registry://…, dataset/travel@v3, travel@v3, or a digest.")],
    up: Annotated[bool, typer.Option("--up/--down", help="What it was made from, or what was made from it.")] = True,
    depth: Annotated[int, typer.Option(min=1, max=100, help="How many levels.")] = 8,
    json: AsJson = False,
) -> None:
    """Show what an artifact was made from, down to config and seed rows, or what was made from it.

    JSON keys: root, direction, tree: {urn, branches, again, more}, artifacts: {URN: {kind, name, version,
    sha256, rows, bytes, made_at}}, edges: [[parent, child]].

    Example: `slm lineage travel@v2 --up` or `slm lineage dataset/travel@v1 --down`
    """
    from slm_assets import api
    from slm_assets.cli import questions

    _print(api.lineage(urn, up=up, depth=depth), json, questions.lineage)


def _print(value: Any, as_json: bool, human: Callable[[Any], None]) -> None:
    if as_json:
        sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        human(value)
