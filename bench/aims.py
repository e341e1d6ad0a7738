"""Ratios of rounds that alternated, and whether they are what was aimed at."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios of rounds, which alternated."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def verdict(found: float, aim: float, *, at_least: bool) -> str:
    """The aim, and whether a ratio meets it."""
    met = found >= aim if at_least else found <= aim
    return f"(aim {'>=' if at_least else '<='} {aim:.2f}: {'met' if met else 'MISSED'})"
