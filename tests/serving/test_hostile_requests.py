"""What a stranger may send: each gets a clear 4xx, and the service goes on."""

from __future__ import annotations

import asyncio

import pytest

from slm_assets.errors import BadInputError
from slm_assets.serving import body, guard
from slm_assets.serving.tokens import Tokens, read_tokens
from tests.serving.conftest import TOKENS

SURE = {"text": "where is my parcel"}


@pytest.fixture
def service(promoted, serve):
    return serve(promoted, keep=False)


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "json"),
        (b"{", 400, "json"),
        (b"\xff\xfe{}", 400, "json"),
        (b'{"text": "\xc3\x28"}', 400, "json"),
        (b'{"text": "\\ud800"}', 400, "json"),
        (b'{"text": NaN}', 400, "json"),
        (b'{"text": 1e999}', 400, "json"),
        (b"[" * 100_000 + b"]" * 100_000, 400, "json"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, 400, "depth"),
        (b"[" * 65 + b"]" * 65, 400, "depth"),
        (b"[" * 64 + b"]" * 64, 422, "contract"),
        (b"[" + b"[]," * 20_000 + b"[]]", 422, "contract"),
        (b"null", 422, "contract"),
        (b"7", 422, "contract"),
        (b'"text"', 422, "contract"),
        (b'{"text": {"text": "x"}}', 422, "contract"),
        (b'{"text": "x", "__proto__": {}}', 422, "contract"),
        (b'{"text": "' + b"x" * body.MAX_BYTES + b'"}', 413, "size"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/tiny/triage", "/v1/tiny"])
def test_a_body_that_is_no_input(service, path, content, status, code):
    refused = service.post(path, content=content)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (status, code)
    assert len(refused.content) < 20_000
    assert service.post("/v1/tiny/triage", SURE).status_code == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/feedback/tiny-00000000000-000000-000000000000"])
@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 70 + b"]" * 70, b"7", b"null", b'{"model": {}}', b"{}"])
def test_the_other_bodies_are_read_with_the_same_care(service, path, content):
    assert service.post(path, content=content).status_code in (400, 422)


def test_a_body_in_pieces_is_cut_off_at_the_limit(service):
    sent = 0

    async def pieces():
        nonlocal sent
        while True:
            sent += 65536
            yield b"x" * 65536

    refused = service.post("/v1/tiny/triage", content=pieces())
    assert refused.status_code == 413 and sent < 3 * body.MAX_BYTES


def test_a_body_that_does_not_come_is_not_waited_for(service, monkeypatch):
    monkeypatch.setattr(body, "READ_SECONDS", 0.01)

    async def never():
        yield b"{"
        await asyncio.Event().wait()

    assert service.post("/v1/tiny/triage", content=never()).status_code == 408


@pytest.mark.parametrize(
    "path",
    [
        "/v1/tiny/none",
        "/v1/none/triage",
        "/v1/..%2f..%2fetc/passwd",
        "/v1/%2e%2e/triage",
        "/v1/tiny/..%2f..%2fx",
        "/v1/tiny%00/triage",
        "/v1/tiny/triage%0d%0ax-evil:%201",
        "/v1/TINY/triage",
        "/v1/" + "a" * 3000 + "/triage",
        "/v1/tiny/%F0%9F%92%A9",
        "/v1/tiny/triage/more",
        "/v1",
        "/.env",
        "/v1/feedback/x",
        "/v1/feedback/..%2ftiny",
    ],
)
def test_a_path_that_leads_nowhere(service, path):
    refused = service.post(path, SURE)
    assert refused.status_code == 404 and len(refused.content) < 500
    assert refused.json()["error"]["message"].isascii() and "x-evil" not in refused.headers


def test_a_wrong_method_is_told(service):
    assert service.get("/v1/tiny/triage").status_code == 405
    assert service.call("DELETE", "/v1/models").json()["error"]["code"] == "method"


@pytest.mark.parametrize(
    "host", ["evil.example", "", "localhost.evil.example", "localhost:80:80", "127.0.0.1.nip.io", "%00"]
)
def test_another_host_is_refused(service, host):
    assert service.post("/v1/tiny/triage", SURE, headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "[::1]", "LOCALHOST"])
def test_this_host_is_not(service, host):
    assert service.post("/v1/tiny/triage", SURE, headers={"host": host}).status_code == 200


def test_another_origin_is_refused(service):
    for origin in ("https://evil.example", "null", "http://localhost.evil.example"):
        assert service.post("/v1/tiny/triage", SURE, headers={"origin": origin}).status_code == 403
    assert service.post("/v1/tiny/triage", SURE, headers={"origin": "http://localhost:3000"}).status_code == 200


def test_answers_are_no_pages(service):
    headers = service.post("/v1/tiny/triage", {"text": "<script>"}).headers
    assert headers["x-content-type-options"] == "nosniff" and "default-src 'none'" in headers["content-security-policy"]
    assert headers["content-type"] == "application/json"


@pytest.fixture
def guarded(promoted, serve):
    return serve(promoted, keep=False, tokens={"acme": "ACME", "local": "LOCAL", "*": "OPS"})


def bearer(alias: str) -> dict[str, str]:
    return {"authorization": f"Bearer {TOKENS[alias]}"}


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Basic {TOKENS['LOCAL']}",
        TOKENS["LOCAL"],
        f"Bearer {TOKENS['LOCAL']}x",
    ],
)
def test_without_a_token_there_is_no_answer(guarded, authorization):
    headers = {"authorization": authorization} if authorization else {}
    for method, path in (("POST", "/v1/tiny/triage"), ("GET", "/v1/models"), ("GET", "/metrics"), ("GET", "/nope")):
        refused = guarded.call(method, path, headers=headers)
        assert refused.status_code == 401 and refused.headers["www-authenticate"].startswith("Bearer")
    assert guarded.get("/healthz").status_code == 200 and guarded.get("/readyz").status_code == 200


def test_a_tenant_s_token_opens_its_own_domains_and_says_nothing_of_others(guarded):
    assert guarded.post("/v1/tiny/triage", SURE, headers=bearer("LOCAL")).status_code == 200
    turn = guarded.post("/v1/tiny/triage", SURE, headers=bearer("OPS")).json()["turn_id"]
    hidden = [guarded.post(f"/v1/{name}/triage", SURE, headers=bearer("ACME")) for name in ("tiny", "none")]
    assert [r.status_code for r in hidden] == [404, 404]
    assert hidden[0].text.replace("tiny", "none") == hidden[1].text
    for path, value in (
        ("/v1/tiny", SURE),
        ("/v1/chat/completions", {"model": "tiny/triage", "messages": [{"role": "user", "content": "x"}]}),
        (f"/v1/feedback/{turn}", {"signal": "success"}),
    ):
        assert guarded.post(path, value, headers=bearer("ACME")).status_code == 404
    assert guarded.get("/v1/tiny/triage/engine", headers=bearer("ACME")).status_code == 404
    assert guarded.get("/v1/models", headers=bearer("ACME")).json()["data"] == []
    assert "tiny" not in guarded.get("/openapi.json", headers=bearer("ACME")).text


def test_metrics_are_the_operator_s(guarded):
    assert guarded.get("/metrics", headers=bearer("LOCAL")).status_code == 403
    assert guarded.get("/metrics", headers=bearer("OPS")).status_code == 200


def test_tokens_come_by_alias_from_the_environment_or_a_mounted_file(tmp_path):
    (tmp_path / "ACME").write_text("from-a-mounted-file-01\n")
    tokens = read_tokens(["acme=ACME", "*=OPS"], {"OPS": "from-the-environment-1", "SLM_SECRETS": str(tmp_path)})
    assert tokens.tenant(b"from-a-mounted-file-01") == "acme" and tokens.tenant(b"from-the-environment-1") == "*"
    assert tokens.tenant(b"") is None and "from-" not in repr(tokens)


@pytest.mark.parametrize(
    ("given", "environment"),
    [
        ("acme", {}),
        ("acme=sk-0123456789abcdef0123", {}),
        ("acme=ACME", {}),
        ("acme=ACME", {"ACME": "short"}),
        ("acme=ACME", {"ACME": "with a blank 0123456789"}),
        ("acme=../../etc/passwd", {"SLM_SECRETS": "/etc"}),
        ("a/b=ACME", {"ACME": "0123456789abcdef"}),
    ],
)
def test_a_token_that_cannot_be_used_is_refused_and_not_shown(given, environment):
    with pytest.raises(BadInputError) as refused:
        read_tokens([given], environment)
    for secret in (*environment.values(), "sk-0123456789abcdef0123"):
        assert secret not in str(refused.value) or secret == "/etc"


def test_two_tenants_of_one_token_are_refused():
    with pytest.raises(BadInputError, match="same token"):
        read_tokens(["a=X", "b=Y"], {"X": "0123456789abcdef", "Y": "0123456789abcdef"})


def test_the_service_does_not_stand_open_beyond_loopback():
    tokens = read_tokens(["*=OPS"], TOKENS)
    for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8"):
        assert guard.allowed_hosts(host, (), Tokens()) >= guard.LOOPBACK
    for host in ("0.0.0.0", "::", "10.0.0.7", "slm.example.org", "localhost.example.org", ""):
        with pytest.raises(BadInputError, match="no token"):
            guard.allowed_hosts(host, ["slm.example.org"], Tokens())
        with pytest.raises(BadInputError, match="names"):
            guard.allowed_hosts(host, (), tokens)
        assert guard.allowed_hosts(host, ["SLM.example.org"], tokens) == {"slm.example.org"}
