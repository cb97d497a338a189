"""Rungs that answer in turn: who answers, that it survives saving, and what the thresholds promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from slm_assets.domain.ladder import Cascade
from slm_assets.errors import ArtifactError, BadInputError
from slm_assets.models import ladder
from slm_assets.models.base import Prediction
from slm_assets.models.cascade.model import NEVER, CascadeModel, Last, Level
from slm_assets.models.cascade.thresholds import Threshold, Tried, choose

SCHEMA = {
    "type": "object",
    "properties": {"topic": {"enum": ["bill", "move", "quit"]}},
    "required": ["topic"],
    "additionalProperties": False,
}
WORDS = {"bill": ["invoice", "charge", "pay"], "move": ["address", "moving", "relocate"], "quit": ["cancel", "leave"]}


def pairs(count: int, seed: int = 0) -> list[tuple[dict, dict]]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        topic = sorted(WORDS)[rng.integers(3)]
        filler = " ".join(f"w{rng.integers(40)}" for _ in range(4))
        found.append(({"text": f"{filler} {WORDS[topic][rng.integers(len(WORDS[topic]))]}"}, {"topic": topic}))
    return found


class Fixed:
    """Answers by a table: input → (output, confidence); counts what it was asked."""

    def __init__(self, table: dict[str, tuple[str | None, float]]) -> None:
        self.table, self.asked = table, 0

    def predict_many(self, values):
        self.asked += len(values)
        found = [self.table[value] for value in values]
        return [Prediction(output, sure, output is not None) for output, sure in found]

    def predict(self, value):
        return self.predict_many([value])[0]


def test_the_next_rung_answers_where_the_first_is_not_sure_and_says_so() -> None:
    fast = Fixed({"a": ("A", 0.9), "b": ("wrong", 0.4), "c": (None, 0.99)})
    slow = Fixed({"b": ("B", 0.25), "c": ("C", 0.7)})
    model = CascadeModel([Level("fast", "linear", fast, 0.5), Level("slow", "linear", slow, power=0.5)])
    answers = model.predict_many(["a", "b", "c"])
    assert [(one.output, one.by) for one in answers] == [("A", "fast"), ("B", "slow"), ("C", "slow")]
    assert answers[1].confidence == 0.5, "by the temperature of the rows that come so far"
    assert answers == [model.predict(value) for value in "abc"]
    assert slow.asked == 4, "two at once, two one by one: never for what the fast one answered"


def test_below_the_last_threshold_the_oracle_answers_where_it_can() -> None:
    only = Fixed({"a": ("A", 0.9), "b": ("wrong", 0.2), "c": ("kept", 0.1)})
    oracle = Fixed({"b": ("B", 1.0), "c": (None, 0.0)})
    model = CascadeModel([Level("one", "linear", only)], Last(0.5, 0.8), oracle)
    answers = model.predict_many(["a", "b", "c"])
    assert [(one.output, one.by) for one in answers] == [("A", "one"), ("B", "oracle"), ("kept", "one")]
    assert answers[1].confidence == 0.8, "as often as it was right, not 1"


def test_a_rung_that_answers_nothing_is_not_asked() -> None:
    idle, slow = Fixed({}), Fixed({"a": ("A", 0.3)})
    model = CascadeModel([Level("idle", "linear", idle, NEVER), Level("slow", "linear", slow)])
    assert model.predict("a").by == "slow" and idle.asked == 0


def tried(rng: np.random.Generator, n: int, *, good: float) -> list[Tried]:
    """A fast rung whose errors lie where it is unsure, and a slow one that is right on a share of everything."""
    sure = rng.uniform(size=n)
    fast = rng.uniform(size=n) < np.minimum(1.0, 0.6 + 0.5 * sure)
    return [Tried(sure, fast), Tried(np.ones(n), rng.uniform(size=n) < good)]


def chosen(sides: list[Tried], groups: np.ndarray | None, settings: Cascade) -> list[Threshold]:
    return choose(sides[:-1], sides[-1].right, groups, settings)


def test_the_bound_keeps_its_promise_on_fresh_rows() -> None:
    """Of 200 validation parts, at most 5 % (and sampling error) give a threshold that truly loses more."""
    settings = Cascade(max_loss=0.02)
    broken = shares = 0.0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        found = chosen(tried(rng, 1_000, good=0.95), None, settings)[0]
        # By construction: taken above t, each row is right with min(1, .6 + .5 s), else with .95.
        s = np.linspace(0, 1, 20_001)
        taken = s >= found.below
        loss = float(np.mean(np.where(taken, 0.95 - np.minimum(1.0, 0.6 + 0.5 * s), 0.0)))
        broken += loss > 0.02
        shares += found.share / 200
    assert broken <= 0.05 * 200 + 3 * (0.05 * 0.95 * 200) ** 0.5
    assert 0.2 < shares < 0.7, "and it is no promise kept by answering nothing"


def test_by_the_point_takes_more_than_by_the_bound_and_groups_take_less() -> None:
    sides = tried(np.random.default_rng(5), 2_000, good=0.95)
    bound, point = (chosen(sides, None, Cascade(max_loss=0.01, by=by))[0] for by in ("bound", "point"))
    assert bound.share < point.share and bound.at_most <= 0.01 and point.loss <= 0.01
    grouped = chosen(sides, np.repeat(np.arange(200), 10), Cascade(max_loss=0.01))[0]
    assert grouped.share <= bound.share
    exact = np.where(sides[0].confidence >= point.below, sides[0].right, sides[1].right).mean()
    assert point.loss == pytest.approx(max(sides[1].right.mean() - exact, 0.0), abs=1e-6)


def test_too_few_rows_to_prove_anything_leave_everything_to_the_last_rung_and_say_how_many_would_do() -> None:
    right = np.ones(60, dtype=bool)
    found = chosen([Tried(np.linspace(0.5, 1, 60), right), Tried(right * 1.0, right)], None, Cascade())[0]
    assert (found.below, found.share) == (NEVER, 0.0)
    assert "on 60 validation rows; even without any loss that takes 6" in found.why


def test_two_thresholds_share_what_may_be_lost() -> None:
    rng = np.random.default_rng(2)
    first, last = tried(rng, 4_000, good=0.97)
    middle = Tried(rng.uniform(size=4_000), rng.uniform(size=4_000) < 0.965)
    found = chosen([first, middle, last], None, Cascade(max_loss=0.02))
    assert len(found) == 2 and all(one.at_most <= 0.01 for one in found)


@pytest.fixture(scope="module")
def training() -> ladder.Training:
    rows = pairs(260)
    return ladder.Training(
        rows[:160],
        SCHEMA,
        validation=rows[160:],
        hyperparams={
            "cascade": {
                "rungs": [{"recipe": "linear", "name": "small", "hyperparams": {"char_weight": 0}}, "linear"],
                "max_loss": 0.1,
            },
            "linear": {"tune": 1},
        },
    )


def test_a_cascade_is_trained_saved_and_loaded_and_answers_alike(training, tmp_path) -> None:
    module = ladder.rung("cascade")
    model = module.train(training)
    assert [line["rung"] for line in model.report["cascade"]] == ["small", "linear"]
    assert sum(line["answers"] for line in model.report["cascade"]) == 100
    assert model.report["rungs"]["small"]["char_weight"] == 0 != model.report["rungs"]["linear"]["char_weight"]
    module.save(model, tmp_path / "role")
    ladder.seal(tmp_path, {"role": "cascade"})
    again = ladder.load(tmp_path, "role", SCHEMA)
    fresh = [value for value, _ in pairs(50, seed=9)]
    assert again.predict_many(fresh) == model.predict_many(fresh)
    assert {one.by for one in again.predict_many(fresh)} <= {"small", "linear"}
    module.save(module.train(training), tmp_path / "twice")
    for path in (tmp_path / "role").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "twice" / path.relative_to(tmp_path / "role")).read_bytes()


def test_the_oracle_takes_over_where_it_is_better_on_labels_that_are_not_its_own(training, tmp_path) -> None:
    """The rows' topics are decided by their last word; the oracle knows one topic, and no label is its own."""

    class Oracle:
        def predict_many(self, values):
            quits = [any(word in value["text"] for word in WORDS["quit"]) for value in values]
            return [Prediction({"topic": "quit"}) if is_so else Prediction(None, 0.0, valid=False) for is_so in quits]

        def predict(self, value):
            return self.predict_many([value])[0]

    rows = [pair for pair in training.pairs if pair[1]["topic"] != "quit"]  # what the rungs never saw
    block = {**training.hyperparams["cascade"], "then": "oracle"}
    settings = {"cascade": block, "linear": {"tune": 1}}
    ours = replace(training, pairs=rows, hyperparams=settings, oracle=Oracle, independent=[True] * 100)
    module = ladder.rung("cascade")
    model = module.train(ours)
    assert model.last is not None and 0.8 < model.last.confidence < 1
    assert max(level.below for level in model.levels) > 0.5, "the rungs before it hand on what it knows better"
    module.save(model, tmp_path / "role")
    ladder.seal(tmp_path, {"role": "cascade"})
    again = ladder.load(tmp_path, "role", SCHEMA, Oracle)
    fresh = [value for value, label in pairs(60, seed=4) if label["topic"] == "quit"]
    handed = [one for one in again.predict_many(fresh) if one.by == "oracle"]
    assert handed and {one.confidence for one in handed} == {model.last.confidence}
    own_labels = module.train(replace(ours, independent=[False] * 100))
    assert own_labels.last is None, "its own labels say nothing of it"


def test_an_altered_head_is_no_checkpoint(training, tmp_path) -> None:
    for head in ('{"format": "slm-cascade-9"}', '{"format": "slm-cascade-1", "last": null}', "no json"):
        (tmp_path / "cascade.json").write_text(head)
        with pytest.raises(ArtifactError):
            ladder.load_rung("cascade", tmp_path, SCHEMA)
    with pytest.raises(ArtifactError, match="unheard_of"):
        ladder.load_rung("unheard_of", tmp_path, SCHEMA)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"rungs": ["linear"]}, "cascade.rungs: 1 of at least 2"),
        ({"rungs": ["linear", "linear"]}, r"cascade.rungs\[1\]: two rungs are named 'linear'"),
        ({"rungs": ["linear", "cascade"]}, r"cascade.rungs\[1\]: 'cascade' is no rung"),
        ({"rungs": ["linear", "liner"]}, r"cascade.rungs\[1\]: 'liner' is no rung"),
        ({"max_los": 0.1}, "cascade.max_los"),
        ({"rungs": ["linear", {"recipe": "linear", "name": "b"}], "then": "oracle"}, "cascade.then: oracle"),
    ],
)
def test_a_wrong_block_is_refused_with_its_place(training, block, said) -> None:
    with pytest.raises(BadInputError, match=said):
        ladder.rung("cascade").train(replace(training, hyperparams={"cascade": block, "linear": {"tune": 1}}))


def test_without_validation_rows_there_is_nothing_to_choose_on(training) -> None:
    with pytest.raises(BadInputError, match="needs validation rows"):
        ladder.rung("cascade").train(replace(training, validation=()))
