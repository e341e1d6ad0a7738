"""One client's userfaultfd: where its regions are mapped, its faults, and how its pages are filled and protected.

The client keeps a duplicate of the descriptor: if the daemon dies, its threads wait and never read zeros. It can unmap,
split and move its mappings as it likes. Bytes that it no longer maps are skipped, and moves by mremap are followed.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable
from typing import Final

from usmd.core.events import PageFault
from usmd.mechanism import ranges, uffd
from usmd.mechanism.address_map import Piece
from usmd.mechanism.hearing import Hearing
from usmd.mechanism.poisoning import Poisoning
from usmd.mechanism.put_off import PutOff, cut
from usmd.mechanism.region_addresses import RegionAddresses
from usmd.mechanism.sampled_pages import KIND_FLAGS, KIND_OF, SampledPages
from usmd.mechanism.uffd import EVENT_PAGEFAULT, EVENT_REMAP, FLAG_WRITE, HARDWARE_PAGE, Feature

MAX_MESSAGES: Final = 64
"""Messages read at a time; then other clients have their turn."""
BUSY_TRIES: Final = 50
"""How often a call is tried while a remap is unfinished, before it is put off."""
BUSY_SECONDS: Final = 1e-5
STUCK_SECONDS: Final = 0.1
"""For how long no call waits again for a client whose remap did not end."""


class ClientMemory:
    """The memory of process `pid` as its client sees it. `close` closes `descriptor`.

    Raises OSError if the kernel refuses the handshake.
    """

    def __init__(
        self, descriptor: int, features: Feature, page_size: int, pid: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        uffd.handshake(descriptor, features)
        self.descriptor = descriptor
        self.pid = pid
        self.features = features
        self.last_thread = 0
        """Thread id of the last fault that was read; 0: unknown."""
        self.on_early: Callable[[], None] = lambda: None
        """Called when another operation had to read faults; `read` returns them."""
        self._messages = uffd.Messages(descriptor, MAX_MESSAGES)
        self._zero_page = uffd.ZeroPage(descriptor)
        self._copy_pages = uffd.CopyPages(descriptor)
        self._page_size = page_size
        self._at = RegionAddresses()
        self.hearing = Hearing(descriptor, self._at, self._patiently)
        self.sampled = SampledPages(descriptor, self._at, self._patiently)
        self._poisoning = Poisoning(descriptor, self._at, self._patiently, can=Feature.POISON in features)
        self._gone: set[int] = set()
        """Regions that are gone. A touch of what the client still maps of them is an error."""
        self._early: list[PageFault] = []
        self._tries = 0
        self._stuck_until = 0.0
        self._put_off: list[PutOff] = []
        """Ranges still to be zeroed."""

    # Mappings

    @property
    def piece_count(self) -> int:
        """Pieces of all regions, gone ones included; each costs time with every remap."""
        return self._at.piece_count

    def overlaps(self, address: int, length: int) -> bool:
        """Whether a region is known to be at any of these addresses."""
        return self._at.overlaps(address, length)

    def register(self, region_id: int, address: int, length: int, *, deaf: bool = False) -> None:
        """Serve a region that the client has mapped at an address. Raises OSError if the kernel refuses the range.

        `deaf`: see `hearing`.
        """
        hears = uffd.HEARS_TOUCHES in self.features
        uffd.register(self.descriptor, address, length, minor=hears and not deaf)
        self._at.put(region_id, address, length)
        self.hearing.forget(region_id)
        if hears and deaf:
            self.hearing.deaf.add(region_id)

    def mapped(self, region_id: int) -> bool:
        """Whether a region was registered here and is not forgotten."""
        return region_id in self._at.maps

    @property
    def serves(self) -> bool:
        """Whether it has `served` regions."""
        return len(self._at.maps) > len(self._gone)

    def served(self) -> set[int]:
        """Regions that the client has mapped and that are not gone."""
        return self._at.maps.keys() - self._gone

    def drop(self, region_ids: Iterable[int], *, ended: bool) -> None:
        """Stop serving regions that are gone; a touch of what is still mapped of them is an error.

        Unless their session has `ended`, the client unmaps regions first: such a region is forgotten.
        """
        mine = self._at.maps.keys() & region_ids
        self._gone |= mine
        if self._put_off:
            put_off, self._put_off = self._put_off, []
            for each in put_off:
                if each[0] in mine:
                    self.poison(*each)
                else:
                    self._put_off.append(each)
        if ended:
            return
        for region_id in mine:
            found = self._at.maps[region_id]
            if not any(ranges.is_registered(self.descriptor, piece.address) for piece in found.pieces):
                self.forget(region_id)

    def forget(self, region_id: int) -> None:
        """Forget where a region is mapped. A touch of what is still mapped of it is an error."""
        self._at.forget(region_id)
        self.hearing.forget(region_id)
        self._gone.discard(region_id)

    def lose(self, address: int, length: int) -> None:
        """Forget addresses where another session of the process has mapped a region.

        The kernel checks the process alone: it would let this userfaultfd poison and unprotect that region's pages.
        """
        self._at.take_out(address, length)
        self._poisoning.spare(0, address, length)

    # Faults

    def read(self, most: int | None = None) -> list[PageFault]:
        """Faults to be served, at most `most`; None: about 64. Pages outside all regions are poisoned here.

        Raises OSError.
        """
        faults: list[PageFault] = []
        if self._early:
            self._take_early(faults, len(self._early) if most is None else most)
        if most is not None:
            most = min(most - len(faults), MAX_MESSAGES)
        if most != 0:
            self._read(faults, most)
        return faults

    def _take_early(self, faults: list[PageFault], most: int) -> None:
        """Faults that another operation has read, at most `most` of them."""
        early = self._early[:most]
        del self._early[:most]
        for fault in early:
            if fault.region_id in self._at.maps and fault.region_id not in self._gone:
                faults.append(fault)
            else:  # gone since it was read
                self.refuse([fault])

    @property
    def has_early(self) -> bool:
        """Whether another operation has read faults that `read` has not returned."""
        return bool(self._early)

    def refuse(self, faults: Iterable[PageFault]) -> None:
        """Make touches of the pages of faults an error, because their region or session is gone."""
        for fault in faults:
            self.poison(fault.region_id, fault.page * self._page_size, self._page_size)

    def _read(self, faults: list[PageFault], most: int | None = None) -> int:
        """Read messages once, at most `most`; returns how many there were."""
        count = 0
        for event, first, second, third in self._messages.read(most):
            count += 1
            if event == EVENT_PAGEFAULT:
                self.last_thread = third & 0xFFFFFFFF
                start, end, region_id = self._at.last
                if start <= second < end and region_id not in self._gone:  # the usual case
                    page = (second - start) // self._page_size
                    faults.append(PageFault(region_id, page, first & FLAG_WRITE > 0, KIND_OF[first & KIND_FLAGS]))
                    continue
                fault = self._fault(first, second)
                if fault is not None:
                    faults.append(fault)
            elif event == EVENT_REMAP:
                self._at.move(first, second, third)
        return count

    def _fault(self, flags: int, address: int) -> PageFault | None:
        region_id, offset = self._at.find(address)
        if offset is None or region_id in self._gone:
            self._poisoning.poison_at(address & -HARDWARE_PAGE, HARDWARE_PAGE)
            return None
        return PageFault(region_id, offset // self._page_size, flags & FLAG_WRITE > 0, KIND_OF[flags & KIND_FLAGS])

    # Pages

    def zero(self, region_id: int, offset: int, length: int) -> bool:
        """Fill missing bytes with zeros and wake the threads that wait; returns whether any byte was missing."""
        if self._poisoning.put_off:  # the range is valid again, and a late poison would remove its write protection
            self._poisoning.spare(region_id, offset, length)
        found, zero_page = self._at.maps[region_id], self._zero_page
        if found.whole is not None and zero_page(found.whole + offset, length):
            return True
        filled = False
        for piece in found.locate(offset, length):
            filled = self._zero_at(region_id, piece) or filled
        return filled

    def map_present(self, region_id: int, offset: int, length: int) -> int:
        """Put bytes that are in the memory where threads see them, and wake the threads; see `Hearing.map_present`."""
        if self._poisoning.put_off:  # as in `zero`
            self._poisoning.spare(region_id, offset, length)
        return self.hearing.map_present(region_id, offset, length)

    def _zero_at(self, region_id: int, piece: Piece) -> bool:
        offset, length, address = piece
        filled = False
        while length > 0:
            done, error = self._patiently(uffd.zero, address, length)
            filled = filled or done > 0
            offset, length, address = offset + done, length - done, address + done
            if error == errno.EEXIST:  # a page is there that the client itself put there, or that could not be freed
                self._map_or_wake(address)
            elif error in (errno.EAGAIN, errno.ENOMEM):
                self._put_off.append((region_id, offset, length))
                return filled
            elif error in ranges.NOWHERE and length > HARDWARE_PAGE:
                step = self._zero_at(region_id, Piece(offset, HARDWARE_PAGE, address))
                filled = filled or step
            elif error:
                ranges.failed(self.descriptor, "zero", address, length, error)
                return filled
            if error:
                offset, length, address = offset + HARDWARE_PAGE, length - HARDWARE_PAGE, address + HARDWARE_PAGE
        return filled

    def _map_or_wake(self, address: int) -> None:
        """Put a page that is in the memory into the page table, if that can be; wake the threads that wait for it."""
        if uffd.HEARS_TOUCHES not in self.features or self._patiently(uffd.continue_, address, HARDWARE_PAGE).error:
            ranges.wake(self.descriptor, address, HARDWARE_PAGE)

    def refill(self, region_id: int, offset: int, length: int, zeros: int) -> bool:
        """Wake the threads that wait for present bytes; fill with zeros what the client itself has punched out.

        Filled bytes are write-protected, so that the first write to them is reported. `zeros` is the address of a page
        of zeros. Returns whether any byte was missing.
        """
        emptied = False
        for start in range(offset, offset + length, HARDWARE_PAGE):
            done, error = self.copy(region_id, start, HARDWARE_PAGE, zeros, writable=False)
            emptied = emptied or done > 0
            if error in (errno.EEXIST, errno.EAGAIN, *ranges.NOWHERE):
                self.wake(region_id, start, HARDWARE_PAGE)  # after EAGAIN the thread faults again
            elif error:
                ranges.refused("refill", error)
        return emptied

    def copy(self, region_id: int, offset: int, length: int, source: int, *, writable: bool) -> uffd.Drained:
        """Fill missing bytes from the daemon's memory at `source`, and wake the threads that wait for them.

        Errors: EEXIST: the client has put a page there. ENOENT: the client does not map it. EAGAIN: try again.
        """
        if self._poisoning.put_off:  # as in `zero`
            self._poisoning.spare(region_id, offset, length)
        mode = 0 if writable else uffd.COPY_WRITE_PROTECTED
        if mode and self.hearing.deaf and not self.hearing.hear(region_id, offset, length, protect=True):
            return uffd.Drained(0, errno.EAGAIN)
        found = self._at.maps[region_id]
        done = 0
        if found.whole is not None:
            done = self._copy_pages(found.whole + offset, source, length, mode)
            if done == length:
                return uffd.Drained(length, 0)
        nowhere = 0
        # Parts of one page may be unmapped; the others must still be filled.
        one_page = HARDWARE_PAGE < length <= self._page_size
        step = length
        while done < length:
            pieces = found.locate(offset + done, min(step, length - done))
            start, count, address = pieces[0] if pieces else Piece(offset + length, 0, 0)
            if start != offset + done:
                if not one_page:
                    return uffd.Drained(done, errno.ENOENT)
                nowhere += HARDWARE_PAGE
                done += HARDWARE_PAGE
                continue
            part, error = self._patiently(uffd.copy, address, source + done, count, mode=mode)
            done += part
            if error == errno.ENOENT and found.offset_of(address + part) != offset + done:
                return uffd.Drained(done, errno.EAGAIN)  # a remap moved it meanwhile
            if error == errno.ENOENT and one_page:
                if count == HARDWARE_PAGE:
                    nowhere += HARDWARE_PAGE
                    done += HARDWARE_PAGE
                step = HARDWARE_PAGE
            elif error:
                return uffd.Drained(done, error)
        return uffd.Drained(done, 0) if nowhere < length else uffd.Drained(0, errno.ENOENT)

    def protect(self, region_id: int, offset: int, length: int) -> bool:
        """Stop writes to a range; False if some can still pass, as while a remap is unfinished."""
        if self.hearing.deaf and not self.hearing.hear(region_id, offset, length, protect=True):
            return False
        moves = self._at.moves
        done = all(
            self._protect_at(address, count) for _, count, address in self._at.maps[region_id].locate(offset, length)
        )
        return done and moves == self._at.moves  # what moved meanwhile is not protected at its new address

    def _protect_at(self, address: int, length: int) -> bool:
        self._tries = 0
        while True:
            try:
                uffd.write_protect(self.descriptor, address, length, protect=True)
            except OSError as error:
                if error.errno == errno.EAGAIN and self._busy():
                    continue
                if error.errno in ranges.NOWHERE:
                    # Unmapped pages cannot be written to, but the rest of the range is not protected yet.
                    return length <= HARDWARE_PAGE or all(
                        self._protect_at(address + start, HARDWARE_PAGE) for start in range(0, length, HARDWARE_PAGE)
                    )
                if error.errno != errno.EAGAIN:
                    ranges.refused("protect", error.errno or errno.EIO)
                return False
            return True

    def unprotect(self, region_id: int, offset: int, length: int) -> None:
        """Allow writes to a range, and wake the threads that wait for it."""
        for _, count, address in self._at.maps[region_id].locate(offset, length):
            if not ranges.unprotect(self.descriptor, address, count):
                ranges.wake(self.descriptor, address, count)  # a thread that still cannot write faults again

    def wake(self, region_id: int, offset: int, length: int) -> None:
        """Make the threads that wait for a range try again."""
        for _, count, address in self._at.maps[region_id].locate(offset, length):
            ranges.wake(self.descriptor, address, count)

    def poison(self, region_id: int, offset: int, length: int) -> bool:
        """Make touches of missing bytes raise SIGBUS; False if the kernel cannot."""
        return self._poisoning.poison(region_id, offset, length)

    def poison_all(self) -> None:
        """Make every later touch of a missing page raise SIGBUS, because the daemon will not serve it."""
        self._poisoning.poison_all(self.pid)

    def not_wanted(self, region_id: int, offset: int, length: int) -> None:
        """Forget what was put off for a range."""
        if self._put_off:
            self._put_off, inside = cut(self._put_off, region_id, offset, length)
            for _, first, count in inside:
                self.wake(region_id, first, count)  # its threads fault again

    @property
    def is_behind(self) -> bool:
        """Whether anything was put off."""
        return bool(self._put_off or self._poisoning.put_off)

    def retry(self) -> None:
        """Retry what was put off."""
        put_off, self._put_off = self._put_off, []
        for region_id, offset, length in put_off:
            if region_id in self._at.maps:
                self.zero(region_id, offset, length)
        self._poisoning.retry()

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)

    def _patiently(self, call: Callable[..., uffd.Drained], *arguments: int, **options: int) -> uffd.Drained:
        """Run a fill. The kernel refuses it while a remap is unfinished, so wait for that, for a bounded time."""
        self._tries = 0
        return call(self.descriptor, *arguments, on_busy=self._busy, **options)

    def _busy(self) -> bool:
        """Read the messages that the kernel waits for; returns whether to try again.

        No call waits for a client found stuck in a remap for `STUCK_SECONDS`, because all clients wait meanwhile.
        """
        self._tries += 1
        if self._read(self._early) == 0:
            now = self._clock()
            if now < self._stuck_until:
                return False
            if self._tries >= BUSY_TRIES:
                self._stuck_until = now + STUCK_SECONDS
            time.sleep(BUSY_SECONDS)
        if self._early:
            self.on_early()
        return self._tries < BUSY_TRIES
