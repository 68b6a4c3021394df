"""A headless browser that tests drive over its debugging protocol, page by page."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.pages import headless

SECONDS = 60


class Chromium:
    """One page of a browser."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._asked = 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol; return its result."""
        self._asked += 1
        self._socket.send(json.dumps({"id": self._asked, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=SECONDS))
            if message.get("id") == self._asked:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, script: str) -> Any:
        """Return the value of an expression as soon as it is true."""
        deadline = time.monotonic() + SECONDS
        while not (found := self.run(f"(() => {{ try {{ return {script} }} catch {{ return null }} }})()")):
            assert time.monotonic() < deadline, f"never true: {script}; the page is {self.run('location.href')}"
            time.sleep(0.2)
        return found

    def open(self, address: str) -> None:
        """Load a page."""
        self.ask("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def log_in(self, address: str, user: str, password: str) -> None:
        """Take over the session of a user of Airflow."""
        answer = httpx.post(
            f"{address}/auth/token", json={"username": user, "password": password}, trust_env=False, timeout=SECONDS
        )
        token = answer.raise_for_status().json()["access_token"]
        self.ask("Network.setCookie", name="_token", value=token, url=f"{address}/", path="/")

    def errors(self) -> list[str]:
        """Return what the page could not run, or was not allowed to."""
        found = [each["params"] for each in self.events if each.get("method") == "Runtime.exceptionThrown"]
        logged = [each["params"]["entry"] for each in self.events if each.get("method") == "Log.entryAdded"]
        return [str(each) for each in found] + [
            entry["text"] for entry in logged if "Content Security Policy" in entry["text"]
        ]


@contextmanager
def chromium(folder: Path) -> Iterator[Chromium]:
    """Start a browser with its profile in a folder."""
    command = headless(folder, "--remote-debugging-port=0", "--remote-allow-origins=*", "about:blank")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            address = next(line.split()[-1] for line in process.stderr if "DevTools listening" in line)
            base = address.replace("ws://", "http://").split("/devtools")[0]
            pages = httpx.get(f"{base}/json", trust_env=False, timeout=SECONDS).json()
            found = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
            with connect(found, max_size=None, proxy=None) as socket:
                yield Chromium(socket)
        finally:
            process.terminate()
