"""The outbox on each database: written with what it tells of, taken in order, forgotten by nothing."""

from __future__ import annotations

import pytest
from test_registry import a_cell
from writers import plan_columns

from slm_assets.errors import BadInputError
from slm_assets.registry import outbox
from slm_assets.registry.home import Home
from slm_assets.registry.outbox import Told
from slm_assets.registry.registry import Flip, Registry


@pytest.fixture
def registry(home: Home) -> Registry:
    return Registry(home)


def made(registry: Registry, number: int, domain: str = "d", **more) -> None:
    """A version whose dataset was made."""
    registry.open_plan(domain, number=number, actor="a", make=plan_columns)
    entry = {"kind": "dataset", "name": domain, "version": number, "sha256": "a" * 64, "bytes": 1, "rows": 1}
    parents = [registry.urn("dataset", domain, number - 1)] if number > 1 else []
    cell = {"domain": domain, "entries": [entry | {"request": "r" * 64}], "parents": parents}
    registry.commit(a_cell(number, asset="dataset", playbook="slm/dataset_build", **cell, **more))


def done(row, ref=None, **more) -> Told:
    return Told(row["id"], "delivered", {"registry": ref} if ref else {}, ref, **more)


def test_a_success_and_a_flip_leave_one_handoff_each_and_a_failure_none(registry):
    made(registry, 1)
    made(registry, 2, status="failed")
    registry.flip("d", [Flip("r", "release", 1, "f" * 64, 0)], action="promote", actor="me", reason="why", playbook="p")
    flip, dataset = outbox.rows(registry)
    assert (dataset["asset"], dataset["playbook"]) == ("dataset", "slm/dataset_build")
    payload = dataset["payload"]
    assert payload["partition"] == "d|v1" and payload["request_digest"] == "r" * 64 and payload["lineage"] == []
    assert payload["outputs"]["dataset"]["urn"] == dataset["urn"] == registry.urn("dataset", "d", 1)
    assert (flip["event"], flip["kind"], flip["urn"]) == ("flipped", "flag", None)
    assert flip["payload"]["to"] == {"engine": "release", "number": 1, "release": "f" * 64}
    assert flip["payload"]["lineage"] == [registry.urn("release", "d", 1)]


def test_what_is_rolled_back_tells_nothing(registry):
    made(registry, 1)
    with pytest.raises(BadInputError, match="immutable"):
        registry.commit(a_cell(1, sha="b" * 64, receipt={"x": 2}, request="s" * 64))
    wrong = [Flip("a", "release", 1, "x", 0), Flip("b", "release", 1, "x", expected=9)]
    with pytest.raises(BadInputError, match="someone else"):
        registry.flip("d", wrong, action="promote", actor="me", reason="why")
    assert outbox.counts(registry) == {"waiting": 1}


def test_committing_again_tells_nothing_again(registry):
    for _ in range(3):
        registry.commit(a_cell(1))
    assert outbox.counts(registry) == {"waiting": 1}


def test_they_are_taken_in_order_and_marked_before_they_are_sent(registry):
    for number in (1, 2, 3):
        made(registry, number)
    first = outbox.take(registry, "d", 2)
    assert [(row["number"], row["state"]) for row in first] == [(1, "waiting"), (2, "waiting")]
    assert outbox.counts(registry) == {"waiting": 1, "sent": 2}
    outbox.settle(registry, [done(first[0], "registry://x/1")], first[1:])
    assert outbox.counts(registry) == {"waiting": 2, "delivered": 1}
    again = outbox.take(registry, "d", 9)
    assert [(row["number"], row["attempts"]) for row in again] == [(2, 0), (3, 0)]
    assert outbox.refs(registry, [row["urn"] for row in first]) == {first[0]["urn"]: "registry://x/1"}
    # and where the process was killed here, they are `sent`:
    assert [(row["state"], row["attempts"]) for row in outbox.take(registry, "d", 9)] == [("sent", 1), ("sent", 1)]


def test_one_that_waits_or_is_dead_holds_its_domain_and_no_other(registry):
    for domain in ("d", "e", "f"):
        made(registry, 1, domain)
        made(registry, 2, domain)
    (row,) = outbox.take(registry, "d", 1)
    outbox.settle(registry, [Told(row["id"], "waiting", {}, error="away", wait_s=60)])
    (dead,) = outbox.take(registry, "e", 1)
    outbox.settle(registry, [Told(dead["id"], "dead", {}, error="HTTP 422: no")])
    assert outbox.domains(registry) == ["f"]
    with pytest.raises(BadInputError, match="no handoff"):
        outbox.retry(registry, ["%"], actor="ada")
    assert outbox.retry(registry, [dead["handoff"][:8]], actor="ada") == [dead["handoff"]]
    assert outbox.domains(registry) == ["e", "f"]
    assert outbox.take(registry, "e", 1)[0]["state"] == "sent", "it may have arrived: look before sending"
    assert len(outbox.retry(registry, None, actor="ada")) == 6 and outbox.domains(registry) == ["d", "e", "f"]
    assert outbox.skip(registry, [row["handoff"]], actor="ada", reason="a test") == [row["handoff"]]
    assert [r["number"] for r in outbox.take(registry, "d", 9)] == [2]
    assert {e["action"] for e in registry.audit("d")} >= {"handoffs.retry", "handoffs.skip"}


def test_pruned_handoffs_keep_their_urns(registry):
    made(registry, 1)
    (row,) = outbox.take(registry, "d", 1)
    outbox.settle(registry, [done(row, "registry://x/1")])
    assert outbox.prune(registry, 30) == 0
    assert outbox.prune(registry, -1) == 1 and outbox.prune(registry, -1) == 0
    (kept,) = outbox.rows(registry)
    assert kept["payload"] == {} and outbox.refs(registry, [row["urn"]]) == {row["urn"]: "registry://x/1"}


def test_another_tenant_sees_nothing_of_it(home, registry):
    made(registry, 1)
    other = Registry(home, "rival", "default")
    assert outbox.rows(other) == [] and outbox.domains(other) == [] and outbox.take(other, "d", 9) == []
    assert outbox.retry(other, None, actor="x") == []


def test_one_process_at_a_time(home, registry):
    with registry.alone("handoffs") as first, registry.alone("handoffs") as second, registry.alone("other") as other:
        assert (first, second, other) == (True, False, True)
        with Registry(home, "rival").alone("handoffs") as theirs:
            assert theirs
    with registry.alone("handoffs") as again:
        assert again
