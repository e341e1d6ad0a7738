"""A swap device in a preallocated file.

Pages go through the page cache or, with `direct`, past it. Swap means nothing without its daemon, so nothing is synced
(but see usmd.swap.write_back).
Discarded slots keep their disk blocks: those guarantee that a later write finds room.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import msgspec

from usmd import config_values as values
from usmd.errors import ConfigError, SwapDeviceError, SwapIOError
from usmd.sizes import format_size, parse_size
from usmd.swap import direct as direct_io
from usmd.swap import ways, write_back
from usmd.swap.base import Results, SlotIO
from usmd.swap.kind import SwapKind
from usmd.swap.submitting import NO_JOB, SubmittingDevice
from usmd.swap.swap_file import HEADER, create_swap_file, remove_swap_file
from usmd.swap.vectored import VectoredCall, adjacent_runs, transfer


class FileSwapDevice(SubmittingDevice):
    """Slots in a file that the device makes, locks, and removes when closed.

    Slot n begins at byte (n + 1) * page_size; the first page is the header. Raises SwapDeviceError if the file cannot
    be made; no existing file is overwritten, except one that a killed usmd left.

    `direct`: the page cache keeps nothing of the file, so a swap-in costs what the disk costs. Pages must be whole
    blocks (direct.BLOCK); buffers that are aligned to blocks save a copy.

    `io`: one of ways.WAYS, how jobs run. Raises SwapDeviceError if this machine or process lacks it.
    """

    kind: ClassVar[str] = "file"
    read_jobs: ClassVar[int] = 4

    def __init__(
        self,
        *,
        number: int,
        name: str,
        path: str,
        slots: int,
        page_size: int,
        direct: bool = False,
        io: str = ways.AUTO,
    ) -> None:
        # Absolute, so that close() finds the file after a change of the working directory.
        self._file = Path(path).absolute()
        super().__init__(number=number, name=name, path=str(self._file), slots=slots, page_size=page_size)
        if direct and page_size % direct_io.BLOCK:
            raise SwapDeviceError(
                f"swap file {self._file}: direct I/O takes whole blocks of {format_size(direct_io.BLOCK)}, and a page "
                f"has {format_size(page_size)}; leave out `direct`, or choose a larger memory.page_size"
            )
        self._descriptor = create_swap_file(self._file, page_size, slots)
        self._direct = direct_io.DirectIO(page_size) if direct else None
        self._write_back = None if direct else write_back.WriteBack(self._descriptor)
        self._can_read_now = not direct  # direct I/O always waits for the disk
        if direct:
            self._bypass_cache()
        try:
            self._open_channel(*ways.choose(io, self._descriptor, direct=direct))
        except SwapDeviceError as error:
            remove_swap_file(self._file, self._descriptor)
            raise SwapDeviceError(f"swap file {self._file}: {error}") from error

    def _bypass_cache(self) -> None:
        """Bypass the page cache. Raises SwapDeviceError; the file is then removed."""
        try:
            direct_io.switch_on(self._descriptor, os.pread(self._descriptor, HEADER.size, 0))
        except OSError as error:
            remove_swap_file(self._file, self._descriptor)
            raise SwapDeviceError(
                f"swap file {self._file}: its file system does no direct I/O ({error.strerror}); leave out `direct`, "
                "or choose a path on another one"
            ) from error

    def _store(self, batch: Sequence[SlotIO]) -> Results:
        results, failures = self._transfer(os.pwritev if self._direct is None else self._direct.pwritev, batch)
        if self._wrote(len(batch)):
            write_back.start(self._descriptor)
        for index, error in failures.items():
            results[index] = self._failed(batch[index].slot, "written", error)
        return results

    def _fetch(self, batch: Sequence[SlotIO]) -> Results:
        results, failures = self._transfer(os.preadv if self._direct is None else self._direct.preadv, batch)
        for index, error in failures.items():
            slot = batch[index].slot
            if isinstance(error, EOFError):
                results[index] = self._lost(slot, f"the file {self.path} was truncated ({error})")
            else:
                results[index] = self._failed(slot, "read", error)
        return results

    def _fetch_now(self, batch: Sequence[SlotIO]) -> Results | None:
        """Read from the page cache alone; not again if the file system does not support that."""
        if not self._can_read_now:
            return None
        for run in adjacent_runs([entry.slot for entry in batch]):
            buffers = [batch[index].buffer for index in run]
            offset = self._offset(batch[run[0]].slot)
            try:
                if os.preadv(self._descriptor, buffers, offset, os.RWF_NOWAIT) != len(run) * self.page_size:
                    return None
            except OSError as error:
                self._can_read_now = error.errno != errno.EOPNOTSUPP
                return None
        return [None] * len(batch)

    def _has_submitted(self, pages: int) -> None:
        if self._wrote(pages) and self.channel is not None:
            self.channel.start_writing(NO_JOB)

    def _wrote(self, pages: int) -> bool:
        """Count pages that were written; True if the kernel is now to be asked to write them to the disk."""
        return self._write_back is not None and self._write_back.due(pages * self.page_size)

    def _offset(self, slot: int) -> int:
        return (slot + 1) * self.page_size

    def _close(self) -> None:
        if self.channel is not None:
            self.channel.close()
        remove_swap_file(self._file, self._descriptor)

    def _transfer(self, call: VectoredCall, batch: Sequence[SlotIO]) -> tuple[Results, dict[int, OSError | EOFError]]:
        """Run `call` over the batch; return a list of successes to be filled in, and the failures by index."""
        failures: dict[int, OSError | EOFError] = {}
        for run in adjacent_runs([entry.slot for entry in batch]):
            offset = self._offset(batch[run[0]].slot)
            failed = transfer(call, self._descriptor, [batch[index].buffer for index in run], offset)
            for position, error in failed.items():
                failures[run[position]] = error
        return [None] * len(batch), failures

    def _failed(self, slot: int, what: str, error: OSError | EOFError) -> SwapIOError:
        why = f"{error.strerror}, errno {error.errno}" if isinstance(error, OSError) else str(error)
        return SwapIOError(f"{self._at(slot)}: {self.path} cannot be {what} ({why})")


class FileKind(SwapKind, frozen=True, kw_only=True):
    """`file:PATH:SIZE`, then `:direct` for one that bypasses the page cache, then `:` and a way of I/O."""

    device = FileSwapDevice
    form: ClassVar[str] = "PATH:SIZE[:direct][:WAY]"

    path: values.Word | None = None
    """Path of the file; None, until `placed`: a file in the daemon's state folder, named after its number."""

    direct: values.Switch = False
    """Bypass the kernel's page cache."""

    io: values.IoWay = ways.AUTO
    """How jobs run: submitted through io_uring or Linux AIO, or in threads; auto: the first of these that works."""

    def __post_init__(self) -> None:
        if self.path is not None and "\0" in self.path:
            raise ConfigError(f"swap file {self.path!r} has a NUL in its path; remove it")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `PATH:SIZE`, perhaps with `:direct` and a way behind it; the path may contain colons."""
        io = next((way for way in ways.WAYS if text.endswith(f":{way}")), None)
        rest = text if io is None else text.removesuffix(f":{io}")
        plain = rest.removesuffix(":direct")
        path, _, size = plain.rpartition(":")
        if not path:
            raise ValueError("it has no path or no size")
        return cls(size=parse_size(size), path=path, direct=plain != rest, io=io or ways.AUTO)

    def placed(self, folder: Path, number: int) -> Self:
        """The same device with its file in `folder`, unless its path is absolute."""
        return msgspec.structs.replace(self, path=str(folder / (self.path or f"swap{number}")))

    def in_threads(self) -> Self:
        """The same device without a channel, which only the event loop uses."""
        return msgspec.structs.replace(self, io=ways.THREADS)

    def claim(self) -> str | None:
        """The path without symbolic links; None if there is none."""
        return None if self.path is None else f"the path {os.path.realpath(self.path)}"

    def open(self, number: int, name: str, page_size: int) -> FileSwapDevice:
        """Make the file. Raises ConfigError if there is no path, SwapDeviceError if the file cannot be made."""
        if self.path is None:
            raise ConfigError(f"swap device {name} has no path; give the path of the file to make")
        slots = self.size // page_size
        return FileSwapDevice(
            number=number, name=name, path=self.path, slots=slots, page_size=page_size, direct=self.direct, io=self.io
        )
