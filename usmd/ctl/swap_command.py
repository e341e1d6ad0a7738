"""`usmctl swap`: lists the swap devices, adds one, and retires one while it shows how far that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from usmd.ctl import completion, lists_view
from usmd.ctl.as_json import plain
from usmd.ctl.command import ENDING, FAILED, INTERRUPTED, Interrupt, connected, ended_by, listed, show
from usmd.ctl.options import AddressOption, FormatOption, Shared, sort_option
from usmd.ctl.tables import in_order
from usmd.errors import InvalidArgument
from usmd.sizes import format_size
from usmd.text_output import complain, printable

if TYPE_CHECKING:
    from rich.console import Console

    from usm_wire.pb.usm.v1 import admin_pb2
    from usmd.ctl.connect import Admin

EPILOG = """Examples:

usmctl swap

usmctl swap --sort share

usmctl swap add file:/var/lib/usmd/more:8GiB

usmctl swap retire memory0"""
ADD_EPILOG = """Examples:

usmctl swap add memory:1GiB

usmctl swap add file:/var/lib/usmd/more:8GiB:direct --name disk"""
RETIRE_EPILOG = """Examples:

usmctl swap retire disk

usmctl swap retire 1 --no-wait

usmctl swap retire disk --cancel"""

swap = typer.Typer(epilog=EPILOG, invoke_without_command=True)

DeviceArgument = Annotated[
    str,
    typer.Argument(
        metavar="DEVICE", help="Number or name of a device.", show_default=False, autocompletion=completion.devices
    ),
]


@swap.callback()
def list_(
    context: typer.Context,
    sort: Annotated[str | None, sort_option(lists_view.device_columns())] = None,
    address: AddressOption = None,
    output: FormatOption = None,
) -> None:
    """List the swap devices with their slots, traffic and errors; add one, or retire one, while usmd runs.

    A slot holds a page. WRITTEN and READ are pages since the start, IN FLIGHT those in progress.

    P50 and P99 are times of reads, from the request to the page's arrival. REFUSED are pages that were not taken.
    """
    if context.invoked_subcommand is not None:
        if sort is not None:
            raise InvalidArgument(f"--sort is for the list; leave it out with `swap {context.invoked_subcommand}`")
        context.obj = Shared(address or context.obj.address, output or context.obj.output)
        return
    with connected(context, address) as admin:
        found = in_order(lists_view.device_columns(), admin.swap_devices(), sort)
        size = admin.status().page_size
    show(
        context,
        output,
        lambda: listed("swap_devices", found),
        lambda console: lists_view.show_swap_devices(console, found, size),
    )


@swap.command(epilog=ADD_EPILOG)
def add(
    context: typer.Context,
    device: Annotated[
        str,
        typer.Argument(
            metavar="KIND:...",
            help="As for `usmd serve --swap`, whose help has all kinds: memory:SIZE, file:PATH:SIZE.",
            show_default=False,
        ),
    ],
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the device; default: its kind and number.", show_default=False)
    ] = "",
    address: AddressOption = None,
    output: FormatOption = None,
) -> None:
    """Add a swap device, which takes pages at once, until usmd ends.

    To have it after a restart too, write it into the configuration as well; a reload then finds it there. A relative
    path is in the daemon's folder of swap files.
    """
    with connected(context, address) as admin:
        answer = admin.add_swap_device(device, name)
        size = admin.status().page_size
    show(context, output, lambda: plain(answer), lambda console: show_added(console, answer.swap_device, size))


@swap.command(epilog=RETIRE_EPILOG)
def retire(
    context: typer.Context,
    device: DeviceArgument,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only begin; `usmctl swap` shows how far it is.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="End a retirement: the device keeps what it has.")] = False,
    address: AddressOption = None,
    output: FormatOption = None,
) -> None:
    """Move the pages of a swap device to other devices or to memory, close it, and remove its file.

    It takes no new page meanwhile. If the others and memory have no room for its pages, nothing is done, and the error
    says how much is lacking. Ctrl-C cancels. A device whose pages cannot be read keeps them, and stays.

    Called again for a device that is retiring, it shows how far that is.
    """
    if cancel and no_wait:
        raise InvalidArgument("--cancel and --no-wait are given; give one of them")
    with connected(context, address) as admin:
        if cancel:
            kept = admin.cancel_swap_retirement(device)
            show(context, output, lambda: plain(kept), lambda console: show_kept(console, kept.swap_device))
            return
        last = _watched(admin, device, until_end=not no_wait)
    show(context, output, lambda: plain(last), lambda console: show_retirement(console, last))
    if last.end == last.END_CANCELLED:
        raise typer.Exit(FAILED)


def _watched(admin: Admin, device: str, *, until_end: bool) -> admin_pb2.SwapRetirement:
    """Begin a retirement, and show how far it is; returns the last that was heard of it. Ctrl-C cancels it."""
    from usmd.ctl.progress import progress_bar

    stream = admin.retire_swap_device(device)
    interrupt = Interrupt()
    try:
        with ended_by(interrupt, *ENDING):
            answers = iter(stream)
            last = next(answers)
            with progress_bar(f"moving the pages of {last.name}", last.pages) as advance:
                for answer in answers if until_end else ():
                    advance(last.pages_left - answer.pages_left)
                    last = answer
    except BaseException as error:
        if not interrupt.came and not isinstance(error, KeyboardInterrupt):
            raise
        kept = admin.cancel_swap_retirement(device).swap_device
        complain("usmctl", f"cancelled: {_kept(kept)}")
        raise typer.Exit(INTERRUPTED) from None
    stream.cancel()
    return last


def show_added(console: Console, device: admin_pb2.SwapDevice, page_size: int) -> None:
    """Print what a new device is."""
    where = f" in {printable(device.path)}" if device.path else ""
    size = format_size(device.slots * page_size)
    console.print(
        f"swap device {device.number} ({printable(device.name)}){where} takes pages, up to {size}",
        markup=False,
        soft_wrap=True,
    )


def show_retirement(console: Console, last: admin_pb2.SwapRetirement) -> None:
    """Print how a retirement ended, or how far it is."""
    name = f"swap device {last.number} ({printable(last.name)})"
    moved = f"{last.pages - min(last.pages_left, last.pages):,} of {last.pages:,} pages moved"
    match last.end:
        case last.END_CLOSED:
            text = f"{name} is closed: {moved}"
        case last.END_NOT_REMOVED:
            text = f"{name} is closed: {moved}; but {printable(last.message)}"
        case last.END_CANCELLED:
            text = f"{name} takes pages again, because its retirement was cancelled: {moved}"
        case _:
            text = f"{name} is being retired: {moved}"
    console.print(text, markup=False, soft_wrap=True)


def show_kept(console: Console, device: admin_pb2.SwapDevice) -> None:
    """Print what a device keeps whose retirement is cancelled."""
    console.print(_kept(device), markup=False, soft_wrap=True)


def _kept(device: admin_pb2.SwapDevice) -> str:
    kept = f"{device.slots - device.free_slots:,} pages"
    return f"swap device {device.number} ({printable(device.name)}) keeps {kept}, and takes pages again"
