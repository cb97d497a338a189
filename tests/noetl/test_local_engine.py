"""NoETL's local runtime as an engine: the receipt decides, whatever NoETL says, and nothing outlives the engine."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slm_assets.domain.compute import StageRun
from slm_assets.engines import noetl_local
from slm_assets.engines.choose import engine_of
from slm_assets.engines.in_process import Outcome, make_cell
from slm_assets.errors import ArtifactError, BadInputError, BusyError, SlmError
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Plan, Registry
from slm_assets.stages.plans import open_domain, open_version
from tests.conftest import Workplace

Cell = tuple[Registry, Plan]
NOETL = engine_of("dataset", {}, "noetl")


@pytest.fixture
def cell(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> Cell:
    for name, value in workplace.env.items():
        monkeypatch.setenv(name, value)
    domain, registry = open_domain(Home.from_env(), "tiny")
    return registry, open_version(domain, registry, actor="tester")


def handed(cell: Cell) -> Outcome:
    registry, plan = cell
    return make_cell(registry, plan, "dataset", actor="tester", launch=NOETL.launch, engine="noetl")


def pretend(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """A NoETL that runs this Python in the run folder instead."""
    program = folder / "noetl.py"
    program.write_text(script)
    monkeypatch.setattr(noetl_local, "command", lambda _request: [sys.executable, str(program)])


def ended(*pids: int, within: float = 30) -> bool:
    """Whether each process is gone in time, or a zombie that only waits to be reaped."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([handle], [], [], within)[0]:
                return False
        finally:
            os.close(handle)
    return True


def left_behind(cell: Cell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The run folder of a stage that was handed over and not executed."""
    pretend(monkeypatch, tmp_path, "")
    with pytest.raises(SlmError, match="no receipt"):
        handed(cell)
    (folder,) = (cell[0].home.runs / "tiny" / "v1").iterdir()
    return folder


# The real wheel ---------------------------------------------------------------------------------------


def test_the_same_digest_as_in_process_and_the_registry_knows_who_ran_it(cell: Cell, tmp_path: Path) -> None:
    registry, plan = cell
    outcome = make_cell(registry, plan, "dataset", actor="ada", launch=NOETL.launch, engine="noetl", run_id="r-1")
    assert outcome.receipt.status == "succeeded" and not outcome.cached
    made = registry.cell("tiny", 1, "dataset")
    assert made is not None
    assert (made["engine"], made["run_id"], registry.audit("tiny")[-1]["actor"]) == ("noetl", "r-1", "ada")
    told = json.loads((outcome.run_dir / "noetl.json").read_text())
    assert told["executed_steps"] == ["check", "prepare", "run_stage", "verify_receipt"]
    again = make_cell(registry, plan, "dataset", actor="ada")
    assert again.cached and (again.engine, again.run_id) == ("noetl", "r-1")

    home = Home.from_env(tmp_path / "other")
    domain, other = open_domain(home, "tiny")
    here = make_cell(other, open_version(domain, other, actor="ada"), "dataset", actor="ada")
    assert here.receipt.outputs == outcome.receipt.outputs
    assert here.receipt.request == outcome.receipt.request


def test_hostile_words_in_a_config_are_data(cell: Cell, workplace: Workplace, tmp_path: Path) -> None:
    words = "$(touch PWNED) `touch PWNED` '; touch PWNED; ' {{ 7*7 }} ../.. \\n"
    workplace.edit("tiny", lambda text: text.replace("What a customer's message is about", json.dumps(words)[1:-1]))
    domain, registry = open_domain(Home.from_env(), "tiny")
    assert "touch PWNED" in domain.config.description
    plan = open_version(domain, registry, actor=words, reason=words)
    outcome = make_cell(registry, plan, "dataset", actor=words, launch=NOETL.launch, engine="noetl")
    assert outcome.receipt.status == "succeeded", outcome.receipt.error
    assert registry.audit("tiny")[-1]["actor"] == words
    assert not list(tmp_path.rglob("PWNED"))


def test_a_stage_that_fails_says_why(cell: Cell) -> None:
    """The runtime drops what a failed command said; the receipt has it."""
    registry, plan = cell
    for blob in Path(registry.store._blob(registry.store.describe(plan.seed).sha256)).parent.parent.rglob("*"):
        assert blob.exists()
    files = registry.store.describe(plan.seed).files
    Path(registry.store._blob(next(iter(files.values())))).unlink()
    outcome = make_cell(registry, plan, "dataset", actor="ada", launch=NOETL.launch, engine="noetl")
    assert outcome.receipt.status == "failed"
    assert "missing" in outcome.receipt.error or "not" in outcome.receipt.error
    assert outcome.receipt.error.splitlines()[0] in (outcome.run_dir / "dataset.err").read_text()


def test_a_timeout_stops_everything(cell: Cell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Real runtime, real bash, and a stage that hangs with a child of its own."""
    program = tmp_path / "bin" / "slm"
    program.parent.mkdir()
    program.write_text("#!/bin/bash\nsleep 1000 &\necho $! $$ > pids\nwait\n")
    program.chmod(0o755)
    real = noetl_local._program
    monkeypatch.setattr(noetl_local, "_program", lambda name: str(program) if name == "slm" else real(name))
    registry, plan = cell
    launch = engine_of("dataset", {"dataset": StageRun(timeout_s=8)}, "noetl").launch
    with pytest.raises(SlmError, match="had not ended after 8 s"):
        make_cell(registry, plan, "dataset", actor="ada", launch=launch, engine="noetl")
    (pids,) = (registry.home.runs / "tiny" / "v1").glob("*/pids")
    assert ended(*map(int, pids.read_text().split()))
    assert registry.cell("tiny", 1, "dataset") is None


# A NoETL that says ok ---------------------------------------------------------------------------------


def test_ok_without_a_receipt_is_a_failure(cell: Cell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, "import sys; sys.stderr.write('all fine'); print('{\"status\": \"ok\"}')")
    with pytest.raises(SlmError, match=r"exit code 0 and left no receipt.*\n.*all fine"):
        handed(cell)
    assert cell[0].cell("tiny", 1, "dataset") is None


def test_a_receipt_of_an_earlier_attempt_is_not_this_ones(
    cell: Cell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    registry, _plan = cell
    pretend(monkeypatch, tmp_path, "import shutil; shutil.copy('request.json', 'seen'); raise SystemExit(0)")
    with pytest.raises(SlmError, match="no receipt"):
        handed(cell)
    (folder,) = (registry.home.runs / "tiny" / "v1").iterdir()
    failed = {"request": json.loads((folder / "seen").read_text()), "request_digest": "0" * 64, "status": "failed"}
    (folder / "receipt.json").write_text(json.dumps(failed))
    with pytest.raises(SlmError, match="no receipt"):
        handed(cell)


def test_somebody_elses_receipt_is_refused(cell: Cell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    registry, _plan = cell
    domain, _ = open_domain(registry.home, "tiny")
    other = make_cell(
        registry, open_version(domain, registry, params={"train_fraction": 0.5}, actor="ada"), "dataset", actor="ada"
    )
    pretend(
        monkeypatch, tmp_path, f"import shutil; shutil.copy({str(other.run_dir / 'receipt.json')!r}, 'receipt.json')"
    )
    with pytest.raises(SlmError, match="belongs to another request"):
        handed(cell)
    assert registry.cell("tiny", 1, "dataset") is None


TAMPERED = """
import os, subprocess, sys
from pathlib import Path
subprocess.run([sys.executable, "-m", "slm_assets.cli", "stage", "run", "dataset", "--driver", "engine", "--domain",
                "tiny", "--version", "v1", "--run-dir", "."], check=True)
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry
from slm_assets.stages.runner import read_receipt
store = Registry(Home.from_env()).store
blob = Path(store._blob(next(iter(store.describe(read_receipt(Path(".")).outputs["dataset"].sha256).files.values()))))
blob.chmod(0o644)
blob.write_bytes(blob.read_bytes() + b"more")
"""


def test_outputs_that_were_tampered_with_are_no_success(
    cell: Cell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, tmp_path, TAMPERED)
    with pytest.raises(ArtifactError):
        handed(cell)
    assert cell[0].cell("tiny", 1, "dataset") is None


# Kills ------------------------------------------------------------------------------------------------

HANGS = """
import os, subprocess, sys, time
from slm_assets.engines.handed_over import _end_with_the_engine
child = subprocess.Popen(["sleep", "1000"])
_end_with_the_engine()
print(os.getpid(), child.pid, file=open(os.environ["TOLD"], "w"), flush=True)
child.wait()
"""
ENGINE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever whoever started the tests ignores
signal.signal(signal.SIGTERM, signal.SIG_DFL)
from slm_assets.engines import noetl_local
from slm_assets.engines.choose import engine_of
from slm_assets.engines.in_process import Outcome, make_cell
from slm_assets.registry.home import Home
from slm_assets.stages.plans import open_domain
noetl_local.command = lambda _request: [sys.executable, sys.argv[1]]
registry = open_domain(Home.from_env(), "tiny")[1]
make_cell(registry, registry.plan("tiny", 1), "dataset", actor="a", launch=engine_of("dataset", {}, "noetl").launch)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_cancelled_engine_leaves_no_orphan(cell: Cell, tmp_path: Path, how: signal.Signals) -> None:
    told = tmp_path / "told"
    os.mkfifo(told)
    (tmp_path / "hangs.py").write_text(HANGS)
    engine = subprocess.Popen(
        [sys.executable, "-c", ENGINE, str(tmp_path / "hangs.py")],
        env={**os.environ, "TOLD": str(told)},
        stderr=subprocess.DEVNULL,
    )
    pids = [int(word) for word in told.read_text().split()]
    engine.send_signal(how)
    assert engine.wait(30) != 0
    assert ended(*pids)


def test_a_second_execution_in_the_same_folder_is_refused(
    cell: Cell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from filelock import FileLock

    from slm_assets.engines.handed_over import execute_handed_over

    registry, _plan = cell
    folder = left_behind(cell, monkeypatch, tmp_path)
    with FileLock(folder / ".executing"), pytest.raises(BusyError):
        execute_handed_over(registry.home, "dataset", "tiny", "v1", folder)
    assert execute_handed_over(registry.home, "dataset", "tiny", "v1", folder).status == "succeeded"
    assert registry.cell("tiny", 1, "dataset") is None, "only the engine commits"


@pytest.mark.parametrize("change", ["params", "version", "config"])
def test_only_the_plans_own_request_is_executed(
    cell: Cell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str
) -> None:
    from slm_assets.engines.handed_over import execute_handed_over

    registry, _plan = cell
    folder = left_behind(cell, monkeypatch, tmp_path)
    request = json.loads((folder / "request.json").read_text())
    request[change] = {"params": {"train_fraction": 0.1}, "version": "v2", "config": "0" * 64}[change]
    (folder / "request.json").write_text(json.dumps(request))
    with pytest.raises(BadInputError):
        execute_handed_over(registry.home, "dataset", "tiny", "v1", folder)
    assert not (folder / "receipt.json").exists()


def test_a_home_with_any_name_can_be_used(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The run folder is the working folder: its path is in no command, so it may hold quotes and spaces."""
    odd = tmp_path / "it's $(touch PWNED) {{ 7*7 }}"
    shutil.copytree(workplace.domains, odd / "domains")
    for name, value in Workplace(odd / "home", odd / "domains").env.items():
        monkeypatch.setenv(name, value)
    domain, registry = open_domain(Home.from_env(), "tiny")
    outcome = make_cell(registry, open_version(domain, registry, actor="a"), "dataset", actor="a", launch=NOETL.launch)
    assert outcome.receipt.status == "succeeded"
    assert not list(tmp_path.rglob("PWNED"))


READY = """
import sys
from slm_assets.engines import handed_over
def stop(*_):
    print(*sorted(name for name in sys.modules if "." not in name))
    raise SystemExit(0)
handed_over.execute = stop
cell = ["--domain", "tiny", "--version", "v1", "--run-dir", sys.argv[1]]
sys.argv = ["slm", "stage", "run", "dataset", "--driver", "engine", *cell]
from slm_assets.cli import main
main()
"""


def test_a_stage_process_is_ready_before_anything_heavy_is_loaded(
    cell: Cell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Seconds that every stage would wait under NoETL: what trains, draws or orchestrates comes when it is needed."""
    folder = left_behind(cell, monkeypatch, tmp_path)
    done = subprocess.run([sys.executable, "-c", READY, str(folder)], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "sqlalchemy" in loaded
    assert not loaded & {
        "numpy",
        "scipy",
        "sklearn",
        "pandas",
        "daft",
        "pyarrow",
        "dagster",
        "kubernetes",
        "evidently",
        "rich",
    }
