"""Questions over versions on versions made by hand: joins, diffs, trees, and that nothing costs more with time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from slm_assets import canonical
from slm_assets.domain.loading import read_bundle
from slm_assets.errors import ArtifactError, BadInputError, SlmError
from slm_assets.gates.paired import paired
from slm_assets.registry import queries
from slm_assets.registry.home import Home
from slm_assets.registry.registry import CellRecord, Flip, Registry
from slm_assets.stages.experiments.changes import config_changes, file_changes, value_changes
from slm_assets.stages.experiments.history import history, sparkline
from slm_assets.stages.experiments.lineage import Branch, lineage, resolve
from slm_assets.stages.experiments.pairing import Side, pair
from slm_assets.stages.experiments.rows import data_change, side_by_side
from slm_assets.stages.experiments.versions import versions
from slm_assets.stages.rows_io import LabelledRow
from slm_assets.stages.standing import record_of, records_of
from slm_assets.stages.state import outcome
from slm_assets.stages.table import BY_NAME, STAGES
from tests.conftest import FIXTURES

TINY = FIXTURES / "domains" / "tiny"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(Home.from_env(tmp_path / "home"))


# Configs -----------------------------------------------------------------------------------------


def changed(before, after):
    return [(c.path, c.kind, c.before, c.after) for c in value_changes("f", before, after)]


def test_a_change_is_named_at_the_deepest_key_that_differs():
    before = {"a": {"b": 1, "c": [1, 2]}, "gone": None, "same": 1}
    after = {"a": {"b": 2, "c": [1, 2]}, "new": {"x": 1}, "same": 1}
    assert changed(before, after) == [
        ("$.a.b", "changed", 1, 2),
        ("$.gone", "removed", None, None),
        ("$.new", "added", None, {"x": 1}),
    ]


def test_items_are_matched_by_id_and_others_by_content():
    metrics = [{"id": "intent", "target": 0.8}, {"id": "urgent", "target": 0.8}]
    after = [{"id": "new"}, metrics[0], {"id": "urgent", "target": 0.7}]
    assert changed(metrics, after) == [
        ("$.urgent.target", "changed", 0.8, 0.7),
        ("$.new", "added", None, {"id": "new"}),
    ]
    assert changed(metrics, metrics[::-1]) == [("$", "changed", ["intent", "urgent"], ["urgent", "intent"])]
    assert changed(["a", "b", "c"], ["a", "x", "b", "c"]) == [("$[1]", "added", None, "x")]
    assert changed([{"t": 1}, {"t": 2}], [{"t": 1}, {"t": 3}]) == [("$[1].t", "changed", 2, 3)]


@settings(max_examples=30)
@given(st.recursive(st.none() | st.integers(-9, 9) | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_equal_values_have_no_change_and_others_have_one(value):
    assert changed(value, value) == []
    assert changed([value], [value, value])


def test_files_that_came_went_and_are_no_structure(registry, tmp_path):
    for name, files in {
        "old": {"slm.config.yaml": "a: 1\n", "p.md": "one\ntwo\n", "gone.md": "x"},
        "new": {"slm.config.yaml": "a: 2\n", "p.md": "one\n2\n", "come.md": "x"},
    }.items():
        for path, text in files.items():
            canonical.write_bytes(tmp_path / name / path, text.encode())
    old, new = (registry.store.put(tmp_path / name).sha256 for name in ("old", "new"))
    found = {(c.file, c.path, c.kind): c for c in config_changes(registry, old, new)}
    assert list(found) == [
        ("come.md", "$", "added"),
        ("gone.md", "$", "removed"),
        ("p.md", "$", "text"),
        ("slm.config.yaml", "$.a", "changed"),
    ]
    assert "-two\n+2" in found["p.md", "$", "text"].after
    assert config_changes(registry, old, old) == []
    assert file_changes("broken.yaml", b"a: [", b"a: [1")[0].kind == "text"


# Rows --------------------------------------------------------------------------------------------


def row(name: str, label=None, text: str = "", source: str = "gold") -> LabelledRow:
    labels = {} if label is None else {"triage": label}
    return LabelledRow(name, {"text": text or name}, name[:1], "seed", (), labels, dict.fromkeys(labels, source))


@given(st.sets(st.text(max_size=3)), st.sets(st.text(max_size=3)))
def test_two_streams_are_joined_like_sets(old, new):
    joined = list(side_by_side(map(row, sorted(old)), map(row, sorted(new)), row_of=lambda r: r))
    assert {r.id for r, other in joined if other is None} == old - new
    assert {r.id for other, r in joined if other is None} == new - old
    assert {a.id for a, b in joined if a and b and a.id == b.id} == old & new
    assert len(joined) == len(old | new)


def test_rows_out_of_order_are_refused():
    with pytest.raises(ArtifactError, match="not in order"):
        list(side_by_side(map(row, "ba"), [], row_of=lambda r: r))


def stored(registry: Registry, folder: Path, splits: dict[str, list[LabelledRow]]) -> dict[str, str]:
    """The dataset and labels artifacts of some rows."""
    found = {}
    for kind in ("dataset", "labels"):
        for split in ("train", "validation", "eval"):
            rows = sorted(splits.get(split, []), key=lambda r: r.id)
            lines = [
                {"id": r.id, "input": r.turn, "group": r.group, "source": r.source, "slices": []}
                if kind == "dataset"
                else {"id": r.id, "labels": {k: {"output": v, "source": r.sources[k]} for k, v in r.labels.items()}}
                for r in rows
            ]
            canonical.write_jsonl(folder / kind / f"{split}.jsonl", lines)
        found[kind] = registry.store.put(folder / kind).sha256
    return found


def test_data_and_labels_are_compared_row_by_row(registry, tmp_path):
    a, b = {"intent": "a"}, {"intent": "b"}
    before = stored(
        registry,
        tmp_path / "1",
        {"train": [row("k", a), row("m", a), row("r"), row("x", a, "old text")], "eval": [row("e", a), row("f", a)]},
    )
    after = stored(
        registry,
        tmp_path / "2",
        {
            "train": [row("k", a, source="oracle"), row("n", a), row("r", b), row("x", a, "new text")],
            "eval": [row("e", b), row("f", a), row("m", a)],
        },
    )
    found = data_change(registry, before, after)
    assert [(s.split, s.before, s.after, s.added, s.removed, s.changed) for s in found.splits] == [
        ("train", 4, 4, 1, 1, 1),
        ("validation", 0, 0, 0, 0, 0),
        ("eval", 2, 3, 1, 0, 0),
    ]
    assert found.moved == {"train → eval": 1}
    labels = {one.split: one for one in found.labels}
    assert (labels["train"].resourced, labels["train"].added, labels["train"].changed) == (1, 1, 0)
    assert (labels["eval"].changed, labels["eval"].same) == (1, 2)
    assert [(e.id, e.before, e.after) for e in labels["eval"].examples] == [("e", a, b)]
    same = data_change(registry, before, before)
    assert not any(s.added or s.removed or s.changed for s in same.splits)
    assert sum(one.same for one in same.labels) == 5


# Pairs -------------------------------------------------------------------------------------------


def side(folder: Path, number: int, rows: list[LabelledRow], answers: dict[str, dict], edit=lambda text: text) -> Side:
    """A version that answered so."""
    shutil.copytree(TINY, folder / "config", ignore=shutil.ignore_patterns("data"))
    path = folder / "config" / "slm.config.yaml"
    path.write_text(edit(path.read_text()))
    for r in rows:
        assert r.id in answers
    lines = {
        "dataset": [{"id": r.id, "input": r.turn, "group": r.group, "source": "seed", "slices": []} for r in rows],
        "labels": [
            {"id": r.id, "labels": {k: {"output": v, "source": "gold"} for k, v in r.labels.items()}} for r in rows
        ],
    }
    for kind, own in lines.items():
        canonical.write_jsonl(folder / kind / "eval.jsonl", own)
    outputs = [{"id": r.id, "outputs": {"triage": answers[r.id]}} for r in rows]
    canonical.write_jsonl(folder / "eval" / "predictions.jsonl", outputs)
    folders = {kind: folder / kind for kind in ("dataset", "labels", "eval")}
    return Side(number, read_bundle(folder / "config"), folders)


RIGHT, WRONG = {"intent": "greet", "urgent": False}, {"intent": "track", "urgent": False}


def test_only_common_rows_with_one_label_are_paired(tmp_path):
    names = [f"{g}{i}" for g in "abcdefgh" for i in range(4)]
    old_rows = [row(n, RIGHT) for n in names] + [row("old", RIGHT)]
    new_rows = [row("a0", RIGHT, "another input"), row("a1", WRONG), *(row(n, RIGHT) for n in names[2:])]
    answers = {r.id: RIGHT for r in [*old_rows, *new_rows]}
    old = side(tmp_path / "1", 1, old_rows, answers | dict.fromkeys(names[4:12], WRONG))
    new = side(tmp_path / "2", 2, new_rows, answers | dict.fromkeys(names[10:14], WRONG))
    found = pair(old, new)
    assert (found.rows.common, found.rows.only_before, found.rows.only_after, found.rows.other_input) == (31, 1, 0, 1)
    (role,) = found.roles
    assert (role.metric, role.judged, role.relabelled) == ("intent", 30, 1)
    assert role.better == names[4:10] and role.worse == names[12:14]
    assert [e.id for e in role.worse_examples] == names[12:14]
    assert role.better_examples[0].before == WRONG and role.better_examples[0].after == RIGHT
    metrics = {m.metric: m for m in found.metrics}
    assert set(metrics) == {"intent", "urgent", "exact", "output_validity", "turn_exact"}
    kept = names[2:]
    scores = [[n not in wrong for n in kept] for wrong in (names[10:14], names[4:12])]
    expected = paired(*scores, [n[0] for n in kept], confidence=0.975)
    m = metrics["intent"]
    assert (m.difference, m.low, m.high, m.n, m.groups) == (expected.diff, expected.low, expected.high, 30, 8)
    assert (m.better, m.worse) == (6, 2)
    back = {m.metric: m for m in pair(new, old).metrics}["intent"]
    assert (back.difference, back.better) == (-m.difference, m.worse)
    assert metrics["output_validity"].n == 31


def test_metrics_and_roles_of_one_version_only_are_named(tmp_path):
    rows = [row("a", RIGHT), row("b", RIGHT)]
    answers = dict.fromkeys("ab", RIGHT)
    old = side(tmp_path / "1", 1, rows, answers)
    more = "      - {id: whole, role: triage, path: ''}\n  improvement"
    new = side(
        tmp_path / "2", 2, rows, answers,
        lambda text: text.replace("  improvement", more, 1).replace("path: /urgent", "path: /intent"),
    )  # fmt: skip
    found = pair(old, new)
    assert {(s.metric, s.why) for s in found.skipped} == {
        ("whole", "only v2 has it"),
        ("urgent", "it compares another place of the output"),
    }
    other = side(tmp_path / "3", 3, rows, answers, lambda text: text.replace("triage", "sorting", 1).replace(
        "role: triage", "role: sorting"))  # fmt: skip
    found = pair(old, other)
    assert found.roles == [] and found.metrics == []


def test_versions_of_two_contracts_are_paired_on_what_both_name(tmp_path):
    """A field that only the later one has moves no truth of the others, and does not make the earlier one wrong."""
    names = list("abcdef")
    was, now = dict.fromkeys(names, RIGHT), {n: {**RIGHT, "language": n} for n in names}
    old = side(tmp_path / "1", 1, [row(n, RIGHT) for n in names], {**was, "a": WRONG})
    new = side(tmp_path / "2", 2, [row(n, now[n]) for n in names[:-1]] + [row("f", {**WRONG, "language": "f"})], now)
    contract = tmp_path / "2" / "config" / "contracts" / "triage.schema.json"
    schema = json.loads(contract.read_text())
    schema["properties"]["language"] = {"type": "string"}
    contract.write_text(json.dumps(schema))
    found = pair(old, new._replace(domain=read_bundle(tmp_path / "2" / "config")))
    assert [(role.judged, role.relabelled, role.better) for role in found.roles] == [(5, 1, ["a"])]
    shares = {m.metric: (m.before, m.after, m.n) for m in found.metrics}
    assert shares["exact"] == shares["intent"] == (0.8, 1.0, 5)
    assert found.left_out == {"triage": ["/language"]}


def test_no_common_row_says_nothing(tmp_path):
    old = side(tmp_path / "1", 1, [row("a", RIGHT)], {"a": RIGHT})
    new = side(tmp_path / "2", 2, [row("b", RIGHT)], {"b": RIGHT})
    found = pair(old, new)
    assert found.rows.common == 0
    assert all((m.n, m.before, m.low, m.high) == (0, None, -1.0, 1.0) for m in found.metrics)


# Versions, history, lineage ----------------------------------------------------------------------


def add_version(registry: Registry, config: str, *, outcome_: str = "pass", deployed: bool = True) -> None:
    """A version of `tiny` with cells, entries, edges, numbers and verdicts, and nothing behind them."""
    before = registry.plans("tiny")[-1:]
    last = before[0].number if before else None

    def columns(_number: int) -> dict:
        parent = {"number": last, "dataset": "d" * 64, "epoch": 1} if last else None
        incumbents = {"triage": {"number": last, "release": "e" * 64}} if last else {}
        return {
            "config": config, "seed": "5" * 64, "parent": parent, "incumbents": incumbents, "best": {}, "epoch": 1,
            "window": None, "params": {}, "reason": "made by hand",
        }  # fmt: skip

    plan = registry.open_plan("tiny", number=None, actor="ada", make=columns)
    made = STAGES if deployed else STAGES[:4]
    for stage in made:
        parents = [registry.urn(BY_NAME[need].kind, "tiny", plan.number) for need in stage.needs]
        if last and stage.name == "dataset":
            parents.append(registry.urn("dataset", "tiny", last))
        if last and stage.name == "evaluate":
            parents.append(registry.urn("release", "tiny", last))
        sha = canonical.digest([stage.name, plan.number])
        verdict = {"fail": "FAIL", "insufficient": "INSUFFICIENT"}.get(outcome_, "PASS")
        registry.commit(
            CellRecord(
                domain="tiny", number=plan.number, stage=stage.name, request="r" * 64, status="succeeded",
                receipt={
                    "error_kind": "", "outputs": {stage.kind: {"sha256": sha}},
                    "result": {"roles": {"triage": outcome_} if stage.name == "evaluate" else {}},
                },
                run_id="run", engine="in_process", actor="ada", parents=parents,
                entries=[{"kind": stage.kind, "name": "tiny", "version": plan.number, "sha256": sha, "bytes": 1,
                          "rows": 10 * plan.number, "request": "r" * 64}],
                metrics=[
                    {"role": "triage", "subject": subject, "mode": "end_to_end", "slice": "", "metric": metric,
                     "value": 0.5 + plan.number / 100, "low": 0.4, "high": 0.9, "n": 90, "epoch": 1}
                    for subject in ("challenger", "floor") for metric in ("intent", "exact", "recall:/intent=track")
                ] if stage.name == "evaluate" else [],
                verdicts=[
                    {"gate": gate, "role": "triage" if stage.name == "evaluate" else "",
                     "verdict": verdict if gate == "floor" else "PASS", "metric": "intent", "slice": "",
                     "value": 0.1, "low": 0.0, "high": 0.2, "threshold": 0.0, "n": 9, "n_needed": None,
                     "blocking": True, "reason": "so it was", "evidence": sha}
                    for gate in stage.gates
                ],
            )
        )  # fmt: skip


@pytest.fixture
def config(registry: Registry, tmp_path: Path) -> str:
    shutil.copytree(TINY, tmp_path / "frozen", ignore=shutil.ignore_patterns("data"))
    return registry.store.put(tmp_path / "frozen").sha256


@pytest.fixture
def filled(registry: Registry, config: str) -> Registry:
    """v1 deployed and serving, v2 held by the floor, v3 undecided and approved, v4 only opened."""
    add_version(registry, config)
    flip = Flip("triage", "release", 1, "e" * 64, 0)
    registry.flip("tiny", [flip], action="promote", actor="ada", reason="good")
    add_version(registry, config, outcome_="fail", deployed=False)
    add_version(registry, config, outcome_="insufficient", deployed=False)
    evidence = registry.cell("tiny", 3, "evaluate")["receipt"]["outputs"]["eval"]["sha256"]
    registry.approve("tiny", 3, ["triage"], evidence=evidence, release=None, actor="ada", reason="enough for me")
    columns = registry.plan("tiny", 3)
    registry.open_plan(
        "tiny", number=None, actor="bob",
        make=lambda _n: {k: getattr(columns, k) for k in
                         ("config", "seed", "parent", "incumbents", "best", "epoch", "window", "params", "reason")},
    )  # fmt: skip
    return registry


def test_versions_say_how_far_each_came_and_who_serves(filled):
    found = versions(filled, "tiny")
    assert found.serving == {"triage": "v1"}
    assert [(v.version, v.state, v.serves) for v in found.versions] == [
        ("v1", "serving", ["triage"]),
        ("v2", "held", []),
        ("v3", "open", []),  # undecided, and approved by name: it may go on
        ("v4", "open", []),
    ]
    second = found.versions[1]
    assert (second.opener, second.reason, second.parent) == ("ada", "made by hand", "v1")
    assert (second.incumbents, second.train_rows) == ({"triage": "v1"}, 20)
    assert [(s.role, s.metric, s.value, s.n) for s in second.primary] == [("triage", "intent", 0.52, 90)]
    assert found.versions[3].primary == [] and found.versions[3].train_rows is None
    assert versions(filled, "unheard_of").versions == []


def test_read_in_bulk_or_alone_a_version_stands_the_same(filled):
    alone = [outcome(record_of(filled, plan)) for plan in filled.plans("tiny")]
    assert [outcome(record) for record in records_of(filled, "tiny")] == alone == ["promoted", "held", "open", "open"]


def test_the_number_of_queries_does_not_grow_with_the_versions(registry, config):
    def statements() -> int:
        counted = []
        engine = registry._database.engine

        def count(*_arguments: object) -> None:
            counted.append(1)

        event.listen(engine, "before_cursor_execute", count)
        try:
            versions(registry, "tiny")
            history(registry, "tiny")
            last = registry.plans("tiny")[-1].number
            lineage(registry, registry.urn("deployment", "tiny", last), up=True)
            lineage(registry, registry.urn("dataset", "tiny", 1), up=False)
        finally:
            event.remove(engine, "before_cursor_execute", count)
        return len(counted)

    for _ in range(2):
        add_version(registry, config)
    few = statements()
    for _ in range(10):
        add_version(registry, config)
    assert statements() == few


def test_history_by_metric_role_subject_and_since(filled):
    (series,) = history(filled, "tiny").series
    assert [(p.version, p.value, p.low, p.high, p.n) for p in series.points] == [
        ("v1", 0.51, 0.4, 0.9, 90), ("v2", 0.52, 0.4, 0.9, 90), ("v3", 0.53, 0.4, 0.9, 90),
    ]  # fmt: skip
    assert series.trend == "▁▅█"
    found = history(filled, "tiny", metrics=["exact"], subjects=["challenger", "floor"], since="v3")
    assert [(s.metric, s.subject, len(s.points)) for s in found.series] == [
        ("exact", "challenger", 1), ("exact", "floor", 1),
    ]  # fmt: skip
    assert found.metrics == ["exact", "intent"]
    assert len(history(filled, "tiny", since="2020-01-01").series[0].points) == 3
    assert history(filled, "tiny", since="2999-01-01T12:00+02:00").series == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"metrics": ["intend"]}, "metrics there: intent"),
        ({"role": "triag"}, "roles there: triage"),
        ({"slice_id": "x"}, "slices there: none"),
        ({"subjects": ["champion"]}, "subjects there"),
        ({"since": "yesterday"}, "neither a version nor a date"),
        ({"since": "v0"}, "no version"),
    ],
)
def test_an_unknown_name_gets_the_nearest(filled, asked, said):
    with pytest.raises(BadInputError, match=said):
        history(filled, "tiny", **asked)


@given(st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32)))
def test_a_sparkline_has_a_bar_per_value(values):
    line = sparkline(values)
    assert len(line) == (len(values) if any(v is not None for v in values) else 0)


def flat(branch: Branch) -> list[tuple[str, bool, int]]:
    """(kind/version, again, more) top down."""
    kind, _, version = branch.urn.split("/")[4:]
    own = (f"{kind}/{version}", branch.again, branch.more)
    return [own, *(line for below in branch.branches for line in flat(below))]


def test_lineage_goes_up_to_config_and_seed_and_down_to_the_deployment(filled):
    up = lineage(filled, resolve(filled, "tiny@v1"))
    assert up.root == "registry://local/default/deployment/tiny/1"
    kinds = ["deployment", "shadow", "release", "eval", "model", "labels", "dataset", "config", "seed"]
    assert flat(up.tree) == [(f"{kind}/1", False, 0) for kind in kinds]
    assert up.artifacts["registry://local/default/model/tiny/1"].rows == 10
    urn = "registry://local/default/{}/tiny/1".format
    assert (urn("dataset"), urn("model")) in up.edges, "what the tree implies is among the edges"

    down = lineage(filled, resolve(filled, "dataset/tiny@v2"), up=False)
    assert [line[0] for line in flat(down.tree)] == [
        "dataset/2", "labels/2", "model/2", "eval/2", "dataset/3", "labels/3", "model/3", "eval/3",
    ]  # fmt: skip
    assert flat(lineage(filled, resolve(filled, "dataset/tiny@v2"), up=False, depth=1).tree) == [
        ("dataset/2", False, 0), ("labels/2", False, 1), ("dataset/3", False, 1),
    ]  # fmt: skip


def test_a_node_is_unfolded_once(filled):
    lines = flat(lineage(filled, resolve(filled, "eval/tiny@v2")).tree)
    assert lines[0][0] == "eval/2" and ("dataset/1", True, 0) in lines
    assert len([line for line in lines if line[0] == "dataset/1" and not line[1]]) == 1


def test_every_version_of_one_config_descends_from_it(filled, config):
    for text in ("config/tiny@v2", config, config[:12], f"sha256:{config}"):
        lines = [line[0] for line in flat(lineage(filled, resolve(filled, text), up=False).tree)]
        assert lines[0].startswith("config/")
        assert {"dataset/1", "dataset/2", "dataset/3", "deployment/1", "eval/2", "eval/3"} <= set(lines)
    made = filled.entry("model", "tiny", 2)["sha256"]
    assert resolve(filled, made[:16]) == "registry://local/default/model/tiny/2"
    assert resolve(filled, "tiny@v4") == "registry://local/default/config/tiny/4", "opened, nothing made yet"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("registry://local/default/model/tiny/9", "nearest: .*model/tiny/"),
        ("model/tiny@v9", "nearest: .*model/tiny/"),
        ("tiny@v9", "nearest"),
        ("tiyn@v1", "nearest: .*tiny"),
        ("0" * 64, "no artifact"),
        ("what is this", "is no URN"),
        ("registry://other/default/model/tiny/1", "another registry"),
    ],
)
def test_an_unknown_urn_names_the_nearest(filled, text, said):
    with pytest.raises(BadInputError, match=said):
        resolve(filled, text)


def test_tenants_see_nothing_of_each_other(filled):
    rival = Registry(filled.home, "rival", "default")
    assert versions(rival, "tiny").versions == []
    assert queries.with_digest(rival, filled.entry("model", "tiny", 1)["sha256"]) == []
    assert queries.lineage(rival, ["registry://local/default/deployment/tiny/1"], up=True) == []
    with pytest.raises(BadInputError, match="no entry yet"):
        resolve(rival, "model/tiny@v1")


def test_a_cycle_is_named(registry, config):
    add_version(registry, config)
    add_version(registry, config)
    one, two = (registry.urn("dataset", "tiny", n) for n in (1, 2))
    entry = {"kind": "dataset", "name": "tiny", "version": 3, "sha256": "a" * 64, "bytes": 1, "rows": 1,
             "request": "r" * 64}  # fmt: skip
    record = CellRecord(
        domain="tiny", number=3, stage="dataset", request="r" * 64, status="succeeded", receipt={}, run_id="",
        engine="", actor="", entries=[entry], parents=[registry.urn("dataset", "tiny", 3), one, two],
    )  # fmt: skip
    registry.commit(record)
    with pytest.raises(SlmError, match="cycle"):
        lineage(registry, registry.urn("dataset", "tiny", 3))
