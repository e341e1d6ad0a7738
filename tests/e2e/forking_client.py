"""A client process for test_own_mappings that forks while its pages come and go.

Run as `forking_client.py ADDRESS`. Children find out that the client is not theirs, and end; one touches the parent's
memory, which is not there. It prints one JSON line: `children`, how each ended, and `wrong`, the parent's wrong pages.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
from collections.abc import Callable

import lib_usm

PAGE = 4096
PAGES = 512
"""Of the region; twice the memory."""
CHILDREN = 5


def refused(call: Callable[[], object]) -> bool:
    """Whether a call says that the client belongs to another process."""
    try:
        call()
    except lib_usm.ForkedChild:
        return True
    return False


def child(client: lib_usm.Client, region: lib_usm.Region) -> None:
    """Try everything, close, and end as any program does."""
    calls: list[Callable[[], object]] = [
        lambda: region.read(0, 1), lambda: region.write(0, b"1"), lambda: region[0:1], lambda: region.buffer,
        lambda: region.ndarray("u1"), lambda: region.pin().__enter__(), region.ensure, region.evict, region.resident,
        region.close, lambda: client.mmap(1), lambda: client.fault(region, 0, 1), lambda: client.usm_hint(region, ""),
    ]  # fmt: skip
    answers = [refused(call) for call in calls]
    client.close()
    sys.exit(0 if all(answers) else f"calls that were not refused: {answers}")


def main(address: str) -> None:
    """Fork, again and again, while another thread writes; then compare."""
    client = lib_usm.connect(address, name="forking")
    region = client.mmap(PAGES * PAGE)
    view = region.buffer
    model = [bytes(PAGE)] * PAGES
    over = threading.Event()

    def write() -> None:
        source = random.Random(1)
        while not over.is_set():
            page = source.randrange(PAGES)
            model[page] = source.randbytes(PAGE)
            view[page * PAGE : (page + 1) * PAGE] = model[page]

    writer = threading.Thread(target=write)
    writer.start()
    children = []
    for number in range(CHILDREN):
        pid = os.fork()
        if pid == 0:
            if number < CHILDREN - 1:
                child(client, region)
            os.write(1, bytes(view[:PAGE]))  # a byte of this would be one too many
            os._exit(0)
        children.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    over.set()
    writer.join()
    wrong = [page for page in range(PAGES) if view[page * PAGE : (page + 1) * PAGE] != model[page]]
    view.release()
    client.close()
    sys.stdout.write(json.dumps({"children": children, "wrong": wrong}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
