"""Stage `drift`: what live traffic says of the version that serves, and which retrain triggers fire.

Inputs: `traffic` (see traffic/store.py), `reference`, the profiles of what serves (see watching/reference.py), and
`reviews`, where there are any. Params: `as_of`, `window`, and `serving`: role → version, since when it serves, when
it was opened and which window its dataset took last. Output `drift`: report.json, and where the policy asks for it
evidently.html and evidently.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.domain import Domain
from slm_assets.domain.triggers import RetrainTriggers
from slm_assets.gates.triggers import STATISTICAL
from slm_assets.gates.types import LiveMetric
from slm_assets.stages.contract import StageResult
from slm_assets.stages.runtime import StageContext
from slm_assets.stages.traffic import store
from slm_assets.stages.watching.columns import Bounds, Reading
from slm_assets.stages.watching.fields import Known
from slm_assets.stages.watching.judging import Facts, judge
from slm_assets.stages.watching.matching import Serves
from slm_assets.stages.watching.page import PAGE, live_sample, write_page
from slm_assets.stages.watching.profile import contracts_of
from slm_assets.stages.watching.reference import PROFILE, REFERENCE, REVIEWS, SAMPLE

REPORT = "report.json"
MAX_LISTED, MAX_SHOWN, MAX_PLOTTED = 200, 20, 40
OFTEN = 3
"""A new word or value is listed from so many times on: what only one user wrote stays out of the report."""


def run(ctx: StageContext) -> StageResult:
    """Judge the traffic of the policy's last days, by what is measured on it and what is known of what serves."""
    policy, params = ctx.domain.triggers, ctx.request.params
    as_of = datetime.fromisoformat(params["as_of"])
    profiles = _profiles(ctx.inputs)
    serves = _serves(ctx.domain, params["serving"], profiles)
    newest = profiles[max(profiles)] if profiles else None
    known = Known(newest["inputs"]) if newest else None
    cut = newest["unknown_words"]["cut"] if newest else None
    reading = Reading(ctx.domain, serves, known, cut, _reviews(ctx))
    number = int(params["window"])
    ctx.progress(0.05, "reading the traffic")
    bounds = bounds_of(policy, as_of, number)
    reading.read(store.numbered(ctx.inputs["traffic"], since=bounds.before, or_after=reading.cut), bounds)
    ctx.progress(0.8, "judging")
    for role, columns in reading.of.items():
        for place, right in reading.matching.by_oracle(role):
            columns.right[place] = right
    facts = Facts(
        missing=_missing(params["serving"], profiles),
        ages={role: _days(as_of, own["opened_at"]) for role, own in params["serving"].items()},
        changed=_changed(ctx.domain, params["serving"], profiles),
        wanted=ctx.domain.config.improvement.min_new_real_turns or policy.volume.turns,
    )
    verdicts, live = judge(reading, policy, number, facts)
    fields = known.table() if known else []
    live += [_field_metric(row) for row in sorted(fields, key=lambda row: row["field"])[:MAX_PLOTTED]]
    report = {
        "domain": ctx.domain.name,
        "window": number,
        "as_of": params["as_of"],
        "serving": params["serving"],
        "reference": policy.quality.reference,
        "judged": _judged(reading),
        "triggers": [verdict.model_dump() for verdict in verdicts],
        "live": [metric.model_dump() for metric in live],
        "fields": fields,
        "new": _listed(known) if known else {"values": [], "words": [], "places": []},
    }
    canonical.write_json(ctx.out["drift"] / REPORT, report)
    fired = [verdict.trigger for verdict in verdicts if verdict.verdict == "FIRED"]
    drawn = policy.page == "always" or (policy.page == "fired" and bool(set(fired) & set(STATISTICAL)))
    if drawn:
        ctx.progress(0.9, "drawing the inputs")
        drawn = write_inputs_page(ctx.domain, ctx.inputs, bounds.judged, ctx.out["drift"])
    return StageResult(
        rows={"drift": report["judged"]["turns"]},
        triggers=verdicts,
        live=live,
        summary={
            "fired": ", ".join(fired) or "none",
            **report["judged"],
            "page": f"{PAGE} in this artifact" if drawn else f"slm drift {ctx.domain.name} --html page.html",
            "fields": fields[:MAX_PLOTTED],
            **{f"new {kind}": rows[:MAX_SHOWN] for kind, rows in report["new"].items() if rows},
        },
    )


def bounds_of(policy: RetrainTriggers, as_of: datetime, number: int) -> Bounds:
    """The days that a window judges, and those of its baseline."""
    judged = as_of - timedelta(days=policy.window_days)
    return Bounds(_iso(judged - timedelta(days=policy.outcome.baseline_days)), _iso(judged), number)


def write_inputs_page(domain: Domain, inputs: Mapping[str, Path], judged: str, folder: Path) -> bool:
    """Evidently's page of the turns from `judged` on beside the newest serving version's training rows; False where
    there are too few."""
    profiles = _profiles(inputs)
    if not profiles:
        return False
    newest = max(profiles)
    trained = canonical.read_jsonl(inputs[REFERENCE] / str(newest) / SAMPLE)
    read_role = {role.id: bool(role.reads) for role in domain.config.roles}
    live = live_sample(inputs["traffic"], judged, read_role)
    return write_page(folder, profiles[newest]["inputs"], trained, live)


def _profiles(inputs: Mapping[str, Path]) -> dict[int, dict[str, Any]]:
    folder = inputs.get(REFERENCE)
    if folder is None:
        return {}
    return {int(path.parent.name): canonical.read_json(path) for path in sorted(folder.glob(f"*/{PROFILE}"))}


def _reviews(ctx: StageContext) -> dict[tuple[str, str], Json]:
    if REVIEWS not in ctx.inputs:
        return {}
    rows = canonical.read_jsonl(ctx.inputs[REVIEWS] / "reviews.jsonl")
    return {(row["turn"], row["role"]): row["label"] for row in rows}


def _serves(
    domain: Domain, serving: Mapping[str, Mapping[str, Any]], profiles: Mapping[int, dict[str, Any]]
) -> dict[str, Serves]:
    found = {}
    for role in domain.config.roles:
        own = serving.get(role.id)
        if own is None:
            found[role.id] = Serves()
            continue
        profile = profiles.get(own["number"])
        found[role.id] = Serves(
            version=f"v{own['number']}",
            since=own["since"],
            cut=own["cut"],
            score=profile["roles"].get(role.id) if profile else None,
            labels=profile["labels"].get(role.id, {}) if profile else {},
        )
    return found


def _missing(serving: Mapping[str, Mapping[str, Any]], profiles: Mapping[int, Any]) -> str:
    if not serving:
        return "no version serves, the oracle answers"
    if not profiles:
        versions = ", ".join(sorted({f"v{own['number']}" for own in serving.values()}))
        return f"{versions} was evaluated before profiles were kept; the next version has one"
    return ""


def _changed(
    domain: Domain, serving: Mapping[str, Mapping[str, Any]], profiles: Mapping[int, dict[str, Any]]
) -> list[str]:
    now = contracts_of(domain)
    return sorted(
        role
        for role, own in serving.items()
        if own["number"] in profiles and profiles[own["number"]]["contracts"].get(role) != now.get(role)
    )


def _judged(reading: Reading) -> dict[str, Any]:
    return {
        "turns": reading.turns,
        "in the sample": len(reading.conversation),
        "baseline": len(reading.before),
        "from": reading.first,
        "to": reading.last,
    }


def _field_metric(row: Mapping[str, Any]) -> LiveMetric:
    return LiveMetric(metric=f"psi:{row['field']}", value=row["psi"], n=row["live"])


def _listed(known: Known) -> dict[str, list[dict[str, Any]]]:
    """What training had not, most frequent first."""

    def often(counts: Mapping[Any, int]) -> list[tuple[Any, int]]:
        rows = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [row for row in rows if row[1] >= OFTEN][:MAX_LISTED]

    return {
        "values": [{"field": at, "value": value[:200], "turns": n} for (at, value), n in often(known.new_values)],
        "words": [{"word": word[:100], "turns": n} for word, n in often(known.new_words)],
        "places": [{"field": at, "turns": n} for at, n in often(known.new_places)],
    }


def _days(as_of: datetime, opened_at: str) -> float:
    return (as_of - datetime.fromisoformat(opened_at)).total_seconds() / 86_400


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
