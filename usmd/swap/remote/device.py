"""A swap device whose slots are in strings on Redis or Valkey servers: a remote swap file.

Slots lie in extents (usmd.swap.remote.extents), so that neighbours are bytes of one string, and a run of neighbours is
one request. The requests of a job go to each server in one pipeline.

A page that a server lost or never got is DataLoss, as on any device: the checksum is the daemon's. A server without
memory has no room for a page; one that does not answer fails its own pages, at once while it is away.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Final

from usmd.errors import NoRoom, SwapIOError, UsmdError
from usmd.swap.base import Results, SlotIO, SwapDevice, Usage
from usmd.swap.remote.checks import Fit, length_of
from usmd.swap.remote.extents import Extents
from usmd.swap.remote.lease import Lease
from usmd.swap.remote.requests import PLACED, Failure, Reply, Request, Servers, in_batches

TRIES: Final = 3
"""How often a run is read whose extent gets another key meanwhile, or written whose extent is gone."""


Run = tuple[list[int], int, int]
"""Neighbouring slots of one extent: their indexes in a batch, the extent, and the offset of the first in its string."""


class RedisSwapDevice(SwapDevice):
    """Slots in strings. `servers` and `lease` are the device's own from now on; `fit`: of an extent.

    `expire`: seconds after which a string expires that is not renewed. `dead`: id of a daemon that left its keys.
    """

    kind: ClassVar[str] = "redis"
    read_jobs: ClassVar[int] = 4

    def __init__(
        self,
        *,
        number: int,
        name: str,
        url: str,
        slots: int,
        page_size: int,
        servers: Servers,
        lease: Lease,
        lease_seconds: float,
        keyspace: str,
        fit: Fit,
        expire: float,
        patience: float = 0.0,
        dead: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(number=number, name=name, path=url, slots=slots, page_size=page_size)
        self.patience = patience
        self._servers = servers
        self._lease = lease
        self._fit = fit
        self._length = length_of(fit.slots, page_size)
        self._expire = max(round(expire * 1000), 1)
        self._extents = Extents(slots, fit.slots, f"usmd:{keyspace}:", lease.owner.id)
        self._writing = threading.Lock()
        # Imported here, because it logs: a start that opens no such device does not wait for what logging takes.
        from usmd.swap.remote.keeper import Keeper

        self._keeper = Keeper(
            device=name,
            servers=servers,
            lease=lease,
            lease_seconds=lease_seconds,
            extents=self._extents,
            expire=expire,
            clock=clock,
        )
        self._keeper.start(dead)

    def usage(self, pages: int) -> Usage:
        """What the device holds on the servers: whole extents, with what the allocator wastes."""
        return Usage(self.slots * self.page_size, self._extents.made * self._fit.memory, pages * self.page_size)

    def _runs(self, batch: Sequence[SlotIO], indexes: Sequence[int]) -> list[Run]:
        """Runs of neighbours that do not cross the end of an extent, of some entries."""
        runs: list[Run] = []
        run: list[int] = []
        size, expected = self._fit.slots, -1
        for index in sorted(indexes, key=lambda index: batch[index].slot):
            slot = batch[index].slot
            if slot == expected and slot % size:
                run.append(index)
            else:
                run = [index]
                runs.append((run, slot // size, slot % size * self.page_size))
            expected = slot + 1
        return runs

    # Reads

    def _fetch(self, batch: Sequence[SlotIO]) -> Results:
        results: Results = [None] * len(batch)
        runs = self._runs(batch, range(len(batch)))
        key_of, page_size = self._extents.key, self.page_size
        for left in reversed(range(TRIES)):
            requests: list[Request] = [
                ("GETRANGE", key_of(extent), offset, offset + len(indexes) * page_size - 1)
                for indexes, extent, offset in runs
            ]
            into = [[batch[index].buffer for index in indexes] for indexes, _, _ in runs]
            again: list[Run] = []
            for run, request, reply in zip(runs, requests, self._servers.run(requests, into), strict=True):
                # Another key: the extent was renamed between the look at its key and the read.
                if not self._taken(batch, run[0], reply, results) and left and request[1] != key_of(run[1]):
                    again.append(run)
            if not again:
                break
            runs = again
        return results

    def _taken(self, batch: Sequence[SlotIO], indexes: list[int], reply: Reply, results: Results) -> bool:
        """Note what became of the entries of a run; False if the string has not as many bytes."""
        if reply is PLACED:
            for index in indexes:
                results[index] = None
            return True
        for index in indexes:
            results[index] = self._error(batch[index].slot, "read", reply)
        return isinstance(reply, Failure)

    def _error(self, slot: int, what: str, reply: Reply) -> UsmdError:
        if isinstance(reply, Failure):
            if reply.full and what == "written":
                return NoRoom(f"{self._at(slot)}: the server has no memory left ({reply.why})")
            return SwapIOError(f"{self._at(slot)}: cannot be {what} ({reply.why})")
        return self._lost(slot, "the server does not have its bytes")

    # Writes

    def _store(self, batch: Sequence[SlotIO]) -> Results:
        why_not = self._keeper.unsafe or self._lease.why_not()
        if why_not:
            return [SwapIOError(f"{self._at(entry.slot)}: nothing is written, because {why_not}") for entry in batch]
        results: Results = [None] * len(batch)
        with self._writing:
            self._extents.hold(entry.slot for entry in batch)
            left: Sequence[int] = range(len(batch))
            for _ in range(TRIES):
                left = self._write(batch, left, results)
                if not left:
                    break
            for index in left:
                results[index] = SwapIOError(f"{self._at(batch[index].slot)}: the server keeps losing its extent")
        self._give_up(entry.slot for entry, error in zip(batch, results, strict=True) if error is not None)
        return results

    def _write(self, batch: Sequence[SlotIO], indexes: Sequence[int], results: Results) -> list[int]:
        """Write some entries; returns those whose extent was gone, to be written again."""
        runs = self._runs(batch, indexes)
        refused = self._prepare(dict.fromkeys(extent for _, extent, _ in runs))
        for run, extent, _ in runs:
            if extent in refused:
                for index in run:
                    results[index] = self._error(batch[index].slot, "written", refused[extent])
        runs = [run for run in runs if run[1] not in refused]
        replies = self._servers.run([self._setrange(batch, run) for run in runs]) if runs else []
        again: list[int] = []
        for (run, extent, _), reply in zip(runs, replies, strict=True):
            if isinstance(reply, Failure):
                if reply.unknown:
                    self._extents.doubt(extent)
                for index in run:
                    results[index] = self._error(batch[index].slot, "written", reply)
            elif reply != self._length:
                self._extents.is_gone(extent)
                again += run
        return again

    def _setrange(self, batch: Sequence[SlotIO], run: Run) -> Request:
        indexes, extent, offset = run
        data = batch[indexes[0]].buffer if len(indexes) == 1 else b"".join(batch[index].buffer for index in indexes)
        return ("SETRANGE", self._extents.key(extent), offset, data)

    def _prepare(self, extents: Iterable[int]) -> dict[int, Failure]:
        """Have strings for extents, under keys that no other write uses; returns those without one, and why."""
        extents = list(extents)
        failures = self._rename([each for each in extents if self._extents.is_doubtful(each)])
        unmade = [each for each in extents if not self._extents.exists(each) and each not in failures]
        requests: list[Request] = []
        for extent in unmade:
            key = self._extents.key(extent)
            requests += [("SETRANGE", key, self._length - 1, b"\0"), ("PEXPIRE", key, self._expire)]
        replies = self._servers.run(requests) if requests else []
        for extent, made, expires in zip(unmade, replies[::2], replies[1::2], strict=True):
            reply = expires if isinstance(expires, Failure) else made
            if made == self._length and reply is made:
                self._extents.is_made(extent)
                continue
            failure = reply if isinstance(reply, Failure) else Failure(f"SETRANGE answered {reply!r}", unknown=True)
            if failure.unknown:
                self._extents.doubt(extent)
            failures[extent] = failure
        return failures

    def _rename(self, extents: Sequence[int]) -> dict[int, Failure]:
        """Give extents their next key, to which no earlier write can happen; returns those that keep theirs."""
        failures: dict[int, Failure] = {}
        requests: list[Request] = [
            # Not RENAME: one that comes late must not put what a late write made in the place of the pages.
            ("RENAMENX", self._extents.key(extent), self._extents.next_key(extent))
            for extent in extents
        ]
        replies = self._servers.run(requests) if requests else []
        for extent, reply in zip(extents, replies, strict=True):
            if not isinstance(reply, Failure):
                self._extents.is_renamed(extent)
            elif "no such key" in reply.why:
                self._extents.is_gone(extent)
            else:
                failures[extent] = reply
        return failures

    def _give_up(self, slots: Iterable[int]) -> None:
        if self._extents.give_up(slots):
            self._keeper.wake()

    def _release(self, slots: Sequence[int]) -> None:
        self._give_up(slots)

    def _close(self) -> None:
        self._keeper.close()
        why = ""
        for keys in in_batches([*self._extents.existing(), *self._extents.unwanted()]):
            replies = self._servers.run([("UNLINK", key) for key in keys])
            why = next((each.why for each in replies if isinstance(each, Failure)), why)
        self._lease.give_up()
        self._servers.close()
        if why:
            raise SwapIOError(f"swap device {self.name}: pages cannot be removed from {self.path} ({why}); they expire")
