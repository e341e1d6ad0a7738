"""The flags of `usmd serve`, which `usmd config show` has as well, and what they say of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from usmd.config import MemoryConfig
from usmd.config_source import Source
from usmd.policy_rules import PolicyRules
from usmd.sizes import format_size
from usmd.swap import kinds
from usmd.swap.open import parse_swap_spec

_PLACES = "Places"
_MEMORY = "Memory"
_POLICIES = "Policies"
_POLICY = "NAME | FILE.py:CLASS"

ConfigOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE.toml", help="Configuration; a flag given here overrides it. Default: none."),
]
SocketOption = Annotated[
    str | None,
    typer.Option(
        metavar="PATH", help="Clients' socket. Default: usmd.sock in your runtime folder.", rich_help_panel=_PLACES
    ),
]
AdminSocketOption = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Operators' socket. Default: admin.sock in your runtime folder.",
        rich_help_panel=_PLACES,
    ),
]
StateDirOption = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Folder of swap files without a path. Default: your runtime folder.",
        rich_help_panel=_PLACES,
    ),
]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help=f"Size of the memory. Default: {format_size(MemoryConfig().size)}.",
        rich_help_panel=_MEMORY,
    ),
]
PageSizeOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help=f"Bytes in a page, a power of two, 512B to 2MiB. Default: {format_size(MemoryConfig().page_size)}.",
        rich_help_panel=_MEMORY,
    ),
]
SwapOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar=kinds.forms(" | "),
        help="A swap device; repeat for several. They replace the configured ones. Default: one in memory, 4 times "
        "as large as --memory.",
        rich_help_panel=_MEMORY,
    ),
]
MechanismOption = Annotated[
    str | None,
    typer.Option(
        metavar="auto|userfaultfd|simulated",
        help="Where bytes are: in memory that clients map, or in a pool behind calls. auto (default): the first "
        "if possible.",
        rich_help_panel=_MEMORY,
    ),
]
FaultWakeupOption = Annotated[
    str | None,
    typer.Option(
        metavar="auto|sleep|spin:US|follow",
        help="How to wait for real page faults; spin takes a CPU for US microseconds after each. Default: "
        f"{MemoryConfig().fault_wakeup}.",
        rich_help_panel=_MEMORY,
    ),
]
AllocOption = Annotated[
    str | None,
    typer.Option(
        metavar=_POLICY,
        help=f"Default alloc policy: how a fault is served. Without it: {PolicyRules().alloc}.",
        rich_help_panel=_POLICIES,
    ),
]
EvictOption = Annotated[
    str | None,
    typer.Option(
        metavar=_POLICY,
        help=f"Default evict policy: which pages leave memory. Without it: {PolicyRules().evict}.",
        rich_help_panel=_POLICIES,
    ),
]
OomOption = Annotated[
    str | None,
    typer.Option(
        metavar=_POLICY,
        help=f"Default oom policy: what happens if no page can be evicted. Without it: {PolicyRules().oom}.",
        rich_help_panel=_POLICIES,
    ),
]
CondOption = Annotated[
    str | None,
    typer.Option(
        metavar=_POLICY,
        help=f"Default cond policy: what is done without a fault. Without it: {PolicyRules().cond}.",
        rich_help_panel=_POLICIES,
    ),
]
NoUvloopOption = Annotated[bool, typer.Option("--no-uvloop", metavar=" ", help="Run on asyncio's own event loop.")]
TraceEventsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write every event of the core to a file, for `usmctl debug replay-events`. Default: none.",
        rich_help_panel=_PLACES,
    ),
]
MetricsListenOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS:PORT",
        help="Serve metrics on this loopback port too, such as 127.0.0.1:9842. Default: on a Unix socket alone, at "
        "the path of the operators' plus .metrics.",
        rich_help_panel=_PLACES,
    ),
]
PageListenOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS:PORT",
        help="Serve a live page for browsers on this loopback port, such as 127.0.0.1:9843. Default: none.",
        rich_help_panel=_PLACES,
    ),
]
LogFormatOption = Annotated[
    str | None, typer.Option(metavar="auto|human|json", help="auto (default): human on a terminal, else json.")
]
LogLevelOption = Annotated[
    str | None,
    typer.Option(metavar="info|warning|error", help="Least level of what is logged. Default: info."),
]


def source_of(given: Mapping[str, object]) -> Source:
    """The configuration by the values of these options, by their names. Raises ConfigError for a swap device."""
    overrides = {
        "server.socket": given["socket"],
        "server.admin_socket": given["admin_socket"],
        "server.state_dir": _absolute(given["state_dir"]),
        "server.uvloop": False if given["no_uvloop"] else None,
        "server.trace_events": _absolute(given["trace_events"]),
        "server.log_format": given["log_format"],
        "server.log_level": given["log_level"],
        "metrics.listen": given["metrics_listen"],
        "page.listen": given["page_listen"],
        "memory.size": given["memory"],
        "memory.page_size": given["page_size"],
        "memory.mechanism": given["mechanism"],
        "memory.fault_wakeup": given["fault_wakeup"],
        "policy.alloc": given["alloc"],
        "policy.evict": given["evict"],
        "policy.oom": given["oom"],
        "policy.cond": given["cond"],
    }
    path, swap = given["config"], given["swap"]
    return Source(
        path if isinstance(path, Path) else None,
        {key: value for key, value in overrides.items() if value is not None},
        [parse_swap_spec(text) for text in swap] if isinstance(swap, list) else [],
    )


def _absolute(path: object) -> str | None:
    return str(path.absolute()) if isinstance(path, Path) else None
