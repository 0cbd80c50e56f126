"""A real Chromium, driven by the WebDriver protocol (W3C), in as much of it as the tests use."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STARTED_WITHIN = 30.0
FOUND_WITHIN = 15.0

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
)

KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Space": " ", "Shift": "\ue008"}


class Browser:
    """One window."""

    def __init__(self, driver: str, session: str) -> None:
        self._at = f"{driver}/session/{session}"

    def open(self, url: str) -> None:
        _ask("POST", f"{self._at}/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that a function body returns; it may return a promise."""
        return _ask("POST", f"{self._at}/execute/sync", {"script": script, "args": arguments})

    def devtools(self, command: str, **parameters: Any) -> Any:
        body = {"cmd": command, "params": parameters}
        return _ask("POST", f"{self._at}/goog/cdp/execute", body)

    def press(self, *keys: str) -> None:
        """Press keys one after the other, as a person does; `Shift+Tab` holds the first."""
        actions = []
        for chord in keys:
            values = [KEYS.get(key, key) for key in chord.split("+")]
            actions += [{"type": "keyDown", "value": value} for value in values]
            actions += [{"type": "keyUp", "value": value} for value in reversed(values)]
        body = {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}
        _ask("POST", f"{self._at}/actions", body)

    def size(self, width: int, height: int) -> None:
        """Of what is seen of the page, in its own pixels."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 700,
        )

    def prefer(self, **features: str) -> None:
        """What the reader's system says, such as prefers_color_scheme="dark"."""
        told = [{"name": k.replace("_", "-"), "value": v} for k, v in features.items()]
        self.devtools("Emulation.setEmulatedMedia", features=told)

    def picture(self, path: Path, *, whole: bool = True) -> None:
        taken = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(taken["data"]))

    def until(self, script: str, *arguments: Any, every: float = 0.05) -> Any:
        """Wait until a function body returns something true, and return that."""
        deadline = time.monotonic() + FOUND_WITHIN
        while not (found := self.run(script, *arguments)):
            assert time.monotonic() < deadline, f"never true: {script} {arguments}"
            time.sleep(every)
        return found

    def complaints(self) -> list[str]:
        """What the browser wrote to its console since this was asked before, but for those of a
        server that was not there."""
        lines = _ask("POST", f"{self._at}/se/log", {"type": "browser"})
        return [
            line["message"] for line in lines if "ERR_CONNECTION_REFUSED" not in line["message"]
        ]


@contextmanager
def browser() -> Iterator[Browser]:
    """A Chromium of its own, gone at the end."""
    driver = shutil.which("chromedriver")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if driver is None or chromium is None:
        raise AssertionError(
            "the tests of the page need chromium and chromedriver: `make test` installs them"
        )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as data:
        process = subprocess.Popen(
            [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        address = f"http://127.0.0.1:{port}"
        session = ""
        try:
            _until(lambda: _ask("GET", f"{address}/status")["ready"])
            options = {"binary": chromium, "args": [*ARGUMENTS, f"--user-data-dir={data}"]}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            body = {"capabilities": {"alwaysMatch": wanted}}
            session = _ask("POST", f"{address}/session", body)["sessionId"]
            yield Browser(address, session)
        finally:
            if session:
                _ask("DELETE", f"{address}/session/{session}")
            process.terminate()
            process.wait(10)


def _ask(method: str, url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)["value"]
    except urllib.error.HTTPError as error:
        told = json.load(error)["value"]
        raise AssertionError(f"{told['error']}: {told['message']}") from None


def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + STARTED_WITHIN
    while True:
        try:
            if done():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, "chromedriver does not start"
        time.sleep(0.05)
