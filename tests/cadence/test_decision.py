"""Whether a retrain may start: every reason against it, alone and together."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from slm_assets.domain.triggers import RetrainTriggers, Watch
from slm_assets.registry.retrains import DEFERRED, LAUNCHED, REFUSED
from slm_assets.stages.cadence.decision import Situation, decide, free_at
from slm_assets.stages.cadence.due import Waiting, due

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
POLICY = RetrainTriggers(cooldown_hours=24, max_per_week=2)
FREE = Situation(now=NOW, enabled=True, by_trigger=True, policy=POLICY)


def ago(**by: float) -> datetime:
    return NOW - timedelta(**by)


@pytest.mark.parametrize(
    ("known", "state", "said"),
    [
        (FREE, LAUNCHED, ""),
        (replace(FREE, enabled=False), REFUSED, "improvement.status is deferred"),
        (replace(FREE, under_way="v7"), DEFERRED, "v7 is still being made"),
        (replace(FREE, under_way="v7", by_trigger=False), REFUSED, "v7 is being made already"),
        (replace(FREE, unseen=True), DEFERRED, "waits for a window of what serves now"),
        (replace(FREE, launches=[ago(hours=23.9)]), DEFERRED, "cooldown of 24 hours, until 2026-11-25T12:06"),
        (replace(FREE, launches=[ago(hours=24)]), LAUNCHED, ""),
        (replace(FREE, launches=[ago(hours=1)], by_trigger=False), LAUNCHED, ""),
        (
            replace(FREE, launches=[ago(days=5), ago(days=3)], by_triggers=[ago(days=5), ago(days=3)]),
            DEFERRED,
            "2 retrains in seven days are the most, until 2026-11-27T12:00",
        ),
        (replace(FREE, launches=[ago(days=5), ago(days=3)], by_triggers=[ago(days=3)]), LAUNCHED, ""),
        (replace(FREE, over=["usd: 3 asked for"]), DEFERRED, "over budget: usd: 3 asked for"),
        (replace(FREE, over=["usd"], by_trigger=False), DEFERRED, "over budget: usd"),
    ],
)
def test_the_first_reason_against_it_counts(known, state, said):
    found = decide(known)
    assert found.state == state and said in found.note
    assert bool(found.note) == (state != LAUNCHED)
    assert found.budget == ("over budget" in found.note)


def test_it_is_free_when_both_the_cooldown_and_the_week_allow_it():
    known = replace(FREE, launches=[ago(days=6), ago(hours=2)], by_triggers=[ago(days=6), ago(hours=2)])
    assert free_at(known) == ago(days=6) + timedelta(days=7), "the week ends after the cooldown"
    assert decide(replace(known, now=NOW + timedelta(hours=23))).state == DEFERRED
    assert decide(replace(known, now=NOW + timedelta(hours=24))).state == LAUNCHED
    assert free_at(FREE) is None


WATCH = Watch(every_minutes=10, at_once_mb=1, at_least_hours=24)
SERVING = {"triage": {"number": 1, "release": "r" * 64}}


def window(age: timedelta, **more):
    opened = (NOW - age).isoformat().replace("+00:00", "Z")
    whole = {"number": 4, "opened_at": opened, "taken": [], "serving": SERVING, "capture": "succeeded",
             "drift": "succeeded"}  # fmt: skip
    return {**whole, **more}


FEW, MANY = [Waiting("drop", "a.jsonl", 900, 900)], [Waiting("segments", "s", 2_000_000, 1_100_000)]
SOON, LATER, DAY = timedelta(minutes=9), timedelta(minutes=11), timedelta(hours=25)


@pytest.mark.parametrize(
    ("new", "newest", "serving", "why"),
    [
        ([], None, {}, None),
        (FEW, None, {}, "traffic"),
        (FEW, window(SOON), SERVING, None),
        (FEW, window(LATER), SERVING, "traffic"),
        (MANY, window(SOON), SERVING, "traffic"),
        ([Waiting("segments", "s", 2_000_000, 900_000)], window(SOON), SERVING, None),
        ([], window(LATER), SERVING, None),
        ([], window(DAY), SERVING, "by the clock"),
        ([], window(DAY, serving={}), {}, None),
        ([], None, SERVING, "by the clock"),
        ([], window(LATER, serving={}), SERVING, "another version serves"),
        ([], window(SOON, serving={}), SERVING, None),
        ([], window(LATER, drift=None), SERVING, "unfinished"),
        ([], window(LATER, capture="failed", drift=None), {}, "unfinished"),
        ([], window(SOON, drift=None), SERVING, None),
    ],
)
def test_a_domain_is_due_by_traffic_by_what_serves_or_by_the_clock(new, newest, serving, why):
    found = due(new, newest, serving, WATCH, NOW, every_s=None)
    assert (found.why if found else None) == why


def test_the_deployment_may_be_in_a_hurry_and_a_key_stays_while_nothing_changes():
    newest = window(timedelta(seconds=6))
    assert due(FEW, newest, SERVING, WATCH, NOW, every_s=None) is None
    found = due(FEW, newest, SERVING, WATCH, NOW, every_s=5)
    assert found == due(FEW, newest, SERVING, WATCH, NOW + timedelta(seconds=1), every_s=5)
    assert found != due(FEW, newest, SERVING, WATCH, NOW + timedelta(minutes=2), every_s=5), "a failed look is repeated"
    assert found != due(MANY, newest, SERVING, WATCH, NOW, every_s=5)
