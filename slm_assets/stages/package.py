"""Bundle what passed: checkpoint, contracts, vocabulary, prompts, card and a manifest of digests."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from typing import Any

from slm_assets import canonical
from slm_assets.errors import HeldError, SlmError
from slm_assets.stages import bundle
from slm_assets.stages.clean_process import answers_in_clean_process
from slm_assets.stages.contract import StageResult, Verdict
from slm_assets.stages.model_card import model_card
from slm_assets.stages.runtime import StageContext

PROBES = 24


def run(ctx: StageContext) -> StageResult:
    """Output `release`: one bundle, proven in a clean process to answer every eval turn as evaluated.

    HeldError where no role passed and none that was undecided has a named approval.
    """
    report = canonical.read_json(ctx.inputs["eval"] / "report.json")
    roles = promotable(report["roles"], ctx.request.params["approved"])
    if not roles:
        said = "; ".join(f"{role}: {outcome}" for role, outcome in report["roles"].items())
        reasons = [g for g in report["gates"] if g["blocking"] and g["verdict"] in ("FAIL", "INSUFFICIENT")]
        why = "\n".join(f"  {g['gate']} {g['role']}: {g['verdict']}, {g['reason']}" for g in reasons)
        raise HeldError(f"no role of {ctx.request.domain} {ctx.request.version} passed ({said})\n{why}")

    out = ctx.out["release"]
    config = ctx.scratch / "config"
    ctx.registry.store.get(ctx.request.config, config)
    shutil.copytree(config, out / "config")
    shutil.copytree(ctx.inputs["model"], out / "model")
    ctx.progress(0.2, "answering the eval set in a clean process")
    answers, clean_seconds = _prove(ctx, out)
    canonical.write_jsonl(out / "probes.jsonl", answers["probes"])
    head = {
        "domain": ctx.request.domain,
        "version": ctx.request.version,
        "recipe": report["recipe"],
        "roles": report["roles"],
        "promotable": roles,
        "sources": {"config": ctx.request.config, **ctx.request.inputs},
        "answers": answers["digest"],
    }
    card = model_card(ctx.domain, ctx.request.version, report, head["sources"])
    canonical.write_bytes(out / "model_card.md", card.encode())
    bundle.seal(out, head)
    bundle.check(out)
    verdict = Verdict(
        gate="answers", role="", verdict="PASS", value=0.0, threshold=0.0, n=answers["digest"]["n"],
        reason="the bundle answers every eval turn in a clean process as the evaluated model did",
    )  # fmt: skip
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    return StageResult(
        verdicts=[verdict],
        roles={role: "promotable" if role in roles else "held" for role in report["roles"]},
        summary={"promotable": roles, "card": card},
        measured={"bundle_bytes": float(size), "load_seconds": clean_seconds},
    )


def promotable(outcomes: Mapping[str, str], approved: Collection[str]) -> list[str]:
    """Roles that may go on: those that passed, and undecided ones with a named approval."""
    return [r for r, o in outcomes.items() if o == "pass" or (o == "insufficient" and r in approved)]


def _prove(ctx: StageContext, out: Any) -> tuple[dict[str, Any], float]:
    """Every eval turn answered by the bundle's own files must equal what was evaluated."""
    turns = ctx.scratch / "turns.jsonl"
    dataset = ctx.inputs["dataset"] / "eval.jsonl"
    canonical.write_jsonl(turns, (row["input"] for row in canonical.read_jsonl(dataset)))
    clean = answers_in_clean_process(out / "config", out / "model", turns, ctx.scratch / "clean")
    expected = list(canonical.read_jsonl(ctx.inputs["eval"] / "predictions.jsonl"))
    differing = [
        want["id"]
        for want, got in zip(expected, clean.outputs, strict=True)
        if canonical.dumps(want["outputs"]) != canonical.dumps(got)
    ]
    if differing:
        raise SlmError(
            f"the bundle answers {len(differing)} of {len(expected)} eval turns otherwise than the evaluated "
            f"model, first {differing[0]!r}; it is refused",
            cure="the checkpoint is not what was evaluated: run finetune and evaluate again as a new version",
        )
    probes = [
        {"id": row["id"], "turn": turn, "outputs": row["outputs"]}
        for turn, row in zip(canonical.read_jsonl(turns), expected, strict=True)
    ]
    step = max(1, len(probes) // PROBES)
    outputs = [row["outputs"] for row in expected]
    told = {"n": len(expected), "sha256": canonical.digest(outputs)}
    return {"digest": told, "probes": probes[::step][:PROBES]}, clean.load_seconds
