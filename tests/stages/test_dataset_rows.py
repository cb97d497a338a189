"""Stage dataset, reading: formats, mappings, and what happens to rows that cannot be used."""

from __future__ import annotations

import errno
import gzip
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from row_stages import INTENTS, Build, contents, ids, make_domain, manifest, phrases, row, verdicts

from slm_assets import canonical
from slm_assets.errors import BadInputError


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path, make_domain(tmp_path / "domain"))


def all_ids(folder: Path) -> set[str]:
    return {name for split in ("train", "validation", "eval") for name in ids(folder, split)}


def test_formats_are_equal(build: Build, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = phrases(40)
    build.seed("a.jsonl", rows)
    build.seed("a.jsonl.gz", gzip.compress("".join(json.dumps(one) + "\n" for one in rows).encode()), version="gz")
    build.seed("a.parquet", b"", version="parquet")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "parquet/seed/a.parquet")
    found = [contents(build.dataset(f"out-{seed}", seed=seed)[0]) for seed in ("seed", "gz", "parquet")]
    assert found[0]["train.jsonl"]
    assert found[0] == found[1] == found[2]


def test_files_are_canonical_and_sorted(build: Build) -> None:
    build.seed("b.jsonl", phrases(30, 30))
    build.seed("a.jsonl", [row(5, "größer 'quoted' \"text\" here"), *phrases(20, 6)])
    folder, result = build.dataset()
    for split in ("train", "validation", "eval"):
        lines = (folder / f"{split}.jsonl").read_bytes().splitlines()
        assert lines == [canonical.dumps(json.loads(line)) for line in lines]
        assert ids(folder, split) == sorted(ids(folder, split))
        file = manifest(folder)["rows"][f"{split}.jsonl"]
        assert file == {"rows": len(lines), "sha256": canonical.digest_file(folder / f"{split}.jsonl")}
    one = next(canonical.read_jsonl(folder / "train.jsonl"))
    assert set(one) == {"id", "input", "labels", "label_source", "group", "source", "slices"}
    assert result.rows == {"dataset": 51}


def test_order_of_lines_and_files_does_not_matter(build: Build) -> None:
    rows = [
        *phrases(60),
        row(90, "please send my parcel to the new address today"),
        row(91, "Please send my parcel to the new address TODAY!"),
    ]
    build.seed("a.jsonl", rows)
    build.seed("b.jsonl", rows[30:], version="moved")
    build.seed("a.jsonl", rows[29::-1], version="moved")
    assert contents(build.dataset("one")[0]) == contents(build.dataset("two", seed="moved")[0])


BAD = {
    "not JSON": b'{"id": "x", "input": {"text": "cut',
    "found an array": b"[1, 2]",
    "no input": b'{"id": "x", "text": "elsewhere"}',
    "the input breaks the contract of route": b'{"id": "x", "input": {"text": 5}}',
    "the label breaks the contract of route": b'{"id": "x", "input": {"text": "a"}, "labels": {"route": {}}}',
    "id is a boolean": b'{"id": true, "input": {"text": "a b"}}',
    "id has 0 characters": b'{"id": "", "input": {"text": "a b"}}',
    "label source is": b'{"input": {"text": "a"}, "labels": {"route": {"intent": "order"}}, "label_source": "guess"}',
    "nested deeper": b'{"id": "x", "input": ' + b"[" * 90 + b"]" * 90 + b"}",
    "longer than max_row_bytes": b'{"id": "x", "input": {"text": "' + b"long " * 400 + b'"}}',
    "id r0001 was given before": b'{"id": "r0001", "input": {"text": "something else entirely"}}',
    "found role": b'{"id": "x", "input": {"text": "a b"}, "labels": "order"}',
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_row_is_put_aside(tmp_path: Path, reason: str) -> None:
    build = Build(tmp_path, make_domain(tmp_path / "domain", data={"max_row_bytes": 1000}))
    good = [json.dumps(one).encode() for one in phrases(40)]
    build.seed("a.jsonl", b"\n".join([*good[:20], b"", BAD[reason], *good[20:]]))
    folder, _ = build.dataset()
    (refused,) = canonical.read_jsonl(folder / "quarantine.jsonl")
    expected = reason if reason != "found role" else "expected role: output"
    assert expected in refused["reason"]
    assert (refused["file"], refused["line"]) == ("seed/a.jsonl", 22)
    assert BAD[reason].decode().startswith(refused["bytes"]["head"][:100])
    assert manifest(folder)["quarantine"]["rows"] == 1
    assert all_ids(folder) == {one["id"] for one in phrases(40)}


def test_undecodable_bytes_are_put_aside(build: Build) -> None:
    build.seed(
        "a.jsonl", b"\xef\xbb\xbf" + b"\n".join(json.dumps(one).encode() for one in phrases(40)) + b"\n\xff\xfe{}\n"
    )
    folder, result = build.dataset()
    assert result.summary["quarantined"] == 1
    assert len(all_ids(folder)) == 40


def test_too_many_bad_rows_stop_the_build(build: Build) -> None:
    build.seed("a.jsonl", b"\n".join([*(json.dumps(one).encode() for one in phrases(10)), b"{", b"nonsense"]))
    with pytest.raises(BadInputError, match=r"2 of 12 rows cannot be used(.|\n)*seed/a.jsonl:11: not JSON(.|\n)*cure"):
        build.dataset()


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_corpus_is_refused(build: Build, content: bytes) -> None:
    build.seed("a.jsonl", content)
    with pytest.raises(BadInputError, match="the corpus of desk is empty"):
        build.dataset()


def test_a_damaged_file_is_refused(build: Build) -> None:
    data = gzip.compress("".join(json.dumps(one) + "\n" for one in phrases(4000)).encode())
    build.seed("a.jsonl.gz", data[: len(data) // 2])
    with pytest.raises(BadInputError, match=r"seed/a.jsonl.gz: the gzip data is damaged after line \d+"):
        build.dataset("one")
    build.seed("a.parquet", b"PAR1 not really PAR1", version="parquet")
    with pytest.raises(BadInputError, match=r"seed/a.parquet: the Parquet file is damaged"):
        build.dataset("two", seed="parquet")


def test_a_full_disk_leaves_nothing_half_written(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    build.seed("a.jsonl", phrases(60))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        build.dataset()
    assert list((build.base / "dataset").iterdir()) == []


def test_rows_may_keep_their_parts_anywhere(tmp_path: Path) -> None:
    fields = {
        "id": "/meta/key",
        "input": {"text": "/query/0", "channel": "/meta/channel"},
        "labels": {"route": {"intent": "/class"}},
        "label_source": "/meta/by",
    }
    build = Build(tmp_path, make_domain(tmp_path / "domain", data={"fields": fields}))
    rows = [
        {
            "meta": {"key": n, "channel": "mail", "by": "reviewed"},
            "query": [f"a text {n} v{n} w{n} x{n}"],
            "class": "order",
        }
        for n in range(30)
    ]
    rows[3].pop("class")
    build.seed("a.jsonl", rows)
    folder, _ = build.dataset()
    found = {
        one["id"]: one
        for split in ("train", "validation", "eval")
        for one in canonical.read_jsonl(folder / f"{split}.jsonl")
    }
    assert found["7"]["input"] == {"text": "a text 7 v7 w7 x7", "channel": "mail"}
    assert (found["7"]["labels"], found["7"]["label_source"]) == ({"route": {"intent": "order"}}, "reviewed")
    assert (found["3"]["labels"], found["3"]["label_source"]) == ({}, "")


def test_rows_without_id_get_one_from_their_content(build: Build) -> None:
    rows = phrases(30)
    for one in rows:
        del one["id"]
    build.seed("a.jsonl", rows + rows[:5])
    folder, _ = build.dataset()
    assert len(all_ids(folder)) == 30
    assert manifest(folder)["repeated"] == 5


def test_duplicates_and_conflicts(build: Build) -> None:
    same = "where is my parcel and why is it late"
    build.seed(
        "a.jsonl",
        [
            *phrases(30),
            row(900, same, None),
            row(901, same, "refund"),
            row(902, same, "order"),
            row(903, same, "order"),
            row(904, same, "order"),
        ],
    )
    folder, result = build.dataset()
    assert all_ids(folder) == {one["id"] for one in phrases(30)} | {"r0902"}
    assert manifest(folder)["conflicts"] == {
        "inputs": 1,
        "examples": [{"ids": ["r0900", "r0901", "r0902", "r0903", "r0904"], "kept": "r0902"}],
    }
    assert result.summary["duplicates"] == 4


def test_labels_of_unknown_roles_warn(build: Build) -> None:
    rows = phrases(30)
    rows[4]["labels"]["rout"] = {"intent": "order"}
    build.seed("a.jsonl", rows)
    folder, _ = build.dataset()
    assert manifest(folder)["warnings"] == ["labels of rout were ignored in 1 rows: the config has no such role"]


def test_counts_and_slices(tmp_path: Path) -> None:
    slices = [
        {"id": "refunds", "path": "/labels/route/intent", "values": ["refund"], "critical": True, "min_n": 3},
        {"id": "mails", "path": "/input/channel", "critical": True},
    ]
    build = Build(tmp_path, make_domain(tmp_path / "domain", eval={"floor": "majority", "slices": slices}))
    build.seed("a.jsonl", phrases(90))
    build.seed("b.jsonl", phrases(6, 200), source="adversarial")
    folder, result = build.dataset()
    found = manifest(folder)
    rows = {split: list(canonical.read_jsonl(folder / f"{split}.jsonl")) for split in ("train", "eval")}
    for split, part in rows.items():
        counted = found["counts"][split]
        assert counted["source"] == {
            name: n for name in ("adversarial", "seed") if (n := sum(one["source"] == name for one in part))
        }
        assert counted["slice"]["refunds"] == sum(one["slices"] == ["refunds"] for one in part)
        assert counted["role"] == {"route": len(part)}
        for intent in INTENTS:
            assert counted["value"][f"route:/intent={intent}"] == sum(
                one["labels"]["route"]["intent"] == intent for one in part
            )
    assert ("FAIL", True) in verdicts(result, "coverage"), "no row has a channel, and that slice is critical"


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(
                        st.sampled_from(["id", "input", "text", "labels", "route", "intent"]), inner, max_size=4
                    )
                ),
                max_leaves=12,
            ).map(lambda value: json.dumps(value).encode()),
        ),
        max_size=12,
    )
)
def test_no_line_stops_the_read(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    base = tmp_path_factory.mktemp("fuzz")
    build = Build(base, make_domain(base / "domain", data={"max_quarantine_share": 1.0}))
    good = [json.dumps(one).encode() for one in phrases(12)]
    build.seed("a.jsonl", b"\n".join([*good, *lines]))
    folder, result = build.dataset()
    found = manifest(folder)
    assert {one["id"] for one in phrases(12)} <= all_ids(folder)
    assert (
        found["read"]
        == result.rows["dataset"]
        + found["duplicates"]
        + found["repeated"]
        + found["quarantine"]["rows"]
        + found["decontaminated"]
    )
