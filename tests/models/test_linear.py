"""The linear rung as a user meets it: pairs in, a model out that answers inputs it has not seen."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slm_assets.canonical import Json
from slm_assets.errors import ArtifactError, BadInputError
from slm_assets.models import linear

pytestmark = pytest.mark.filterwarnings("error")  # a solver that did not converge warns

OPEN: dict[str, Any] = {"type": "object"}
CITIES = {
    "Aarhus": {"code": "AAR", "land": "DK"},
    "Bergen": {"code": "BGO", "land": "NO"},
    "Cadiz": {"code": "CDZ", "land": "ES"},
    "Dresden": {"code": "DRS", "land": "DE"},
    "Evora": {"code": "EVR", "land": "PT"},
    "Florence": {"code": "FLR", "land": "IT"},
}
Pair = tuple[Json, Json]


def exact(model: linear.LinearModel, pairs: list[Pair]) -> float:
    answers = model.predict_many([x for x, _ in pairs])
    return sum(a.output == target for a, (_, target) in zip(answers, pairs, strict=True)) / len(pairs)


def courier(seed: int, n: int) -> list[Pair]:
    """Parcels: buttons and forms; values are copies, parts, casts, and new values that replace old ones."""
    rng = random.Random(seed)
    pairs: list[Pair] = []
    for _ in range(n):
        state = {
            "parcel": f"pcl_{rng.randrange(10**6)}",
            "weight": rng.randrange(1, 400),
            "street": f"Elm {rng.randrange(999)}",
        }
        kind = rng.choice(["track", "move", "weigh"])
        event: dict[str, Json] = {"action": f"{kind}:{rng.randrange(10**5)}"}
        changes: dict[str, Json] = {}
        if kind == "move":
            event["form"] = {"street": f"Oak {rng.randrange(999)}", "floor": str(rng.randrange(60))}
            changes = {"street": event["form"]["street"], "floor": int(event["form"]["floor"])}
        call = {"tool": kind, "ticket": int(event["action"].split(":")[1]), "parcel": state["parcel"]}
        if kind != "weigh":
            call["street"] = changes.get("street", state["street"])
        pairs.append(
            ({"event": event, "state": state}, {"changes": changes, "calls": [call], "urgent": kind == "weigh"})
        )
    return pairs


def trips(seed: int, n: int) -> list[Pair]:
    """Sentences with a city (an alias of an object), a count (digits or a word), a date, a free name."""
    rng = random.Random(seed)
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    pairs: list[Pair] = []
    for _ in range(n):
        city, other = rng.sample(sorted(CITIES), 2)
        count = rng.randrange(1, 9)
        day = f"20{rng.randrange(24, 40)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}"
        place = rng.choice([city, city, city.lower(), f"{city}, not {other}", f"{city} instead of {other}"])
        people = rng.choice([str(count), words[count - 1]])
        name = "".join(rng.choice("abcdefgh") for _ in range(6)).title()
        if rng.random() < 0.3:
            pairs.append(({"text": f"please cancel the trip of {name}"}, {"kind": "cancel", "name": name}))
            continue
        lead = rng.choice(["book", "we would like", "reserve"])
        text = f"{lead} {place} for {people} people on {day}"
        pairs.append(({"text": text}, {"kind": "book", "to": CITIES[city], "people": count, "day": day}))
    return pairs


@pytest.fixture(scope="module")
def courier_model() -> linear.LinearModel:
    return linear.train(courier(1, 300), OPEN)


@pytest.fixture(scope="module")
def trip_model() -> linear.LinearModel:
    return linear.train(trips(1, 400), OPEN, validation=trips(2, 80))


def test_copies_parts_casts_and_new_values_before_old(courier_model: linear.LinearModel) -> None:
    assert exact(courier_model, courier(7, 200)) == 1.0
    assert courier_model.report["uncovered"] == []


def test_key_order_of_the_input_does_not_matter(courier_model: linear.LinearModel) -> None:
    value = courier(9, 1)[0][0]
    turned = {"state": dict(reversed(value["state"].items())), "event": value["event"]}
    assert courier_model.predict(turned) == courier_model.predict(value)


def test_spans_lookups_number_words_and_corrections(trip_model: linear.LinearModel) -> None:
    assert exact(trip_model, trips(8, 200)) >= 0.97


def test_a_typo_in_an_alias_is_forgiven(trip_model: linear.LinearModel) -> None:
    output = trip_model.predict({"text": "book Florrence for two people on 2031-02-03"}).output
    assert output == {"kind": "book", "to": CITIES["Florence"], "people": 2, "day": "2031-02-03"}


def test_spans_say_where_a_value_was_read(trip_model: linear.LinearModel) -> None:
    text = "reserve Bergen for 7 people on 2030-05-06"
    spans = {s.output_path: (s.input_path, text[s.start : s.end]) for s in trip_model.predict({"text": text}).spans}
    assert spans == {"/to": ("/text", "Bergen"), "/people": ("/text", "7"), "/day": ("/text", "2030-05-06")}


def test_confidence_is_calibrated(trip_model: linear.LinearModel) -> None:
    pairs = trips(11, 200)
    answers = trip_model.predict_many([x for x, _ in pairs])
    accuracy = sum(a.output == target for a, (_, target) in zip(answers, pairs, strict=True)) / len(pairs)
    assert abs(sum(a.confidence for a in answers) / len(pairs) - accuracy) < 0.1
    unlike = trip_model.predict({"text": "zzz qqq"})
    assert unlike.confidence < min(0.9, sorted(a.confidence for a in answers)[100])


def test_arrays_of_objects_are_mapped() -> None:
    def row(k: int) -> Pair:
        items = [{"sku": f"s{k}-{j}", "n": (k * j) % 7, "noise": j} for j in range(k % 4)]
        lines = [{"article": item["sku"], "count": item["n"], "unit": "piece"} for item in items]
        return {"basket": items}, {"lines": lines, "skus": [item["sku"] for item in items]}

    model = linear.train([row(k) for k in range(60)], OPEN)
    assert exact(model, [row(k) for k in range(400, 470)]) == 1.0


def test_lines_of_a_text_become_items() -> None:
    rng = random.Random(3)
    goods = ["lamp", "desk", "chair", "shelf", "stool"]

    def row() -> Pair:
        lines = [(rng.randrange(2, 90), rng.choice(goods)) for _ in range(rng.randrange(1, 4))]
        text = "order: " + " and ".join(f"{n} x {good}" for n, good in lines)
        return {"text": text}, {"items": [{"amount": n, "good": good} for n, good in lines]}

    model = linear.train([row() for _ in range(200)], OPEN)
    assert exact(model, [row() for _ in range(100)]) >= 0.95


def test_free_combinations_do_not_explode() -> None:
    flags = [f"topic{k}" for k in range(9)]
    rng = random.Random(5)

    def row() -> Pair:
        chosen = [flag for flag in flags if rng.random() < 0.4]
        return {"seen": dict.fromkeys(chosen, 1)}, {"topics": chosen, **{f"has_{flag}": "yes" for flag in chosen}}

    pairs = [row() for _ in range(400)]
    known = {str(target) for _, target in pairs}
    fresh = [pair for pair in (row() for _ in range(400)) if str(pair[1]) not in known]
    assert len(fresh) > 50
    assert exact(linear.train(pairs, OPEN), fresh) == 1.0


def test_uncovered_leaves_are_named() -> None:
    def row(k: int) -> Pair:
        start, nights = k % 200, 1 + k * 7 % 45
        return {"from": start, "to": start + nights}, {"start": start, "nights": nights}

    report = linear.train([row(k) for k in range(300)], OPEN).report
    assert [leaf["path"] for leaf in report["uncovered"]] == ["/nights"]
    assert report["uncovered"][0]["share_of_rows"] > 0.5


def test_an_answer_always_meets_the_contract() -> None:
    schema = {
        "type": "object",
        "required": ["code"],
        "properties": {"code": {"type": "string", "pattern": "^[A-Z]{3}$"}, "note": {"enum": ["a", "b"]}},
        "additionalProperties": False,
    }
    rng = random.Random(2)
    codes = ["".join(rng.choice("ABCDEFGH") for _ in range(3)) for _ in range(60)]
    pairs: list[Pair] = [({"code": code}, {"code": code, "note": "a"}) for code in codes]
    pairs.append(({"code": "x"}, {"code": "not valid"}))
    model = linear.train(pairs, schema)
    assert model.report["dropped_rows"] == 1
    assert model.predict({"code": "QQQ"}).output == {"code": "QQQ", "note": "a"}
    refused = model.predict({"code": "not a code"})
    assert refused.valid
    assert refused.output["code"] in codes
    assert refused.confidence < 0.1


def test_no_valid_training_output_is_admitted() -> None:
    model = linear.train([({"a": 1}, {"b": "text"})], {"type": "object", "properties": {"b": {"type": "integer"}}})
    assert not model.predict({"a": 1}).valid


@pytest.mark.parametrize(
    "pairs",
    [
        [({"text": ""}, {"k": "a"})],
        [({"text": "one"}, {"k": "a"}), ({"text": "two"}, {"k": "b"})],
        [({}, "yes")] * 5,
        [(None, None), (3, [1, 2]), ("text", {"a": {}})],
        [({"text": f"row {k}"}, {"k": "same"}) for k in range(20)],
    ],
)
def test_degenerate_training_sets(pairs: list[Pair]) -> None:
    model = linear.train(pairs, {})
    for value in [x for x, _ in pairs] + [None, 7, "?", [], {"other": [1]}]:
        assert model.predict(value).valid


def test_permuted_labels_teach_nothing() -> None:
    pairs = [(x, {"kind": y["kind"]}) for x, y in trips(3, 400)]
    targets = [y for _, y in pairs]
    random.Random(0).shuffle(targets)
    model = linear.train([(x, y) for (x, _), y in zip(pairs, targets, strict=True)], OPEN)
    fresh = [(x, {"kind": y["kind"]}) for x, y in trips(4, 400)]
    majority = max(sum(y == {"kind": kind} for _, y in fresh) for kind in ("book", "cancel")) / len(fresh)
    assert exact(model, fresh) <= majority + 0.02


def test_a_checkpoint_answers_as_the_model_and_repeats_byte_for_byte(
    trip_model: linear.LinearModel, tmp_path: Path
) -> None:
    linear.save(trip_model, tmp_path / "a")
    linear.save(linear.train(trips(1, 400), OPEN, validation=trips(2, 80)), tmp_path / "b")
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == ["model.json", "weights.safetensors"]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    loaded = linear.load(tmp_path / "a", OPEN)
    values = [x for x, _ in trips(5, 60)]
    assert loaded.predict_many(values) == [trip_model.predict(value) for value in values]
    assert loaded.report == trip_model.report


def test_loading_needs_no_training_library(trip_model: linear.LinearModel, tmp_path: Path) -> None:
    linear.save(trip_model, tmp_path)
    code = (
        "import sys; from pathlib import Path; from slm_assets.models import linear\n"
        f"model = linear.load(Path({str(tmp_path)!r}), {{}})\n"
        "assert model.predict({'text': 'book Cadiz for 3 people on 2030-01-02'}).output['people'] == 3\n"
        "sys.exit(sum(name in sys.modules for name in ('sklearn', 'scipy', 'pandas', 'pyarrow', 'dagster')))"
    )
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0


def test_a_broken_checkpoint_is_refused(trip_model: linear.LinearModel, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="checkpoint"):
        linear.load(tmp_path / "nowhere", OPEN)
    linear.save(trip_model, tmp_path)
    document = (tmp_path / "model.json").read_bytes()
    (tmp_path / "model.json").write_bytes(document.replace(b"slm-linear", b"slm-cubic"))
    with pytest.raises(ArtifactError, match="format"):
        linear.load(tmp_path, OPEN)
    (tmp_path / "model.json").write_bytes(document)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ArtifactError):
        linear.load(tmp_path, OPEN)


def test_bad_input_is_named() -> None:
    with pytest.raises(BadInputError, match="no rows"):
        linear.train([], OPEN)
    with pytest.raises(BadInputError, match="JSON Schema"):
        linear.train([({}, {})], {"type": 3})
    with pytest.raises(BadInputError, match="groups"):
        linear.train([({}, {})], OPEN, groups=["a", "b"])
    with pytest.raises(BadInputError, match="char_weight"):
        linear.from_hyperparams({"char_wieght": 1})
    with pytest.raises(BadInputError, match="positive"):
        linear.from_hyperparams({"c": "much"})
    assert linear.from_hyperparams({"c": 2}).c == 2.0


def test_report_names_factors_and_progress_ends() -> None:
    seen: list[float] = []
    model = linear.train(courier(1, 120), OPEN, progress=lambda share, what: seen.append(share))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    graded = [factor for factor in model.report["factors"] if factor["classes"] > 1]
    assert graded
    assert all(0 <= factor["out_of_fold_accuracy"] <= 1 and factor["temperature"] > 0 for factor in graded)


def test_an_input_is_not_changed() -> None:
    rng = random.Random(4)
    rows = [{"echo": {"a": rng.random(), "b": [rng.random()]}} for _ in range(20)]
    model = linear.train([(row, row["echo"]) for row in rows], OPEN)
    value = {"echo": {"a": 3.5, "b": [1, 2]}}
    answer = model.predict(value).output
    assert answer == {"a": 3.5, "b": [1, 2]}
    answer["b"].append(3)
    assert value == {"echo": {"a": 3.5, "b": [1, 2]}}


def test_another_process_with_another_hash_seed_trains_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import test_linear as t\n"
        "model = t.linear.train(t.trips(1, 150) + t.courier(1, 100), t.OPEN)\n"
        "t.linear.save(model, Path(sys.argv[2]))"
    )
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path / seed)]
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, check=True)
    for name in ("model.json", "weights.safetensors"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
