"""The Redis bench runs each side that there can be, checks every value, and says what it skips; no time is asserted."""

import os
import shutil

import pytest

from bench import redis, redis_server
from bench.kernel_memory import UnavailableError
from bench.redis_server import NoRedisError, Redis, key_of
from tests.support.native import require_native

MIB = 1 << 20


@pytest.fixture(autouse=True)
def need_redis():
    try:
        redis_server.program()
    except NoRedisError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))


def refused(*_arguments):
    raise UnavailableError("not to be had in this test")


def test_each_side_has_a_line_and_the_best_its_ratios(monkeypatch, capsys):
    require_native()
    for name, value in (
        ("MEMORY", 4 * MIB),
        ("SWAP", 16 * MIB),
        ("SHARES", {1.0: 400}),
        ("SIZES", ("4K",)),
        ("ROUNDS", 1),
    ):
        monkeypatch.setattr(redis, name, value)
    monkeypatch.setattr(redis, "memory_cgroup", refused)
    redis.main()
    out = capsys.readouterr().out
    assert "kernel's swap: skipped: not to be had in this test" in out
    sides = ("without usmd", "usmd 4K")
    assert [line[2:16].strip() for line in out.splitlines() if line[2:16].strip() in sides] == list(sides)
    assert out.count("best at ") == 3


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
