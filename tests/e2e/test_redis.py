"""Debian's redis-server, unmodified, with its heap in usmd: every value is right in a quarter of what it needs.

Seconds of changes at random: $USMD_E2E_SECONDS, else as long as the least number of rounds takes.
"""

import contextlib
import os
import random
import threading

import pytest

from bench.redis_server import NoRedisError, Redis, key_of, program, redis_server, value_of
from tests.support.daemon import wait_equal, wait_until
from tests.support.native import managed
from tests.support.real_daemon import FRAMES, in_use, real_daemon

KEYS = range(1600)
SIZE = 3000
"""4.8 MB in all; the daemon has 1 MiB."""
SECONDS = float(os.environ.get("USMD_E2E_SECONDS", "0"))
ROUNDS = 3


@pytest.fixture(autouse=True)
def need_redis():
    try:
        program()
    except NoRedisError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))


@contextlib.contextmanager
def redis(daemon, folder):
    folder.mkdir(exist_ok=True)
    with redis_server(folder, managed(daemon.address, name="redis")) as (_, path), Redis(path) as client:
        yield client, folder / "redis.log"


def change_at_random(client, salts):
    """Store, delete and look at keys at random; `salts`: those of the values that keys have, to be kept up to date."""
    chance, rounds, over = random.Random(2), 0, threading.Event()
    threading.Timer(SECONDS, over.set).start()
    while rounds < ROUNDS or not over.is_set():
        rounds += 1
        changed, deleted, some = (chance.sample(KEYS, count) for count in (40, 10, 40))
        client.set(changed, SIZE, salt=rounds)
        salts.update(dict.fromkeys(changed, rounds))
        client.ask(*((b"DEL", key_of(each)) for each in deleted))
        salts.update(dict.fromkeys(deleted))
        found = client.ask(*((b"GET", key_of(each)) for each in some))
        assert found == [None if salts[each] is None else value_of(each, SIZE, salts[each]) for each in some]


@pytest.mark.timeout(SECONDS + 600)
def test_every_value_is_right_and_what_is_deleted_goes_back(tmp_path):
    with real_daemon(tmp_path, swap="memory:64MiB") as daemon:
        with redis(daemon, tmp_path / "redis") as (client, log):
            client.set(KEYS, SIZE)
            assert daemon.counters()["swap_outs"] > 2 * FRAMES
            some = random.Random(1).sample(KEYS, 150)
            assert client.wrong(some, SIZE) == []
            client.set(some, SIZE, salt=1)
            assert client.wrong(some, SIZE, salt=1) == []
            assert client.wrong(sorted(set(KEYS).difference(some)), SIZE) == []

            change_at_random(client, dict.fromkeys(KEYS, 0) | dict.fromkeys(some, 1))

            with pytest.raises(RuntimeError, match="ERR"):
                client.ask([b"BGSAVE"])
            assert "Can't save in background: fork: Cannot allocate memory" in log.read_text()
            assert "fork is refused" in log.read_text()

            used = sum(in_use(daemon)[1:])
            client.ask([b"FLUSHALL"], [b"MEMORY", b"PURGE"])
            wait_until(lambda: sum(in_use(daemon)[1:]) < used // 3, "frames and slots of what was deleted are free")
            client.set(KEYS[:100], SIZE, salt=2)
            assert client.wrong(KEYS[:100], SIZE, salt=2) == []
        wait_equal(lambda: in_use(daemon), (0, 0, 0), "nothing is left of a server that was killed")
