"""Which rows a teacher is shown, and what becomes of its opinions when the labels of earlier roles are others."""

from __future__ import annotations

import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from schooling import text_of

from slm_assets import canonical
from slm_assets.domain.labels import LabelPolicy
from slm_assets.errors import ConfigError
from slm_assets.stages.evaluation.rows import EvalRows
from slm_assets.stages.rows.opinions import KEY, by_policy, usable
from slm_assets.stages.rows.taught import teach
from slm_assets.stages.rows_io import LabelledRow

SECOND = {
    "id": "second", "reads": ["triage"], "output_schema": "contracts/triage.schema.json",
    "system_prompt": "second.md",
}  # fmt: skip


def row(number, source="seed", **labels):
    return {"id": f"r{number}", "input": {"text": text_of(number)}, "source": source, "labels": labels}


def taught(school, tmp_path, domain, rows):
    dataset, scratch = tmp_path / "dataset", tmp_path / "scratch"
    dataset.mkdir()
    scratch.mkdir()
    canonical.write_jsonl(dataset / "train.jsonl", rows)
    ctx = SimpleNamespace(
        domain=domain, inputs={"dataset": dataset}, scratch=scratch, registry=school.registry(),
        request=SimpleNamespace(domain="tiny", version="v1", stage="label"), envelope=SimpleNamespace(actor="a"),
        progress=lambda share, note: None,
    )  # fmt: skip
    found = teach(ctx, ["train"])
    return found and {one["id"]: one for one in canonical.read_jsonl(found.folder / "train.jsonl")}


ROWS = [row(0), row(1, "captured"), row(2, triage={"intent": "refund", "urgent": True}), row(3, "adversarial")]


@pytest.mark.parametrize(
    ("labels", "relabel", "asked"),
    [
        ({"teacher": "big"}, {}, {"r0", "r3"}),
        ({}, {"teacher": "big"}, {"r1"}),
        ({"teacher": "big"}, {"teacher": "big"}, {"r0", "r1", "r3"}),
        ({"teacher": "big", "asked": "all"}, {}, {"r0", "r2", "r3"}),
    ],
)
def test_captured_turns_are_shown_only_to_the_teacher_that_relabel_names(school, tmp_path, labels, relabel, asked):
    domain = school.write(labels=labels, improvement={"relabel": relabel})
    found = taught(school, tmp_path, domain, ROWS)
    assert {name for name, one in found.items() if KEY in one} == asked
    assert len(school.server.bodies) == len(asked)


def test_a_disabled_teacher_is_not_asked(school, tmp_path):
    domain = school.write(labels={"teacher": "big"}, teacher={"status": "disabled"})
    assert taught(school, tmp_path, domain, ROWS) is None and school.server.bodies == []


def test_so_many_rows_are_drawn_by_hash(school, tmp_path):
    rows = [row(n) for n in range(60)]
    domain = school.write(labels={"teacher": "big", "max_rows": 20})
    found = taught(school, tmp_path, domain, rows)
    asked = [name for name, one in found.items() if KEY in one]
    assert len(asked) == 20 and asked != [f"r{n}" for n in range(20)]


def test_a_later_role_is_asked_with_what_the_teacher_said_and_its_opinion_holds_for_that_alone(school, tmp_path):
    (school.place.config("tiny").parent / "second.md").write_text("You repeat the intent.")

    def say(value, body):
        return json.dumps(value["triage"] if "turn" in value else {"intent": "track", "urgent": True})

    school.server.say = say
    domain = school.write(roles=[SECOND], labels={"teacher": "big"})
    given = {"intent": "refund", "urgent": False}
    found = taught(school, tmp_path, domain, [row(0), row(1, triage=given)])
    said = {"intent": "track", "urgent": True}
    assert found["r0"][KEY]["second"]["output"] == said and found["r1"][KEY]["second"]["output"] == given
    assert "triage" not in found["r1"][KEY], "a given label is not asked about"
    own = {"turn": found["r0"]["input"], "triage": said}
    assert usable(found["r0"], "second", own)["output"] == said
    assert usable(found["r0"], "second", own | {"triage": given}) is None
    assert any("You repeat the intent." in body["messages"][0]["content"] for body in school.server.bodies)


@pytest.mark.parametrize(
    ("order", "oracle", "teacher", "expected"),
    [
        (["agreed", "oracle"], 1, 1, (1, "agreed")),
        (["agreed", "oracle"], 1, 2, (1, "oracle")),
        (["agreed", "oracle"], None, 2, None),
        (["agreed", "oracle", "teacher"], None, 2, (2, "teacher")),
        (["teacher", "oracle"], 1, 2, (2, "teacher")),
        (["teacher", "oracle"], 1, None, (1, "oracle")),
        (["agreed"], 1, None, None),
        (["oracle"], 1, 1, (1, "oracle")),
    ],
)
def test_whose_answer_is_the_label(order, oracle, teacher, expected):
    opinion = {"output": teacher, "error": "" if teacher is not None else "not JSON"}
    assert by_policy(order, oracle, opinion) == expected
    assert by_policy(["teacher"], oracle, None) is None


@pytest.mark.parametrize(
    ("order", "wins"),
    [(["agreed", "oracle"], False), (["agreed", "oracle", "teacher"], False), (["teacher", "oracle"], True),
     (["agreed", "teacher"], True)],
)  # fmt: skip
def test_a_teachers_labels_judge_the_oracle_only_where_it_would_win(order, wins):
    policy = LabelPolicy(teacher="big", order=order)
    assert policy.by_teacher is wins
    own = {"oracle"} if wins else {"oracle", "agreed", "teacher"}
    sources = ["gold", "oracle", "agreed", "teacher"]
    rows = [LabelledRow(s, {}, s, "seed", (), {"triage": {}}, {"triage": s}) for s in sources]
    mask = EvalRows(["triage"], lambda: iter(rows), own).independent("triage")
    assert np.array_equal(mask, [True, False, wins, wins])


def test_a_policy_that_names_nobody_is_refused(school):
    with pytest.raises(ConfigError) as caught:
        school.write(
            labels={"teacher": "bigg", "order": ["teacher", "teacher"]}, serving={"teacher": "x"},
            improvement={"relabel": {"teacher": "y"}}, eval={"baseline": "big"},
        )  # fmt: skip
    places = Counter(fault.path.removeprefix("$.slm_domain.") for fault in caught.value.faults)
    assert set(places) == {
        "labels.teacher", "labels.order", "serving.teacher", "improvement.relabel.teacher", "eval.baseline",
    }  # fmt: skip
