"""The bench of far memory compares every page, prints a line for each contest, and says what it skips."""

import pytest

from bench import far, far_reads
from bench.redis_server import NoRedisError
from tests.support.redis_servers import require_redis


@pytest.fixture
def few(monkeypatch):
    for module, name, value in (
        (far, "PAGES", 630), (far_reads, "BESIDE", 126), (far_reads, "TRIPS", (0, 0.1)),
        *((module, *each) for module in (far, far_reads) for each in (("ROUNDS", 2), ("CALLS", 3))),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)


def test_every_contest_has_a_line_and_the_server_s_memory_too(few, capsys):
    require_redis()
    far.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:6]] == [
        "swap-in of a page", "16 neighbours", "32 pages at random, read", "32 pages at random, written",
        "32 neighbours, written",
    ]  # fmt: skip
    assert lines[6].startswith("memory of the server beyond the pages: ")
    beside = [line.split("  ")[0] for line in lines[8:]]
    assert beside[0] == "reads of a device, us"
    assert [name for name in beside[1:] if not name.startswith("file, direct")] == [
        "compressed", "file, page cache", "redis, Unix socket", "redis, TCP on loopback",
        "redis, TCP + 0 ms", "redis, TCP + 0.1 ms",
    ]  # fmt: skip


def test_a_page_that_comes_back_different_ends_the_bench(few, monkeypatch):
    require_redis()
    monkeypatch.setattr(far.Sides, "read", lambda sides, entries: None)
    with pytest.raises(RuntimeError, match="630 pages came back different"):
        far.main()


def test_without_a_server_it_says_so(monkeypatch, capsys):
    def refuse(*_):
        raise NoRedisError("install it")

    monkeypatch.setattr(far, "redis_server", refuse)
    far.main()
    assert capsys.readouterr().out == "far: skipped, install it\n"
