"""Client processes that run a test's commands (tests/e2e/told_client.py), and the results of the commands.

A test need not wait for a command, so it can look at a client that waits for its page.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.daemon import environment
from tests.support.forked import ForkedProcess, run_script

_PROGRAM = Path(__file__).parents[1] / "e2e" / "told_client.py"
SECONDS = 90.0
"""Deadline of everything, so that a test of a client that hangs fails."""


class Refused(Exception):
    """A command failed: class, text and page of the client's error."""

    def __init__(self, kind: str, message: str, page: int | None) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.page = page


class Doing:
    """A command of a client. `thread`: the number of the thread that runs it, once it has begun."""

    def __init__(self, client: ToldClient) -> None:
        self._client = client
        self.thread = 0
        self.answer: dict[str, Any] | None = None

    def wait_begun(self) -> None:
        """Wait until its thread has begun it."""
        self._client.wait(lambda: self.thread > 0, "it begins")

    def result(self) -> Any:
        """Wait for its result; raises Refused, or AssertionError if the client ends before."""
        self._client.wait(lambda: self.answer is not None, "an answer")
        assert self.answer is not None
        if "error" in self.answer:
            raise Refused(self.answer["error"], self.answer["message"], self.answer["page"])
        return self.answer["result"]

    def waits_for_its_page(self) -> bool:
        """Whether its thread sleeps in the kernel's wait for a userfaultfd, without an answer."""
        wait = Path(f"/proc/{self._client.process.pid}/task/{self.thread}/wchan")
        return self.answer is None and self.thread > 0 and wait.read_text() == "handle_userfault"


class ToldClient:
    """A process with one session."""

    def __init__(self, address: str, name: str) -> None:
        self.name = name
        self._doing: dict[int, Doing] = {}
        self._changed = threading.Condition()
        self._ended = False
        self.region_ids: dict[str, int] = {}
        self.process = ForkedProcess(
            run_script, str(_PROGRAM), [address, name], environ=environment(), stdin=True, stdout=True
        )
        self._attached = self._doing[0] = Doing(self)
        self._complaints: list[str] = []
        self._readers = [threading.Thread(target=each) for each in (self._read, self._read_complaints)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            with self._changed:
                if "thread" in said:
                    self._doing[said["id"]].thread = said["thread"]
                else:
                    self._doing[said["id"]].answer = said
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _read_complaints(self) -> None:
        assert self.process.stderr is not None
        self._complaints.extend(self.process.stderr)

    def wait(self, condition: Any, what: str) -> None:
        """Wait until a condition holds that only the client's messages change; AssertionError if it ends before."""
        with self._changed:
            self._changed.wait_for(lambda: condition() or self._ended, SECONDS)
            if condition():
                return
        ended = f"it ended with {self.process.wait(SECONDS)}" if self._ended else f"not within {SECONDS:g} s"
        raise AssertionError(f"client {self.name}: {what} did not come, {ended}: {''.join(self._complaints)}")

    def wait_attached(self) -> None:
        """Wait until it has its session."""
        self._attached.result()

    def begin(self, do: str, **arguments: object) -> Doing:
        """Begin a command, and do not wait for its result."""
        doing = Doing(self)
        with self._changed:
            number = len(self._doing)
            self._doing[number] = doing
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"id": number, "do": do, **arguments}) + "\n")
        self.process.stdin.flush()
        return doing

    def do(self, do: str, **arguments: object) -> Any:
        """Run a command; returns its result, or raises Refused."""
        return self.begin(do, **arguments).result()

    def map(self, name: str, pages: int) -> None:
        """Make a region."""
        self.region_ids[name] = self.do("map", name=name, pages=pages)

    def peek(self, name: str, page: int) -> bytes:
        """The bytes of a page."""
        return base64.b64decode(self.do("peek", name=name, page=page))

    def poke(self, name: str, page: int, data: bytes) -> None:
        """Write some bytes to the beginning of a page."""
        self.do("poke", name=name, page=page, data=base64.b64encode(data).decode())

    def ends_with(self) -> int:
        """Wait for its end; returns the exit code, or the signal as a negative number."""
        return self.process.wait(SECONDS)

    def last_words(self) -> str:
        """Wait for its end; returns its stderr."""
        self.process.wait(SECONDS)
        for reader in self._readers:
            reader.join(SECONDS)
        return "".join(self._complaints)

    def kill(self) -> None:
        """SIGKILL, if it still runs, and wait for its end."""
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()


@contextlib.contextmanager
def told_clients(address: str, *names: str) -> Iterator[list[ToldClient]]:
    """Clients of these names, each with a session. The end of the block kills them."""
    clients = [ToldClient(address, name) for name in names]
    try:
        for client in clients:
            client.wait_attached()
        yield clients
    finally:
        for client in clients:
            client.kill()
