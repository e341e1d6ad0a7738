"""What evict policies miss on real memory, beside their own replay of the same trace, which knows every touch.

A client reads one byte of a page after another, in mapped memory four times as large as usmd's. The first touch of a
page writes it, so pages go to swap, which is in memory. Misses are pages that came in; a replay has the same memory,
less what the watermarks keep free. `off` is the same run with `memory.sampling = "off"`. CPU is the daemon's.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import lib_usm
from tools.own_daemon import running
from usmd.ctl.connect import Admin, admin_socket
from usmd.lab.loading import gather
from usmd.lab.replay import Replay, Setup
from usmd.lab.traces.trace import cut

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
    """A run on real memory: misses and sampled touches, each per read, and seconds of CPU of the daemon per read."""

    misses: float
    sampled: float
    cpu: float


def live(trace: Sequence[int], evict: str, sampling: str) -> Live:
    """Read a trace in mapped memory. Raises RuntimeError if a byte is wrong, or a page came in unasked."""
    with tempfile.TemporaryDirectory(prefix="usmd-sight-") as folder:
        config = Path(folder) / "usmd.toml"
        config.write_text(
            f"""[memory]
size = {FRAMES * PAGE}
low_watermark = "{LOW * PAGE}B"
high_watermark = "{HIGH * PAGE}B"
sampling = "{sampling}"
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
            misses = counters["zero_fills"] + counters["swap_ins"]
            memory.release()
            return Live(misses / len(trace), counters["minor_faults_sampled"] / len(trace), cpu / len(trace))


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def replayed(trace: Sequence[int], evict: str) -> float:
    """Misses per read of a replay, in which the policy gets every touch."""
    replay = Replay(
        gather(cut(array("q", trace)), "sight", lambda: "made"), Setup(FRAMES - (LOW + HIGH) // 2, evict)
    )  # fmt: skip
    for _ in replay.run():
        pass
    return replay.row().miss_ratio


def main() -> None:
    """Print a line for each trace and policy."""
    print(f"misses a read: {READS:,} reads over {PAGES:,} pages, {FRAMES:,} frames")
    columns = f"{'beside':>7} {'sampled':>7} {'CPU':>8}"
    print(f"{'':17} {'':8} {'replay':>7}", *(f"| {each:>6} {columns}" for each in SAMPLING))
    missed = 0
    for name, trace in traces().items():
        for evict in POLICIES:
            ideal = replayed(trace, evict)
            line = f"{name:17} {evict:8} {ideal:7.4f}"
            for sampling in SAMPLING:
                run = live(trace, evict, sampling)
                beside = run.misses / ideal - 1
                missed += sampling == "auto" and beside > AIM
                line += f" | {run.misses:.4f} {beside:+6.1%} {run.sampled:7.3f} {run.cpu * 1e6:5.1f} us"
            print(line, flush=True)
    print(f"aim: at most {AIM:.0%} more than the replay; missed by {missed} of {4 * len(POLICIES)}")


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"{time.perf_counter() - started:.0f} s")
