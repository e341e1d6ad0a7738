"""The bench of sampled touches runs, on a small memory; its figures are of large ones."""

from dataclasses import replace

import pytest

from bench import sight
from tests.support.findings import GOOD
from tests.support.real_memory import require_sampling
from usmd.mechanism.sampler import why_not_permitted


def test_it_prints_a_line_for_each_trace_and_policy_and_one_for_each_recording(monkeypatch, capsys):
    require_sampling()
    for name, value in (("PAGES", 512), ("FRAMES", 128), ("READS", 1500), ("POLICIES", ("lru", "lirs"))):
        monkeypatch.setattr(sight, name, value)
    monkeypatch.setattr(sight, "traces", lambda: {"zipf": sight.zipf(range(512), 1500, 1.0, sight.random.Random(1))})
    sight.run(("1.5", "off"))
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if line.startswith("zipf")]
    assert [row[1] for row in rows] == ["lru", "lirs", "1.5", "off"]
    assert all(float(row[2]) > 0 for row in rows[:2])
    shares = [float(row[2].rstrip("%")) for row in rows[2:]]
    assert shares[0] > shares[1]
    assert [line.split()[0] for line in lines if "| client" in line] == ([] if why_not_permitted() else ["lru", "lirs"])


def test_traces_are_of_the_pages_that_there_are_and_the_same_in_each_run():
    found = sight.traces()
    assert list(found) == ["zipf", "loop and hot set", "scan and hot set", "two phases"]
    assert {len(trace) for trace in found.values()} == {sight.READS}
    assert all(min(trace) >= 0 and max(trace) < sight.PAGES for trace in found.values())
    assert found == sight.traces()


def test_a_recording_that_does_not_come_is_an_error(monkeypatch):
    require_sampling()
    monkeypatch.setattr(sight, "PAGES", 64)
    monkeypatch.setattr(sight, "LIMIT_SECONDS", 0.0)
    monkeypatch.setattr(sight.Recording, "run", lambda _: None)
    with pytest.raises(RuntimeError, match="0 touches of 64 were recorded"):
        sight.live(range(64), "lru", "auto", recorded=True)


def test_where_touches_cannot_be_sampled_it_says_why(monkeypatch, capsys):
    monkeypatch.setattr(sight, "look", lambda: replace(GOOD, sampling_error="the kernel has swap"))
    sight.main()
    assert capsys.readouterr().out == "sight needs real memory whose touches can be sampled: the kernel has swap\n"
