"""The pages that a person opens: what they say, to whom, and that captured text stays text."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path

import pytest
import uvicorn

from slm_assets.registry.registry import CellRecord, Registry
from slm_assets.registry.windows import open_window
from slm_assets.serving.pages import charts
from slm_assets.serving.pages.charts import Point
from slm_assets.serving.pages.facts import age

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VERDICTS = ("quality", "FIRED"), ("outcome", "QUIET"), ("validity", "INSUFFICIENT")


def watched(registry: Registry, sentence: str = "live answers match less") -> None:
    """Three windows of traffic with their numbers, as the drift stage leaves them."""
    for number in (1, 2, 3):
        columns = {"config": "0" * 64, "previous": None, "incoming": None, "taken": [], "serving": {}}
        columns |= {"as_of": "2026-01-01T00:00:00Z", "reason": "asked for"}
        open_window(registry, "tiny", actor="ada", make=lambda _number, columns=columns: columns)
        live = [
            {"role": "triage", "metric": "match", "value": 0.9 - number / 20, "low": 0.8, "high": 0.95, "n": 400},
            {"role": "triage", "metric": "promoted", "value": 0.93, "low": None, "high": None, "n": 0},
            {"role": "", "metric": "psi:/text", "value": 0.1, "low": None, "high": None, "n": 400},
            {"role": "", "metric": "turns", "value": 400.0 * number, "low": None, "high": None, "n": 400},
        ]
        triggers = [
            {"trigger": name, "verdict": verdict, "value": 0.1, "bound": 0.2, "threshold": 0.3, "n": 400,
             "sentence": sentence}
            for name, verdict in VERDICTS
        ]  # fmt: skip
        receipt = {"outputs": {}, "result": {"summary": {}}, "error_kind": ""}
        cell = CellRecord("tiny", number, "drift", "0" * 64, "succeeded", receipt, "r", "in_process", "ada")
        registry.commit(CellRecord(**{**cell.__dict__, "live": live, "triggers": triggers}))


def test_the_overview_has_a_line_per_domain(home, registry, serve):
    watched(registry)
    answer = serve(home).get("/")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    assert "script-src" not in answer.headers["content-security-policy"], "no page runs a script"
    text = answer.text
    assert '<a href="/domains/tiny">tiny</a>' in text and "triage v1" in text and ">quality</span>" in text


def test_a_domain_s_page_says_what_serves_and_what_happened(home, registry, serve):
    watched(registry)
    text = serve(home).get("/domains/tiny").text
    for said in ("slm rollback tiny", "live answers match less", "match · triage", "tester", "evaluation of v1"):
        assert said in text, said
    assert "psi: /text" in text and "<details>" in text
    assert text.count("<svg") >= 3 and 'class="ref"' in text and 'class="bar"' in text
    assert all(f">{name}</span>" in text for name in ("floor", "target", "validity", "serving"))
    assert text.count('class="warn"') >= 6, "a strip of three windows and two triggers that are not quiet"


def test_a_domain_without_any_version_or_traffic_has_a_page(home, serve):
    shutil.copytree(home.domains / "tiny", home.domains / "fresh")
    config = home.domains / "fresh" / "slm.config.yaml"
    config.write_text(config.read_text().replace("name: tiny", "name: fresh"))
    text = serve(home).get("/domains/fresh").text
    assert "No traffic was captured yet" in text and "slm run fresh" in text


def test_pages_are_of_the_caller_s_tenant_only(home, serve):
    service = serve(home, tokens={"acme": "ACME", "local": "LOCAL", "*": "OPS"})
    tokens = {"acme": "acme-0123456789abcdef", "local": "local-0123456789abcdef"}
    asked = {name: {"authorization": f"Bearer {token}"} for name, token in tokens.items()}
    assert service.get("/domains/tiny").status_code == 401
    assert service.get("/domains/tiny", headers=asked["acme"]).status_code == 404
    assert "tiny" not in service.get("/", headers=asked["acme"]).text
    assert service.get("/domains/tiny", headers=asked["local"]).status_code == 200


def test_a_browser_may_send_the_token_as_a_password(home, serve):
    service = serve(home, tokens={"local": "LOCAL"})
    refused = service.get("/")
    assert "Basic" in refused.headers["www-authenticate"]
    assert service.get("/", auth=("anybody", "local-0123456789abcdef")).status_code == 200
    assert service.get("/", auth=("anybody", "wrong")).status_code == 401
    assert service.get("/", headers={"authorization": "Basic %%%"}).status_code == 401


def test_reports_are_served_under_their_digest_in_a_sandbox(home, registry, serve):
    service = serve(home)
    sha = registry.entry("eval", "tiny", 1)["sha256"]
    answer = service.get(f"/reports/tiny/{sha}/report.json")
    assert answer.status_code == 200 and answer.headers["content-security-policy"].startswith("sandbox")
    assert answer.json()["roles"]
    release = registry.entry("release", "tiny", 1)["sha256"]
    others = (f"{sha}/../report.json", f"{'0' * 64}/report.json", f"{release[:8]}/manifest.json")
    for path in (*others, f"{sha}/missing.json", f"{sha}/predictions.jsonl"):
        assert service.get(f"/reports/tiny/{path}").status_code == 404, path


def test_the_api_is_described_for_people_without_a_script(home, serve):
    answer = serve(home).get("/docs")
    assert answer.status_code == 200 and "<script" not in answer.text
    assert "POST /v1/tiny/triage" in answer.text and "refund" in answer.text and "X-Conversation-Id" in answer.text


def test_text_of_others_stays_text(home, registry, serve):
    watched(registry, HOSTILE)
    with registry._database.write("local/default") as connection:
        registry._audit(connection, HOSTILE, "approve", "tiny", 1, {"reason": HOSTILE})
    text = serve(home).get("/domains/tiny").text
    assert "<script" not in text and "<img" not in text and "&lt;script&gt;" in text


def test_charts_of_nothing_and_of_equal_numbers_are_drawn():
    assert charts.line("none", []).count("<circle") == 0
    flat = charts.line("flat", [Point(f"w{n}", 1.0, 1.0, 1.0) for n in range(3)], 1.0)
    assert flat.count("<circle") == 3 and "nan" not in flat
    assert charts.bars("b", [Point("w1", 0.0), Point("w2", 12_345.0)]).count("<rect") == 1
    assert charts.line("<b>", [Point("<i>", 0.5)]).count("<i>") == 0
    assert [charts.number(v) for v in (None, 0, 12_345.6, 0.12345)] == ["–", "0", "12,346", "0.123"]
    assert age("") == "" and age("2026-01-01T00:00:00Z").endswith("ago")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")
def test_a_real_browser_shows_the_page_and_runs_nothing_of_it(home, registry, serve, tmp_path):
    watched(registry, HOSTILE)
    service = serve(home)
    server = uvicorn.Server(uvicorn.Config(service.app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    command = [
        BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000",
        f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1200,1600",
        f"--screenshot={tmp_path / 'page.png'}", "--dump-dom", f"http://127.0.0.1:{port}/domains/tiny",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    finally:
        server.should_exit = True
        thread.join()
    assert "<title>tiny · slm-assets</title>" in done.stdout and "owned" in done.stdout
    assert "document.title='owned'</script>" not in done.stdout
    assert Path(tmp_path / "page.png").stat().st_size > 20_000, "drawn, with its stylesheet"
