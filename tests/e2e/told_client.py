"""A client process that does as it is told, for tests that let it die, block, or lose its daemon.

Run as `told_client.py ADDRESS NAME`. Each line of its standard input is a JSON object: `id`, `do` (a method of Told)
and that method's arguments. Each is done by a thread of its own, which says {"id", "thread"} when it begins, and {"id",
"result"} or {"id", "error", "message", "page"} when it ends. Memory is touched by C code that lets the other Python
threads run, so that a thread which waits for a page stops nobody but itself.
"""

from __future__ import annotations

import base64
import ctypes
import errno
import json
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import lib_usm

PAGE = 4096

_libc = ctypes.CDLL(None, use_errno=True)
_libc.memcpy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


@lru_cache(1024)
def content(seed: int, page: int) -> bytes:
    """What `fill` puts into a page."""
    return random.Random(f"{seed}/{page}").randbytes(PAGE)


class Told:
    """What it can be told to do. Regions go by the names they were mapped by."""

    def __init__(self, client: lib_usm.Client) -> None:
        self.client = client
        self.regions: dict[str, lib_usm.Region] = {}
        self.addresses: dict[str, int] = {}
        self.views: list[memoryview] = []
        self.watching = False

    def map(self, name: str, pages: int) -> int:
        """Make a region; returns its number."""
        region = self.regions[name] = self.client.mmap(pages * PAGE, name=name)
        self.addresses[name] = ctypes.addressof(ctypes.c_char.from_buffer(region.buffer))
        return region.region_id

    def fill(self, name: str, seed: int, first: int, pages: int) -> None:
        """Write the content of `seed` into pages."""
        for page in range(first, first + pages):
            _libc.memcpy(self.addresses[name] + page * PAGE, content(seed, page), PAGE)

    def wrong(self, name: str, seed: int, first: int, pages: int) -> list[int]:
        """Read pages; returns those that hold anything but the content of `seed`."""
        return [page for page in range(first, first + pages) if self._page(name, page) != content(seed, page)]

    def _page(self, name: str, page: int) -> bytes:
        buffer = ctypes.create_string_buffer(PAGE)
        _libc.memcpy(buffer, self.addresses[name] + page * PAGE, PAGE)
        return buffer.raw

    def peek(self, name: str, page: int) -> str:
        """Read a page."""
        return base64.b64encode(self._page(name, page)).decode()

    def poke(self, name: str, page: int, data: str) -> None:
        """Write some bytes to the beginning of a page."""
        raw = base64.b64decode(data)
        _libc.memcpy(self.addresses[name] + page * PAGE, raw, len(raw))

    def churn(self, name: str, seed: int, pages: int) -> None:
        """Write pages of a region at random, for good; nobody asks what is in them."""
        source = random.Random(seed)
        while True:
            page = source.randrange(pages)
            _libc.memcpy(self.addresses[name] + page * PAGE, content(seed, page % 64), PAGE)

    def watch(self, name: str, seed: int, pages: int) -> dict[str, Any]:
        """Read pages again and again until `stop_watching`; returns rounds, wrong pages, and the longest wait in s."""
        self.watching = True
        rounds, wrong, longest = 0, [], 0.0
        while self.watching:  # waits: it is told when to end
            for page in range(pages):
                started = time.monotonic()  # waits: how long a neighbour waits is what is asked
                if self._page(name, page) != content(seed, page):
                    wrong.append(page)
                longest = max(longest, time.monotonic() - started)  # waits: as above
            rounds += 1
            time.sleep(0.01)  # waits: the others have the CPU too
        return {"rounds": rounds, "wrong": wrong, "longest": longest}

    def stop_watching(self) -> None:
        """Have `watch` end."""
        self.watching = False

    def send(self, name: str, page: int) -> bool:
        """Have a system call read a page; returns whether it could. It fails with EFAULT where a touch is SIGBUS."""
        reader, writer = os.pipe()
        try:
            with self.regions[name].buffer[page * PAGE : (page + 1) * PAGE] as view:
                return os.write(writer, view) == PAGE
        except OSError as error:
            if error.errno != errno.EFAULT:
                raise
            return False
        finally:
            os.close(reader)
            os.close(writer)

    def ensure(self, name: str, first: int, pages: int) -> None:
        """Region.ensure."""
        self.regions[name].ensure(first * PAGE, pages * PAGE)

    def load(self, name: str, first: int, pages: int) -> int:
        """Region.read; returns how many bytes came."""
        return len(self.regions[name].read(first * PAGE, pages * PAGE))

    def store(self, name: str, seed: int, first: int, pages: int) -> None:
        """Region.write."""
        data = b"".join(content(seed, page) for page in range(first, first + pages))
        self.regions[name].write(first * PAGE, data)

    def evict(self, name: str, first: int, pages: int) -> None:
        """Region.evict."""
        self.regions[name].evict(first * PAGE, pages * PAGE)

    def resident(self, name: str, first: int, pages: int) -> bool:
        """Region.resident."""
        return self.regions[name].resident(first * PAGE, pages * PAGE)

    def madvise(self, name: str, first: int, pages: int, advice: int) -> None:
        """Advise the kernel, which usmd does not hear of."""
        if _libc.madvise(self.addresses[name] + first * PAGE, pages * PAGE, advice):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def call(self, what: str, name: str) -> None:
        """A call of the library that must fail when the session is over."""
        region = self.regions[name]
        calls: dict[str, Callable[[], object]] = {
            "read": lambda: region.read(0, 1),
            "write": lambda: region.write(0, b"1"),
            "buffer": lambda: region.buffer,
            "ensure": region.ensure,
            "evict": region.evict,
            "resident": region.resident,
            "fault": lambda: self.client.fault(region, 0, 1),
            "hint": lambda: self.client.usm_hint(region, "PRIORITY=LOW"),
            "mmap": lambda: self.client.mmap(1),
        }
        calls[what]()

    def fork(self) -> int:
        """Make a child that stays, with all descriptors that it has inherited; returns its process number."""
        pid = os.fork()
        if pid == 0:
            while True:
                signal.pause()
        return pid

    def hold(self, name: str) -> None:
        """Keep a view of a region's bytes."""
        self.views.append(self.regions[name].buffer[:10])

    def let_go(self) -> None:
        """Let go of what `hold` keeps."""
        for view in self.views:
            view.release()
        self.views.clear()

    def close_region(self, name: str) -> None:
        """Region.close."""
        self.regions[name].close()

    def close_client(self) -> list[str]:
        """Client.close; returns what it warned of."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.client.close()
        return [f"{each.category.__name__}: {each.message}" for each in caught]


def say(**what: object) -> None:
    """Print one object, in one piece."""
    os.write(1, (json.dumps(what) + "\n").encode())


def serve(told: Told, number: int, do: str, arguments: dict[str, Any]) -> None:
    """Do one thing."""
    say(id=number, thread=threading.get_native_id())
    try:
        say(id=number, result=getattr(told, do)(**arguments))
    except Exception as error:  # noqa: BLE001 - the test judges it
        say(id=number, error=type(error).__name__, message=str(error), page=getattr(error, "page", None))


def main(address: str, name: str) -> None:
    """Do as told until the end of the input; then end at once, whoever still waits for a page."""
    told = Told(lib_usm.connect(address, name=name))
    say(id=0, result=None)
    for line in sys.stdin:
        request = json.loads(line)
        arguments = {key: value for key, value in request.items() if key not in ("id", "do")}
        threading.Thread(target=serve, args=(told, request["id"], request["do"], arguments), daemon=True).start()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
