"""Artifacts in a bucket: the loop on it, writers at once, kills, restarts, and what an operator is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from slm_assets import canonical
from slm_assets.errors import BadInputError, SlmError
from slm_assets.registry import buckets
from slm_assets.registry.artifacts import ArtifactStore
from slm_assets.registry.home import Home
from slm_assets.registry.objects import open_objects
from slm_assets.registry.registry import Registry
from tests.registry import bucket_servers as servers
from tests.registry.conftest import forget_clients

PUT = "import sys; from pathlib import Path; from slm_assets.registry.artifacts import ArtifactStore; "
PUT += "print(ArtifactStore(sys.argv[1], 'acme', 'support').put(Path(sys.argv[2])).sha256)"


def large(tmp_path: Path, megabytes: int = 48) -> Path:
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(os.urandom(1 << 20) * megabytes)
    return folder


def url(name: str) -> str:
    return f"s3://{servers.BUCKET}/{name}"


def test_a_large_file_goes_up_in_parts_and_comes_back(s3, tmp_path):
    made, store = large(tmp_path), ArtifactStore(url("parts"), "acme", "support")
    tree = store.put(made)
    (key,) = [key for key in s3.held() if key.startswith("parts/acme/support/blobs/")]
    assert s3.client.head_object(Bucket=servers.BUCKET, Key=key)["ETag"].endswith('-3"')
    assert store.verify(tree.sha256) == tree and store.address(tree.sha256).startswith(f"{url('parts')}/acme/support/")
    assert store.get(tree.sha256, tmp_path / "back") == tree


def test_of_two_writers_of_a_key_one_version_is_left(s3, tmp_path):
    bucket = "versions-of-it"
    s3.client.create_bucket(Bucket=bucket)
    s3.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    made = large(tmp_path)
    (made / "small.json").write_bytes(b"{}")
    workers = [
        subprocess.Popen([sys.executable, "-c", PUT, f"s3://{bucket}", str(made)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    store = ArtifactStore(f"s3://{bucket}", "acme", "support")
    with ThreadPoolExecutor(4) as pool:
        trees = {tree.sha256 for tree in pool.map(store.put, [made] * 8)}
    trees |= {worker.communicate(timeout=120)[0].strip() for worker in workers}
    assert len(trees) == 1 and all(worker.returncode == 0 for worker in workers)
    versions = s3.client.list_object_versions(Bucket=bucket)["Versions"]
    assert len(versions) == 3 and len({version["Key"] for version in versions}) == 3, "each key was written once"
    store.verify(trees.pop())
    assert list(store.objects.unfinished(store.root)) == []


def test_a_killed_upload_leaves_nothing_that_counts(s3, tmp_path):
    made, place = large(tmp_path, 192), url("killed")
    store = ArtifactStore(place, "acme", "support")
    worker = subprocess.Popen([sys.executable, "-c", PUT, place, str(made)])
    until = time.monotonic() + 60
    while not list(store.objects.unfinished(store.root)):
        assert worker.poll() is None and time.monotonic() < until, "the upload was never seen under way"
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert list(store.objects.listed(store.root)) == []
    (left,) = store.objects.unfinished(store.root)
    tree = store.put(made)
    assert store.verify(tree.sha256) == tree
    store.objects.discard(left)
    store.objects.discard(left)
    assert list(store.objects.unfinished(store.root)) == []
    assert store.verify(tree.sha256) == tree


def test_slm_run_promotes_a_domain_whose_artifacts_lie_in_a_bucket(workplace, s3, monkeypatch):
    monkeypatch.setenv("SLM_ARTIFACTS", url("loop"))
    ran(workplace)
    assert not (workplace.home / "artifacts").exists()
    assert workplace.json("status", "tiny")["domains"][0]["versions"][0]["outcome"] == "promoted"
    assert any(key.startswith("loop/local/default/trees/") for key in s3.held())
    told = [path.read_text(errors="replace") for path in workplace.home.rglob("*") if path.is_file()]
    assert not any(servers.SECRET in text for text in told)
    assert not any(servers.SECRET.encode() in s3.client.get_object(Bucket=servers.BUCKET, Key=key)["Body"].read()
                   for key in s3.held() if key.startswith("loop/"))  # fmt: skip
    monkeypatch.delenv("SLM_ARTIFACTS")
    local = replace(workplace, home=workplace.home.with_name("elsewhere"))
    ran(local)
    assert made_by(workplace) == made_by(local), "where artifacts lie is not in them"


def ran(place) -> None:
    """`slm run tiny`, which a busy machine may take its time for."""
    done = place.slm("run", "tiny", timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def made_by(place) -> dict[str, str]:
    """Stage → the digest of what it made."""
    registry = Registry(Home(place.home, place.domains, f"sqlite:///{place.home}/registry.db", "/nowhere"))
    found = {cell["stage"]: cell["receipt"]["outputs"] for cell in registry.cells("tiny")}
    assert len(found) >= 6
    return {stage: {kind: made["sha256"] for kind, made in outputs.items()} for stage, outputs in found.items()}


def test_a_run_survives_a_server_that_is_killed_and_comes_back(workplace, disk_s3, monkeypatch):
    monkeypatch.setenv("SLM_ARTIFACTS", url("restarts"))
    kills = []

    def restarts() -> None:
        for count in (6, 16, 30):
            until = time.monotonic() + 800
            while len(list(Path(disk_s3.command[-3]).rglob("*.json"))) < count and not done.is_set():
                if time.monotonic() > until:
                    return
                time.sleep(0.02)
            if done.is_set():
                return
            disk_s3.kill()
            kills.append(count)
            time.sleep(2)
            disk_s3.start()

    done = threading.Event()
    thread = threading.Thread(target=restarts)
    thread.start()
    try:
        ran(workplace)
    finally:
        done.set()
        thread.join()
    assert kills, "the run was over before the first kill"
    assert workplace.json("status", "tiny")["domains"][0]["versions"][0]["outcome"] == "promoted"


def refused(place: str) -> tuple[SlmError, str]:
    """What reading and writing there says, and the traceback that a log would hold."""
    store = ArtifactStore(place, "acme", "support")
    with pytest.raises(SlmError) as reading:
        store.describe("f" * 64)
    with pytest.raises(SlmError) as writing:
        store.objects.put_bytes(f"{store.root}/x", b"x")
    assert (reading.value.cure, type(reading.value)) == (writing.value.cure, type(writing.value))
    return writing.value, "".join(traceback.format_exception(writing.value))


def test_no_bucket_no_permission_no_network_and_no_credentials_say_what_to_do_and_no_secret(s3, monkeypatch, tmp_path):
    found = [refused("s3://nobody-made-it/x")]
    assert "has no bucket s3://nobody-made-it" in found[-1][0].message and "create the bucket" in found[-1][0].cure
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", servers.DENIED)
    forget_clients()
    found.append(refused(url("denied")))
    assert "no permission (AccessDenied)" in found[-1][0].message and "grant" in found[-1][0].cure
    monkeypatch.setattr(buckets, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{servers.free_port()}")
    forget_clients()
    found.append(refused(url("away")))
    assert "no answer within" in found[-1][0].message and "network" in found[-1][0].cure
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.env["AWS_ENDPOINT_URL"])
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    forget_clients()
    found.append(refused(url("anonymous")))
    assert "credentials" in found[-1][0].message and "AWS_PROFILE" in found[-1][0].cure
    assert not any(servers.SECRET in log for _, log in found)


def test_the_command_line_tells_an_absent_bucket_without_a_traceback(workplace, s3, monkeypatch):
    monkeypatch.setenv("SLM_ARTIFACTS", "s3://nobody-made-it/x")
    done = workplace.slm("run", "tiny")
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 1 and "has no bucket s3://nobody-made-it" in said
    assert "Traceback" not in said and servers.SECRET not in said


@pytest.mark.parametrize(
    "place",
    ["s3://key:s3cr3t@bucket/x", "s3://bucket/x?secret=s3cr3t", "s3://", "ftp://host/s3cr3t", "file://host/s3cr3t"],
)
def test_an_address_that_is_none_is_bad_input_and_not_repeated(place):
    with pytest.raises(BadInputError, match=r"SLM_ARTIFACTS.*\n.*expected s3://") as caught:
        open_objects(place)
    assert "s3cr3t" not in str(caught.value)


def test_a_client_that_is_not_installed_names_the_extra():
    for scheme, package, extra in (("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs")):
        code = f"import sys; sys.modules[{package!r}] = None\n"
        code += f"from slm_assets.registry.objects import open_objects; open_objects('{scheme}://bucket')"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "BadInputError" in done.stderr and f"pip install 'slm-assets[{extra}]'" in done.stderr


def test_a_file_url_is_that_folder(tmp_path):
    store = ArtifactStore((tmp_path / "a folder").as_uri(), "acme", "support")
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "a").write_bytes(b"a")
    tree = store.put(tmp_path / "made")
    assert (tmp_path / "a folder" / "acme" / "support" / "trees").is_dir()
    assert store.address(tree.sha256).startswith("file:///") and store.verify(tree.sha256) == tree
    assert canonical.digest_bytes(b"a") in store.describe(tree.sha256).files.values()
