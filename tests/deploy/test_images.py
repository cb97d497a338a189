"""The images install what their entry points need, and nothing that must not be there."""

from __future__ import annotations

import fnmatch
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from slm_assets.engines.in_process import make_cell
from slm_assets.registry.home import Home
from slm_assets.stages.plans import open_domain, open_version
from slm_assets.stages.table import STAGES
from tests.conftest import FIXTURES, ROOT
from tests.deploy.dockerfile import Build, Stage, _stages

DOCKER = ROOT / "deploy" / "docker"
FILE = DOCKER / "Dockerfile"
IMAGES = ("service", "dagster", "trainer")
TOKEN = "operator-0123456789abcdef"


@pytest.fixture(scope="module")
def build() -> Iterator[Build]:
    """On the file system of uv's cache where it can be, so that packages are links and not copies."""
    with tempfile.TemporaryDirectory(prefix="slm-image-") as folder:
        yield Build(FILE, ROOT, Path(folder))


@contextmanager
def started(command: list[str], stage: Stage, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, env=stage.environment(**env), cwd=stage.moved("/var/lib/slm")) as process:
        try:
            yield process
        finally:
            process.kill()


def until(process: subprocess.Popen[bytes], done: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert process.poll() is None, f"it ended with {process.returncode}"
        assert time.monotonic() < end
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.images
def test_the_service_image_answers_from_a_release_with_what_it_installs(build: Build, tmp_path: Path) -> None:
    image = build.stage("service")
    shutil.copytree(FIXTURES / "domains", tmp_path / "domains")
    root = tmp_path / "home"
    home = Home(root, tmp_path / "domains", f"sqlite:///{root}/registry.db", str(root / "artifacts"))
    domain, registry = open_domain(home, "tiny")
    plan = open_version(domain, registry, actor="tester")
    for stage in STAGES:
        assert make_cell(registry, plan, stage.name, actor="tester").receipt.status == "succeeded"
    port = free_port()
    state = {"SLM_HOME": str(root), "SLM_DOMAINS": str(home.domains)}
    access = {"SLM_TOKENS": "*=OPERATE", "OPERATE": TOKEN, "SLM_ALLOW_HOSTS": "slm.example.org 127.0.0.1"}
    command = [part.replace("8080", str(port)) for part in image.starts()]
    assert command[1:] == ["serve", "--host", "0.0.0.0", "--port", str(port)]
    with started([image.moved("/opt/slm/bin/slm"), *command[1:]], image, **state, **access) as process:
        headers = {"authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, headers=headers) as client:

            def ready() -> bool:
                try:
                    return client.get("/readyz").status_code == 200
                except httpx.TransportError:
                    return False

            until(process, ready)
            answer = client.post("/v1/tiny/triage", json={"text": "where is my parcel"})
            assert (answer.status_code, answer.json()["version"]) == (200, "v1"), answer.text
            for page in ("/tiny", "/review/tiny", "/metrics", "/openapi.json"):
                assert client.get(page).status_code in (200, 404), page
            assert client.get("/metrics").text.count("slm_answers_total{") == 1
    installed = {path.name.partition("-")[0].lower() for path in packages(image).glob("*.dist-info")}
    assert installed.isdisjoint({"dagster", "pandas", "scikit_learn", "evidently", "daft", "pyarrow", "torch"})


@pytest.mark.images
def test_the_dagster_image_serves_the_code_location(build: Build) -> None:
    image = build.stage("dagster")
    assert image.entrypoint == (), "the chart gives the whole command"
    port = str(free_port())
    # As the Dagster chart starts it: the arguments of deploy/helm/dagster.values.yaml.
    values = yaml.safe_load((ROOT / "deploy" / "helm" / "dagster.values.yaml").read_text())
    (location,) = values["dagster-user-deployments"]["deployments"]
    command = ["dagster", "api", "grpc", "-h", "127.0.0.1", "-p", port, *location["dagsterApiGrpcArgs"]]
    dagster = image.moved("/opt/slm/bin/dagster")
    with started([dagster, *command[1:]], image, PYTHONDONTWRITEBYTECODE="") as process:
        listening = [dagster, "api", "grpc-health-check", "-p", port]
        until(process, lambda: _listens(int(port)))
        checked = subprocess.run(listening, env=image.environment(), capture_output=True, text=True, timeout=120)
        assert checked.returncode == 0, checked.stderr
    assert Path(image.moved("/opt/slm/bin/dagster-webserver")).exists()
    assert sorted(path.name for path in Path(image.moved("/domains")).iterdir()) == sorted(
        path.name for path in (ROOT / "domains").iterdir() if path.is_dir() and path.name != "__pycache__"
    )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.images
def test_the_trainers_lock_can_be_installed(build: Build) -> None:
    """Its gigabytes of CUDA libraries are not fetched: that every package with its hash is there is."""
    stage = build.stage("build")
    command = [
        stage.moved("/opt/uv/bin/uv"),
        "pip",
        "install",
        "--dry-run",
        "--require-hashes",
        "--no-deps",
        "--target",
    ]
    target = [str(stage.root / "trainer"), "-r", str(DOCKER / "trainer.txt"), "--only-binary", ":all:"]
    platform = ["--python-platform", "x86_64-manylinux_2_36", "--python-version", "3.11"]
    done = subprocess.run(
        [*command, *target, *platform], env=stage.environment(), capture_output=True, text=True, timeout=300
    )
    if "error sending request" in done.stderr or "dns error" in done.stderr:
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr[-3000:]
    assert {"torch", "nvidia-cublas", "transformers", "peft"} <= set(re.findall(r"\+ ([\w-]+)==", done.stderr))


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_runs_as_nobody_and_installs_by_hash_only(name: str) -> None:
    stages = _stages(FILE.read_text())
    chain = [*stages["base"], *stages[name]]
    users = [rest for word, rest in chain if word == "USER"]
    assert users and all(re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user) for user in users)
    assert stages[name][0][1] == "base"
    for lines in stages.values():
        for word, rest in lines:
            assert not (word in {"ENV", "ARG"} and re.search(r"(?i)token|password|secret|credential", rest)), rest
            if word == "RUN" and re.search(r"pip (install|sync)", rest):
                assert "--require-hashes" in rest or "--no-index" in rest, rest
            assert word != "ADD", "nothing is fetched by address"


@pytest.mark.parametrize("name", ["build", "service", "dagster", "trainer"])
def test_a_lock_of_an_image_pins_what_the_tests_run_on(name: str) -> None:
    pinned = _pins(DOCKER / f"{name}.txt")
    tested = _pins(ROOT / "requirements" / "dev.txt")
    assert pinned
    assert {package: version for package, version in pinned.items() if tested.get(package, version) != version} == {}


def test_the_builder_gets_no_state_and_no_secret() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*", "all is left out but what is named"
    for line in lines:
        if line.startswith("!"):
            assert list(ROOT.glob(line[1:])), f"{line}: there is no such file"
    copied = {
        part
        for found in _stages(FILE.read_text()).values()
        for word, rest in found
        if word == "COPY" and "--from" not in rest
        for part in rest.split()[:-1]
    }
    allowed = [line[1:] for line in lines if line.startswith("!")]
    assert all(any(fnmatch.fnmatch(part, pattern) for pattern in allowed) for part in copied), copied


def packages(image: Stage) -> Path:
    """The site-packages of an image."""
    (found,) = Path(image.moved("/opt/slm/lib")).resolve().glob("python3.*/site-packages")
    return found


def _pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;\\]+)", lock.read_text(), re.MULTILINE))
