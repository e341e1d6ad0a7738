"""`usmctl shadow`: shows how other evict policies would do on the accesses of a live process."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live

from usmd.command_line import Format
from usmd.ctl import completion, shadow_view
from usmd.ctl.as_json import plain, write_line
from usmd.ctl.command import connected, until_interrupted
from usmd.ctl.console import can_redraw, make_console
from usmd.ctl.options import AddressOption, FormatOption, ProcessArgument, chosen_format, listed
from usmd.ctl.targets import absolute_files
from usmd.errors import InvalidArgument, InvalidSize
from usmd.sizes import parse_frames

if TYPE_CHECKING:
    from usm_wire.pb.usm.v1 import admin_pb2
    from usmd.ctl.connect import Stream

EPILOG = """Examples:

usmctl shadow indexer --evict arc,s3_fifo,lirs

usmctl shadow indexer --evict 'lru,hint_aware(fallback=arc)' --frames 8192 --sample 1/16

usmctl shadow 3 --evict ./cflru.py:CleanFirstLru --format json"""

MOST_FRAMES = (1 << 31) - 1
"""Most frames of a daemon."""


def shadow(
    context: typer.Context,
    process: ProcessArgument,
    evict: Annotated[
        list[str],
        typer.Option(
            metavar="SPEC[,SPEC...]",
            autocompletion=completion.policies("evict"),
            help="Evict policies to run beside the one in force, 1 to 8; each a name, with parameters in parentheses "
            "if needed, or path/to/file.py:Class.",
            show_default=False,
        ),
    ],
    frames: Annotated[
        str | None,
        typer.Option(
            metavar="N | SIZE",
            help="Frames of each simulation, or its memory as a size (64MiB). Default: the process's share when "
            "memory is short.",
            show_default=False,
        ),
    ] = None,
    sample: Annotated[
        str,
        typer.Option(metavar="1/K", help="Sample one page in K, with a K-th of the frames, and scale the numbers up."),
    ] = "1/1",
    interval: Annotated[float, typer.Option(min=0.05, max=3600, help="Seconds between reports.")] = 1.0,
    address: AddressOption = None,
    output: FormatOption = None,
) -> None:
    """Run other evict policies beside the one in force, on the same accesses and without memory, until Ctrl-C.

    Each policy runs in a simulation in the daemon: the real policy on the real core, without bytes. All simulations
    begin with empty memory, also one of the policy in force, against which the others are measured. LAST is the miss
    ratio since the previous report. Simulations have the hints of the process, and bring in one page a fault.

    A simulation costs the daemon one to seven microseconds an access, depending on the misses, and more with hints in
    force. The cost is measured, shown, and limited to half of the daemon's time; accesses beyond that are lost and
    counted. --sample 1/8 or the like costs less. The simulations end with this command. A simulation whose policy fails
    is stopped, which affects no process.

    With real memory (mechanism userfaultfd) simulations get only what the daemon sees: the faults of the policy in
    force, and not the touches of pages in memory. So their numbers do not show how they would do.
    """
    as_json = chosen_format(context, output) is Format.JSON
    from usm_wire.pb.usm.v1 import admin_pb2
    from usmd.policies.registry import several

    policies = [absolute_files(each) for each in several(listed(evict))]
    if not policies:
        raise InvalidArgument(f"--evict {listed(evict)!r} names no policy; `usmctl policies` lists them")
    request = admin_pb2.ShadowPoliciesRequest(
        evict_policies=policies, sample=parse_sample(sample), interval_seconds=interval
    )
    if frames is not None:
        _frames(frames, 1)  # reports an invalid value before the daemon is asked
    with connected(context, address) as admin, until_interrupted():
        if frames is not None:
            request.frames = _frames(frames, 1 if frames.strip().isdecimal() else admin.status().page_size)
        request.process_id = admin.process_id(process)
        _watch(admin.shadow(request), as_json=as_json)


def _frames(text: str, page_size: int) -> int:
    try:
        frames = parse_frames(text, page_size)
    except InvalidSize as error:
        raise InvalidArgument(f"--frames {text}: {error}") from None
    if not 1 <= frames <= MOST_FRAMES:
        raise InvalidArgument(f"--frames {text}; allowed are 1 to {MOST_FRAMES:,} frames, or a size such as 64MiB")
    return frames


def parse_sample(text: str) -> int:
    """K of `1/K`. Raises InvalidArgument, which names the text."""
    match = re.fullmatch(r"1/([1-9][0-9]{0,8})", text)
    if match is None:
        raise InvalidArgument(f"--sample {text}; allowed is 1/K with a whole number K of at least 1, such as 1/8")
    return int(match[1])


def _watch(reports: Stream[admin_pb2.ShadowReport], *, as_json: bool) -> None:
    console = make_console()
    if as_json:
        for report in reports:
            write_line(plain(report), sys.stdout)
    elif not can_redraw(console):
        for number, report in enumerate(reports):
            for line in shadow_view.lines(report) if number or report.ended else shadow_view.heading(report):
                console.print(line, soft_wrap=True)
            sys.stdout.flush()
    else:
        with Live(console=console, auto_refresh=False) as live:
            for report in reports:
                live.update(shadow_view.picture(console, report), refresh=True)
