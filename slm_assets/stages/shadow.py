"""Stage `shadow`: challenger and incumbent on live turns that came after the dataset, judged as they arrive.

Inputs: `dataset` and `release`, `incumbent_<role>` of each role that a release serves, and where there are any
`traffic` (see traffic/store.py) and `reviews`. Params: `cut`, the window that the dataset could read; `window` and
`as_of` of the newest one; `first`, roles that were never promoted; `approved`, roles whose undecided verdict somebody
approved. Output `shadow`: report.json, report.md, differences.jsonl. What is measured in milliseconds is in the
receipt alone.
"""

from __future__ import annotations

from typing import Any

from slm_assets import canonical
from slm_assets.domain.contracts import Validator
from slm_assets.domain.policies import PromotionGates
from slm_assets.errors import DeferredError
from slm_assets.gates.metrics import same
from slm_assets.gates.types import Verdict
from slm_assets.gates.verdicts import Level
from slm_assets.stages.contract import StageResult
from slm_assets.stages.evaluation.scoring import EXACT, Compared, compared_metrics
from slm_assets.stages.model_card import gate_table
from slm_assets.stages.runtime import StageContext
from slm_assets.stages.shadowing import verdicts
from slm_assets.stages.shadowing.judging import Judge
from slm_assets.stages.shadowing.replay import Side, open_sides
from slm_assets.stages.shadowing.study import Tally, study
from slm_assets.stages.shadowing.turns import Untrained, live_turns, untrained
from slm_assets.stages.traffic import store


def run(ctx: StageContext) -> StageResult:
    """Compare, and write what was found.

    DeferredError, with the verdicts so far, while a role's is INSUFFICIENT: the cell is made again with newer
    traffic. A decided one stays.
    """
    roles: list[str] = canonical.read_json(ctx.inputs["release"] / "manifest.json")["promotable"]
    if "shadow" not in ctx.domain.gates.gates:
        skipped = untrained([], ctx.inputs["dataset"], ctx.domain.config.data.near_duplicates, ctx.scratch)
        return _written(ctx, roles, {}, skipped, [verdicts.left_out(role) for role in roles], 0)
    traffic = ctx.inputs.get("traffic")
    turns = live_turns(traffic, int(ctx.request.params["cut"])) if traffic else []
    ctx.progress(0.1, f"{len(turns):,} turns after the dataset")
    may = untrained(turns, ctx.inputs["dataset"], ctx.domain.config.data.near_duplicates, ctx.scratch)
    ctx.progress(0.3, f"{len(may.turns):,} of them were not trained on")
    with open_sides(ctx.domain, ctx.inputs) as sides:
        tallies, found, refused = _judged(ctx, roles, may, sides)
    return _written(ctx, roles, tallies, may, found, refused)


def _judged(
    ctx: StageContext, roles: list[str], may: Untrained, sides: tuple[Side, Side]
) -> tuple[dict[str, Tally], list[Verdict], int]:
    """Every role's tally and verdicts. A role that fails is left to its incumbent, and the others are judged again
    as they would serve without it."""
    challenger, incumbent = sides
    margin = ctx.domain.gates.shadow_margin
    tallies: dict[str, Tally] = {}
    found: list[Verdict] = []
    together = [role for role in roles if role in incumbent]
    found += [verdicts.nothing_serves(role) for role in roles if role not in incumbent]
    refused = 0
    while together:
        now = {role: (challenger if role in together else incumbent).get(role) for role in challenger}
        own = {role: _tally(ctx, role, incumbent) for role in together}
        refused = study(
            may.turns, ctx.domain.config.roles, ({r: s for r, s in now.items() if s}, incumbent), own, margin
        )
        said = {role: verdicts.of_role(role, own[role], _case(ctx, role, may)) for role in together}
        lost = [role for role in together if any(v.verdict == "FAIL" for v in said[role])]
        settled = lost if lost and len(lost) < len(together) else together
        tallies |= {role: own[role] for role in settled}
        found += [verdict for role in settled for verdict in said[role]]
        together = [role for role in together if role not in settled]
    return tallies, found, refused


def _tally(ctx: StageContext, role: str, incumbent: Side) -> Tally:
    oracle = incumbent[role].oracle  # of a release; where the oracle itself serves it cannot be the judge too
    metrics = compared_metrics(ctx.domain.config, role)
    gated = [metric for metric in metrics if metric.id != EXACT or metric.target is not None] or metrics
    judge = Judge(role, Validator(ctx.domain.output_schema(role)), _reviews(ctx), oracle)
    return Tally(judge, gated, _level(ctx.domain.gates, role, gated))


def _level(policy: PromotionGates, role: str, metrics: list[Compared]) -> Level:
    """The policy's confidence: the test may be looked at as often as one likes, so that no look costs anything."""
    own = policy.per_role.get(role)
    confidence = own.confidence if own and own.confidence is not None else policy.confidence
    return Level(confidence=confidence, power=policy.power, family=len(metrics))


def _case(ctx: StageContext, role: str, may: Untrained) -> verdicts.Case:
    policy, params = ctx.domain.gates, ctx.request.params
    captures = ctx.domain.config.improvement.capture is not None and "traffic" in ctx.inputs
    first = role in params["first"]
    return verdicts.Case(
        margin=policy.shadow_margin,
        demanded=not first and (policy.shadow == "required" or captures),
        why_not="it was never promoted" if first else "this domain captures no traffic yet",
        as_of=params["as_of"],
        rate=verdicts.per_day([turn.at for turn in may.turns], params["as_of"]),
    )


def _reviews(ctx: StageContext) -> dict[tuple[str, str], Any]:
    folder = ctx.inputs.get("reviews")
    if folder is None:
        return {}
    rows = list(canonical.read_jsonl(folder / "reviews.jsonl"))
    # A decision is about an input of a role: it holds for every turn that had the same.
    return {(key, row["role"]): row["output"] for row in rows for key in (row["turn"], canonical.digest(row["input"]))}


def _written(
    ctx: StageContext, roles: list[str], tallies: dict[str, Tally], may: Untrained, found: list[Verdict], refused: int
) -> StageResult:
    approved = set(ctx.request.params["approved"])
    outcomes = {role: verdicts.outcome(found, role, approved) for role in roles}
    report = {
        "domain": ctx.request.domain,
        "version": ctx.request.version,
        **{name: ctx.request.params[name] for name in ("cut", "window", "as_of")},
        "turns": {"read": may.read, "trained_on": may.excluded, "judging": len(may.turns), "refused": refused},
        "roles": outcomes,
        "compared": {role: tallies[role].report() for role in sorted(tallies)},
        "live": _live(ctx, may),
        "gates": [verdict.model_dump() for verdict in [*found, may.verdict]],
    }
    result = StageResult(
        rows={"shadow": sum(len(tally.keys) for tally in tallies.values())},
        metrics=[metric for role in sorted(tallies) for metric in tallies[role].numbers(role)],
        verdicts=[*found, may.verdict],
        roles=outcomes,
        summary={"turns": report["turns"], "window": report["window"], "roles": outcomes, **_agreement(report)},
    )
    waiting = [v for v in found if v.verdict == "INSUFFICIENT" and outcomes[v.role] == "insufficient"]
    if waiting:
        raise DeferredError(
            f"{ctx.request.domain} {ctx.request.version} needs more live turns: "
            + "; ".join(f"{v.role}: {v.reason}" for v in waiting),
            cure=f"capture and run again (`slm run {ctx.request.domain} --version {ctx.request.version}`), or approve "
            f"it as it is (`slm approve {ctx.request.domain} {ctx.request.version} --by NAME`)",
            result=result,
        )
    out = ctx.out["shadow"]
    canonical.write_jsonl(out / "differences.jsonl", (row for role in sorted(tallies) for row in tallies[role].shown))
    canonical.write_json(out / "report.json", report)
    lines = [f"# {report['domain']} {report['version']}: shadow", "", *gate_table(report["gates"])]
    canonical.write_bytes(out / "report.md", ("\n".join(lines) + "\n").encode())
    return result


def _live(ctx: StageContext, may: Untrained) -> dict[str, Any]:
    """How far what this version answered live, beside what served, agreed with what was given."""
    traffic = ctx.inputs.get("traffic")
    answers = store.shadows_of(traffic, ctx.request.version) if traffic else {}
    found: dict[str, dict[str, int]] = {}
    for turn in may.turns if answers else ():
        for role, answer in answers.get(turn.id, {}).items():
            if role in turn.served:
                own = found.setdefault(role, {"turns": 0, "agreed": 0, "invalid": 0})
                own["turns"] += 1
                own["agreed"] += same(answer["output"], turn.served[role]["output"])
                own["invalid"] += not answer.get("valid", False)
    return dict(sorted(found.items()))


def _agreement(report: dict[str, Any]) -> dict[str, Any]:
    return {"agreement": {role: own["agreement"] for role, own in report["compared"].items()}}
