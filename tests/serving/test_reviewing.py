"""The review over HTTP and in a real browser: who may decide, and what hostile text can do (nothing)."""

from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from slm_assets.registry import reviews
from slm_assets.registry.registry import Registry
from tests.serving import browser

GREET, REFUND = {"intent": "greet", "urgent": False}, {"intent": "refund", "urgent": True}
HOSTILE = """</pre><script>document.title='own'</script><img src=x onerror="document.title='own'"> '"& \u202egnp.exe"""


def offer(registry: Registry, *texts: str) -> list[str]:
    """Open an item for each text; returns their ids."""
    for text in texts:
        item = {"role": "triage", "turn": text[:40], "why": "conflict", "input": {"text": text}, "user": "",
                "conversation": "", "candidates": {"oracle": GREET, "correction": REFUND}}  # fmt: skip
        reviews.offer(registry, "tiny", [item], actor="tester")
    return [reviews.item_id("tiny", "triage", {"text": text}) for text in texts]


def password(token: str) -> dict[str, str]:
    """The header that a browser sends once a person gave the token as password."""
    return {"Authorization": "Basic " + b64encode(f":{token}".encode()).decode()}


def decision(**more: Any) -> dict[str, Any]:
    return {"action": "decide", "label": REFUND, "revision": 0, "by": "ada", **more}


def test_items_are_listed_and_decided(home, registry, serve):
    one, two = offer(registry, "hello", HOSTILE)
    service = serve(home, keep=False)
    found = service.get("/v1/review/tiny").json()
    assert found["counts"]["open"] == 2 and {item["item"] for item in found["items"]} == {one, two}
    answer = service.post(f"/v1/review/tiny/{one}", decision())
    assert (answer.status_code, answer.json()["state"], answer.json()["author"]) == (200, "decided", "ada")
    late = service.post(f"/v1/review/tiny/{one}", decision(by="bob"))
    assert late.status_code == 409 and "decided by ada in the meantime" in late.json()["error"]["message"]
    skipped = service.post(f"/v1/review/tiny/{two}", {"action": "skip", "revision": 0, "by": "bob"})
    assert skipped.json()["state"] == "skipped"
    assert [item["item"] for item in service.get("/v1/review/tiny?state=decided").json()["items"]] == [one]
    assert "/review/{domain}" not in service.get("/openapi.json").text
    assert "/v1/review/tiny" in service.get("/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (decision(label={"intent": "sing", "urgent": True}), 422, "label"),
        (decision(by=" "), 422, "by"),
        (decision(by="x" * 201), 422, "by"),
        (decision(revision="0"), 422, "revision"),
        (decision(revision=True), 422, "revision"),
        (decision(action="drop"), 422, "action"),
        ({"action": "decide", "revision": 0, "by": "ada"}, 422, "label"),
        (decision(action="skip"), 422, "label"),
        ([], 422, "shape"),
    ],
)
def test_a_body_that_decides_nothing(home, registry, serve, body, status, code):
    (name,) = offer(registry, "hello")
    refused = serve(home, keep=False).post(f"/v1/review/tiny/{name}", body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
    assert reviews.counts(registry, "tiny")["open"] == 1


def test_no_other_page_and_no_stranger_decides(home, registry, serve):
    (name,) = offer(registry, "hello")
    path = f"/v1/review/tiny/{name}"
    free = serve(home, keep=False)
    for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"host": "evil.example"}):
        assert free.post(path, decision(), headers=headers).status_code in (403, 421)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        refused = free.call("POST", path, content=b'{"action": "skip", "revision": 0, "by": "e"}',
                            headers={"content-type": kind})  # fmt: skip
        assert refused.status_code == 415
    closed = serve(home, keep=False, tokens={"acme": "ACME", "local": "LOCAL"})
    assert closed.post(path, decision()).status_code == 401 and closed.get("/v1/review/tiny").status_code == 401
    other = {"authorization": "Bearer acme-0123456789abcdef"}
    assert closed.post(path, decision(), headers=other).status_code == 404
    assert closed.get("/v1/review/tiny", headers=other).status_code == 404
    assert reviews.counts(registry, "tiny")["open"] == 1
    own = {"authorization": "Bearer local-0123456789abcdef"}
    assert closed.post(path, decision(), headers=own).status_code == 200
    assert closed.post("/v1/review/tiny/zzzz", decision(), headers=own).status_code == 404


def test_the_page_is_the_same_for_everybody_and_runs_only_our_script(home, registry, serve):
    offer(registry, HOSTILE)
    closed = serve(home, keep=False, tokens={"local": "LOCAL"})
    assert closed.get("/review/tiny").status_code == closed.get("/review/static/review.js").status_code == 401
    own = password("local-0123456789abcdef")
    page = closed.get("/review/tiny", headers=own)
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert page.content == closed.get("/review/%3Cscript%3E", headers=own).content and b"gnp" not in page.content
    (policy,) = page.headers.get_list("content-security-policy")
    assert "default-src 'none'" in policy and "unsafe" not in policy and "script-src 'self'" in policy
    assert b"<script>" not in page.content and b"style=" not in page.content and b" on" not in page.content
    assert closed.get("/review/static/review.js", headers=own).headers["content-type"].startswith("text/javascript")
    for name in ("nothing.js", "..%2freviewing.py", "%2e%2e%2freviewing.py"):
        assert closed.get(f"/review/static/{name}", headers=own).status_code == 404
    assert closed.get("/review/tiny", headers={"host": "evil.example"}).status_code == 421
    assert closed.get("/healthz").headers["content-security-policy"].startswith("default-src 'none'; frame")


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """The application on a port of its own; its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(20)


@pytest.mark.slow
@pytest.mark.skipif(browser.browser() is None, reason="no Chromium on this machine")
def test_a_person_decides_with_the_keyboard_in_a_browser(home, registry, serve):
    names = offer(registry, HOSTILE, "second", "third", "fourth")
    order = [row["item"] for row in reviews.items(registry, "tiny")]
    assert sorted(order) == sorted(names)
    with listening(serve(home, keep=False).app) as address, browser.opened() as page:
        page.open(f"{address}/review/tiny")
        page.wait("document.getElementById('counts').textContent.includes('4 open')")
        page.press("o")
        page.wait("document.getElementById('message').textContent === 'Say who decides.'")
        page.type("Ada \u00e9")
        page.press("Escape")
        seen = []
        for left, act in ((3, "o"), (2, "c"), (1, "n"), (0, "e")):
            seen.append(page.text())
            page.press(act)
            if act == "e":
                page.wait("document.activeElement.id === 'label'")
                page.js("document.getElementById('label').value = '{\"intent\": \"sing\"}'")
                page.press("Enter", control=True)
                page.wait("document.getElementById('message').textContent.includes('breaks the contract')")
                page.js('document.getElementById(\'label\').value = \'{"intent": "track", "urgent": true}\'')
                page.press("Enter", control=True)
            page.wait(f"document.getElementById('counts').textContent.startsWith('{left} open')")
            page.wait("!document.querySelector('main').hidden || document.body.innerText.includes('0 open')")
        assert any("onerror=" in text and "\\u202egnp.exe" in text for text in seen), "shown as text"
        assert page.js("document.title") == "Review tiny" and page.js("document.images.length") == 0
        assert page.js("document.scripts.length") == 1
        assert not [one for one in page.problems if "422" not in one], page.problems
        inline = "(s => {s.textContent = 'document.title = 1'; document.body.append(s)})"
        page.js(f"{inline}(document.createElement('script'))")
        assert page.js("document.title") == "Review tiny", "the policy holds for inline scripts"
    rows = {row["item"]: (row["state"], row["label"], row["author"]) for row in reviews.items(registry, "tiny")}
    assert [rows[name] for name in order] == [
        ("decided", GREET, "Ada \u00e9"), ("decided", REFUND, "Ada \u00e9"), ("skipped", None, "Ada \u00e9"),
        ("decided", {"intent": "track", "urgent": True}, "Ada \u00e9"),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(browser.browser() is None, reason="no Chromium on this machine")
def test_a_browser_that_has_the_token_shows_and_decides(home, registry, serve):
    (name,) = offer(registry, "hello")
    with listening(serve(home, keep=False, tokens={"local": "LOCAL"}).app) as address, browser.opened() as page:
        page.open(f"{address}/review/tiny")
        page.wait("document.body && !document.getElementById('counts')")
        assert "hello" not in page.text()
        page.call("Network.enable")
        page.call("Network.setExtraHTTPHeaders", headers=password("local-0123456789abcdef"))
        page.open(f"{address}/review/tiny")
        page.wait("document.body.innerText.includes('hello')")
        page.js("document.getElementById('by').value = 'ada'")
        page.press("c")
        page.wait("document.body.innerText.includes('0 open')")
    assert reviews.item(registry, "tiny", name)["label"] == REFUND
