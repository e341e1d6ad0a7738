"""A daemon with a MiB of real memory, and what its clients hold of it: frames, slots, descriptors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.daemon import RunningDaemon, running_daemon, wait_equal, wait_until
from tests.support.told_client import ToldClient

PAGE = 4096
FRAMES = 256
OTHERS = 96
"""Pages of the bystander: it is to notice nothing, and to keep every byte."""
_OTHERS_SEED = 4711
_OF_CLIENTS = ("anon_inode:[userfaultfd]", "/memfd:", "anon_inode:[pidfd]")


@contextmanager
def real_daemon(folder: Path, *flags: str, swap: str = "memory:8MiB", **options: Any) -> Iterator[RunningDaemon]:
    """Serve as `running_daemon` does."""
    given = ("--memory", str(FRAMES * PAGE), "--swap", swap, *flags)
    with running_daemon(folder, *given, mechanism="userfaultfd", **options) as daemon:
        yield daemon


def in_use(daemon: RunningDaemon) -> tuple[int, int, int]:
    """Sessions, frames and slots in use."""
    status = daemon.admin.status()
    return status.processes, status.frames - status.free_frames, status.swap_slots - status.free_swap_slots


def memory_descriptors(daemon: RunningDaemon) -> list[str]:
    """What the daemon has open for the memory of its clients: userfaultfds, memfds, pidfds."""
    found = []
    for entry in Path(f"/proc/{daemon.process.pid}/fd").iterdir():
        try:
            found.append(os.readlink(entry))
        except FileNotFoundError:
            continue  # closed meanwhile
    return sorted(each for each in found if each.startswith(_OF_CLIENTS))


def memory_mappings(daemon: RunningDaemon) -> list[str]:
    """The memfds that the daemon has mapped."""
    lines = Path(f"/proc/{daemon.process.pid}/maps").read_text().splitlines()
    return [line for line in lines if "/memfd:" in line]


def resident_pages(daemon: RunningDaemon, name: str) -> int:
    """Frames of the process of that name; 0 when there is none."""
    return sum(each.resident_pages for each in daemon.admin.processes() if each.name == name)


def to_swap(daemon: RunningDaemon, client: ToldClient, name: str, first: int, pages: int) -> None:
    """Have pages of a region evicted, and wait until as many are in swap only."""

    def swapped() -> bool:
        # Again and again, for pages that were touched a moment ago are kept.
        client.do("evict", name=name, first=first, pages=pages)
        regions = daemon.admin.regions(0)
        return sum(each.swapped_pages for each in regions if each.region_id == client.region_ids[name]) >= pages

    wait_until(swapped, f"{pages} pages of {name} are in swap")


class Bystander:
    """The client called `other`, which is to notice nothing."""

    def __init__(self, daemon: RunningDaemon, client: ToldClient) -> None:
        self._daemon = daemon
        self._client = client
        client.map("data", OTHERS)
        client.do("fill", name="data", seed=_OTHERS_SEED, first=0, pages=OTHERS)

    def check(self) -> None:
        """Every byte is as it was."""
        assert self._client.do("wrong", name="data", seed=_OTHERS_SEED, first=0, pages=OTHERS) == []

    @contextmanager
    def watching(self, longest: float = 5.0) -> Iterator[None]:
        """It reads its memory all the while: every byte is right, and no read took longer than this, in seconds."""
        watch = self._client.begin("watch", name="data", seed=_OTHERS_SEED, pages=OTHERS)
        watch.wait_begun()
        yield
        self._client.do("stop_watching")
        seen = watch.result()
        assert seen["wrong"] == [], seen
        assert seen["longest"] <= longest, seen

    def wait_alone(self) -> None:
        """Wait until nothing is left of any other client."""
        wait_equal(
            lambda: [each.name for each in self._daemon.admin.processes()], ["other"], "the others' sessions end"
        )

        def only_ours() -> bool:
            _, frames, slots = in_use(self._daemon)
            return frames <= OTHERS and slots <= OTHERS

        wait_until(only_ours, "frames and slots of the others are free")
        wait_equal(self._kinds_open, self._own_kinds(), "descriptors of the others are closed")

    def _own_kinds(self) -> tuple[int, int, set[str]]:
        region = f"/memfd:usmd-{self._client.region_ids['data']}"
        return 1, 1, {f"{region} (deleted)", f"{region}-residency (deleted)"}

    def _kinds_open(self) -> tuple[int, int, set[str]]:
        """Userfaultfds, pidfds, and memfds by name that the daemon has open."""
        found = memory_descriptors(self._daemon)
        memfds = {each for each in found if each.startswith("/memfd:")}
        return found.count("anon_inode:[userfaultfd]"), found.count("anon_inode:[pidfd]"), memfds
