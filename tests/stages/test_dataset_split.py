"""Stage dataset, splitting: groups, near-duplicates, leakage, frozen eval sets and epochs."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from row_stages import Build, contents, ids, make_domain, manifest, phrases, row, verdicts

from slm_assets import canonical
from slm_assets.errors import BadInputError
from slm_assets.stages.rows import near_duplicates, splitting
from slm_assets.stages.rows.corpus import Corpus, Kind, Row
from slm_assets.stages.rows.texts import texts_of, words_of

SPLITS = ("train", "validation", "eval")


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path, make_domain(tmp_path / "domain"))


def grouped(tmp_path: Path, *keys: str, **data: Any) -> Build:
    return Build(tmp_path, make_domain(tmp_path / "domain", data={"split": {"group_by": list(keys)}, **data}))


def split_of(folder: Path) -> dict[str, str]:
    return {name: split for split in (*SPLITS, "reserve") for name in ids(folder, split)}


def sentence(draw: random.Random, words: int = 10) -> list[str]:
    return [f"word{draw.randrange(5000)}" for _ in range(words)]


def variants(draw: random.Random, base: list[str], count: int) -> list[str]:
    """The sentence with one word of eleven exchanged: Jaccard 10/12."""
    found = []
    for _ in range(count):
        words = list(base)
        words[draw.randrange(len(words))] = f"other{draw.randrange(10**6)}"
        found.append(" ".join(words))
    return found


def test_shares_are_as_asked(build: Build) -> None:
    build.seed("a.jsonl", phrases(2000))
    folder, result = build.dataset()
    sizes = {split: len(ids(folder, split)) for split in SPLITS}
    assert sum(sizes.values()) == 2000
    assert abs(sizes["eval"] - 400) < 60
    assert abs(sizes["validation"] - 160) < 45
    assert verdicts(result, "coverage") == verdicts(result, "leakage") == [("PASS", True)]


def test_rows_that_share_a_declared_value_stay_together(tmp_path: Path) -> None:
    build = grouped(tmp_path, "/template", "/turns/*/conversation")
    draw = random.Random(3)
    rows = []
    for n, one in enumerate(phrases(600)):
        turns = [{"conversation": f"c{draw.randrange(500)}"} for _ in range(n % 2)]
        rows.append({**one, "template": f"t{n // 3}" if n % 5 else None, "turns": turns})
    build.seed("a.jsonl", rows)
    folder, _ = build.dataset()
    where = split_of(folder)
    sides = defaultdict(set)
    for one in rows:
        for key in [one["template"], *(turn["conversation"] for turn in one["turns"])]:
            if key:
                sides[key].add(where[one["id"]])
    assert all(len(side) == 1 for side in sides.values())
    assert set(where.values()) == set(SPLITS)


def test_a_group_keeps_its_side_when_rows_come(tmp_path: Path) -> None:
    build = grouped(tmp_path, "/template")
    rows = [{**one, "template": n // 4} for n, one in enumerate(phrases(800))]
    build.seed("a.jsonl", rows[:400])
    build.seed("a.jsonl", rows, version="more")
    before, after = split_of(build.dataset("one")[0]), split_of(build.dataset("two", seed="more")[0])
    assert all(after[name] == split for name, split in before.items())


def test_near_duplicates_form_a_group(build: Build) -> None:
    draw = random.Random(5)
    families = [[" ".join(base), *variants(draw, base, 3)] for base in (sentence(draw, 11) for _ in range(150))]
    texts = [text for family in families for text in family]
    build.seed("a.jsonl", [row(n, text) for n, text in enumerate(texts)])
    folder, result = build.dataset()
    groups = {one["id"]: one["group"] for split in SPLITS for one in canonical.read_jsonl(folder / f"{split}.jsonl")}
    together = sum(
        groups.get(f"r{4 * n:04d}", "") == groups.get(f"r{4 * n + k:04d}") for n in range(150) for k in (1, 2, 3)
    )
    assert together >= 0.95 * 450
    assert len(set(groups.values())) >= 150
    assert result.summary["leakage"] == {"exact": 0, "near": 0, "n_checked": len(groups) - len(ids(folder, "eval"))}


def test_planted_near_duplicates_leave_train(tmp_path: Path) -> None:
    build = grouped(tmp_path, "/conversation")
    draw = random.Random(7)
    rows, planted = [], []
    for n in range(600):
        base = sentence(draw, 11)
        rows.append(row(2 * n, " ".join(base), conversation=2 * n))
        rows.append(row(2 * n + 1, variants(draw, base, 1)[0], conversation=2 * n + 1))
        planted.append((f"r{2 * n:04d}", f"r{2 * n + 1:04d}"))
    build.seed("a.jsonl", rows)
    folder, result = build.dataset()
    where = split_of(folder)
    crossing = [pair for pair in planted if {"eval"} < {where.get(name, "") for name in pair}]
    assert result.summary["decontaminated"] >= 100
    assert [pair for pair in crossing if {where.get(name) for name in pair} & {"train", "validation"}] == []
    assert manifest(folder)["near_duplicates"] >= 0.95 * 600


def test_a_large_bucket_is_searched_in_full(tmp_path: Path) -> None:
    build = grouped(tmp_path, "/conversation")
    draw = random.Random(9)
    base = sentence(draw, 14)
    texts = sorted(set(variants(draw, base, 3000)))
    build.seed("a.jsonl", [row(n, text, conversation=n) for n, text in enumerate(texts)])
    folder, result = build.dataset()
    held_out = [set(one["input"]["text"].split()) for one in canonical.read_jsonl(folder / "eval.jsonl")]
    left = [one for split in ("train", "validation") for one in canonical.read_jsonl(folder / f"{split}.jsonl")]
    for one in left:
        words = set(one["input"]["text"].split())
        assert all(len(words & other) / len(words | other) < 0.8 for other in held_out)
    assert verdicts(result, "leakage") == [("PASS", True)]
    assert result.summary["decontaminated"] > 2000


def test_structure_and_short_texts_must_be_equal(tmp_path: Path) -> None:
    build = grouped(tmp_path, "/conversation")
    words = "please move my flight to the first day of next month"
    rows = [{**row(n, words, conversation=n), "input": {"text": words, "channel": f"line{n}"}} for n in range(60)]
    rows += [row(100 + n, f"book {n}", conversation=n) for n in range(60)]
    build.seed("a.jsonl", rows)
    folder, result = build.dataset()
    assert (result.summary["near_duplicates"], result.summary["decontaminated"]) == (0, 0)
    assert len(split_of(folder)) == 120


def test_leakage_blocks_when_decontamination_is_blind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = grouped(tmp_path, "/conversation")
    draw = random.Random(11)
    texts = [
        text for base in (sentence(draw, 11) for _ in range(100)) for text in (" ".join(base), *variants(draw, base, 1))
    ]
    build.seed("a.jsonl", [row(n, text, conversation=n) for n, text in enumerate(texts)])
    monkeypatch.setattr(splitting, "DROPPED", splitting.TRAIN)
    monkeypatch.setattr("slm_assets.stages.dataset.DROPPED", splitting.TRAIN)
    _, result = build.dataset()
    assert verdicts(result, "leakage") == [("FAIL", True)]
    assert result.summary["leakage"]["near"] > 10


def test_holdout_and_golden_are_eval(build: Build) -> None:
    build.seed("a.jsonl", [*phrases(100), row(900, "the very same words stand in the holdout file")])
    build.seed(
        "h.jsonl", [*phrases(20, 200), row(901, "the very same words stand in the holdout file")], source="holdout"
    )
    build.seed("g.jsonl", phrases(5, 300), source="golden")
    folder, _ = build.dataset()
    where = split_of(folder)
    assert {where[f"r{n:04d}"] for n in [*range(200, 220), *range(300, 305), 901]} == {"eval"}
    assert "r0900" not in where


def test_one_group_fails_coverage_and_warns(tmp_path: Path) -> None:
    build = grouped(tmp_path, "/channel")
    build.seed("a.jsonl", [{**one, "channel": "mail"} for one in phrases(40)])
    folder, result = build.dataset()
    assert verdicts(result, "coverage")[0] == ("FAIL", True)
    assert "all rows form one group" in manifest(folder)["warnings"][0]
    more = grouped(tmp_path / "more", "/channel")
    more.seed("a.jsonl", [{**one, "channel": "mail" if n < 60 else n} for n, one in enumerate(phrases(200))])
    assert "holds 60 of 200 rows" in manifest(more.dataset()[0])["warnings"][0]


def test_train_fraction_is_nested(build: Build) -> None:
    build.seed("a.jsonl", phrases(500))
    folders = {share: build.dataset(f"at{share}", train_fraction=share)[0] for share in (0.1, 0.5, 1.0)}
    tenth, half, whole = (set(ids(folders[share], "train")) for share in (0.1, 0.5, 1.0))
    assert tenth < half < whole
    assert 10 < len(tenth) < 70
    assert ids(folders[0.1], "eval") == ids(folders[1.0], "eval")
    with pytest.raises(BadInputError, match="train_fraction: found 0"):
        build.dataset("none", train_fraction=0)


class TestParent:
    """A later version respects what an earlier one decided."""

    def test_eval_is_frozen_and_new_rows_wait(self, build: Build) -> None:
        build.seed("a.jsonl", phrases(500))
        parent, _ = build.dataset("v1")
        kept = [one for one in phrases(500) if int(one["id"][1:]) >= 50]
        build.seed("a.jsonl", [*kept, *phrases(40, 1000)], version="next")
        folder, result = build.dataset("v2", seed="next", parent="v1")
        assert (folder / "eval.jsonl").read_bytes() == (parent / "eval.jsonl").read_bytes()
        reserve = ids(folder, "reserve")
        assert reserve
        assert all(int(name[1:]) >= 1000 for name in reserve)
        assert result.summary["epoch"] == 1

    def test_a_fifth_of_new_rows_opens_an_epoch(self, build: Build) -> None:
        build.seed("a.jsonl", phrases(500))
        parent, _ = build.dataset("v1")
        build.seed("a.jsonl", [*phrases(500), *phrases(300, 1000)], version="next")
        folder, result = build.dataset("v2", seed="next", parent="v1", epoch=3)
        assert set(ids(parent, "eval")) < set(ids(folder, "eval"))
        assert (result.summary["epoch"], ids(folder, "reserve")) == (4, [])

    def test_nothing_moves_between_train_and_eval(self, tmp_path: Path) -> None:
        build = grouped(tmp_path, "/template", "/conversation")
        rows = [{**one, "template": n // 4, "conversation": n % 300} for n, one in enumerate(phrases(300))]
        build.seed("a.jsonl", rows)
        before = split_of(build.dataset("v1")[0])
        bridges = [
            {**one, "template": n // 4, "conversation": (n * 7) % 300} for n, one in enumerate(phrases(300, 600))
        ]
        build.seed("a.jsonl", rows + bridges, version="next")
        folder, result = build.dataset("v2", seed="next", parent="v1")
        after = split_of(folder)
        for name, split in before.items():
            if split == "eval":
                assert after[name] == "eval"
            else:
                assert after.get(name) in ("train", "validation", None)
        assert manifest(folder)["bridged"] > 0
        assert verdicts(result, "leakage") == [("PASS", True)]

    def test_corrected_labels_and_changed_inputs(self, build: Build) -> None:
        build.seed("a.jsonl", phrases(300))
        parent, _ = build.dataset("v1")
        first, second = ids(parent, "eval")[:2]
        rows = {one["id"]: one for one in phrases(300)}
        rows[first]["labels"]["route"]["note"] = "corrected"
        rows[second]["input"] = {"text": "the same id now means something else"}
        build.seed("a.jsonl", rows.values(), version="next")
        folder, _ = build.dataset("v2", seed="next", parent="v1")
        frozen = {one["id"]: one for one in canonical.read_jsonl(folder / "eval.jsonl")}
        assert frozen[first]["labels"]["route"]["note"] == "corrected"
        assert frozen[second]["input"] == phrases(300)[int(second[1:])]["input"]
        (refused,) = canonical.read_jsonl(folder / "quarantine.jsonl")
        assert f"id {second} is in the frozen eval set" in refused["reason"]

    def test_a_changed_contract_opens_an_epoch(self, build: Build, tmp_path: Path) -> None:
        build.seed("a.jsonl", phrases(300))
        build.dataset("v1")
        build.seed("a.jsonl", [*phrases(300), *phrases(30, 900)], version="next")
        schema = '{"type": "object", "properties": {"intent": {"enum": ["order", "other"]}}}'
        build.domain = make_domain(tmp_path / "changed", data={"max_quarantine_share": 0.5}, files={"out.json": schema})
        folder, result = build.dataset("v2", seed="next", parent="v1")
        assert result.summary["epoch"] == 2
        assert manifest(folder)["frozen"]["without_label"] > 0


class TestFixed:
    """Given files are taken as they are."""

    def build(self, tmp_path: Path) -> Build:
        return Build(
            tmp_path,
            make_domain(
                tmp_path / "domain",
                data={"split": "fixed"},
                files={"holdout.jsonl": ""},
                eval={"floor": "majority", "eval_sets": {"holdout": "holdout.jsonl"}},
            ),
        )

    def test_files_decide_and_overlap_is_reported(self, tmp_path: Path) -> None:
        build = self.build(tmp_path)
        draw = random.Random(13)
        base = sentence(draw, 11)
        build.seed("train.jsonl", [*phrases(200), row(500, " ".join(base)), row(501, "equal words on both sides here")])
        build.seed(
            "test.jsonl",
            [row(0, variants(draw, base, 1)[0]), row(1, "equal words on both sides here")],
            source="holdout",
        )
        folder, result = build.dataset()
        assert ids(folder, "eval") == ["r0000", "r0001"]
        assert len(ids(folder, "train")) + len(ids(folder, "validation")) == 202
        assert ids(folder, "validation")
        assert manifest(folder)["leakage"] == {"exact": 1, "near": 1, "n_checked": 202}
        assert verdicts(result, "leakage") == [("FAIL", False)]

    def test_repeated_rows_without_id_are_all_kept(self, tmp_path: Path) -> None:
        build = self.build(tmp_path)
        rows = [{"input": {"text": "ok"}, "labels": {"route": {"intent": "order"}}}] * 3
        build.seed("test.jsonl", rows, source="holdout")
        build.seed("train.jsonl", rows + phrases(20))
        folder, _ = build.dataset()
        assert len(ids(folder, "eval")) == 3
        assert len(split_of(folder)) == 26
        again, result = build.dataset("again", parent="dataset", epoch=4)
        assert (again / "eval.jsonl").read_bytes() == (folder / "eval.jsonl").read_bytes()
        assert (len(split_of(again)), result.summary["epoch"]) == (26, 4)


def test_two_runs_are_equal_and_paths_do_not_matter(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        build = Build(tmp_path / name, make_domain(tmp_path / name / "domain"))
        draw = random.Random(17)
        texts = [text for base in (sentence(draw, 11) for _ in range(60)) for text in variants(draw, base, 4)]
        build.seed("a.jsonl", [row(n, text) for n, text in enumerate(texts)])
        found.append(contents(build.dataset()[0]))
    assert found[0] == found[1]


def test_words() -> None:
    assert words_of("Flüge, nach Zürich: 101!") == [b"fluge", b"nach", b"zurich", b"101"]
    assert words_of("don't STOP_me") == [b"don", b"t", b"stop_me"]
    one, two = texts_of({"a": "Two words", "b": 1}), texts_of({"b": 1, "a": "two  WORDS!"})
    assert one.unit == two.unit
    assert texts_of({"a": "two words", "b": 2}).structure != one.structure
    assert texts_of({"a": "single"}).structure != texts_of({"a": "other"}).structure


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 1.0])
def test_bands_reach_their_recall(threshold: float) -> None:
    rows = near_duplicates.band_rows(threshold, 0.99)
    bands = near_duplicates.NUM_HASHES // rows
    assert 1 - (1 - threshold**rows) ** bands >= 0.99
    hashes = np.random.default_rng(1).integers(0, 2**32, (2, 64), dtype=np.uint32)
    hashes[1, :rows] = hashes[0, :rows]
    keys = list(near_duplicates.band_keys(hashes, np.zeros(2, dtype=np.uint64), rows))
    assert [bool(key[0] == key[1]) for key in keys] == [True, *[False] * (bands - 1)]


def test_rounds_of_a_large_bucket_propose_each_pair_once() -> None:
    """No more than 64 eval units for a train unit, other ones in other bands, and none twice in a band."""
    targets, searched = 200, np.arange(5)
    keys = np.zeros(targets + len(searched), dtype=np.uint64)
    taken = []
    for band in range(2):
        buckets = near_duplicates._Buckets(keys, targets, searched, band)
        done = np.zeros(len(keys), dtype=np.bool_)
        parts = [buckets.pairs(first, last, done) for first, last in near_duplicates.ROUNDS]
        pairs = [pair for left, right in parts for pair in zip(left.tolist(), right.tolist(), strict=True)]
        assert len(set(pairs)) == len(pairs) == 64 * len(searched)
        assert all(left < targets <= right for left, right in pairs)
        taken.append({left for left, right in pairs if right == targets})
        done[targets] = True
        assert targets not in buckets.pairs(8, 64, done)[1]
    assert taken[0] != taken[1]


def test_skipping_what_is_connected_changes_no_component(tmp_path: Path) -> None:
    """On texts of one template, where every bucket is large and pairs lie on both sides of the threshold."""
    draw = random.Random(23)
    texts = [" ".join(sentence(draw, 14))]
    for _ in range(150):
        words = draw.choice(texts).split(" ")
        words[draw.randrange(len(words))] = f"new{draw.randrange(60)}"
        texts.append(" ".join(words))
    corpus = Corpus(tmp_path)
    for number, text in enumerate(texts):
        value = {"text": text}
        corpus.put(Row(str(number), value, (), Kind("seed", (), 0, b""), canonical.dumps(value)))
    corpus.seal()
    units = near_duplicates.units_of(corpus, np.ones(len(corpus), dtype=np.bool_), 4)
    found = near_duplicates.components(corpus, units, 0.8, 1)

    sets = [set(texts[row].split(" ")) for row in units.row.tolist()]
    hashes = near_duplicates.signatures(corpus, np.arange(len(units)), units.row, 1)
    wanted, near = list(range(len(sets))), 0
    for keys in near_duplicates.band_keys(hashes, units.structure, near_duplicates.band_rows(0.8, 0.99)):
        for a, b in zip(*(side.tolist() for side in near_duplicates._star_edges(keys)), strict=True):
            if len(sets[a] & sets[b]) >= 0.8 * len(sets[a] | sets[b]):
                near += 1
                low, high = sorted((wanted[a], wanted[b]))
                wanted = [low if one == high else one for one in wanted]
    assert found.tolist() == wanted
    assert near > len(sets) > len(set(wanted)) > 3
    corpus.close()
    assert not list(tmp_path.iterdir())
