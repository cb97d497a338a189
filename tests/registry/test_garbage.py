"""`slm gc`: exactly what nothing refers to and is old goes, whatever the history, and never what is being written."""

from __future__ import annotations

import os
import threading
import uuid
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import writers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from slm_assets.errors import ArtifactError, BadInputError, SlmError
from slm_assets.registry import artifacts, captures, erasures, garbage, jobs, windows
from slm_assets.registry import tables as t
from slm_assets.registry.database import now
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Flip, Registry
from tests.registry import bucket_servers

WEEK = timedelta(days=7)
LATER = datetime.now(UTC) + timedelta(days=30)
"""Seen from here, all that a test has written is old."""
NONE = {"bytes": 0, "rows": None, "request": "0" * 64}


@pytest.fixture(params=["folder", "s3"])
def place(home: Home, tmp_path: Path, request: pytest.FixtureRequest) -> Home:
    """A home whose artifacts lie in a folder or in a bucket of S3."""
    if request.param == "folder":
        return replace(home, artifacts_url=str(tmp_path / "store"))
    request.getfixturevalue("s3")
    return replace(home, artifacts_url=f"s3://{bucket_servers.BUCKET}/{uuid.uuid4().hex}")


def put(registry: Registry, scratch: Path, *contents: bytes) -> artifacts.Tree:
    folder = scratch / uuid.uuid4().hex
    folder.mkdir(parents=True)
    for number, content in enumerate(contents):
        (folder / f"{number}.bin").write_bytes(content)
    return registry.store.put(folder)


def keys(registry: Registry) -> set[str]:
    return {
        found.key.rpartition("/")[2].removesuffix(".json")
        for found in registry.store.objects.listed(registry.store.root)
    }


def plan(registry: Registry, **digests: str) -> None:
    columns = {**writers.plan_columns(1), **digests}
    registry.open_plan("d", number=None, actor="a", make=lambda _number: columns)


def test_what_nothing_refers_to_goes_after_its_time_and_the_rest_stays(place, tmp_path):
    registry = Registry(place)
    kept, gone = put(registry, tmp_path, b"kept", b"both"), put(registry, tmp_path, b"gone", b"both")
    plan(registry, config=kept.sha256)
    young = garbage.find(registry, grace=WEEK)
    assert (young.objects, young.young, young.kept) == ([], 2, 5)
    found = garbage.find(registry, grace=WEEK, now=LATER)
    lost = {gone.sha256, gone.files["0.bin"]}
    assert {o.key.rpartition("/")[2].removesuffix(".json") for o in found.objects} == lost
    assert keys(registry) > lost, "finding deletes nothing"
    done = garbage.collect(registry, found, actor="Ada")
    assert done.objects == found.objects and done.bytes == found.bytes > 4
    assert keys(registry) == {kept.sha256, *kept.files.values()}
    assert registry.store.verify(kept.sha256) == kept
    with pytest.raises(ArtifactError):
        registry.store.describe(gone.sha256)
    (event,) = [row for row in registry.audit("") if row["action"] == "gc"]
    assert (event["actor"], event["detail"]["objects"], event["detail"]["bytes"]) == ("Ada", 2, done.bytes)
    assert garbage.find(registry, grace=WEEK, now=LATER).objects == []
    assert put(registry, tmp_path, b"gone", b"both") == gone and registry.store.verify(gone.sha256) == gone


def test_unfinished_uploads_go_and_what_is_not_ours_stays(place, tmp_path, s3):
    registry = Registry(place)
    plan(registry, config=put(registry, tmp_path, b"kept").sha256)
    objects, root = registry.store.objects, registry.store.root
    objects.put_bytes(f"{root}/notes/readme.txt", b"somebody else's")
    if place.artifacts_url.startswith("s3"):
        bucket, _, key = f"{root}/blobs/ab/never".partition("/")
        s3.client.create_multipart_upload(Bucket=bucket, Key=key)
    else:
        objects.put_bytes(f"{root}/blobs/ab/.never.12345678.tmp", b"half")
    if not place.artifacts_url.startswith("s3"):  # moto says that every upload in parts began in 2010
        assert garbage.find(registry, grace=WEEK).unfinished == []
    found = garbage.find(registry, grace=WEEK, now=LATER)
    assert len(found.unfinished) == 1 and found.objects == []
    garbage.collect(registry, found, actor="a")
    assert list(objects.unfinished(root)) == []
    assert objects.read(f"{root}/notes/readme.txt") == b"somebody else's"


def test_everything_that_a_registry_says_keeps_what_it_names(place, tmp_path):
    registry = Registry(place)
    of = {name: put(registry, tmp_path, name.encode()).sha256 for name in (
        "seed", "parent", "best", "window", "incoming", "captured", "serving", "entry", "flag", "receipt", "review",
        "handoff", "first", "then", "replaced",
    )}  # fmt: skip
    plan(registry, seed=of["seed"], parent={"dataset": of["parent"]}, best={"r": {"model": of["best"]}})
    columns = {"config": of["window"], "previous": None, "incoming": of["incoming"], "taken": [], "as_of": now()}
    columns |= {"serving": {"r": {"release": of["serving"]}}, "reason": ""}
    windows.open_window(registry, "d", actor="a", make=lambda _number: columns)
    captures.advance(registry, "d", captures.Mark(artifact=of["captured"]), actor="a")
    registry.flip("d", [Flip("r", "release", 1, of["flag"], 0)], action="promote", actor="a", reason="")
    scope = {"tenant": registry.tenant, "project": registry.project}
    with registry._database.write("local/default") as connection:
        row = {"kind": "model", "name": "d", "version": 1, "sha256": of["entry"], "created_at": now(), **NONE}
        connection.execute(insert(t.entries).values(**scope, **row))
        receipt = {"outputs": {"x": [{"sha256": of["receipt"]}]}, "request": {"inputs": {"reviews": of["review"]}}}
        row = {"domain": "d", "number": 1, "stage": "label", "request": "0" * 64, "status": "succeeded"}
        row |= {"receipt": receipt, "run_id": "", "engine": "", "finished_at": now()}
        connection.execute(insert(t.cells).values(**scope, **row))
        row = {"at": now(), "actor": "a", "handoff": "h", "event": "", "domain": "d", "asset": "", "kind": ""}
        row |= {"playbook": "", "code": "", "payload": {"note": f"see {of['handoff']}."}, "state": "", "attempts": 0}
        row |= {"due_at": "", "error": "", "places": {}}
        connection.execute(insert(t.handoffs).values(**scope, **row))
        for old, new in (("seed", "first"), ("first", "then")):
            row = {"sha256": of[old], "manifest": of[new], "at": now()}
            connection.execute(insert(t.tombstones).values(**scope, **row))
    for old in ("seed", "first"):
        registry.store.retire_tree(of[old])
    captures.advance(registry, "d", captures.Mark(artifact=of["captured"]), actor="a")
    found = garbage.find(registry, grace=WEEK, now=LATER)
    garbage.collect(registry, found, actor="a")
    assert set(of.values()) - keys(registry) == {of["replaced"]}


def test_a_capture_that_was_replaced_goes_although_the_audit_tells_of_it(place, tmp_path):
    registry = Registry(place)
    old, new = put(registry, tmp_path, b"old"), put(registry, tmp_path, b"old", b"new")
    for tree in (old, new):
        captures.advance(registry, "d", captures.Mark(artifact=tree.sha256), actor="a")
    garbage.collect(registry, garbage.find(registry, grace=WEEK, now=LATER), actor="a")
    assert keys(registry) == {new.sha256, *new.files.values()}


def test_nothing_younger_than_a_job_in_flight_goes(place, tmp_path):
    registry = Registry(place)
    plan(registry, config=put(registry, tmp_path, b"kept").sha256)
    job = jobs.begin(registry, "d", 1, "finetune", request="0" * 64, run_id="r", playbook="p")
    put(registry, tmp_path, b"of the job")
    assert garbage.find(registry, grace=WEEK, now=LATER).objects == []
    jobs.end(registry, job)
    assert len(garbage.find(registry, grace=WEEK, now=LATER).objects) == 2


def test_a_store_of_another_registry_is_left_alone(place, tmp_path):
    registry = Registry(place)
    put(registry, tmp_path, b"of somebody")
    with pytest.raises(SlmError, match=r"mentions none of the 1 artifacts.*\n.*belong together"):
        garbage.find(registry, grace=WEEK, now=LATER)


def test_a_kept_tree_that_cannot_be_read_stops_it(place, tmp_path):
    registry = Registry(place)
    tree = put(registry, tmp_path, b"kept")
    plan(registry, config=tree.sha256)
    registry.store.objects.put_bytes(registry.store._tree(tree.sha256), b'{"files":{}}', replace=True)
    with pytest.raises(ArtifactError, match=tree.sha256):
        garbage.find(registry, grace=WEEK, now=LATER)


def test_a_grace_too_short_is_refused(place):
    with pytest.raises(BadInputError, match="2 days"):
        garbage.find(Registry(place), grace=timedelta(hours=47))


CONTENT = st.integers(0, 8).map(lambda number: f"content {number}".encode())
HISTORY = st.lists(
    st.fixed_dictionaries({
        "files": st.lists(CONTENT, min_size=1, max_size=4, unique=True),
        "of": st.sampled_from(["nothing", "plan", "window", "capture", "flag", "thinned"]),
        "old": st.booleans(),
    }),
    max_size=8,
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=HISTORY)
def test_whatever_the_history_exactly_the_unreachable_and_old_goes(tmp_path, history):
    """A model of what is reachable beside the registry: sets of digests, worked out by hand."""
    home = replace(Home.from_env(tmp_path / "home"), artifacts_url=str(tmp_path / "store"))
    registry = Registry(home, tenant=f"t{uuid.uuid4().hex[:12]}")
    anchor = put(registry, tmp_path / "scratch", b"anchor")
    plan(registry, config=anchor.sha256)
    trees = {"anchor": (anchor.sha256, set(anchor.files.values()))}
    kept, last_flag, captured = {"anchor"}, 0, None
    for number, step in enumerate(history):
        tree = put(registry, tmp_path / "scratch", *step["files"], f"tree {number}".encode())
        trees[name := f"tree {number}"] = (tree.sha256, set(tree.files.values()))
        match step["of"]:
            case "plan":
                plan(registry, seed=tree.sha256)
            case "window":
                columns = {"config": "0" * 64, "previous": None, "incoming": tree.sha256, "taken": [], "serving": {}}
                columns |= {"as_of": now(), "reason": ""}
                windows.open_window(registry, "d", actor="a", make=lambda _number, columns=columns: columns)
            case "capture":
                captures.advance(registry, "d", captures.Mark(artifact=tree.sha256), actor="a")
                kept -= {captured}
                captured = name
            case "flag":
                flip = Flip("r", "release", number, tree.sha256, last_flag)
                last_flag = registry.flip("d", [flip], action="promote", actor="a", reason="")[0].event
            case "thinned":
                plan(registry, seed=tree.sha256)
                rest = dict(sorted(tree.files.items())[1:])
                instead = registry.store.put_manifest(rest)
                asked = erasures.ask(registry, "d", "user", "u", actor="a")
                row = next(row for row in erasures.erasures(registry, "d") if row["id"] == asked)
                erasures.begin(registry, row, erasures.Thinned({tree.sha256: instead}))
                erasures.finish(registry, row)
                registry.store.retire_tree(tree.sha256)
                trees[name] = (tree.sha256, {instead, *rest.values()})
        if step["of"] != "nothing":
            kept.add(name)
    # Old is what no young tree holds, too: a file is as old as its last writing.
    young = {
        digest for number, step in enumerate(history) if not step["old"] for digest in flat(trees[f"tree {number}"])
    }
    before = datetime.now(UTC) - timedelta(days=30)
    for found in registry.store.objects.listed(registry.store.root):
        if found.key.rpartition("/")[2].removesuffix(".json") not in young:
            os.utime(found.key, (before.timestamp(), before.timestamp()))
    stays = {digest for name in kept for digest in flat(trees[name])} | (young & keys(registry))
    before_it = keys(registry)
    garbage.collect(registry, garbage.find(registry, grace=WEEK), actor="a")
    assert keys(registry) == before_it & stays
    for name in kept:
        registry.store.verify(trees[name][0])


def flat(tree: tuple[str, set[str]]) -> set[str]:
    return {tree[0], *tree[1]}


def test_what_is_stored_while_garbage_is_collected_is_there_afterwards(home, tmp_path, monkeypatch):
    """The same old garbage is stored again and collected, over and over: whoever stored it can read it."""
    registry = Registry(replace(home, artifacts_url=str(tmp_path / "store")))
    plan(registry, config=put(registry, tmp_path, b"anchor").sha256)
    made = tmp_path / "made"
    made.mkdir()
    for number in range(6):
        (made / str(number)).write_bytes(bytes([number]))
    stop, rounds, lost = threading.Event(), [0, 0], []

    def collecting() -> None:
        while not stop.is_set():
            found = garbage.find(registry, grace=WEEK)
            rounds[0] += len(garbage.collect(registry, found, actor="a").objects)

    thread = threading.Thread(target=collecting)
    thread.start()
    try:
        month = datetime.now(UTC).timestamp() - 30 * 86_400
        for _ in range(40):
            tree = registry.store.put(made)
            try:
                registry.store.verify(tree.sha256)
            except ArtifactError as error:
                lost.append(error)
            rounds[1] += 1
            for path in (tmp_path / "store").rglob("*"):  # a month passes
                if path.is_file() and path.suffix != ".tmp":
                    age(path, month)
    finally:
        stop.set()
        thread.join()
    assert lost == [] and rounds[0] > 0 and rounds[1] == 40


def age(path: Path, stamp: float) -> None:
    with suppress(FileNotFoundError):  # collected
        os.utime(path, (stamp, stamp))


def test_slm_gc_counts_first_and_deletes_when_told(workplace, tmp_path):
    workplace.json("run", "tiny")
    registry = Registry(
        Home(
            workplace.home,
            workplace.domains,
            f"sqlite:///{workplace.home}/registry.db",
            str(workplace.home / "artifacts"),
        )
    )
    before = keys(registry)
    extra = put(registry, tmp_path, b"nobody's")
    month = datetime.now(UTC).timestamp() - 30 * 86_400
    for path in (workplace.home / "artifacts").rglob("*"):
        os.utime(path, (month, month))
    counted: dict[str, Any] = workplace.json("gc")
    (one,) = counted["namespaces"]
    assert (counted["deleted"], one["namespace"], one["unfinished"]) == (False, "local/default", 0)
    assert extra.sha256 in keys(registry)
    assert "slm gc --delete" in workplace.slm("gc").stdout
    (done,) = workplace.json("gc", "--delete", "--by", "Ada")["namespaces"]
    assert (done["objects"], done["bytes"]) == (one["objects"], one["bytes"])
    assert not flat((extra.sha256, set(extra.files.values()))) & keys(registry)
    assert keys(registry) <= before
    assert workplace.json("run", "tiny", "--version", "v1")["domain"] == "tiny", "all that the version needs is there"
    for refused, said in ((("--days", "1"), "2 days"), (("--namespace", "no/body"), "local/default")):
        asked = workplace.slm("gc", *refused)
        assert asked.returncode == 2 and said in asked.stderr
