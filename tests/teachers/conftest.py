"""The fixture of the teachers' tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fake_openai import FakeOpenAI
from schooling import SECRET, Class, right

from slm_assets.models.teacher.endpoint import HOSTS
from tests.conftest import FIXTURES, Workplace


@pytest.fixture
def school(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The tiny domain and a server that answers rightly; the deployment allows it."""
    shutil.copytree(FIXTURES / "domains", tmp_path / "domains")
    with FakeOpenAI(right) as server:
        monkeypatch.setenv(HOSTS, server.host)
        monkeypatch.setenv("teacher_token", SECRET)
        yield Class(Workplace(tmp_path / "home", tmp_path / "domains"), server, monkeypatch)
