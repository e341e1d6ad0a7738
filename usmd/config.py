"""The configuration: one class per section, and `load`, which reads TOML and overrides it by the command line.

Every value is checked here; an error names the key, the value and what is allowed. Whether a policy exists is checked
later. The fields' docstrings below describe keys and units; deploy/usmd.toml repeats them for operators, and a test
compares the two.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from usm_wire.places import SOCKET_NAME, runtime_folder
from usmd import config_values as values
from usmd.config_values import Gathered, check_keys, frames_of, not_allowed, read_table
from usmd.errors import ConfigError
from usmd.http_config import MetricsConfig, PageConfig
from usmd.policy_reading import check_rules, read_policy
from usmd.policy_rules import PolicyRules
from usmd.runtime_paths import ADMIN_SOCKET_NAME
from usmd.sizes import format_size
from usmd.swap.kind import SwapKind
from usmd.swap.memory import MemoryKind
from usmd.swap.tables import read_device
from usmd.text_files import read_text

__all__ = ["Config", "MemoryConfig", "MetricsConfig", "PageConfig", "ServerConfig", "frames_of", "load"]


MAX_FRAMES = (1 << 31) - 1
"""Most frames: frame numbers have 31 bits."""
AUTO_SAMPLING = 2.0


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[server]`: sockets, sessions, the event loop, the log."""

    socket: values.ClientSocket
    """Path of the clients' socket; the identity socket is at this path plus `.identity`. Default: `usmd.sock` in the
    user's runtime folder, where lib_usm looks for it."""

    admin_socket: values.AdminSocket
    """Path of the operators' socket. Default: `admin.sock` in the user's runtime folder, where usmctl looks for it."""

    socket_mode: values.Mode = 0o660
    """Mode of the clients' socket and of its identity socket. The default admits the daemon's group."""

    admin_socket_mode: values.Mode = 0o600
    """Mode of the operators' socket. Its users can see and control everything, so the default admits only the owner."""

    state_dir: values.AbsolutePath
    """Folder of swap files without a path or with a relative one. Default: the user's runtime folder, because the
    contents of a swap file are useless after the daemon has ended."""

    max_sessions: values.Count = 1024
    """Most client sessions at a time. The default limits the daemon's own memory for them to some tens of MiB."""

    max_user_sessions: values.Count = 768
    """Most client sessions of one user at a time. The default leaves a quarter of all to other users."""

    max_user_connections: values.Count = 128
    """Connections that one user may have to the clients' socket, and unclaimed ones to each socket beside it, beyond
    those of its sessions; and connections to the operators' socket. The default is far above the needs of programs that
    are about to attach, and of operators."""

    attach_timeout: values.Seconds = 10.0
    """Seconds that a session may exist without a fault stream. The default is far above what a loaded machine needs to
    open one, and limits what remains of a client that dies in between."""

    drain_grace: values.SecondsOrZero = 5.0
    """Seconds that running calls get when the daemon drains; 0 ends them at once. The default is well below the time
    that a service manager grants for stopping."""

    drain_notice: values.SecondsOrZero = 0.0
    """Seconds for which sessions go on after a signal to drain, once they were told; 0: they end at once. The default
    is what an operator at a terminal expects."""

    device_timeout: values.SecondsOrZero = 30.0
    """Seconds after which a read or write of a swap device that has not returned counts as failed; 0: never. The
    default is the time after which Linux gives up a request to a disk."""

    pressure_threshold: values.Percent = 0.5
    """Share of the last 10 s in which faults waited, of a process or of any, from which on `pressure_high` is reported;
    0%: never. The default is far above that of a program which now and then needs a page from swap."""

    uvloop: values.Switch = True
    """Run on uvloop instead of asyncio's own loop, because it is faster."""

    trace_events: values.AbsolutePath | None = None
    """File for every event of the core, from which `usmctl debug replay-events` reproduces the state; None: only the
    last events are kept, in memory. It is for finding defects."""

    trace_events_size: values.Size = 256 << 20
    """Most bytes of this file; then recording ends. The default is about 2 million events."""

    log_format: values.LogFormat = "auto"
    """`human`, `json`, or `auto`: human on a terminal, else json, which log collectors can read."""

    log_level: values.LogLevel = "info"
    """Least level of what is logged: `info`, `warning` or `error`. The default logs each session's begin and end."""


class MemoryConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[memory]`: how much memory usmd owns, and how much of it a process may keep.

    A share is a percentage of the memory ("3%") or a size ("2MiB"); `frames_of` converts it to frames. Raises
    ConfigError for contradictory values.
    """

    size: values.Size = 64 << 20
    """Bytes of memory in all, a whole number of pages. The default suffices for trials and is small enough for any
    machine."""

    page_size: values.PageSize = 4096
    """Bytes of a page, a power of two. The default is that of x86 hardware."""

    mechanism: values.Mechanism = "auto"
    """Where the bytes are. `userfaultfd`: in memory that clients map, whose page faults the daemon serves.
    `simulated`: in one pool of the daemon, loaded and stored by calls. The default is the first if the machine supports
    it, else the second, and the log says why."""

    fault_wakeup: values.FaultWakeup = "auto"
    """How the daemon waits for real page faults. `sleep`: as for everything else. `spin:US`: polls for this many
    microseconds after each fault, which takes a CPU. `follow`: always on the CPU of the last fault. The default
    compares them while many faults are served, and uses the best one; it polls only if a CPU is idle."""

    sampling: values.Sampling = "auto"
    """How touches of real memory that are no faults are heard of, for evict policies and recordings: pages are taken
    out of the client's page table for a while, and the next touch of one is a fault that takes no I/O. A number: pages
    taken out for each page that comes in while memory is short, so it also bounds such faults. `auto`: 2, with which
    lru, clock, arc, s3_fifo and lirs missed at most 5 % more than if they knew all touches; none where this machine
    cannot. `off`: none."""

    sampling_cpu: values.CpuShare = 0.25
    """CPU of the daemon that sampling may take: the calls that take pages out, and the faults that tell of touches.
    Beyond that no page is taken out for a while. The default hardly binds on the traces of `bench sight`; with 15 %
    lirs missed 16 % more on one of them."""

    low_watermark: values.Share = "3%"
    """Free memory below which reclaim begins. The default leaves room for a burst of faults while victims are
    written."""

    high_watermark: values.Share = "6%"
    """Free memory at which reclaim ends, at least the low watermark. The default makes each run worth its batch."""

    deny_budget: values.Share = "50%"
    """Memory that one process may keep with EVICTION=DENY. With the default no process alone can stop reclaim."""

    deny_budget_total: values.Share = "75%"
    """Memory that all processes together may keep with EVICTION=DENY. The default leaves a quarter that can always be
    reclaimed."""

    newcomer_reserve: values.Share = "2%"
    """Part of memory and swap together that is kept for processes that hold less than that: none may take the last so
    many pages, unless it holds fewer than are left. So the first touches of a new client succeed beside one that takes
    all it can. The default is 5 % of the memory with the default swap. 0% keeps nothing."""

    demotion_rate: values.Size = 64 << 20
    """Bytes a second that conditional policies may have moved from one swap device to another, all processes together.
    The default leaves a disk most of its time for pages that are waited for."""

    hold_budget: values.Share = "25%"
    """Memory for pages that were faulted in and not yet touched. They are held so that they are not evicted before the
    touch; the default bounds the memory that clients occupy which never touch their pages."""

    hold_seconds: values.Seconds = 0.25
    """Seconds for which such a page is held. The default is many round trips long, and short for other clients."""

    max_regions: values.Count = 1024
    """Most regions of one process. The default is above what programs make, and bounds the daemon's tables."""

    max_mapped: values.Size = 64 << 30
    """Bytes that one process may map. Mapped pages take memory only when touched, so the default is generous."""

    def __post_init__(self) -> None:
        if self.size % self.page_size:
            raise ConfigError(
                f"memory.size = {format_size(self.size)} is not allowed; "
                f"allowed is a whole number of pages of {format_size(self.page_size)} (memory.page_size)",
                "memory.size",
            )
        if self.frames > MAX_FRAMES:
            raise ConfigError(
                f"memory.size = {format_size(self.size)} is not allowed; allowed are up to {MAX_FRAMES:,} pages of "
                f"{format_size(self.page_size)}: {format_size(MAX_FRAMES * self.page_size)} (a larger memory.page_size "
                "allows more)",
                "memory.size",
            )
        gathered = Gathered()
        for name in (
            "low_watermark",
            "high_watermark",
            "deny_budget",
            "deny_budget_total",
            "hold_budget",
            "newcomer_reserve",
        ):
            try:
                frames_of(getattr(self, name), self.frames, self.page_size)
            except ConfigError as error:
                gathered.add(f"memory.{name}: {error}", f"memory.{name}")
        gathered.raise_any()
        low, high = (frames_of(text, self.frames, self.page_size) for text in (self.low_watermark, self.high_watermark))
        if low > high:
            raise ConfigError(
                f"memory.low_watermark = {self.low_watermark!r} ({low} frames) is not allowed; "
                f"allowed is at most memory.high_watermark = {self.high_watermark!r} ({high} frames)",
                "memory.low_watermark",
            )

    @property
    def sampling_rate(self) -> float:
        """Pages taken out for each that comes in; 0: none."""
        if isinstance(self.sampling, str):
            return AUTO_SAMPLING if self.sampling == "auto" else 0.0
        return self.sampling

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.size // self.page_size


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration of the daemon."""

    server: ServerConfig
    """Sockets, sessions, loop, log."""

    memory: MemoryConfig
    """Memory and its shares."""

    swap: tuple[SwapKind, ...]
    """Swap devices by number, at least one. Default: one memory device of 4 times the memory."""

    policy: PolicyRules
    """Which process gets which policies."""

    metrics: MetricsConfig = MetricsConfig()
    """Metrics."""

    page: PageConfig = PageConfig()
    """The live page."""


class Reading(NamedTuple):
    """A configuration as far as it can be read; what cannot has its default, or changes nothing.

    `gathered`: its mistakes. `known`: `memory` and `swap`, unless these cannot be read.
    """

    config: Config
    gathered: Gathered
    known: set[str]


_NO_SERVER: Final = ServerConfig(socket=Path("/"), admin_socket=Path("/"), state_dir=Path("/"))
"""In the place of a section that cannot be read, while other sections are."""


def _default_swap(memory: MemoryConfig) -> tuple[SwapKind, ...]:
    """The devices of a configuration without `[[swap]]`: one in memory, 4 times as large as `memory`."""
    return (MemoryKind(size=4 * memory.size),)


def load(
    path: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    swap: Sequence[SwapKind] = (),
    environ: Mapping[str, str] = os.environ,
) -> Config:
    """Read the configuration file at `path` (None: only defaults), and override it by the command line.

    `overrides` are by whole key, for example {"memory.size": "64MiB"}, with values as in the file. `swap` replaces the
    file's devices unless it is empty. Only the file is opened; nothing is created. Raises ConfigError, which names the
    key, the value and what is allowed, and has all errors that do not depend on each other.
    """
    found = read(path, overrides, swap, environ)
    found.gathered.raise_any()
    return found.config


def read(
    path: Path | None,
    overrides: Mapping[str, object] | None,
    swap: Sequence[SwapKind],
    environ: Mapping[str, str],
) -> Reading:
    """Read a configuration as `load` does, also if it has mistakes. Raises ConfigError for a file that is not TOML."""
    document = read_file(path) if path is not None else {}
    gathered = Gathered()
    known = {"swap"} if swap else set()
    with gathered.attempt():
        check_keys(document, Config.__struct_fields__, "")
    for key, value in (overrides or {}).items():
        section, _, name = key.partition(".")
        table = document.setdefault(section, {})
        if isinstance(table, dict):  # anything else is refused below, with the section's name
            table[name] = value
    server, memory, devices = _NO_SERVER, MemoryConfig(), tuple(swap)
    metrics, page = MetricsConfig(), PageConfig()
    with gathered.attempt():
        server = _read_server(document.get("server", {}), environ)
    with gathered.attempt():
        memory = read_table(MemoryConfig, document.get("memory", {}), "memory")
        known.add("memory")
    policy = read_policy(document.get("policy", {}), gathered)
    with gathered.attempt():
        metrics = read_table(MetricsConfig, document.get("metrics", {}), "metrics")
    with gathered.attempt():
        page = _read_page(document.get("page", {}), metrics)
    if "memory" in known:
        with gathered.attempt():
            check_rules(policy, memory)
    if not swap:
        with gathered.attempt():
            devices = _read_swap(document.get("swap", []), server.state_dir)
            known.add("swap")
    config = Config(
        server=server, memory=memory, swap=devices or _default_swap(memory), policy=policy, metrics=metrics, page=page
    )
    return Reading(config, gathered, known)


def read_file(path: Path) -> dict[str, object]:
    """A configuration file as TOML has it. Raises ConfigError."""
    try:
        return tomllib.loads(read_text(path))
    except OSError as error:
        raise ConfigError(f"configuration {path} cannot be read: {error.strerror}; check --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {path} is not TOML: {error}") from error


def _read_server(table: object, environ: Mapping[str, str]) -> ServerConfig:
    """Read `[server]`; paths that are not given are in the runtime folder. Raises ConfigError."""
    folder = runtime_folder(environ)
    places = {
        "socket": str(folder / SOCKET_NAME),
        "admin_socket": str(folder / ADMIN_SOCKET_NAME),
        "state_dir": str(folder),
    }
    server = read_table(ServerConfig, places | table if isinstance(table, dict) else table, "server")
    if server.socket == server.admin_socket:
        raise not_allowed("server.admin_socket", str(server.admin_socket), "any path but that of server.socket")
    return server


def _read_page(table: object, metrics: MetricsConfig) -> PageConfig:
    """Read `[page]`. Raises ConfigError."""
    page = read_table(PageConfig, table, "page")
    if page.address is not None and page.address == metrics.address:
        raise not_allowed("page.listen", page.listen, "any port but that of metrics.listen")
    return page


def _read_swap(tables: object, state_dir: Path) -> tuple[SwapKind, ...]:
    """Read every `[[swap]]`, whose keys are those of its kind; relative paths are in `state_dir`.

    Raises ConfigError.
    """
    if not isinstance(tables, list):
        raise not_allowed("swap", tables, "an array of tables: [[swap]]")
    gathered: Gathered = Gathered()
    devices: list[SwapKind] = []
    for number, raw in enumerate(tables):
        with gathered.attempt():
            devices.append(read_device(raw, f"swap[{number}]").placed(state_dir, number))
    gathered.raise_any()
    return tuple(devices)
