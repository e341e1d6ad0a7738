"""A Chromium without a window, driven through two pipes by its own protocol (Chrome DevTools Protocol).

For the test of the live page, and for its picture in the documentation. It needs the program and nothing else.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 60.0
FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-sync",
    "--hide-scrollbars",
    "--mute-audio",
    "--no-proxy-server",
)


class NoChromiumError(RuntimeError):
    """There is no Chromium on this machine."""


def program() -> str:
    """Path of the browser. Raises NoChromiumError."""
    for name in PROGRAMS:
        if path := shutil.which(name):
            return path
    raise NoChromiumError(f"none of {', '.join(PROGRAMS)} is on this machine (Debian: apt-get install chromium)")


def _pipe() -> tuple[int, int]:
    """A pipe whose descriptors are above those that the browser expects."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]


class Chromium:
    """A browser with one page, until the end of a `with` block. `complaints`: what its console and its policy said."""

    def __init__(self) -> None:
        path = program()
        self._folder = tempfile.TemporaryDirectory(prefix="usmd-chromium-", ignore_cleanup_errors=True)
        hears, self._out = _pipe()
        self._in, says = _pipe()
        # Root has no sandbox: that needs another user.
        flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else []), f"--user-data-dir={self._folder.name}"]
        self._pid = os.posix_spawn(
            path, [path, *flags, "about:blank"], os.environ, setpgroup=0,
            file_actions=[
                *((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)),
                (os.POSIX_SPAWN_DUP2, hears, 3),
                (os.POSIX_SPAWN_DUP2, says, 4),
            ],
        )  # fmt: skip
        os.close(hears)
        os.close(says)
        self._number = 0
        self._session = ""
        self._seen = b""
        self._loaded = False
        self.complaints: list[str] = []

    def __enter__(self) -> Chromium:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._in)
        os.close(self._out)
        self._folder.cleanup()

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call a method of the protocol, and return its result. Raises RuntimeError if it fails."""
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        while (answer := self._next()).get("id") != self._number:
            self._hear(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._seen:
            part = os.read(self._in, 1 << 20)
            if not part:
                raise RuntimeError("the browser has ended")
            self._seen += part
        line, _, self._seen = self._seen.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def _hear(self, event: Mapping[str, Any]) -> None:
        method, found = event.get("method"), event.get("params", {})
        if method == "Log.entryAdded":
            self.complaints.append(f"{found['entry']['text']} {found['entry'].get('url', '')}".strip())
        elif method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(found["exceptionDetails"].get("exception", {}).get("description", "exception"))

    def show(self, width: int, height: int, *, dark: bool = False) -> None:
        """Have a screen of this size, in light or dark colours."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, address: str) -> None:
        """Go to an address, and wait until its document is there."""
        self._loaded = False
        self.call("Page.navigate", url=address)
        while not self._loaded:
            self._hear(self._next())

    def value(self, expression: str) -> Any:  # noqa: ANN401 - any value of JSON
        """The value of an expression of JavaScript; that of its promise, once it has one."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def until(self, body: str, seconds: float = SECONDS) -> Any:  # noqa: ANN401 - any value of JSON
        """Wait until a function of JavaScript with this body returns what is true, and return that.

        Raises RuntimeError if it does not within so many seconds.
        """
        condition = f"(() => {{ {body} }})"
        return self.value(f"""new Promise((found, failed) => {{
            const end = performance.now() + {1000 * seconds:.0f};
            const look = () => {{
                const value = {condition}();
                if (value) found(value);
                else if (performance.now() > end) failed(new Error({json.dumps(f"never: {body}")}));
                else setTimeout(look, 20);
            }};
            look();
        }})""")

    def picture(self, path: Path) -> None:
        """Write the whole page as a PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        path.write_bytes(base64.b64decode(data))
