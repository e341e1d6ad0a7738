"""What evict policies miss on real memory, beside their own replay of the same trace, which knows every touch.

A client reads one byte of a page after another, in mapped memory four times as large as usmd's. The first touch of a
page writes it, so pages go to swap, which is in memory. Misses are pages that came in; a replay has the same memory,
less what the watermarks keep free. `off` is the same run with `memory.sampling = "off"`. CPU is the daemon's.

A second table is about recordings: the touches that a recording gets while the live policy is lru are replayed, and
the number of misses is compared with that of a replay of the whole trace. A third one compares the ways to take pages
out, where usmd may do that itself, on the first trace; there CPU is of both, the daemon and the client.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import threading
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice, permutations
from pathlib import Path
from typing import Final, NamedTuple

import lib_usm
from lib_usm import taking_out
from tools.own_daemon import running
from usmd.core.region import PAGE_MASK
from usmd.ctl.address import admin_socket
from usmd.ctl.connect import Admin
from usmd.ctl.doctor_probe import look
from usmd.lab.loading import gather
from usmd.lab.replay import Replay, Setup
from usmd.lab.traces.trace import cut
from usmd.mechanism.sampler import ByClient, Pageout, why_not_permitted
from usmd.mechanism.uffd import usable

PAGE: Final = 4096
PAGES: Final = 16_384
FRAMES: Final = 4_096
LOW: Final = 20
HIGH: Final = 40
"""Watermarks in frames: small, so that the capacities compared are the same within 1 %."""
READS: Final = 60_000
POLICIES: Final = ("lru", "clock", "arc", "s3_fifo", "lirs")
SAMPLING: Final = ("auto", "off")
AIM: Final = 0.05
SHARES: Final = (1.0, 1.5, 0.5)
LIMIT_SECONDS: Final = 60.0
_SEED: Final = 7


def zipf(pages: Sequence[int], count: int, skew: float, rng: random.Random) -> list[int]:
    """Independent reads; the n-th of the pages has the weight 1 / n^skew."""
    return rng.choices(pages, [1 / rank**skew for rank in range(1, len(pages) + 1)], k=count)


def _mixed(hot: Iterator[int], others: Sequence[int], share: float, rng: random.Random) -> Iterator[int]:
    """Reads of `hot` with this share; the rest goes round and round through the others."""
    position = 0
    while True:
        if rng.random() < share:
            yield next(hot)
        else:
            yield others[position % len(others)]
            position += 1


def traces() -> dict[str, list[int]]:
    """The traces by name; the same in every run."""
    rng = random.Random(_SEED)
    pages = rng.sample(range(PAGES), PAGES)
    half = PAGES // 2
    hot = iter(lambda: rng.choice(pages[:2000]), None)
    scanned = iter(zipf(pages[:6000], READS, 1.0, rng))
    return {
        "zipf": zipf(pages, READS, 1.0, rng),
        "loop and hot set": list(islice(_mixed(hot, sorted(pages[2000:7000]), 0.5, rng), READS)),
        "scan and hot set": list(islice(_mixed(scanned, sorted(pages[6000:]), 0.67, rng), READS)),
        "two phases": zipf(pages[:half], READS // 2, 0.9, rng) + zipf(pages[half:], READS // 2, 0.9, rng),
    }


class Live(NamedTuple):
    """A run on real memory: misses and sampled touches, each per read, and seconds of CPU of the daemon per read.

    `recorded`: the pages of a recording, if there was one.
    """

    misses: float
    sampled: float
    cpu: float
    recorded: list[int]


class Recording(threading.Thread):
    """Records what a process touches, from its construction until `end`."""

    def __init__(self, admin: Admin, process_id: int) -> None:
        super().__init__()
        self._stream = admin.record(process_id)
        self._messages = iter(self._stream)
        next(self._messages)  # the header: from now on touches are recorded
        self._pages: list[int] = []
        self._last = 0
        self._came = threading.Condition()
        self.start()

    def run(self) -> None:
        """Keep the touches."""
        for message in self._messages:
            if message.dropped:
                raise RuntimeError(f"{message.dropped} touches were lost")
            with self._came:
                self._pages += [page & PAGE_MASK for page in message.pages]
                self._came.notify()

    def end(self, count: int) -> list[int]:
        """Wait until so many touches have come; returns their pages. Raises RuntimeError if they do not come."""
        with self._came:
            there = self._came.wait_for(lambda: len(self._pages) >= count, LIMIT_SECONDS)
        self._stream.cancel()
        self.join()
        if not there:
            raise RuntimeError(f"{len(self._pages)} touches of {count} were recorded")
        return self._pages


def live(trace: Sequence[int], evict: str, sampling: str, *, recorded: bool = False) -> Live:
    """Read a trace in mapped memory. Raises RuntimeError if a byte is wrong, or a page came in unasked."""
    with tempfile.TemporaryDirectory(prefix="usmd-sight-") as folder:
        config = Path(folder) / "usmd.toml"
        config.write_text(
            f"""[memory]
size = {FRAMES * PAGE}
low_watermark = "{LOW * PAGE}B"
high_watermark = "{HIGH * PAGE}B"
sampling = {_value(sampling)}
mechanism = "userfaultfd"
""",
            encoding="utf-8",
        )
        flags = ("--config", str(config), "--evict", evict, "--alloc", "first_fit", "--swap", f"memory:{PAGES * PAGE}")
        with ExitStack() as opened:
            daemon = opened.enter_context(running(*flags))
            client = opened.enter_context(lib_usm.connect(daemon.address, name="sight"))
            region = client.mmap(PAGES * PAGE)
            memory = region.buffer
            admin = opened.enter_context(Admin(admin_socket(daemon.admin_address)))
            status = admin.status()
            cpu = _cpu(status.pid)
            recording = Recording(admin, admin.process_id("sight")) if recorded else None
            seen = bytearray(PAGES)
            for page in trace:
                if not seen[page]:
                    seen[page] = 1
                    memory[page * PAGE] = page % 251 + 1
                elif memory[page * PAGE] != page % 251 + 1:
                    raise RuntimeError(f"page {page} came back different")
            cpu = _cpu(status.pid) - cpu
            counters = admin.status().counters
            if counters["read_ahead"]:
                raise RuntimeError("pages came in that were not touched, so misses are not comparable")
            misses, sampled = counters["zero_fills"] + counters["swap_ins"], counters["minor_faults_sampled"]
            pages = recording.end(misses + sampled) if recording is not None else []
            memory.release()
            return Live(misses / len(trace), sampled / len(trace), cpu / len(trace), pages)


def _value(sampling: str) -> str:
    """`memory.sampling` as the configuration has it: a word, or a number."""
    return f'"{sampling}"' if sampling.isalpha() else sampling


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def replayed(trace: Sequence[int], evict: str, share: float = 1.0) -> int:
    """Misses of a replay, in which the policy gets every touch, in a share of the memory."""
    replay = Replay(
        gather(cut(array("q", trace)), "sight", lambda: "made"), Setup(int((FRAMES - (LOW + HIGH) // 2) * share), evict)
    )  # fmt: skip
    for _ in replay.run():
        pass
    return replay.row().misses


def main() -> None:
    """Run with the default and without sampling."""
    run(SAMPLING)


def run(ways: Sequence[str]) -> None:
    """Print a line for each trace and policy, and one for each recording, with each value of `memory.sampling`.

    The aim is that of the first one.
    """
    findings = look()
    why_not = usable(findings.offer) or findings.sampling_error
    if why_not:
        print(f"sight needs real memory whose touches can be sampled: {why_not}")
        return
    print(f"misses a read: {READS:,} reads over {PAGES:,} pages, {FRAMES:,} frames")
    columns = f"{'beside':>7} {'sampled':>7} {'CPU':>8}"
    print(f"{'':17} {'':8} {'replay':>7}", *(f"| {each:>6} {columns}" for each in ways))
    missed = swapped = 0
    for name, trace in traces().items():
        found: list[tuple[float, float]] = []
        for evict in POLICIES:
            ideal = replayed(trace, evict) / len(trace)
            line = f"{name:17} {evict:8} {ideal:7.4f}"
            for sampling in ways:
                run = live(trace, evict, sampling)
                beside = run.misses / ideal - 1
                if sampling == ways[0]:
                    missed += beside > AIM
                    found.append((ideal, run.misses))
                line += f" | {run.misses:.4f} {beside:+6.1%} {run.sampled:7.3f} {run.cpu * 1e6:5.1f} us"
            print(line, flush=True)
        swapped += sum(a[0] * (1 + AIM) < b[0] and a[1] >= b[1] for a, b in permutations(found, 2))
    print(
        f"aim: at most {AIM:.0%} more than the replay: missed by {missed} of {len(POLICIES) * len(traces())}; the same "
        f"order where the replay separates policies by more than {AIM:.0%}: {swapped} pairs are in another one"
    )
    print("\nmisses in a replay of what was recorded, beside a replay of the whole trace, by share of the live memory")
    for name, trace in traces().items():
        for sampling in ways:
            recorded = live(trace, "lru", sampling, recorded=True).recorded
            line = f"{name:17} {sampling:5} {len(recorded) / len(trace):5.1%} of the touches"
            for share in SHARES:
                ratios = [replayed(recorded, evict, share) / replayed(trace, evict, share) for evict in POLICIES]
                line += f" | {share:g}: {' '.join(f'{ratio - 1:+6.1%}' for ratio in ratios)}"
            print(line, flush=True)
    compare_ways()


def compare_ways() -> None:
    """Print a line for each policy: the same run with pages taken out by the client, and by usmd."""
    why_not = why_not_permitted() or ("" if taking_out.available else "lib_usm was not compiled")
    if why_not:
        print(f"\nthe ways to take pages out are not compared: {why_not}")
        return
    name, trace = next(iter(traces().items()))
    print(f"\nby the way in which pages are taken out, {name}: misses beside the replay, CPU of daemon + client a read")
    for evict in POLICIES:
        ideal = replayed(trace, evict) / len(trace)
        line = f"{evict:8}"
        for way in (ByClient.name, Pageout.name):
            taking_out.available = way == ByClient.name  # type: ignore[misc]
            try:
                own = time.process_time()
                run = live(trace, evict, "auto")
                own = (time.process_time() - own) / len(trace)
            finally:
                taking_out.available = True  # type: ignore[misc]
            line += f" | {way:7} {run.misses / ideal - 1:+6.1%} {run.cpu * 1e6:5.1f} + {own * 1e6:4.1f} us"
        print(line, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sampling", nargs="+", default=SAMPLING, metavar="VALUE", help="values of memory.sampling (auto off)"
    )
    run(parser.parse_args().sampling)
