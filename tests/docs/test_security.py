"""The numbers of docs/security.md are those of the code, and no limit stands there that this file does not know."""

import re
from pathlib import Path

import msgspec

from tests.hostile import bounds, test_many
from usm_wire import local_stream
from usmd.config import MemoryConfig, PolicyRules, ServerConfig
from usmd.core.placement import MAX_GUESSES
from usmd.core.settings import CoreSettings
from usmd.core.windows import MAX_WINDOWS
from usmd.mechanism import client_memory, departures, off_loop
from usmd.server import (
    admission,
    allowance,
    connections,
    descriptors,
    excess,
    fault_stream,
    http_server,
    loop_watch,
    memory_socket,
)
from usmd.server.client_service import REQUEST_LIMITS
from usmd.server.daemon import TICK_SECONDS
from usmd.server.grpc_server import SERVER_OPTIONS
from usmd.server.rpc import MAX_REQUEST_BYTES
from usmd.server.sessions import MAX_STREAMS, MAX_UNREAD_LOADS
from usmd.server.transfers import MAX_TRANSFER_BYTES
from usmd.sizes import format_size

TEXT = " ".join((Path(__file__).parents[2] / "docs" / "security.md").read_text().split())
LIMITS = TEXT.partition("## Limits")[2].partition("**Descriptors.**")[0]
HOSTILE = Path(__file__).parents[1] / "hostile"
MIB = 1 << 20
MEASURED = "under 256 MiB (226 at most in 24 waves, each as the one before had been disconnected)"
"""What tests/hostile/test_strangers.py holds, and what was measured."""
TRIED = {
    "noise": ("Random bytes, HTTP/1 requests, HTTP/2 frames and messages, on every socket", "test_fuzz.py"),
    "messages": ("128 messages of 3.9 MiB, none of them complete", "test_strangers.py"),
    "headers": ("Headers without end", "test_strangers.py"),
    "connections": ("More connections than there are descriptors", "test_strangers.py"),
    "streams": (f"{test_many.STREAMS:,} streams, each opened and cancelled", "test_many.py"),
    "unread": ("Calls, watches, requests for memory and scrapes, of which no answer is read", "test_many.py"),
    "regions": (f"{test_many.REGIONS:,} regions", "test_many.py"),
    "killed": (
        f"{test_many.CLIENTS} clients, of which half are killed while the others read their memory",
        "test_many.py",
    ),
    "clocks": ("Clocks that jump", "test_surroundings.py"),
}
"""Rows about hostile tests, by the name of their bound."""


def default(config, name):
    """What a setting is unless it is given."""
    return next(field.default for field in msgspec.structs.fields(config) if field.name == name)


def share(text):
    return text.replace("%", " %")


def phrases():
    server = {name: default(ServerConfig, name) for name in ServerConfig.__struct_fields__}
    memory = {name: default(MemoryConfig, name) for name in MemoryConfig.__struct_fields__}
    of_user = f"`server.max_user_connections` ({server['max_user_connections']})"
    calls = dict(SERVER_OPTIONS)["grpc.max_concurrent_streams"]
    store, stream = REQUEST_LIMITS["Store"], REQUEST_LIMITS["StreamFaults"]
    pages = default(CoreSettings, "max_fault_pages")
    return [
        f"| `server.max_sessions` ({server['max_sessions']:,}) |",
        f"| `server.max_user_sessions` ({server['max_user_sessions']:,}) |",
        f"| {of_user}, and {excess.A_SESSION} a session |",
        f"closed after {excess.GRACE_SECONDS:g} s, at once beyond {excess.MOST_IN_GRACE} of them |",
        f"| {of_user} | the reason, then closed |",
        f"| {of_user}, and three quarters of all that operators may have | the reason, then closed |",
        f"| {http_server.MAX_CONNECTIONS} each | the one that usmd has waited for longest is closed |",
        f"| `server.attach_timeout` ({server['attach_timeout']:g} s) |",
        f"| `memory.max_regions` ({memory['max_regions']:,}),",
        f"`memory.max_mapped` ({format_size(memory['max_mapped'])}); `max_regions` of its rule |",
        f"`memory.newcomer_reserve` ({share(memory['newcomer_reserve'])})",
        f"| `memory.deny_budget` ({share(memory['deny_budget'])}),",
        f"`memory.deny_budget_total` ({share(memory['deny_budget_total'])}); `deny_budget` of its rule |",
        f"| Calls of a connection at a time | {calls} |",
        f"| Streams of a session | {MAX_STREAMS} |",
        f"a session's calls | {admission.SESSION_READS}, each within {admission.SESSION_SECONDS:g} s |",
        f"without a token or ticket | {admission.STRANGERS}, each within {admission.STRANGER_SECONDS:g} s |",
        f"they wait for {admission.QUEUE_SECONDS:g} s;",
        f"| {admission.MAX_MESSAGE // MIB} MiB gathered by gRPC; {stream / MIB:g} MiB of faults and accesses,",
        f"{store // MIB} MiB and {store % MIB >> 10} KiB of a Store,",
        f"{MAX_REQUEST_BYTES >> 10} KiB of any other request,",
        f"{local_stream.MAX_REQUEST_BYTES >> 10} KiB on a fault stream of the memory socket |",
        f"| A Load or Store | {MAX_TRANSFER_BYTES // MIB} MiB, or one page if that is more |",
        f"does not read | {MAX_UNREAD_LOADS} | further calls wait |",
        f"| {fault_stream.MAX_BATCH_FAULTS:,} faults; {pages} pages.",
        f"A message is handled {fault_stream.PART_PAGES} pages at a stretch,",
        f"at most {MAX_GUESSES:,} pages come along with a batch (FHP).",
        f"{MAX_WINDOWS} larger windows of a session come in by parts at a time |",
        f"wait for | {default(CoreSettings, 'max_faults'):,}; `max_faults` of its rule |",
        f"| Hinted ranges of a session | {default(CoreSettings, 'max_hint_ranges'):,}; `max_hint_ranges` of its rule |",
        f"| {connections.STRANGER_BYTES // MIB} MiB, or {connections.PANIC_BYTES // MIB} MiB within half a second,",
        f"looked for fifty times a second: {MEASURED} |",
    ]


def test_every_limit_is_that_of_the_code():
    assert [phrase for phrase in phrases() if phrase not in LIMITS] == []


def test_no_number_among_the_limits_is_unknown_here():
    rest = LIMITS
    for phrase in phrases():
        rest = rest.replace(phrase, "")
    assert re.findall(r"\d[\d,.]*", rest) == []


def test_numbers_that_are_words_and_those_of_the_other_parts_are_of_the_code():
    assert connections.YOUNG_SECONDS == 0.5
    assert connections.LOOKS_A_TICK / connections.TICK_SECONDS == 50
    shares = descriptors.Shares.of(2 * 1024 + descriptors.KEPT)
    assert (shares.regions, shares.connections) == (1024, 256)
    assert shares.memory_connections == 512 // descriptors.OF_MEMORY
    assert (descriptors.OF_A_REGION, descriptors.OF_MEMORY, descriptors.OF_OPERATOR) == (2, 5, 3)
    least, most = descriptors.Shares.of(1024).operators, descriptors.Shares.of(descriptors.MOST).operators
    patience, minute = off_loop.PATIENCE_SECONDS, off_loop.MINUTE
    assert (minute, allowance.TELL_SECONDS) == (60, 10)
    latest = loop_watch.CLIENT_SECONDS + loop_watch.LOOK_SECONDS + TICK_SECONDS
    told = [
        f"{descriptors.KEPT} (a quarter of fewer than 1,024; from {16 * descriptors.KEPT:,} on a sixteenth,",
        f"up to {descriptors.MOST_KEPT:,}) are kept",
        f"{least} connections of {descriptors.KEPT}, {most} of {descriptors.MOST_KEPT:,}.",
        f"each may be up to {admission.MAX_MESSAGE // MIB} MiB, {MAX_STREAMS} streams a session",
        "ended after `policy.call_timeout`",
        f"pages that it takes in this way beyond {format_size(memory_socket.MAX_TAKEN * 4096)} end its session",
        f"for at most {patience * 1e3:g} ms a minute and region",
        f"{off_loop.JOB_SECONDS * 1e3:g} ms a batch and {off_loop.PAGE_SECONDS * 1e6:g} µs a page are free",
        f"ends that client after {loop_watch.CLIENT_SECONDS:g} to {latest:.2f} s",
        f"{client_memory.BUSY_TRIES} tries of {client_memory.BUSY_SECONDS * 1e6:g} µs;",
        f"not waited for again for {client_memory.STUCK_SECONDS:g} s",
        f"After {departures.MAX_LATE} such regions no region is made",
    ]
    assert [phrase for phrase in told if phrase not in TEXT] == []
    assert default(PolicyRules, "call_timeout") == 10


def test_the_bounds_of_hostile_tests_are_those_that_the_tests_hold():
    rows = TEXT.partition("**What is tried.**")[2].partition("## Files")[0]
    wanted = {name: f"| {words} | {bounds.GROWTH[name]} MiB | `{file}` |" for name, (words, file) in TRIED.items()}
    assert [row for row in wanted.values() if row not in rows] == []
    assert rows.count("MiB |") == len(wanted)
    assert f"({bounds.GROWTH['standard streams']} MiB)" in rows
    assert set(bounds.GROWTH) - set(TRIED) == {"standard streams"}
    for name, (_, file) in TRIED.items():
        assert f'GROWTH["{name}"]' in (HOSTILE / file).read_text(), name
