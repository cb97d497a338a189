"""What holds of every artifact store: in a folder, and in the bucket of an S3 server."""

from pathlib import Path

import pytest

from slm_assets import canonical
from slm_assets.errors import ArtifactError
from slm_assets.registry import artifacts
from slm_assets.registry.artifacts import ArtifactStore


@pytest.fixture
def store(store_url: str) -> ArtifactStore:
    return ArtifactStore(store_url, "acme", "support")


def a_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.jsonl").write_bytes(b'{"a":1}\n')
    (folder / "deep" / "b.bin").write_bytes(bytes(range(256)) * 40)
    return folder


def test_a_folder_comes_back_byte_for_byte_and_equal_content_has_one_digest(store, tmp_path):
    made = a_folder(tmp_path)
    tree = store.put(made)
    back = store.get(tree.sha256, tmp_path / "back")
    assert back == tree == store.put(made)
    assert sorted(back.files) == ["a.jsonl", "deep/b.bin"]
    assert (tmp_path / "back" / "deep" / "b.bin").read_bytes() == (made / "deep" / "b.bin").read_bytes()
    assert store.read(tree.sha256, "a.jsonl") == b'{"a":1}\n'


def test_one_flipped_byte_is_refused_by_every_kind_of_read(store, tmp_path):
    tree = store.put(a_folder(tmp_path))
    blob = store._blob(tree.files["deep/b.bin"])
    data = bytearray(store.objects.read(blob))
    data[77] ^= 1
    store.objects.put_bytes(blob, bytes(data), replace=True)
    for read in (
        lambda: store.verify(tree.sha256),
        lambda: store.get(tree.sha256, tmp_path / "back"),
        lambda: store.read(tree.sha256, "deep/b.bin"),
    ):
        with pytest.raises(ArtifactError, match=r"deep/b\.bin.*digest"):
            read()
    assert not (tmp_path / "back").exists()


def test_a_missing_artifact_and_an_altered_manifest_name_the_digest(store, tmp_path):
    with pytest.raises(ArtifactError, match="f" * 64):
        store.describe("f" * 64)
    tree = store.put(a_folder(tmp_path))
    store.objects.put_bytes(store._tree(tree.sha256), b'{"files":{}}', replace=True)
    with pytest.raises(ArtifactError, match="manifest"):
        store.describe(tree.sha256)


def test_a_manifest_cannot_write_outside_of_the_target_folder(store, tmp_path):
    tree = store.put(a_folder(tmp_path))
    evil = canonical.dumps({"files": {"../evil": {"sha256": tree.files["a.jsonl"], "bytes": 8}}})
    sha = canonical.digest_bytes(evil)
    store._put_bytes(store._tree(sha), evil)
    with pytest.raises(ArtifactError, match="outside"):
        store.get(sha, tmp_path / "deep" / "back")
    assert not (tmp_path / "deep" / "evil").exists()


def test_tenants_do_not_see_each_other(store, store_url, tmp_path):
    tree = store.put(a_folder(tmp_path))
    other = ArtifactStore(store_url, "rival", "support")
    with pytest.raises(ArtifactError):
        other.describe(tree.sha256)


def test_a_torn_blob_of_a_machine_that_died_is_written_again(store, tmp_path):
    made = a_folder(tmp_path)
    tree = store.put(made)
    store.objects.put_bytes(store._blob(tree.files["deep/b.bin"]), b"torn", replace=True)
    store.put(made)
    assert store.verify(tree.sha256) == tree


def test_a_file_that_is_missing_is_named_by_every_kind_of_read(store, tmp_path):
    tree = store.put(a_folder(tmp_path))
    store.remove_file(tree.files["deep/b.bin"])
    store.remove_file(tree.files["deep/b.bin"])
    for read in (
        lambda: store.verify(tree.sha256),
        lambda: store.get(tree.sha256, tmp_path / "back"),
        lambda: store.read(tree.sha256, "deep/b.bin"),
        lambda: store.put_manifest(tree.files),
    ):
        with pytest.raises(ArtifactError, match=r"missing from the store.*\n.*cure"):
            read()


def test_a_thinned_tree_is_read_through_its_tombstone(store, store_url, tmp_path):
    tree = store.put(a_folder(tmp_path))
    rest = store.put_manifest({"a.jsonl": tree.files["a.jsonl"]})
    store.retire_tree(tree.sha256)
    with pytest.raises(ArtifactError, match="manifest"):
        store.describe(tree.sha256)
    told = ArtifactStore(store_url, "acme", "support", {tree.sha256: rest}.get)
    assert told.describe(tree.sha256).files == {"a.jsonl": tree.files["a.jsonl"]}


def test_a_file_that_changes_while_it_is_stored_is_refused(store, tmp_path, monkeypatch):
    made = a_folder(tmp_path)
    digest = canonical.digest_file

    def late(path):
        found = digest(path)
        path.write_bytes(bytes(range(256)) * 40 + b"more")
        return found

    monkeypatch.setattr(artifacts.canonical, "digest_file", late)
    with pytest.raises(ArtifactError, match=r"a\.jsonl is not what it was"):
        store.put(made)
    assert list(store.objects.listed(store.root)) == list(store.objects.unfinished(store.root)) == []


def test_what_is_stored_again_when_it_is_old_becomes_young_under_the_lock(store_url, tmp_path, monkeypatch):
    taken = []

    class Lock:
        def __enter__(self):
            taken.append(1)

        def __exit__(self, *_error):
            pass

    store = ArtifactStore(store_url, "acme", "support", lock=Lock)
    made = a_folder(tmp_path)
    tree = store.put(made)
    store.put(made)
    assert taken == []
    before = {found.key: found.modified for found in store.objects.listed(store.root)}
    monkeypatch.setattr(artifacts, "FRESH", -artifacts.FRESH)
    assert store.put(made) == tree and len(taken) == 3
    assert all(found.modified >= before[found.key] for found in store.objects.listed(store.root))
