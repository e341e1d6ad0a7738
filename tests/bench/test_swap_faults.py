"""Faults on swapped pages are measured beside the C handler at each placement; no time is asserted."""

import os

from bench import real_swap, swap_faults
from bench.native import Touch


def test_each_placement_and_kind_of_file_has_a_line(programs, monkeypatch, capsys):
    monkeypatch.setattr(real_swap, "MEMORY", "16MiB")
    monkeypatch.setattr(real_swap, "SWAP", "32MiB")
    monkeypatch.setattr(real_swap, "DATA", 2 << 20)
    monkeypatch.setattr(swap_faults, "ROUNDS", 1)
    monkeypatch.setattr(swap_faults, "TOUCHES", 20)
    asked = []

    def own_read(path):
        asked.append(path.stat().st_size)
        return 50.0

    swap_faults.measure(Touch(programs / "touch.so"), programs, own_read)
    lines = capsys.readouterr().out.splitlines()[1:]
    places = ["same CPU", "other CPU"][: len(os.sched_getaffinity(0))]
    expected = [(*place.split(), kind) for place in places for kind in ("cached", "O_DIRECT")]
    assert [tuple(line.split()[:3]) for line in lines] == expected
    assert all(line.count("times (aim ") == 1 for line in lines)
    assert asked == [2 << 20] * len(lines)
