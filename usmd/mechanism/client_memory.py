"""One client's userfaultfd: where its regions are mapped, the faults it reports, and how pages come and go there.

The client holds a duplicate of the descriptor, so that it waits, and never reads zeros, when the daemon dies. It can
unmap, split and move its mappings as it likes: a byte that is nowhere in it any more costs nothing but itself, and what
mremap moves is followed.
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
from usmd.mechanism.process_mappings import mappings_of, parts_between
from usmd.mechanism.put_off import PutOff, cut
from usmd.mechanism.region_addresses import RegionAddresses
from usmd.mechanism.uffd import EVENT_PAGEFAULT, EVENT_REMAP, FLAG_PROTECTED, FLAG_WRITE, HARDWARE_PAGE, Feature

MAX_MESSAGES: Final = 64
"""Messages taken at a stretch; then others have their turn."""
BUSY_TRIES: Final = 50
"""How often a call that meets an unfinished remap is tried again before it is put off."""
BUSY_SECONDS: Final = 1e-5
MAX_HALVINGS: Final = 4096
"""How often a range with holes is halved to poison what is mapped of it, which bounds the time that a client costs."""
STUCK_SECONDS: Final = 0.1
"""For how long nobody waits again for a client whose remap did not end."""


class ClientMemory:
    """The memory of process `pid` as its client sees it. `descriptor` is owned, and closed by `close`.

    Raises OSError where the kernel refuses the handshake.
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
        """Called when faults were read in the middle of something else, so that `read` has them."""
        self._messages = uffd.Messages(descriptor, MAX_MESSAGES)
        self._zero_page = uffd.ZeroPage(descriptor)
        self._copy_pages = uffd.CopyPages(descriptor)
        self._page_size = page_size
        self._at = RegionAddresses()
        self._gone: set[int] = set()
        """Regions that have gone; a touch of what their client still maps is an error."""
        self._early: list[PageFault] = []
        self._tries = 0
        self._stuck_until = 0.0
        self._put_off: list[PutOff] = []
        self._poisons: list[PutOff] = []
        """Ranges that are to be poisoned; those of `_put_off` are to be filled with zeros."""
        self._halvings = 0

    # Mappings

    @property
    def piece_count(self) -> int:
        """Pieces that its regions are in, those that are gone included; each costs time with every fault and remap."""
        return self._at.piece_count

    def overlaps(self, address: int, length: int) -> bool:
        """Whether a region is, as far as is known here, at some of these addresses."""
        return self._at.overlaps(address, length)

    def register(self, region_id: int, address: int, length: int) -> None:
        """The client has mapped a region at an address. Raises OSError where the kernel takes no such range."""
        uffd.register(self.descriptor, address, length)
        self._at.put(region_id, address, length)

    def mapped(self, region_id: int) -> bool:
        """Whether the client has said where it mapped a region, and has not mapped something else there."""
        return region_id in self._at.maps

    def served(self) -> set[int]:
        """Regions that it has mapped, and that are not gone."""
        return self._at.maps.keys() - self._gone

    def drop(self, region_ids: Iterable[int], *, ended: bool) -> None:
        """Regions are gone. A client that gives one back has unmapped it; what it still maps is an error to touch."""
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
        """A region is nowhere in the client any more; a touch of what it maps all the same is an error."""
        self._at.forget(region_id)
        self._gone.discard(region_id)

    def lose(self, address: int, length: int) -> None:
        """Another session of the process has mapped a region at these addresses.

        The kernel would let this userfaultfd poison and unprotect that region's pages, for it asks for the process
        alone.
        """
        self._at.take_out(address, length)
        self._poisons, _ = cut(self._poisons, 0, address, length)

    # Faults

    def read(self) -> list[PageFault]:
        """Faults that wait to be served, about 64 at most; those on pages of nobody end here. Raises OSError."""
        faults: list[PageFault] = []
        for fault in self._early:
            if fault.region_id in self._at.maps and fault.region_id not in self._gone:
                faults.append(fault)
            else:  # gone since it was read
                self.poison(fault.region_id, fault.page * self._page_size, self._page_size)
        self._early.clear()
        self._read(faults)
        return faults

    def _read(self, faults: list[PageFault]) -> int:
        """Read messages once; returns how many there were."""
        count = 0
        for event, first, second, third in self._messages.read():
            count += 1
            if event == EVENT_PAGEFAULT:
                self.last_thread = third & 0xFFFFFFFF
                start, end, region_id = self._at.last
                if start <= second < end and region_id not in self._gone:  # the usual case
                    page = (second - start) // self._page_size
                    faults.append(PageFault(region_id, page, first & FLAG_WRITE > 0, first & FLAG_PROTECTED > 0))
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
            self._poison_from(address & -HARDWARE_PAGE, HARDWARE_PAGE)
            return None
        return PageFault(region_id, offset // self._page_size, flags & FLAG_WRITE > 0, flags & FLAG_PROTECTED > 0)

    # Pages

    def zero(self, region_id: int, offset: int, length: int) -> bool:
        """Fill missing bytes with zeros, and wake who waits for the range; whether any byte was missing."""
        if self._poisons:  # what is there is no error any more, and poison would take away its protection
            self._poisons, _ = cut(self._poisons, region_id, offset, length)
        found = self._at.maps[region_id]
        if found.whole is not None and self._zero_page(found.whole + offset, length):
            return True
        filled = False
        for piece in found.locate(offset, length):
            filled = self._zero_at(region_id, piece) or filled
        return filled

    def _zero_at(self, region_id: int, piece: Piece) -> bool:
        offset, length, address = piece
        filled = False
        while length > 0:
            done, error = self._patiently(uffd.zero, address, length)
            filled = filled or done > 0
            offset, length, address = offset + done, length - done, address + done
            if error == errno.EEXIST:  # the client itself has put a page there
                ranges.wake(self.descriptor, address, HARDWARE_PAGE)
            elif error in (errno.EAGAIN, errno.ENOMEM):
                self._put_off.append((region_id, offset, length))
                return filled
            elif error in ranges.NOWHERE and length > HARDWARE_PAGE:
                step = self._zero_at(region_id, Piece(offset, HARDWARE_PAGE, address))
                filled = filled or step
            elif error:
                ranges.refused("zero", error)
                return filled
            if error:
                offset, length, address = offset + HARDWARE_PAGE, length - HARDWARE_PAGE, address + HARDWARE_PAGE
        return filled

    def refill(self, region_id: int, offset: int, length: int, zeros: int) -> bool:
        """Wake who waits for bytes that are there; where their own client has emptied them they are zeros from now on.

        Those are write-protected, so that the first write to them is heard of; `zeros` is where a page of zeros is.
        Returns whether any byte was missing.
        """
        emptied = False
        for start in range(offset, offset + length, HARDWARE_PAGE):
            done, error = self.copy(region_id, start, HARDWARE_PAGE, zeros, writable=False)
            emptied = emptied or done > 0
            if error == errno.EEXIST or error == errno.EAGAIN:
                self.wake(region_id, start, HARDWARE_PAGE)  # after EAGAIN it faults again
            elif error:
                ranges.refused("refill", error)
        return emptied

    def copy(self, region_id: int, offset: int, length: int, source: int, *, writable: bool) -> uffd.Drained:
        """Fill missing bytes from the daemon's memory at `source`, and wake who waits.

        EEXIST: the client has put a page there. ENOENT: it is nowhere in the client. EAGAIN: try again.
        """
        if self._poisons:  # as in `zero`
            self._poisons, _ = cut(self._poisons, region_id, offset, length)
        mode = 0 if writable else uffd.COPY_WRITE_PROTECTED
        found = self._at.maps[region_id]
        done = 0
        if found.whole is not None:
            done = self._copy_pages(found.whole + offset, source, length, mode)
            if done == length:
                return uffd.Drained(length, 0)
        nowhere = 0
        # Of one page any part may be nowhere, and the rest is to come.
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
                return uffd.Drained(done, errno.EAGAIN)  # it has been moved meanwhile
            if error == errno.ENOENT and one_page:
                if count == HARDWARE_PAGE:
                    nowhere += HARDWARE_PAGE
                    done += HARDWARE_PAGE
                step = HARDWARE_PAGE
            elif error:
                return uffd.Drained(done, error)
        return uffd.Drained(done, 0) if nowhere < length else uffd.Drained(0, errno.ENOENT)

    def protect(self, region_id: int, offset: int, length: int) -> bool:
        """Let no write to a range pass from now on; whether that is so. It is not while a remap is unfinished."""
        moves = self._at.moves
        done = all(
            self._protect_at(address, count) for _, count, address in self._at.maps[region_id].locate(offset, length)
        )
        return done and moves == self._at.moves  # what was moved meanwhile is not protected where it is now

    def _protect_at(self, address: int, length: int) -> bool:
        self._tries = 0
        while True:
            try:
                uffd.write_protect(self.descriptor, address, length, protect=True)
            except OSError as error:
                if error.errno == errno.EAGAIN and self._busy():
                    continue
                if error.errno in ranges.NOWHERE:
                    # Where nothing is mapped nobody can write; but the rest of the range is not protected yet.
                    return length <= HARDWARE_PAGE or all(
                        self._protect_at(address + start, HARDWARE_PAGE) for start in range(0, length, HARDWARE_PAGE)
                    )
                if error.errno != errno.EAGAIN:
                    ranges.refused("protect", error.errno or errno.EIO)
                return False
            return True

    def unprotect(self, region_id: int, offset: int, length: int) -> None:
        """Let writes to a range pass, and wake who waits."""
        for _, count, address in self._at.maps[region_id].locate(offset, length):
            if not ranges.unprotect(self.descriptor, address, count):
                ranges.wake(self.descriptor, address, count)  # who still cannot write is reported again

    def wake(self, region_id: int, offset: int, length: int) -> None:
        """Have who waits for a range try again."""
        for _, count, address in self._at.maps[region_id].locate(offset, length):
            ranges.wake(self.descriptor, address, count)

    def poison(self, region_id: int, offset: int, length: int) -> bool:
        """Have touches of missing bytes end in SIGBUS; False where the kernel cannot."""
        found = self._at.maps.get(region_id)
        pieces = [] if found is None else found.locate(offset, length)
        done = [self._poison_from(address, count) for _, count, address in pieces]  # each, whatever came of the others
        if found is not None and found.locate(offset, length) != pieces:  # a remap was read meanwhile
            done += [self._poison_from(address, count) for _, count, address in found.locate(offset, length)]
        return all(done)

    def _poison_from(self, address: int, length: int) -> bool:
        self._halvings = 0
        return self._poison_at(address, length)

    def _poison_at(self, address: int, length: int) -> bool:
        if Feature.POISON not in self.features:
            return False
        while length > 0:
            done, error = self._patiently(uffd.poison, address, length)
            address, length = address + done, length - done
            if error == errno.EEXIST and not self._unmark(address):
                error = errno.EAGAIN
            if error == errno.EAGAIN:
                region_id, offset = self._at.find(address)
                self._poisons.append((0, address, length) if offset is None else (region_id, offset, length))
                return True
            if error in ranges.NOWHERE and length > HARDWARE_PAGE and self._halvings < MAX_HALVINGS:
                self._halvings += 1
                half = length // 2 & -HARDWARE_PAGE or HARDWARE_PAGE
                first = self._poison_at(address, half)
                return self._poison_at(address + half, length - half) and first
            if error and error != errno.EEXIST:
                ranges.refused("poison", error)
                return error in ranges.NOWHERE
            if error:
                address, length = address + HARDWARE_PAGE, length - HARDWARE_PAGE
        return True

    def _unmark(self, address: int) -> bool:
        """Poison a page that is missing but for the mark that it was write-protected; one that is there stays.

        False while a remap is unfinished.
        """
        unmarked = ranges.unprotect(self.descriptor, address, HARDWARE_PAGE)
        _, error = uffd.poison(self.descriptor, address, HARDWARE_PAGE, on_busy=lambda: False)
        ranges.wake(self.descriptor, address, HARDWARE_PAGE)
        return error != errno.EAGAIN and (unmarked or error != errno.EEXIST)

    def not_wanted(self, region_id: int, offset: int, length: int) -> None:
        """Forget what was put off for a range."""
        if self._put_off:
            self._put_off, inside = cut(self._put_off, region_id, offset, length)
            for _, first, count in inside:
                self.wake(region_id, first, count)  # who waits faults again

    def retry(self) -> None:
        """Do what was put off."""
        put_off, self._put_off = self._put_off, []
        for region_id, offset, length in put_off:
            if region_id in self._at.maps:
                self.zero(region_id, offset, length)
        poisons, self._poisons = self._poisons, []
        for region_id, offset, length in poisons:
            if region_id:
                self.poison(region_id, offset, length)
            else:
                self._poison_from(offset, length)

    def poison_all(self) -> None:
        """Have every later touch of a missing page of the process end in SIGBUS, because nobody will serve it."""
        mappings = mappings_of(self.pid) if self._at.maps else []
        for found in list(self._at.maps.values()):
            for piece in list(found.pieces):
                if mappings is None:  # it is another user's: what it has unmapped is not known
                    self._poison_from(piece.address, piece.length)
                    continue
                for first, length in parts_between(mappings, piece.address, piece.address + piece.length):
                    # Else each page that was evicted is in the way, with the mark that it was write-protected.
                    ranges.unprotect(self.descriptor, first, length)
                    self._poison_from(first, length)

    def close(self) -> None:
        """Let go of the descriptor."""
        os.close(self.descriptor)

    def _patiently(self, call: Callable[..., uffd.Drained], *arguments: int, **options: int) -> uffd.Drained:
        """Run a fill, which is refused while a remap is unfinished; that is read and waited for, for a bounded time."""
        self._tries = 0
        return call(self.descriptor, *arguments, on_busy=self._busy, **options)

    def _busy(self) -> bool:
        """Read what the kernel waits for; whether to try again.

        A client that is found stuck in a remap is not waited for again until some time has passed, because everybody
        else waits meanwhile.
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
