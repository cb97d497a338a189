from pathlib import Path

import pytest

from slm_assets.errors import ArtifactError
from slm_assets.registry.artifacts import ArtifactStore


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"), "acme", "support")


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


def blob_of(store: ArtifactStore, sha: str) -> Path:
    return Path(store._blob(sha))


def test_one_flipped_byte_is_refused_by_every_kind_of_read(store, tmp_path):
    tree = store.put(a_folder(tmp_path))
    blob = blob_of(store, tree.files["deep/b.bin"])
    data = bytearray(blob.read_bytes())
    data[77] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)
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
    Path(store._tree(tree.sha256)).write_text('{"files":{}}')
    with pytest.raises(ArtifactError, match="manifest"):
        store.describe(tree.sha256)


def test_a_manifest_cannot_write_outside_of_the_target_folder(store, tmp_path):
    from slm_assets import canonical

    tree = store.put(a_folder(tmp_path))
    evil = canonical.dumps({"files": {"../evil": {"sha256": tree.files["a.jsonl"], "bytes": 8}}})
    sha = canonical.digest_bytes(evil)
    store._put_bytes(store._tree(sha), evil)
    with pytest.raises(ArtifactError, match="outside"):
        store.get(sha, tmp_path / "deep" / "back")
    assert not (tmp_path / "deep" / "evil").exists()


def test_tenants_do_not_see_each_other(store, tmp_path):
    tree = store.put(a_folder(tmp_path))
    other = ArtifactStore(str(tmp_path / "store"), "rival", "support")
    with pytest.raises(ArtifactError):
        other.describe(tree.sha256)


def test_a_torn_blob_of_a_machine_that_died_is_written_again(store, tmp_path):
    made = a_folder(tmp_path)
    tree = store.put(made)
    blob = blob_of(store, tree.files["deep/b.bin"])
    blob.chmod(0o644)
    blob.write_bytes(b"torn")
    store.put(made)
    assert store.verify(tree.sha256) == tree
