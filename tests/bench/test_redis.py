"""The Redis bench runs each side that there can be, checks every value, and says what it skips; no time is asserted."""

import contextlib
import os
import shutil

import pytest
import zstandard

from bench import redis, redis_server, redis_sides
from bench.kernel_memory import UnavailableError
from bench.redis import Case
from bench.redis_server import NoRedisError, Redis, key_of, value_of
from bench.redis_sides import KERNEL, OWN
from tests.support.native import require_native
from usmd.swap.compressed import LEVEL

MIB = 1 << 20
OF_OWN = "0.92x of usmd, its own (p99 1.09x)"


@pytest.fixture(autouse=True)
def need_redis():
    try:
        redis_server.program()
    except NoRedisError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))


def refused(*_arguments):
    raise UnavailableError("not to be had in this test")


@pytest.fixture
def quick(monkeypatch):
    """One small case of each kind, on sides that take no cgroup, and no setting of the system is changed."""
    monkeypatch.setattr(
        redis, "CASES", (Case(0.5, 4 * MIB, 400, 1, ("4K", "AUTO")), Case(2.0, 4 * MIB, 200, 1, ("4K",)))
    )
    monkeypatch.setattr(redis, "SIZES", ("4K", "AUTO"))
    monkeypatch.setattr(redis_sides, "memory_cgroup", refused)
    monkeypatch.setattr(redis, "folios_allowed", lambda: contextlib.nullcontext("as found"))


def test_each_side_has_a_line_and_each_aim_a_verdict(quick, capsys):
    require_native()
    redis.main()
    out = capsys.readouterr().out
    assert "kernel's swap: skipped: not to be had in this test" in out
    lines = [line[2:16].strip() for line in out.splitlines()]
    sides = ("without usmd", "usmd 4K", "usmd AUTO", "usmd, its own")
    assert [line for line in lines if line in sides] == [*sides[:3], sides[0], sides[1], sides[3]]
    assert out.count(": best is ") == 3 + 2
    assert out.count("(aim ") == 3 + 2 + 2
    assert "usmd, its own, once all is stored: " in out


def rates(*requests):
    return [{redis.GET: redis.Rate(each, 1000 / each, 1.0)} for each in requests]


def test_aims_beside_the_kernel_are_for_throughput_and_times(capsys):
    rounds = {KERNEL: rates(100, 200, 100), "usmd 4K": rates(50, 80, 90), "usmd 16K": rates(90, 220, 130)}
    redis.report(Case(3.0, 4 * MIB, 200, 3, ("4K", "16K")), redis.GET, rounds | {OWN: rates(130, 240, 110)})
    assert capsys.readouterr().out.splitlines() == [
        "  GET: best is usmd 16K: 1.10x of kernel's swap (p99 0.91x), 1.80x of usmd 4K (p99 0.56x), " + OF_OWN,
        "    usmd 16K beside kernel's swap: 1.10x (aim >= 1.00: met)",
        "    usmd, its own beside kernel's swap: 1.20x (aim >= 1.20: met)",
        "    p99, usmd 16K beside kernel's swap: 0.91x (aim <= 1.00: met)",
        "    p99, usmd, its own beside kernel's swap: 0.83x (aim <= 1.00: met)",
    ]


def test_values_are_different_for_each_key_and_salt_and_compress_about_three_times():
    values = [value_of(number, 1024, salt) for number in range(200) for salt in (0, 1)]
    assert len(set(values)) == 400
    assert {len(value) for value in values} == {1024}
    pages = [b"".join(values[first : first + 4]) for first in range(0, 400, 4)]
    assert 2 <= 4096 * len(pages) / sum(len(zstandard.compress(page, LEVEL)) for page in pages) <= 3


def test_a_value_that_is_not_what_was_stored_is_found(tmp_path):
    with redis_server.redis_server(tmp_path) as (_, path), Redis(path) as client:
        client.set(range(300), 100)
        assert client.wrong(range(300), 100) == []
        client.ask((b"SET", key_of(7), b"another"), (b"SET", key_of(9), b"another"), (b"DEL", key_of(8)))
        assert client.wrong(range(300), 100) == [7, 8, 9]
        assert client.value_of_many([6, 7, 8], 100) == b"another"
        assert client.wrong(range(300), 100, also=b"another") == [8]
        with pytest.raises(RuntimeError, match=r"Redis answered b.-ERR unknown command"):
            client.ask((b"NONSENSE",))


def test_a_server_that_does_not_start_is_told_with_its_log(tmp_path):
    with (
        pytest.raises(RuntimeError, match=r"(?s)did not start: .*nonsense"),
        redis_server.redis_server(tmp_path, None, (), "--nonsense", "1"),
    ):
        pass


def test_without_redis_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    redis.main()
    assert "skipped: " in capsys.readouterr().out
