"""Swap devices that are added and retired while the daemon runs, by an operator or by a reload.

One addition at a time; a device is opened off the loop. A retirement is the core's work (`usmd.core.retirement`); here
it is begun, watched and ended, and the device closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from pathlib import Path

from usmd import log
from usmd.core import events, report
from usmd.core.commands import Notice, RetirementEnded
from usmd.core.swap_map import ACTIVE, GONE, RETIRING
from usmd.errors import ConfigError, InvalidArgument, NotFound, UsmdError
from usmd.policy_rules import PolicyRules
from usmd.server.device_queue import DeviceQueue
from usmd.server.engine import Engine
from usmd.server.pauses import in_parts
from usmd.sizes import format_size
from usmd.swap.base import MAX_DEVICES, SwapDevice
from usmd.swap.kind import SwapKind
from usmd.swap.open import check_beside, claims_of

Opened = tuple[SwapDevice, SwapKind]
"""An open device, and what was asked for."""


class Retiring:
    """A retirement for those who watch it. `pages`: those that the device had. `ended` is done at its end.

    Its result is what an operator must know, or None if it was cancelled; an error says why the device stays.
    """

    def __init__(self, number: int, name: str, pages: int) -> None:
        self.number = number
        self.name = name
        self.pages = pages
        self.ended: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.ended.add_done_callback(_heard)

    @property
    def fields(self) -> dict[str, str]:
        """It for programs."""
        return {"device": self.name, "number": str(self.number), "pages": str(self.pages)}


def _heard(ended: asyncio.Future[str | None]) -> None:
    """Take note of an error, which need not have a watcher."""
    if not ended.cancelled():
        ended.exception()


def close_quietly(device: SwapDevice) -> None:
    """Close a device that may be closed already: a second close does nothing."""
    try:
        device.close()
    except UsmdError as error:
        log.event("swap_device_not_closed", device=device.name, error=str(error))


async def _failure(closing: Awaitable[None], name: str) -> str:
    """Close a device; returns why that failed, or nothing."""
    try:
        await closing
    except UsmdError as error:
        log.event("swap_device_not_closed", device=name, error=str(error))
        return str(error)
    return ""


class SwapDevices:
    """Adds and retires devices of an engine.

    `specs`: of the devices, by number. `opened`: all devices that the end of the daemon closes. `folder`: for relative
    paths. `rules`: the policies in force. `report` gets what watchers and the log shall hear of.
    """

    def __init__(
        self,
        engine: Engine,
        specs: Sequence[SwapKind],
        opened: list[SwapDevice],
        folder: Path,
        rules: Callable[[], PolicyRules],
        report: Callable[[Notice], object],
    ) -> None:
        self.specs = dict(enumerate(specs))
        self._engine = engine
        self._opened = opened
        self._folder = folder
        self._rules = rules
        self._report = report
        self._turn = asyncio.Lock()
        self._retiring: dict[int, Retiring] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        """Closings, and additions whose caller may have left."""
        engine.on_retirement_ended = self._retirement_ended

    def names(self, without: Collection[int] = (), more: Sequence[Opened] = ()) -> list[str | None]:
        """The names of the devices that take pages, by number; None: there is none of this number, or it is leaving.

        `without`: numbers of those that are about to leave; `more`: devices that are about to come.
        """
        found = {device.number: device.name for device, _ in more}
        for each in self._engine.core.state.swap.devices:
            if self.is_active(each.number) and each.number not in without:
                found[each.number] = each.name
        return [found.get(number) for number in range(MAX_DEVICES)]

    def is_active(self, number: int) -> bool:
        """Whether a device takes pages."""
        return self._engine.core.state.swap.devices[number].status == ACTIVE

    def numbers(self) -> set[int]:
        """The numbers of the devices in use."""
        return {queue.device.number for queue in self._engine.queues}

    def find(self, text: str) -> int:
        """The number of a device by number or name; raises NotFound."""
        swap = self._engine.core.state.swap
        number = swap.number_of(text)
        if number is None:
            raise NotFound(f"no swap device {text!r}; there are {swap.in_words()}")
        return number

    # Additions

    async def add(self, specs: Sequence[SwapKind]) -> list[DeviceQueue]:
        """Open devices, all or none, and use them. Raises ConfigError or SwapDeviceError."""
        opened = await self.open(specs)
        self.use(opened)
        return [self._engine.devices.of(device.number) for device, _ in opened]

    async def open(self, specs: Sequence[SwapKind]) -> list[Opened]:
        """Open devices, all or none; `use` or `drop` them before anything else is opened. Raises as `add`.

        A caller that is cancelled leaves none behind.
        """
        task = asyncio.get_running_loop().create_task(self._open(specs))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._drop_late)
            raise

    def _drop_late(self, task: asyncio.Task[list[Opened]]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._start(self.drop(task.result()))

    async def _open(self, specs: Sequence[SwapKind]) -> list[Opened]:
        size = self._engine.core.state.settings.page_size
        async with self._turn:
            devices = self._engine.core.state.swap.devices
            names = {each.name: None for each in devices if each.status != GONE}
            claims = {claim: None for each in self.specs.values() for claim in claims_of(each)}
            free = [number for number in range(MAX_DEVICES) if number not in self.specs]
            if len(specs) > len(free):
                raise ConfigError(f"{len(names) + len(specs)} swap devices; at most {MAX_DEVICES} are allowed", "swap")
            placed = [spec.placed(self._folder, number) for spec, number in zip(specs, free, strict=False)]
            wanted = [
                (check_beside(number, spec, size, names, claims), number, spec)
                for spec, number in zip(placed, free, strict=False)
            ]
            opened: list[Opened] = []
            try:
                for name, number, spec in wanted:
                    opened.append((await asyncio.to_thread(spec.open, number, name, size), spec))
            except BaseException:  # raised again
                await self.drop(opened)
                raise
            self.specs.update({device.number: spec for device, spec in opened})
            return opened

    async def drop(self, opened: Sequence[Opened]) -> None:
        """Close devices that are not used."""
        for device, _ in opened:
            await _failure(asyncio.to_thread(device.close), device.name)
            self.specs.pop(device.number, None)

    def use(self, opened: Sequence[Opened]) -> None:
        """Let the core write to opened devices."""
        for device, _ in opened:
            self._opened.append(device)
            self._engine.devices.add(device)
            self._engine.submit(events.AddDevice(device.number, device.name, device.slots))
            size = format_size(device.slots * device.page_size)
            fields = {"device": device.name, "number": str(device.number), "kind": device.kind, "size": size}
            if device.path:
                fields["path"] = device.path
            self._report(Notice("swap_device_added", 0, f"swap device {device.name} takes pages, up to {size}", fields))

    # Retirements

    async def retire(self, text: str) -> Retiring:
        """Begin to retire a device, or find it retiring. Raises NotFound, InvalidArgument or LimitExceeded."""
        number = self.find(text)
        if number not in self._retiring:
            self._check_unnamed(number)
            in_memory = await self.in_memory([number])
            number = self.find(text)  # others may have been faster
        if number not in self._retiring:
            self._engine.core.retirement.check([number], in_memory)
            self.begin(number)
        return self._retiring[number]

    async def in_memory(self, numbers: Collection[int]) -> int:
        """How many pages of devices are in memory too; counted in parts."""
        if not numbers:
            return 0
        return sum([part async for part in in_parts(report.pages_with_slot(self._engine.core, numbers), 1)])

    def begin(self, number: int) -> None:
        """Begin to retire an active device; the caller has asked whether there is room."""
        slots = self._engine.core.state.swap.devices[number]
        retiring = self._retiring[number] = Retiring(number, slots.name, slots.slots - slots.free)
        message = f"swap device {slots.name} is being retired: its {retiring.pages} pages move away"
        self._report(Notice("swap_device_retiring", 0, message, retiring.fields))
        self._engine.submit(events.RetireDevice(number))

    def cancel(self, text: str) -> DeviceQueue:
        """End a retirement. Raises NotFound, or InvalidArgument if the device is not retiring."""
        number = self.find(text)
        retiring = self._retiring.get(number)
        if retiring is None or self._engine.core.state.swap.devices[number].status != RETIRING:
            what = "not retiring" if retiring is None else "empty, and is being closed"
            raise InvalidArgument(f"swap device {text} is {what}, so there is nothing to cancel")
        self._engine.submit(events.CancelRetirement(number))
        del self._retiring[number]
        self._report(
            Notice(
                "swap_device_stays",
                0,
                f"swap device {retiring.name} takes pages again: it was cancelled",
                retiring.fields,
            )
        )
        retiring.ended.set_result(None)
        return self._engine.devices.of(number)

    def _check_unnamed(self, number: int) -> None:
        """Raise InvalidArgument if policies of the configuration name a device: sessions could not begin without it."""
        rules = self._rules()
        name = self._engine.core.state.swap.devices[number].name
        choices = [("policy.swap", rules.swap)]
        choices += [(f"policy.rules[{index}].swap", rule.swap) for index, rule in enumerate(rules.rules)]
        for key, choice in choices:
            if choice in (name, str(number)):
                raise InvalidArgument(
                    f"swap device {name} is what {key} of the configuration names; change that and reload first"
                )

    def _retirement_ended(self, command: RetirementEnded) -> None:
        if command.error is None:
            self._start(self._close(command.number))
            return
        retiring = self._retiring.pop(command.number)
        message = f"swap device {retiring.name} keeps the pages that it has, and takes pages again: {command.error}"
        self._report(Notice("swap_device_stays", 0, message, retiring.fields))
        retiring.ended.set_exception(command.error)

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close(self, number: int) -> None:
        """Close an empty device, and forget it."""
        queue = self._engine.devices.of(number)
        why = await _failure(queue.close(), queue.device.name)
        self._engine.devices.remove(number)
        self._opened.remove(queue.device)
        del self.specs[number]
        self._engine.submit(events.DeviceClosed(number))
        retiring = self._retiring.pop(number)
        self._report(
            Notice(
                "swap_device_retired",
                0,
                f"swap device {retiring.name} is closed{why and f', but {why}'}",
                retiring.fields,
            )
        )
        retiring.ended.set_result(why)
