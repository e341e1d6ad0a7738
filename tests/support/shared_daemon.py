"""One daemon that many hostile tests share: each must leave it as it was, and another client must notice nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.daemon import RunningDaemon, wait_until
from tests.support.real_daemon import Bystander, real_daemon
from tests.support.told_client import told_clients
from tests.usmd.server.raw_memory import Peer


def free_port() -> int:
    """A port of the loopback that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def descriptors(daemon: RunningDaemon) -> int:
    """How many the daemon has open."""
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


class SharedDaemon:
    """A daemon with real memory, and its bystander `other`."""

    def __init__(self, folder: Path, daemon: RunningDaemon, bystander: Bystander) -> None:
        self.folder = folder
        self.daemon = daemon
        self.bystander = bystander

    @contextmanager
    def unharmed(self) -> Iterator[None]:
        """Whatever happens in the block, `other` is served, and afterwards nothing of it is left."""
        daemon = self.daemon
        before = descriptors(daemon)
        with self.bystander.watching():
            yield
        self.bystander.check()
        with Peer(daemon, "next") as following:
            following.works()
        self.bystander.wait_alone()
        wait_until(lambda: descriptors(daemon) <= before, f"no more than the {before} descriptors of before")
        daemon.validate()
        daemon.never("defect")


@contextmanager
def shared_daemon(folder: Path, *flags: str, **options: Any) -> Iterator[SharedDaemon]:
    """Start it. `options`: of `real_daemon`."""
    with real_daemon(folder, *flags, **options) as daemon, told_clients(daemon.address, "other") as (other,):
        bystander = Bystander(daemon, other)
        with Peer(daemon, "first") as first:  # what is opened once and kept is open from then on
            first.works()
        daemon.admin.status()
        bystander.wait_alone()
        yield SharedDaemon(folder, daemon, bystander)
