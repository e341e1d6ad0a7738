"""A daemon with 1 MiB of real memory, and the frames, slots and descriptors that its clients use."""

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
"""Pages of the bystander, which must keep every byte."""
HELD_UP = 30.0
"""Seconds: a deadline, which only a read reaches that waits until a hostile client ends."""
_OTHERS_SEED = 4711
_OF_CLIENTS = ("anon_inode:[userfaultfd]", "/memfd:", "anon_inode:[pidfd]")


@contextmanager
def real_daemon(folder: Path, *flags: str, swap: str = "memory:8MiB", **options: Any) -> Iterator[RunningDaemon]:
    """A `running_daemon` with real memory."""
    given = ("--memory", str(FRAMES * PAGE), "--swap", swap, *flags)
    with running_daemon(folder, *given, mechanism="userfaultfd", **options) as daemon:
        yield daemon


def in_use(daemon: RunningDaemon) -> tuple[int, int, int]:
    """Sessions, frames and slots in use."""
    status = daemon.admin.status()
    return status.processes, status.frames - status.free_frames, status.swap_slots - status.free_swap_slots


def memory_descriptors(daemon: RunningDaemon) -> list[str]:
    """The userfaultfds, memfds and pidfds that the daemon has open, by their links in /proc."""
    found = []
    for entry in Path(f"/proc/{daemon.process.pid}/fd").iterdir():
        try:
            found.append(os.readlink(entry))
        except FileNotFoundError:
            continue  # closed meanwhile
    return sorted(each for each in found if each.startswith(_OF_CLIENTS))


def memory_mappings(daemon: RunningDaemon) -> list[str]:
    """The daemon's mappings of memfds, as lines of /proc/PID/maps."""
    lines = Path(f"/proc/{daemon.process.pid}/maps").read_text().splitlines()
    return [line for line in lines if "/memfd:" in line]


def resident_pages(daemon: RunningDaemon, name: str) -> int:
    """Frames of the process of that name; 0 if there is no such process."""
    return sum(each.resident_pages for each in daemon.admin.processes() if each.name == name)


def to_swap(daemon: RunningDaemon, client: ToldClient, name: str, first: int, pages: int) -> None:
    """Evict pages of a region, and wait until as many are in swap only."""

    def swapped() -> bool:
        # Repeatedly, because pages that were touched a moment ago stay.
        client.do("evict", name=name, first=first, pages=pages)
        regions = daemon.admin.regions(0)
        return sum(each.swapped_pages for each in regions if each.region_id == client.region_ids[name]) >= pages

    wait_until(swapped, f"{pages} pages of {name} are in swap")


class Bystander:
    """The client `other`, which must notice nothing of what the test does to other clients."""

    def __init__(self, daemon: RunningDaemon, client: ToldClient) -> None:
        self._daemon = daemon
        self._client = client
        client.map("data", OTHERS)
        client.do("fill", name="data", seed=_OTHERS_SEED, first=0, pages=OTHERS)

    def check(self) -> None:
        """Assert that every byte is unchanged."""
        assert self._client.do("wrong", name="data", seed=_OTHERS_SEED, first=0, pages=OTHERS) == []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Read its memory during the block; assert that every byte is right and that no read was held up."""
        watch = self._client.begin("watch", name="data", seed=_OTHERS_SEED, pages=OTHERS)
        watch.wait_begun()
        yield
        self._client.do("stop_watching")
        seen = watch.result()
        assert seen["wrong"] == [], seen
        assert seen["longest"] < HELD_UP, seen

    def wait_alone(self) -> None:
        """Wait until no session, frame, slot or descriptor of another client is left."""
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
        """Numbers of userfaultfds and of pidfds, and the memfds, that the daemon has open."""
        found = memory_descriptors(self._daemon)
        memfds = {each for each in found if each.startswith("/memfd:")}
        return found.count("anon_inode:[userfaultfd]"), found.count("anon_inode:[pidfd]"), memfds
