"""Divides the descriptors of this process among clients.

Each kind has a share, so that no kind takes another's, and no user takes all of a kind. The rest is for the daemon and
its operators.
"""

from __future__ import annotations

import resource
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from usmd.core.region import Process
from usmd.errors import LimitExceeded

KEPT: Final = 256
"""Kept at least for operators, swap files and libraries; a quarter of all if there are fewer than 1,024."""
MOST_KEPT: Final = 1024
"""Kept at most; in between a sixteenth of all."""
MOST: Final = 1 << 20
"""The limit is not raised beyond this."""
OF_A_REGION: Final = 2
"""Descriptors of a region of real memory: its memfd and its residency map."""
OF_MEMORY: Final = 5
"""Descriptors of a memory connection: itself, userfaultfd, pidfd, and by it a fault stream and a socket for ranges."""
OF_OPERATOR: Final = 3
"""Descriptors of an operator's connection: itself, the one that goes on from it, and gRPC's end of that."""


@dataclass(frozen=True)
class Shares:
    """Most descriptors or connections of a kind."""

    regions: int
    """Descriptors of regions of all users; of one user three quarters of that, of one session a half."""

    connections: int
    """Connections to the clients' socket, and as many to the identity socket."""

    memory_connections: int
    """Connections to the memory socket; and as many fault streams that were handed over by them."""

    operators: int
    """Connections to the operators' socket, which take half of what is kept."""

    @classmethod
    def of(cls, limit: int) -> Shares:
        """The shares of a process that may open `limit` descriptors."""
        kept = min(max(KEPT, limit // 16), MOST_KEPT, limit // 4)
        rest = limit - kept
        return cls(
            regions=rest // 2,
            connections=rest // 8,
            memory_connections=rest // 4 // OF_MEMORY,
            operators=kept // 2 // OF_OPERATOR,
        )

    def check_region(self, process: Process, processes: Mapping[int, Process]) -> None:
        """Raise LimitExceeded if a process may not have another region of real memory."""
        own = OF_A_REGION * (len(process.regions) + 1)
        users = OF_A_REGION + _of_regions(each for each in processes.values() if each.uid == process.uid)
        everyones = OF_A_REGION + _of_regions(processes.values())
        for taken, share, whose in (
            (own, self.regions // 2, "its session"),
            (users, self.regions * 3 // 4, f"user {process.uid}" if process.uid is not None else "unknown users"),
            (everyones, self.regions, "all users"),
        ):
            if taken > share:
                raise LimitExceeded(
                    f"a region takes {OF_A_REGION} descriptors of usmd, and those of {whose} would be {taken}; allowed "
                    f"are {share}, a share of the daemon's limit of open files (LimitNOFILE of its unit, ulimit -n)"
                )


def _of_regions(processes: Iterable[Process]) -> int:
    return OF_A_REGION * sum(len(each.regions) for each in processes)


def raise_limit() -> Shares:
    """Raise this process's limit of descriptors as far as the system allows, and divide it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return Shares.of(MOST if soft == resource.RLIM_INFINITY else soft)
