"""The benchmark of a small client beside a greedy one; no time is asserted."""

import re

from bench import neighbours


def test_beside_a_greedy_client_a_small_one_keeps_its_pages(programs, monkeypatch, capsys):
    monkeypatch.setattr(neighbours, "MEMORY", 256)
    monkeypatch.setattr(neighbours, "GREEDY", 512)
    monkeypatch.setattr(neighbours, "WORKING_SET", 16)
    monkeypatch.setattr(neighbours, "STEP_SECONDS", 0.0)
    neighbours.run(1, 2)
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.strip().partition("  ")[0] for line in lines] == list(neighbours.WAYS)
    assert all(re.search(r"fresh page p50 +[\d,]+ us   p99 +[\d,]+ us +[\d.]+x ", line) for line in lines)
    assert "pages lost      0   (aim: 1.5x and 1.1x," in lines[-1]
