"""Plans over rows on a Ray cluster, one that the test starts in a process of its own, give what this process gives."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from row_stages import Build, make_domain, row

from slm_assets import canonical
from slm_assets.stages.rows import near_duplicates

WORDS = [f"word{n}" for n in range(400)]


def built(base: Path) -> dict[str, str]:
    """A dataset with near-duplicates in it: file → digest. Batches are small, so that there are some."""
    near_duplicates.BATCH = 400
    draw = random.Random(3)
    build = Build(base, make_domain(base / "domain", data={"split": {"group_by": ["/conversation"]}}))
    texts = []
    for _ in range(500):
        sentence = draw.choices(WORDS, k=12)
        texts += [" ".join(sentence), " ".join([*sentence[:-1], draw.choice(WORDS)])]
    build.seed("a.jsonl", [row(n, text, conversation=n) for n, text in enumerate(texts)])
    folder, result = build.dataset()
    assert result.summary["decontaminated"] > 0, "the search decided something"
    return {path.name: canonical.digest_file(path) for path in sorted(folder.iterdir())}


def where() -> str:
    """What ran the plans of this process."""
    import daft

    return daft.get_or_create_runner().name


def in_a_process(base: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Build it elsewhere; prints where plans ran and the digests."""
    code = "import sys; from pathlib import Path; import test_plans as t; found = t.built(Path(sys.argv[1])); "
    code += "print(t.where(), t.canonical.text(found))"
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0", **env}
    command = [sys.executable, "-c", code, str(base)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=580)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra [ray] is not installed")
def test_a_dataset_built_on_a_ray_cluster_is_the_one_built_here(tmp_path):
    far = in_a_process(tmp_path / "far", SLM_RAY_ADDRESS="local")
    assert far.returncode == 0, far.stderr[-3000:]
    runner, _, digests = far.stdout.strip().splitlines()[-1].partition(" ")
    assert runner == "ray"
    near = in_a_process(tmp_path / "near")
    assert near.stdout.strip() == f"native {digests}", near.stderr[-3000:]


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra [ray] is not installed")
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere"])
def test_a_cluster_that_is_not_there_is_named_at_once(address, monkeypatch):
    from slm_assets.errors import SlmError
    from slm_assets.stages.rows import plans

    monkeypatch.setenv("SLM_RAY_ADDRESS", address)
    with pytest.raises(SlmError, match=rf"Ray cluster {address}.*\n.*unset SLM_RAY_ADDRESS"):
        plans.daft()


def test_without_the_extra_a_cluster_is_refused_with_its_name(tmp_path, monkeypatch):
    from slm_assets.errors import BadInputError
    from slm_assets.stages.rows import plans

    monkeypatch.setenv("SLM_RAY_ADDRESS", "ray://head:10001")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadInputError, match=r"not installed\n.*slm-assets\[ray\]"):
        plans.daft()
