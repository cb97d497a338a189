"""`make docs` builds a site whose pages fetch nothing from elsewhere."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}
ELSEWHERE = re.compile(r"^(https?:)?//")


class Fetches(HTMLParser):
    """What a browser loads for a page: addresses of scripts, styles, fonts and pictures, and inline styles."""

    def __init__(self):
        super().__init__()
        self.addresses, self.styles, self._style = [], "", False

    def handle_starttag(self, tag, attrs):
        own = dict(attrs)
        self._style = tag == "style"
        if tag in FETCHED and own.get("rel") != "canonical":
            self.addresses.append(own.get(FETCHED[tag]) or "")

    def handle_data(self, data):
        self.styles += data if self._style else ""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; a warning, such as a broken link, fails the build."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "-q", "--strict", "-d", str(folder)]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_no_page_fetches_anything_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        found = Fetches()
        found.feed(page.read_text())
        assert found.addresses, page
        away = [address for address in found.addresses if ELSEWHERE.match(address)]
        assert not away, f"{page.relative_to(site)} fetches {away}"
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", found.styles), page


def test_no_stylesheet_and_no_picture_fetches_anything_from_elsewhere(site):
    for sheet in [*site.rglob("*.css"), *site.rglob("*.svg")]:
        assert not re.search(r"url\(['\"]?(https?:)?//|@import|href=['\"](https?:)?//", sheet.read_text()), sheet


def test_everything_that_a_page_fetches_is_there(site):
    for page in site.rglob("*.html"):
        if page.name == "404.html":  # served from any address, so its own are absolute
            continue
        found = Fetches()
        found.feed(page.read_text())
        for address in found.addresses:
            assert (page.parent / address.split("?")[0].split("#")[0]).exists(), f"{page.name}: {address}"


def test_the_search_knows_the_pages_and_needs_no_server(site):
    index = json.loads((site / "search" / "search_index.json").read_text())
    assert any("rollback" in entry["text"].lower() for entry in index["docs"])
    assert (site / "search" / "search_index.js").exists()
    assert "iframe-worker" in (site / "index.html").read_text()


def test_no_source_of_the_docs_is_published(site):
    assert not list(site.rglob("*.py"))
