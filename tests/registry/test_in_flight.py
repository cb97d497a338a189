"""Jobs in flight and readings of live turns, on each database."""

from __future__ import annotations

import pytest

from slm_assets.registry import captures, jobs
from slm_assets.registry.captures import Mark
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry


@pytest.fixture
def registry(home: Home) -> Registry:
    return Registry(home)


def begun(registry: Registry, number: int = 1, run_id: str = "run") -> jobs.Row:
    return jobs.begin(registry, "d", number, "label", request="r" * 64, run_id=run_id, playbook="slm/label")


def test_a_cell_has_one_job_from_before_its_submission_to_its_end(registry):
    job = begun(registry)
    assert jobs.of_cell(registry, "d", 1, "label")["state"] == jobs.SUBMITTING
    jobs.accept(registry, job, "1152921504606846977")
    (there,) = jobs.in_flight(registry)
    assert (there["state"], there["execution"]) == (jobs.SUBMITTED, "1152921504606846977")
    jobs.end(registry, job, "no receipt")
    ended = jobs.of_cell(registry, "d", 1, "label")
    assert jobs.in_flight(registry) == [] and ended["note"] == "no receipt" and ended["ended_at"]
    again = begun(registry)
    assert again["dedup"] != job["dedup"], "another try is another key, in the same run too"
    jobs.accept(registry, job, "5")
    assert jobs.of_cell(registry, "d", 1, "label")["execution"] is None, (
        "what is said of an earlier try changes nothing"
    )


def test_jobs_are_of_one_tenant(home, registry):
    for number in range(1, 4):
        begun(registry, number, "é" * 300)
    assert [job["number"] for job in jobs.in_flight(registry)] == [1, 2, 3]
    assert jobs.in_flight(Registry(home, "rival")) == []


def test_a_reading_is_kept_with_what_still_runs(home, registry):
    assert captures.mark(registry, "d") == Mark()
    to = Mark(watermark="1152921504606846999", turns=3, artifact="a" * 64, pending={"1152921504606846977": "7"})
    captures.advance(registry, "d", to, actor="ada")
    found = captures.mark(registry, "d")
    assert (found.watermark, found.turns, found.artifact, found.pending) == (to.watermark, 3, "a" * 64, to.pending)
    assert captures.mark(registry, "d", "service") == Mark() == captures.mark(Registry(home, "rival"), "d")
    assert [(e["action"], e["actor"], e["detail"]["turns"]) for e in registry.audit("d")] == [("capture", "ada", 3)]
