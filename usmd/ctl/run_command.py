"""`usmctl run`: starts a program whose large anonymous memory is usmd's, by the preloaded libusm.

Sets the environment that lib_usm/native/ reads, and becomes the program. Whether usmd serves it is seen there.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from usm_wire.native import WHY_NOT, library
from usmd.errors import InvalidArgument
from usmd.runtime_paths import parse_address
from usmd.sizes import format_size, parse_size
from usmd.text_output import complain

EPILOG = """Examples:

usmctl run -- redis-server --save ''

usmctl run --name indexer --memory-limit 64M --fhp 64K --evict s3_fifo -- python3 index.py

usmctl run --require --fork=exec-only -- make"""

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
JEMALLOC: Final = "libjemalloc.so.2"
FOLDERS: Final = ("/usr/local/lib", "/usr/lib", "/usr/lib64", *sorted(map(str, Path("/usr/lib").glob("*-linux-gnu*"))))
"""Where jemalloc is looked for."""
VARIABLES: Final = (
    "USM_RUN", "USM_NAME", "USM_MEMORY_LIMIT", "USM_HINT", "USM_EVICT", "USM_MIN_SIZE", "USM_REGION_SIZE",
    "USM_REQUIRE", "USM_FORK",
)  # fmt: skip
"""What libusm reads beside $USM_ADDRESS; those of a surrounding `usmctl run` do not reach the program."""


class Fork(StrEnum):
    """What fork() does in the program."""

    REFUSE = "refuse"
    EXEC_ONLY = "exec-only"


class Malloc(StrEnum):
    """Which malloc the program gets."""

    AUTO = "auto"
    OWN = "own"


def find_jemalloc(folders: tuple[str, ...] = FOLDERS) -> Path | None:
    """The library of jemalloc, or None."""
    return next((path for folder in folders if (path := Path(folder, JEMALLOC)).is_file()), None)


def variables(
    *,
    socket: str | None,
    name: str | None,
    memory_limit: str | None,
    fhp: str | None,
    hint: str | None,
    evict: str | None,
    min_size: str,
    region_size: str | None,
    require: bool,
    fork: Fork,
) -> dict[str, str]:
    """What libusm is to read. Raises InvalidArgument, InvalidSize, InvalidHint or ConfigError."""
    from usmd.core.hints import parse_hint  # the core, which other commands do not need
    from usmd.core.mapping import check_name

    found = {"USM_RUN": "1", "USM_MIN_SIZE": str(_size(min_size, "--min-size"))}
    if socket is not None:
        found["USM_ADDRESS"] = f"unix:{parse_address(socket)}"
    if name is not None:
        check_name(name, "process name", may_be_empty=False)
        found["USM_NAME"] = name
    if memory_limit is not None:
        found["USM_MEMORY_LIMIT"] = str(_size(memory_limit, "--memory-limit"))
    if region_size is not None:
        found["USM_REGION_SIZE"] = str(_size(region_size, "--region-size"))
    text = "; ".join(each for each in (f"FHP={fhp}" if fhp else "", hint or "") if each)
    if text:
        parse_hint(text)
        found["USM_HINT"] = text
    if evict is not None:
        found["USM_EVICT"] = evict
    if require:
        found["USM_REQUIRE"] = "1"
    if fork is not Fork.REFUSE:
        found["USM_FORK"] = fork.value
    return found


def _size(text: str, option: str) -> int:
    size = parse_size(text)
    if not size:
        raise InvalidArgument(f"{option} {text}; allowed is {format_size(1)} and more")
    return size


def preloaded(libraries: list[Path], environ: Mapping[str, str]) -> str:
    """LD_PRELOAD with these libraries before those that are there. Raises AdminError if it cannot name one."""
    for path in libraries:
        if any(each in str(path) for each in " :\t\n"):
            from usmd.ctl.connect import AdminError

            raise AdminError(f"LD_PRELOAD cannot name {str(path)!r}: blanks and colons separate its entries")
    return ":".join([*map(str, libraries), *filter(None, [environ.get("LD_PRELOAD")])])


def run(
    context: typer.Context,
    program: Annotated[
        list[str], typer.Argument(metavar="PROGRAM [ARGS]...", help="What to start.", show_default=False)
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of its session; default: that of the program.")
    ] = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Memory that it may have at most. A rule of the daemon may allow less."),
    ] = None,
    fhp: Annotated[
        str | None, typer.Option(metavar="SIZE|AUTO", help="Memory that a fault brings in: the hint FHP.")
    ] = None,
    hint: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A hint on all its memory, as in docs/hints.md.")
    ] = None,
    evict: Annotated[
        str | None, typer.Option(metavar="POLICY", help="Its evict policy, such as s3_fifo, if the daemon allows.")
    ] = None,
    min_size: Annotated[str, typer.Option(metavar="SIZE", help="Smaller mappings are left to the kernel.")] = "64K",
    region_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Addresses for its memory; default: 4 times memory and swap, at least 1G."),
    ] = None,
    require: Annotated[bool, typer.Option("--require", help="Do not start it if usmd does not serve it.")] = False,
    fork: Annotated[
        Fork,
        typer.Option(
            help="fork() fails with ENOMEM, or its child may only call exec, for it does not have the memory. "
            "posix_spawn and vfork work in either case."
        ),
    ] = Fork.REFUSE,
    malloc: Annotated[
        Malloc,
        typer.Option(
            help="auto: jemalloc is preloaded where it is installed, because glibc's malloc maps its memory inside "
            "glibc, out of reach. own: the program keeps its malloc; unless that is jemalloc, only what it maps itself "
            "is usmd's."
        ),
    ] = Malloc.AUTO,
    socket: Annotated[
        str | None,
        typer.Option(metavar="unix:PATH", help="Clients' socket of usmd; default: $USM_ADDRESS, else the user's own."),
    ] = None,
) -> None:
    """Start a program that knows nothing of usmd, with its large anonymous memory in usmd.

    Stacks, files, executable and fixed mappings are left to the kernel. Programs that it starts by exec are treated
    alike. Without usmd it starts unmanaged, with a line on stderr. See docs/native.md.

    Exit code: the program's own; 126 if it cannot be executed, 127 if there is no such program.
    """
    if context.obj.address is not None:
        raise InvalidArgument("--address is the operators' socket; give `usmctl run` the clients' by --socket")
    environ = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    found = library()
    environ |= variables(
        socket=socket, name=name, memory_limit=memory_limit, fhp=fhp, hint=hint, evict=evict, min_size=min_size,
        region_size=region_size, require=require, fork=fork,
    )  # fmt: skip
    if found is not None:
        jemalloc = find_jemalloc() if malloc is Malloc.AUTO else None
        if malloc is Malloc.AUTO and jemalloc is None:
            complain("usmctl", f"there is no {JEMALLOC}: memory of glibc's malloc is not usmd's; install jemalloc")
        environ["LD_PRELOAD"] = preloaded([each for each in (found, jemalloc) if each], environ)
    elif require:
        from usmd.ctl.connect import AdminError

        raise AdminError(WHY_NOT)
    else:
        complain("usmctl", f"{WHY_NOT}; {program[0]} runs without usmd")
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, and exec would keep that
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvpe(program[0], program, environ)  # noqa: S606 - without a shell, on purpose
    except OSError as error:
        complain("usmctl", f"{program[0]} cannot be started: {error.strerror}")
        raise typer.Exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE) from None
