"""How pages are taken from several processes so that those that give stand alike."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usmd.core.region import Process


def level(standings: list[tuple[int, Process]], wanted: int) -> list[tuple[Process, int]]:
    """Which processes give how many of `wanted` pages, so that those that give stand alike, measured by weight.

    `standings`: what each could give, and the process. The one furthest above its share comes first.
    """
    standings.sort(key=_standing, reverse=True)
    total = weights = 0
    mark = 0.0
    gives: list[tuple[Process, int]] = []
    for index, (above, process) in enumerate(standings):
        total += above
        weights += process.weight
        mark = max((total - wanted) / weights, 0.0)
        if index + 1 == len(standings) or mark >= _standing(standings[index + 1]):
            for each, giver in standings[: index + 1]:
                share = min(ceil(each - mark * giver.weight), each, wanted)
                if share > 0:
                    gives.append((giver, share))
            break
    return gives


def _standing(of: tuple[int, Process]) -> float:
    return of[0] / of[1].weight
