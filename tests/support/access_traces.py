"""Seeded access traces, as arrays of page numbers: what the contracts of policies are tried on."""

import numpy as np


def uniform(pages, count, *, seed=1):
    """Each page as likely as the other."""
    return np.random.default_rng(seed).integers(0, pages, count)


def zipf(pages, count, skew, *, seed=1):
    """Page of rank r with a likelihood of r ** -skew; which page has which rank is drawn too."""
    generator = np.random.default_rng(seed)
    weights = np.arange(1, pages + 1, dtype=float) ** -skew
    return generator.permutation(pages)[generator.choice(pages, count, p=weights / weights.sum())]


def loop(pages, count):
    """Round and round."""
    return np.arange(count) % pages


def sawtooth(pages, count):
    """Up to the last page and down again."""
    there = np.arange(pages)
    return np.resize(np.concatenate([there, there[-2:0:-1]]), count)


def scans_and_hot_set(pages, count, *, hot, scan, share=0.5, seed=1):
    """Touches of `hot` pages, and scans of `scan` pages in a row through the others, which are `share` of all."""
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
    """Parts in each of which other pages are popular."""
    parts = [zipf(pages, count // number + 1, skew, seed=seed + each) for each in range(number)]
    return np.concatenate(parts)[:count]


def one_hit_wonders(pages, count, *, hot, share=0.5, seed=1):
    """A popular part of `hot` pages, between pages that are asked for once (as far as there are enough)."""
    generator = np.random.default_rng(seed)
    trace = zipf(hot, count, 0.9, seed=seed)
    once = generator.random(count) < share
    trace[once] = hot + np.arange(once.sum()) % (pages - hot)
    return trace
