"""The thread of a remote swap file that renews what expires, deletes what is empty, and looks after the servers.

It never works for a page that is waited for. What it finds is logged when it begins and when it ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final

from usmd import log
from usmd.swap.remote.checks import why_unsafe
from usmd.swap.remote.extents import Extents
from usmd.swap.remote.lease import Lease
from usmd.swap.remote.requests import Failure, Request, Servers, in_batches

ROUNDS: Final = 3
"""Renewals in the time after which a key that is not renewed expires."""


class Keeper:
    """Keeps the extents and the lease of a device alive until `close`.

    `expire`: seconds after which an extent that is not renewed expires.
    """

    def __init__(
        self,
        *,
        device: str,
        servers: Servers,
        lease: Lease,
        lease_seconds: float,
        extents: Extents,
        expire: float,
        clock: Callable[[], float],
    ) -> None:
        self.unsafe = ""
        """Why nothing may be written to the servers; empty: it may."""
        self._device = device
        self._servers = servers
        self._lease = lease
        self._lease_seconds = lease_seconds
        self._extents = extents
        self._prefix = extents.owned.partition("{")[0]
        self._expire = expire
        self._clock = clock
        self._renewed = clock()
        self._looked = clock()
        self._leftovers = ""
        self._troubles: set[str] = set()
        self._wanted = threading.Event()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"usmd-{device}-keeper", daemon=True)

    def start(self, dead: str = "") -> None:
        """Begin. `dead`: id of a daemon whose keys are to be deleted."""
        self._leftovers = dead
        self._thread.start()

    def wake(self) -> None:
        """There are keys to be deleted."""
        self._wanted.set()

    def close(self) -> None:
        """End the thread, and wait for that, at most as long as its requests take."""
        self._ends.set()
        self._wanted.set()
        self._thread.join()

    def _run(self) -> None:
        pause = min(self._lease_seconds, self._expire) / ROUNDS
        while not self._ends.is_set():
            self._wanted.wait(pause)
            self._wanted.clear()
            if self._ends.is_set():
                return
            try:
                self._round(pause)
            except Exception:  # noqa: BLE001 - logged with its traceback; without renewals all pages would be lost
                log.event("swap_device_defect", exc_info=True, device=self._device)

    def _round(self, pause: float) -> None:
        self.delete()
        now = self._clock()
        if now - self._looked < pause:
            return
        self._looked = now
        self._renew_lease()
        self._look_at_servers()
        if now - self._renewed >= self._expire / ROUNDS and self._renew_extents():
            self._renewed = now
        if self._leftovers and self._delete_leftovers():
            self._leftovers = ""

    def delete(self) -> None:
        """Delete the strings that have no slot in use."""
        for keys in in_batches(self._extents.unwanted()):
            replies = self._servers.run([("UNLINK", key) for key in keys])
            self._extents.are_deleted(
                key for key, reply in zip(keys, replies, strict=True) if not isinstance(reply, Failure)
            )

    def _renew_lease(self) -> None:
        taken = self._lease.renew()
        if isinstance(taken, Failure):
            return  # the servers' state says it; and without a lease nothing is written
        other = self._lease.other
        if self._changes("keyspace", other):
            log.event("swap_keyspace_lost" if other else "swap_keyspace_regained", device=self._device, owner=other)
        if taken.ours and not taken.was_there:
            log.event("swap_keyspace_was_free", device=self._device)

    def _look_at_servers(self) -> None:
        replies = self._servers.ask_all("INFO", "memory")
        if any(isinstance(each, Mapping) for each in replies):
            self.unsafe = why_unsafe(replies)
            if self._changes("unsafe", self.unsafe):
                log.event(
                    "swap_server_unsafe" if self.unsafe else "swap_server_safe", device=self._device, why=self.unsafe
                )
        away = "; ".join(self._servers.away())
        if self._changes("away", away):
            log.event("swap_server_away" if away else "swap_server_returned", device=self._device, why=away)

    def _changes(self, trouble: str, why: str) -> bool:
        """Whether a trouble begins or ends."""
        before = trouble in self._troubles
        (self._troubles.add if why else self._troubles.discard)(trouble)
        return bool(why) != before

    def _renew_extents(self) -> bool:
        """Have all strings live on; returns whether that was possible. Counts those that are gone."""
        gone: set[str] = set()
        all_renewed = True
        milliseconds = max(round(self._expire * 1000), 1)
        for keys in in_batches(self._extents.existing()):
            replies = self._servers.run([("PEXPIRE", key, milliseconds) for key in keys])
            gone |= {key for key, reply in zip(keys, replies, strict=True) if not reply}
            all_renewed = all_renewed and not any(isinstance(reply, Failure) for reply in replies)
        gone &= set(self._extents.existing())  # others were deleted or renamed meanwhile
        if gone:
            log.event("swap_extents_gone", device=self._device, extents=len(gone))
        return all_renewed

    def _delete_leftovers(self) -> bool:
        """Delete the keys of a daemon that has ended; returns whether none is left."""
        keys, failures = self._servers.scan(f"{self._prefix}{{{self._leftovers}.*")
        for some in in_batches(keys):
            requests: list[Request] = [("UNLINK", key.decode("ascii", "replace")) for key in some]
            failures += [reply for reply in self._servers.run(requests) if isinstance(reply, Failure)]
        return not failures
