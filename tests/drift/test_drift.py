"""The stage `drift` on a promoted version: each change fires its own trigger, and steady traffic none."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from slm_assets.engines.forget import forget
from slm_assets.engines.in_process import make_cell
from slm_assets.registry import windows
from slm_assets.stages.contract import Envelope
from slm_assets.stages.plans import open_domain
from slm_assets.stages.requests import request_for
from slm_assets.stages.runner import execute
from tests.conftest import Workplace
from tests.drift.conftest import Rows, drift_of
from tests.traffic.conftest import Traffic, outcome, turn

STATISTICAL = ("quality", "outcome", "validity", "distribution")


def live(
    rows: Rows, name: str, n: int, *, complaints: float = 0.02, days_ago: float = 0.0, **answer: Any
) -> Iterator[dict[str, Any]]:
    """n turns of the corpus as they came, in conversations of three, each answered rightly; a share of the
    conversations is complained of."""
    draw = random.Random(name)
    for number in range(n):
        row = rows[draw.randrange(len(rows))]
        one = turn(
            f"{name}-{number}",
            row["text"],
            days_ago=days_ago,
            conversation=f"{name}-{number // 3}",
            output=row["label"],
        )
        told = {"confidence": 0.9999, **answer}
        one["answers"]["triage"] |= told
        one |= {"rate": 1.0, "probability": 1.0}
        yield one
        if (number // 3) % round(1 / complaints) == 0 if complaints else False:
            yield outcome(one["turn_id"], "retry")


def verdicts(report: dict[str, Any]) -> dict[str, str]:
    return {name: one["verdict"] for name, one in report["triggers"].items()}


def policy(traffic: Traffic, text: str) -> None:
    """Change the retrain policy, and read it again."""
    path = traffic.home.domains / "tiny" / "policies" / "retrain_gates.yaml"
    path.write_text(f"min_turns: 100\n{text}\n" + ("" if "page" in text else "page: demand\n"))
    traffic.domain, traffic.registry = open_domain(traffic.home, "tiny")


def sentence(report: dict[str, Any], name: str) -> str:
    return report["triggers"][name]["sentence"]


def test_steady_traffic_fires_nothing(watched: Traffic, rows: Rows):
    watched.write("a", live(rows, "old", 600, days_ago=10))
    watched.write("b", live(rows, "now", 900))
    report = drift_of(watched)
    assert set(verdicts(report).values()) == {"QUIET"}, report["triggers"]
    assert report["judged"]["turns"] == 900 and report["judged"]["baseline"] == 600
    assert report["triggers"]["quality"]["value"] < 0.05
    (text,) = [row for row in report["fields"] if row["field"] == "/text"]
    assert text["psi"] < 0.1 and text["new_share"] == 0
    numbers = {(m["role"], m["metric"]): m["value"] for m in report["live"]}
    assert numbers["triage", "validity"] == 1 and numbers["", "new"] < 0.05


def test_a_lower_match_fires_quality(watched: Traffic, rows: Rows):
    policy(watched, "quality: {reference: oracle}")
    turns = list(live(rows, "now", 600))
    watched.write("a", turns)
    assert verdicts(drift_of(watched))["quality"] == "QUIET", "no less than it agreed with the oracle when judged"
    intents = ["refund", "track", "cancel", "greet"]
    for one in turns:
        if one["kind"] == "turn":
            own = one["answers"]["triage"]
            other = intents[(intents.index(own["output"]["intent"]) + 1) % 4]
            one |= {"turn_id": "again" + one["turn_id"], "conversation": "again" + one["conversation"]}
            own["output"] = {**own["output"], "intent": other}
    watched.write("b", turns)
    report = drift_of(watched)
    assert verdicts(report)["quality"] == "FIRED", report["triggers"]["quality"]
    assert report["triggers"]["quality"]["bound"] > 0.02 and "match by oracle" in sentence(report, "quality")


def test_corrections_name_the_right_answer(watched: Traffic, rows: Rows):
    """A correction of what is not the primary metric says that the answer was right by it."""
    policy(watched, "outcome: {enabled: false}")
    turns = list(live(rows, "now", 600, complaints=0))
    other = [{**one["answers"]["triage"]["output"], "urgent": True} for one in turns]
    watched.write("a", turns)
    watched.write("b", [outcome(one["turn_id"], detail=detail) for one, detail in zip(turns, other, strict=True)])
    report = drift_of(watched)
    assert verdicts(report)["quality"] == "QUIET" and verdicts(report)["outcome"] == "NOT_APPLICABLE"
    wrong = [{"intent": "refund" if d["intent"] != "refund" else "track", "urgent": False} for d in other]
    watched.write("c", [outcome(one["turn_id"], detail=detail) for one, detail in zip(turns, wrong, strict=True)])
    report = drift_of(watched)
    assert verdicts(report)["quality"] == "FIRED" and report["window"] == 2
    assert "0 % of 600 live answers" in sentence(report, "quality")


def test_rising_complaints_fire_outcome_by_days_and_by_windows(watched: Traffic, rows: Rows):
    watched.write("a", live(rows, "old", 900, days_ago=10))
    watched.write("b", live(rows, "now", 900, complaints=0.2))
    report = drift_of(watched)
    assert verdicts(report)["outcome"] == "FIRED" and report["triggers"]["outcome"]["bound"] > 1.5
    numbers = {m["metric"]: m["value"] for m in report["live"]}
    assert numbers["outcome:retry"] == pytest.approx(0.2, abs=0.02) and numbers["outcome:tool_error"] == 0


def test_a_sudden_change_is_seen_in_the_newest_window_alone(watched: Traffic, rows: Rows):
    """A domain that is younger than a baseline: what came before this window is one."""
    watched.write("a", live(rows, "first", 900))
    report = drift_of(watched)
    assert verdicts(report)["outcome"] == "INSUFFICIENT" and "too few" in sentence(report, "outcome")
    watched.write("b", live(rows, "second", 600, complaints=0.25))
    report = drift_of(watched)
    assert verdicts(report)["outcome"] == "FIRED" and "of window w2" in sentence(report, "outcome")


def test_broken_answers_fire_validity(watched: Traffic, rows: Rows):
    watched.write("a", live(rows, "now", 900))
    watched.write("b", live(rows, "bad", 60, output={"intent": "sing", "urgent": False}))
    report = drift_of(watched)
    assert verdicts(report)["validity"] == "FIRED" and report["triggers"]["validity"]["bound"] < 0.995


@pytest.mark.parametrize(("engine", "version", "verdict"), [("vendor", "7", "FIRED"), ("release", "v0", "QUIET")])
def test_broken_answers_of_engines_that_are_none_of_ours_fire_and_those_of_an_earlier_version_do_not(
    watched: Traffic, rows: Rows, engine: str, version: str, verdict: str
):
    watched.write("a", live(rows, "now", 400))
    bad = {"intent": "sing", "urgent": False}
    watched.write("b", live(rows, "other", 200, output=bad, engine=engine, version=version))
    report = drift_of(watched)
    assert verdicts(report)["validity"] == verdict
    assert ("by other engines" in sentence(report, "validity")) == (verdict == "FIRED")


def test_complaints_are_held_against_those_of_earlier_answers(watched: Traffic, rows: Rows):
    """Many complaints are no loss where there were as many before; three times as many are one."""
    watched.write("a", live(rows, "old", 600, days_ago=10, complaints=0.1))
    watched.write("b", live(rows, "now", 600, complaints=0.1))
    report = drift_of(watched)
    assert verdicts(report)["quality"] == "QUIET" and report["triggers"]["quality"]["value"] < 0.02
    assert "complained of in 10.0% of turns and in 10.0% before" in sentence(report, "quality")
    watched.write("c", live(rows, "worse", 600, complaints=0.34))
    report = drift_of(watched)
    assert verdicts(report)["quality"] == "FIRED" and "of window w2" in sentence(report, "quality")


def test_an_answer_that_the_oracle_had_to_replace_was_not_valid(watched: Traffic, rows: Rows):
    instead = {"engine": "oracle", "version": None, "confidence": 1.0}
    refused = {"reason": "invalid", "confidence": 0.3}
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    turns = live(rows, "now", 400, complaints=0, **instead, fallback=refused)
    watched.write("a", [{**one, "at": now} for one in turns])
    report = drift_of(watched)
    numbers = {m["metric"]: m["value"] for m in report["live"] if m["role"] == "triage"}
    assert verdicts(report)["validity"] == "FIRED" and numbers["instead"] == 1 and numbers["validity"] == 0


@pytest.mark.parametrize(
    ("texts", "answer", "kind"),
    [
        (["volcano eruption glacier moraine sediment", "quantum lattice spinor"], {}, "new:words"),
        (None, {"confidence": 0.31}, "new:unsure"),
        (None, {"engine": "openai", "output": {"intent": "sing", "urgent": False}}, "new:other_output"),
    ],
)  # fmt: skip
def test_what_the_version_never_saw_fires_distribution(
    watched: Traffic, rows: Rows, texts: list[str] | None, answer: dict[str, Any], kind: str
):
    watched.write("a", live(rows, "now", 900))
    changed = [{"text": text, "label": rows[0]["label"]} for text in texts] if texts else rows
    watched.write("b", live(changed, "new", 200, **answer))
    report = drift_of(watched)
    assert verdicts(report)["distribution"] == "FIRED", report["triggers"]["distribution"]
    numbers = {m["metric"]: m["value"] for m in report["live"]}
    assert numbers[kind] == pytest.approx(200 / 1100, abs=0.03)
    if texts:
        assert "volcano" in {row["word"] for row in report["new"]["words"]}
    if "output" in answer:
        assert {"field": "triage:/intent", "value": "sing", "turns": 200} in report["new"]["values"]


def test_enough_new_turns_fire_volume_and_equal_ones_count_once(watched: Traffic, rows: Rows):
    policy(watched, "volume: {turns: 50}")
    watched.write("a", live(rows[:40], "now", 400))
    report = drift_of(watched)
    texts = {row["text"] for row in rows[:40]}
    assert verdicts(report)["volume"] == "QUIET" and report["triggers"]["volume"]["value"] == len(texts)
    watched.write("b", live(rows, "more", 400, complaints=0))
    assert verdicts(drift_of(watched))["volume"] == "FIRED"


def test_a_changed_contract_fires(watched: Traffic, rows: Rows):
    watched.write("a", live(rows, "now", 300))
    assert verdicts(drift_of(watched))["contract"] == "QUIET"
    path = watched.home.domains / "tiny" / "contracts" / "triage.schema.json"
    path.write_text(path.read_text().replace('"greet"', '"greet", "complain"'))
    watched.domain, watched.registry = open_domain(watched.home, "tiny")
    report = drift_of(watched)
    assert verdicts(report)["contract"] == "FIRED" and "contract of triage changed" in sentence(report, "contract")


def test_an_old_version_fires_staleness(watched: Traffic, rows: Rows, monkeypatch: pytest.MonkeyPatch):
    watched.write("a", live(rows, "now", 300))
    window, _ = watched.capture()
    later = (datetime.now(UTC) + timedelta(days=40)).isoformat(timespec="milliseconds")
    request = request_for(watched.registry, window, "drift")
    late = request.model_copy(update={"params": {**request.params, "as_of": later}})
    receipt = execute(late, Envelope(run_id="x"), watched.registry, watched.home.root / "late")
    found = {one.trigger: one for one in receipt.result.triggers}
    assert found["staleness"].verdict == "FIRED" and found["staleness"].value == pytest.approx(40, abs=0.1)
    assert found["quality"].verdict == "INSUFFICIENT", "nothing of the last seven days"


def test_rates_are_of_the_uniform_sample_alone(watched: Traffic, rows: Rows):
    """Turns that were kept only because somebody complained must not look like a wave of complaints."""
    watched.write("a", live(rows, "old", 600, days_ago=10))
    watched.write("b", live(rows, "now", 600))
    kept = list(live(rows, "kept", 300, complaints=0))
    watched.write("c", [{**one, "sampled": False, "kept": "outcome"} for one in kept])
    watched.write("c", [outcome(one["turn_id"], "correction") for one in kept])
    report = drift_of(watched)
    assert verdicts(report)["outcome"] == "QUIET" and report["judged"]["turns"] == 900
    assert report["judged"]["in the sample"] == 600


def test_reviewed_answers_are_a_reference(watched: Traffic, rows: Rows):
    from sqlalchemy import insert

    from slm_assets.registry import tables

    policy(watched, "quality: {reference: review}")
    turns = list(live(rows, "now", 300, complaints=0))
    watched.write("a", turns)
    wrong = {"intent": "cancel", "urgent": False}
    rows_ = [
        {
            "domain": "tiny", "item": f"i{number}", "role": "triage", "turn": one["turn_id"], "state": "decided",
            "why": "audit", "input": {}, "candidates": [], "user": "", "conversation": "", "label": wrong,
            "author": "ada", "opened_at": one["at"], "changed_at": one["at"],
        }
        for number, one in enumerate(turns)
    ]  # fmt: skip
    with watched.registry._database.write("local/default") as connection:
        connection.execute(
            insert(tables.review_items),
            [{**watched.registry._scope, "revision": 1, "history": [], **row} for row in rows_],
        )
    report = drift_of(watched)
    assert verdicts(report)["quality"] == "FIRED" and report["triggers"]["quality"]["n"] == 300
    with watched.registry._database.write("local/default") as connection:
        connection.execute(tables.review_items.delete())
    again = make_cell(watched.registry, report["number"], "drift", actor="tester")
    assert again.cached, "what was decided is frozen with the window's drift"
    frozen = again.receipt.request.inputs["reviews"]
    forget(watched.domain, watched.registry, "conversation", turns[0]["conversation"], actor="officer")
    left = watched.registry.store.read(frozen, "reviews.jsonl").decode()
    assert f'"{turns[0]["turn_id"]}"' not in left and f'"{turns[9]["turn_id"]}"' in left


def test_where_the_oracle_serves_only_what_needs_no_version_is_judged(traffic: Traffic, rows: Rows):
    answered = {"engine": "oracle", "version": None}
    traffic.write("a", live(rows, "now", 400, **answered))
    traffic.write("b", live(rows, "bad", 50, **answered, output={"intent": "sing", "urgent": False}))
    found = verdicts(drift_of(traffic))
    assert found["validity"] == "FIRED" and found["volume"] == "QUIET" and found["outcome"] == "INSUFFICIENT"
    for name in ("quality", "distribution", "contract", "staleness"):
        assert found[name] == "NOT_APPLICABLE"


def test_nothing_captured_is_no_fault(watched: Traffic):
    found = verdicts(drift_of(watched))
    assert [found[name] for name in STATISTICAL] == ["INSUFFICIENT"] * 4 and found["volume"] == "QUIET"


def test_equal_requests_give_equal_reports_and_the_registry_keeps_them(watched: Traffic, rows: Rows, tmp_path: Path):
    policy(watched, "quality: {reference: oracle}")
    watched.write("a", live(rows, "now", 400))
    report = drift_of(watched)
    sha = report["made"].receipt.outputs["drift"].sha256
    request = request_for(watched.registry, report["number"], "drift")
    again = execute(request, Envelope(run_id="x"), watched.registry, tmp_path / "again")
    assert again.outputs["drift"].sha256 == sha
    assert len(windows.triggers(watched.registry, "tiny")) == 7
    assert {row["metric"] for row in windows.live_metrics(watched.registry, "tiny")} >= {
        "match",
        "promoted",
        "psi:/text",
    }
    parents = {parent for parent, child in watched.registry.edges() if child.endswith("/drift/tiny/1")}
    assert {one.split("/")[-3] for one in parents} == {"traffic", "release"}


def test_a_version_without_a_profile_is_told(watched: Traffic, rows: Rows, monkeypatch: pytest.MonkeyPatch):
    from slm_assets.stages.watching import reference

    monkeypatch.setattr(reference, "PROFILE", "absent.json")
    watched.write("a", live(rows, "now", 300))
    report = drift_of(watched)
    assert verdicts(report)["quality"] == "NOT_APPLICABLE" and "before profiles were kept" in sentence(
        report, "quality"
    )


def test_strange_records_break_nothing(watched: Traffic, rows: Rows):
    turns = list(live(rows, "now", 150, complaints=0))
    for number, strange in enumerate([None, [], "text", {"text": 7, "more": {"x": [1, None]}}, {"text": None}]):
        turns[number]["input"] = strange
    turns[5]["answers"] = {
        "nobody": {"output": None},
        "triage": {"output": None, "confidence": "high", "fallback": "x"},
    }
    turns[6] |= {"answers": {}, "role": "nobody"}
    turns[7]["conversation"] = turns[8]["conversation"] = ""
    watched.write("a", turns)
    told = [outcome("now-9", detail=["a"]), outcome("now-10", role=None, detail=3), outcome("now-11", role="nobody")]
    watched.write("a", told)
    assert drift_of(watched)["judged"]["turns"] == 150


def test_a_report_that_fires_holds_evidentlys_page(watched: Traffic, rows: Rows, tmp_path: Path):
    policy(watched, "page: fired")
    watched.write("a", live(rows, "now", 300))
    quiet = drift_of(watched)["made"].receipt
    store = watched.registry.store
    assert list(store.describe(quiet.outputs["drift"].sha256).files) == ["report.json"]
    watched.write("b", live(rows, "bad", 300, output={"intent": "sing", "urgent": False}))
    report = drift_of(watched)
    receipt = report["made"].receipt
    page = store.read(receipt.outputs["drift"].sha256, "evidently.html")
    numbers = orjson.loads(store.read(receipt.outputs["drift"].sha256, "evidently.json"))
    assert numbers["live"] == 600 and any("/text (words)" in one["metric_name"] for one in numbers["metrics"])
    assert not re.search(rb"<(script|link)[^>]+(src|href)=.?https?:", page), "works without internet"
    assert not any(row["text"].encode() in page for row in rows), "nobody's words are in it"
    again = execute(receipt.request, Envelope(run_id="x"), watched.registry, tmp_path / "again")
    assert again.outputs == receipt.outputs

    from slm_assets.stages.watching.report import newest_report, page_of

    assert newest_report(watched.registry, "tiny")[1]["window"] == 2 and page_of(watched.registry, receipt) == page
    assert b"<html" in page_of(watched.registry, quiet), "made when somebody asks"


def test_slm_drift_shows_the_newest_report(watched: Traffic, rows: Rows):
    workplace = Workplace(watched.home.root, watched.home.domains)
    assert "was not judged yet" in workplace.slm("drift", "tiny").stderr
    watched.write("a", live(rows, "now", 300))
    drift_of(watched)
    done = workplace.slm("drift", "tiny")
    assert done.returncode == 0 and "staleness" in done.stdout and "/text" in done.stdout, done.stderr
    assert workplace.json("drift", "tiny", "--window", "w1")["judged"]["turns"] == 300
    assert workplace.slm("drift", "tiny", "--window", "w2").returncode == 2
