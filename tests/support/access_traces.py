"""Seeded access traces, as arrays of page numbers, and a small memory to run policies on them."""

import numpy as np

from usmd.core import events
from usmd.core.hints import parse_hint
from usmd.core.instant import InstantCore
from usmd.core.settings import CoreSettings, DeviceInfo
from usmd.core.touches import Touches
from usmd.core.validate import violations
from usmd.policies import registry

PAGE = 4096


class SmallMemory:
    """A core without bytes, one process and one region with a swap slot for each of its pages."""

    def __init__(self, evict, frames, *, pages=64, alloc="first_fit", future=None, **more):
        more = {"deny_budget": frames, "deny_budget_total": frames, "eviction_records": 0, **more}
        settings = CoreSettings(frames=frames, page_size=PAGE, max_mapped=pages * PAGE, **more)
        self.core = InstantCore(settings, [DeviceInfo("swap0", pages)], registry.make)
        self.core.state.future = future
        self.core.handle(events.Attach("app", alloc, evict, "refuse"), 0.0)
        self.core.handle(events.Map(1, pages * PAGE, ""), 0.0)
        self.process = self.core.state.processes[1]
        self.table = self.core.state.regions[1].table
        self.touched = 0

    @property
    def policy(self):
        return self.process.policies._evict

    @property
    def misses(self):
        return self.process.counters.faults

    @property
    def resident(self):
        """Pages in memory, ascending."""
        return [page for page, _ in self.table.resident()]

    def touch(self, *pages, write=False):
        """Touch pages in order; returns the pages that this evicted."""
        before = self.resident
        self.core.handle(Touches(1, 1, pages, bytes([write]) * len(pages), (), self.touched), 0.0)
        self.touched += len(pages)
        assert violations(self.core) == []
        assert self.process.counters.policy_errors == 0
        return [page for page in before if page not in self.resident]

    def frame(self, page):
        return self.table[page] - 1

    def pages(self, frames):
        """The pages in these frames, in the same order."""
        return [self.core.state.frames.page[pfn] & 0xFFFFFFFF for pfn in frames]

    def hint(self, text, page, count=1):
        self.core.handle(events.SetHint(1, 1, page * PAGE, count * PAGE, parse_hint(text)), 0.0)

    def reason(self, page):
        return self.policy.reason(self.frame(page))


def uniform(pages, count, *, seed=1):
    """All pages are equally likely."""
    return np.random.default_rng(seed).integers(0, pages, count)


def zipf(pages, count, skew, *, seed=1):
    """The page of rank r has a likelihood of r ** -skew; the ranks of the pages are random."""
    generator = np.random.default_rng(seed)
    weights = np.arange(1, pages + 1, dtype=float) ** -skew
    return generator.permutation(pages)[generator.choice(pages, count, p=weights / weights.sum())]


def loop(pages, count):
    """All pages in order, again and again."""
    return np.arange(count) % pages


def sawtooth(pages, count):
    """Up to the last page and down again, repeatedly."""
    there = np.arange(pages)
    return np.resize(np.concatenate([there, there[-2:0:-1]]), count)


def scans_and_hot_set(pages, count, *, hot, scan, share=0.5, seed=1):
    """Touches of `hot` pages, and scans of `scan` consecutive pages through the others; `share`: of scans."""
    generator = np.random.default_rng(seed)
    trace = np.empty(count, dtype=np.int64)
    done, at = 0, hot
    while done < count:
        rest = count - done
        length = min(scan if generator.random() < share else int(generator.integers(1, 2 * scan)), rest)
        if generator.random() < share:
            trace[done : done + length] = hot + (at - hot + np.arange(length)) % (pages - hot)
            at += length
        else:
            trace[done : done + length] = zipf(hot, length, 0.8, seed=int(generator.integers(1 << 30)))
        done += length
    return trace


def phases(pages, count, *, number, skew=0.9, seed=1):
    """`number` parts; in each of them other pages are popular."""
    parts = [zipf(pages, count // number + 1, skew, seed=seed + each) for each in range(number)]
    return np.concatenate(parts)[:count]


def one_hit_wonders(pages, count, *, hot, share=0.5, seed=1):
    """A popular set of `hot` pages, between pages that are touched once, if there are enough."""
    generator = np.random.default_rng(seed)
    trace = zipf(hot, count, 0.9, seed=seed)
    once = generator.random(count) < share
    trace[once] = hot + np.arange(once.sum()) % (pages - hot)
    return trace
