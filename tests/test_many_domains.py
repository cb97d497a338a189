"""Many domains side by side: what is wrong with one is shown on that one, and stops none of the others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from slm_assets.domain import loading
from slm_assets.errors import BadInputError
from slm_assets.registry.home import Home
from slm_assets.stages.reports import status_of
from slm_assets.stages.validate import validate_domain
from tests.conftest import FIXTURES, Workplace

BROKEN = {
    "no_yaml": (b"{ not: [yaml", "not YAML"),
    "no_text": (b"\xff\xfe\x00", "not UTF-8"),
    "no_roles": (b"slm_domain: {name: no_roles}\n", "roles"),
    "wild_scope": (b"slm_domain: {name: x, improvement: {governance: {registry_namespace: '../x/y'}}}\n", "name"),
}


@pytest.fixture
def crowd(workplace: Workplace) -> Workplace:
    """tiny, copies of it, and domains that are broken each in its own way."""
    tiny = FIXTURES / "domains" / "tiny"
    for name in ("copy_a", "copy_b", "no_data"):
        shutil.copytree(tiny, workplace.domains / name)
        workplace.edit(name, lambda text, name=name: text.replace("name: tiny", f"name: {name}"))
    for data in (workplace.domains / "no_data" / "data").iterdir():
        data.unlink()
    (workplace.domains / "no_data" / "data" / "rows.jsonl.gz").write_bytes(b"no gzip at all")
    for name, (config, _) in BROKEN.items():
        (workplace.domains / name).mkdir()
        workplace.config(name).write_bytes(config)
    return workplace


def test_validate_names_every_broken_domain_and_passes_the_others(crowd: Workplace) -> None:
    found = crowd.json("validate", code=2)
    assert found["valid"] is False
    faulty = {
        name: [fault for fault in faults if fault["severity"] == "error"] for name, faults in found["domains"].items()
    }
    assert sorted(faulty) == sorted([*BROKEN, "copy_a", "copy_b", "no_data", "tiny"])
    assert sorted(name for name, faults in faulty.items() if faults) == sorted([*BROKEN, "no_data"])
    for name, (_, words) in BROKEN.items():
        assert any(words in f"{fault['path']} {fault['message']}" for fault in faulty[name]), name
    assert "rows.jsonl.gz cannot be read" in faulty["no_data"][0]["message"]


def test_status_shows_the_problem_on_its_own_domain(crowd: Workplace) -> None:
    found = {one["domain"]: one for one in crowd.json("status")["domains"]}
    assert sorted(name for name, one in found.items() if one["problem"]) == sorted(BROKEN)
    assert "not YAML" in found["no_yaml"]["problem"]
    assert found["tiny"]["versions"] == []
    shown = crowd.slm("status")
    assert shown.returncode == 0
    assert "cannot run: slm.config.yaml" in shown.stdout


def test_an_unknown_domain_is_still_refused(crowd: Workplace) -> None:
    assert crowd.slm("validate", "nobody").returncode == 2
    assert "no domain 'nobody'" in crowd.slm("status", "nobody").stderr


def test_a_folder_that_may_not_be_read_is_listed_and_stops_nobody(
    crowd: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refusals of the operating system are simulated: tests may run as root, who may read everything."""
    allowed = Path.is_file

    def is_file(path: Path) -> bool:
        if path.parent.name == "copy_a":
            raise PermissionError(13, "Permission denied", str(path))
        return allowed(path)

    monkeypatch.setattr(Path, "is_file", is_file)
    assert "copy_a" in loading.list_domains(crowd.domains)
    home = Home(crowd.home, crowd.domains, f"sqlite:///{crowd.home}/registry.db", str(crowd.home / "artifacts"))
    (fault,) = validate_domain(home, "copy_a")
    assert "Permission denied" in fault.found
    assert "Permission denied" in status_of(home, "copy_a")["problem"]
    assert status_of(home, "copy_b")["problem"] == ""
    with pytest.raises(BadInputError, match="no domain 'nobody'"):
        status_of(home, "nobody")
