"""A headless Chromium, driven over its DevTools protocol as a person would: open a page, press keys, read."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 30.0


def browser() -> str | None:
    """The browser's path, where there is one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """One tab. `problems`: what the console complained of, violations of the content security policy among them."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._number = socket, 0
        self.problems: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            told = json.loads(self._socket.recv(PATIENCE))
            advice = told.get("params", {}).get("entry", {}).get("level") in ("verbose", "info")
            if told.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown") and not advice:
                self.problems.append(json.dumps(told["params"]))
            if told.get("id") == self._number:
                assert "error" not in told, told["error"]
                return dict(told["result"])

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)

    def js(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def wait(self, expression: str) -> None:
        """Until it is true."""
        until = time.monotonic() + PATIENCE
        while not self.js(expression):
            assert time.monotonic() < until, (expression, self.text(), self.problems)

    def text(self) -> str:
        """What can be read on the page."""
        return str(self.js("document.body ? document.body.innerText : ''"))

    def press(self, key: str, *, control: bool = False) -> None:
        """Press and release a key."""
        text = key if len(key) == 1 and not control else "\r" if key == "Enter" else ""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, modifiers=2 * control,
                      **({"text": text} if text and kind == "keyDown" and not control else {}))  # fmt: skip

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)


@contextmanager
def opened() -> Iterator[Page]:
    """A browser with one empty tab, until the block ends."""
    program = browser()
    assert program
    with tempfile.TemporaryDirectory(prefix="slm-browser-", ignore_cleanup_errors=True) as profile:
        command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                   "--no-first-run", "--disable-background-networking", "--remote-debugging-port=0",
                   f"--user-data-dir={profile}", "about:blank"]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            told, until = Path(profile) / "DevToolsActivePort", time.monotonic() + PATIENCE
            while not (told.exists() and len(told.read_text().splitlines()) == 2):
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.02)
            port = told.read_text().splitlines()[0]
            with urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
                tab = next(one for one in json.load(answer) if one["type"] == "page")
            with connect(tab["webSocketDebuggerUrl"], max_size=None) as socket:
                yield Page(socket)
        finally:
            process.terminate()
            process.wait(PATIENCE)
