"""A remote swap file on a cluster of six nodes: spread over it, while a slot moves, and while a replica takes over."""

import contextlib
from types import SimpleNamespace

import pytest
import redis

from tests.support.redis_servers import RedisServer, free_port, open_redis, out, read_back, require_redis, types_of
from tests.support.waiting import wait_equal, wait_until
from usmd.errors import DataLoss, SwapDeviceError, SwapIOError
from usmd.swap.remote.requests import PLACED, Failure
from usmd.swap.remote.servers import Cluster as Primaries

SLOTS = 16_384
EXTENT = 63
EXTENTS = 24
FLAGS = (
    "--cluster-enabled", "yes", "--cluster-node-timeout", "1500", "--cluster-require-full-coverage", "no",
    "--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0",
)  # fmt: skip


class Cluster:
    """Three primaries and a replica of each."""

    def __init__(self, folder, stack):
        self.nodes = []
        for number in range(6):
            self.nodes.append(RedisServer(folder / str(number), *FLAGS, port=free_port()))
            stack.callback(self.nodes[-1].close)
        first, *others = self.nodes
        for node in others:
            first.client.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port)
        bounds = [0, SLOTS // 3, 2 * SLOTS // 3, SLOTS]
        for number, node in enumerate(self.nodes[:3]):
            node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
        wait_until(
            lambda: all(self.tells(node)["cluster_known_nodes"] == "6" for node in self.nodes),
            "all nodes know each other",
        )
        for number, node in enumerate(self.nodes[3:]):
            primary = self.id_of(self.nodes[number])
            wait_until(lambda node=node, primary=primary: self.replicates(node, primary), "it is a replica")
        wait_until(lambda: all(map(self.is_well, self.nodes)), "the cluster is well")
        self.url = f"redis+cluster://127.0.0.1:{first.port},127.0.0.1:{self.nodes[1].port}"

    @staticmethod
    def id_of(node):
        return node.client.execute_command("CLUSTER", "MYID").decode()

    @staticmethod
    def tells(node):
        return dict(line.split(":") for line in node.client.execute_command("CLUSTER", "INFO").decode().split())

    @staticmethod
    def replicates(node, primary):
        try:
            return node.client.execute_command("CLUSTER", "REPLICATE", primary)
        except redis.ResponseError:  # it does not know the primary yet
            return False

    def is_well(self, node):
        info = node.client.info("replication")
        linked = info["role"] == "master" or info["master_link_status"] == "up"
        return linked and self.tells(node)["cluster_state"] == "ok"

    def keys(self, node):
        return [key for key in node.names() if b"{" in key]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    require_redis()
    with contextlib.ExitStack() as stack:
        yield Cluster(tmp_path_factory.mktemp("cluster"), stack)


@pytest.fixture
def device(cluster):
    found = open_redis(cluster.url, slots=EXTENTS * EXTENT, timeout=1.0, lease=3.0)
    yield found
    found.close()


def one_an_extent(generation=1):
    return [out(extent * EXTENT + extent, generation) for extent in range(EXTENTS)]


def test_extents_are_spread_over_the_primaries_and_deleted_everywhere(cluster, device):
    entries = one_an_extent()
    assert device.write(entries) == [None] * EXTENTS
    counts = [len(cluster.keys(node)) for node in cluster.nodes[:3]]
    assert (sum(counts), min(counts) > 0) == (EXTENTS, True)
    assert read_back(device, entries) == [None] * EXTENTS
    device.discard([entry.slot for entry in entries])
    wait_until(lambda: not any(map(cluster.keys, cluster.nodes[:3])), "all extents are deleted")


def test_a_second_daemon_and_an_evicting_node_are_refused(cluster, device):
    with pytest.raises(SwapDeviceError, match="the keyspace test is owned by usmd"):
        open_redis(cluster.url, lease=3.0)
    cluster.nodes[2].client.config_set("maxmemory-policy", "allkeys-random")
    try:
        with pytest.raises(SwapDeviceError, match="allkeys-random"):
            open_redis(cluster.url, keyspace="other")
    finally:
        cluster.nodes[2].client.config_set("maxmemory-policy", "noeviction")


def test_a_cluster_of_which_no_node_answers_is_named(tmp_path):
    url = f"redis+cluster://127.0.0.1:{free_port()}"
    with pytest.raises(SwapDeviceError, match=r"swap device redis0: redis[+]cluster://127.*Connection"):
        open_redis(url)


def test_pages_are_right_at_every_step_of_a_slot_that_moves(cluster, device):
    entries = one_an_extent()
    device.write(entries)
    source, target = cluster.nodes[0], cluster.nodes[1]
    keys = cluster.keys(source)
    slots = [source.client.execute_command("CLUSTER", "KEYSLOT", key) for key in keys]
    generation = 1

    def all_right():
        nonlocal generation
        assert read_back(device, one_an_extent(generation)) == [None] * EXTENTS
        generation += 1
        assert device.write(one_an_extent(generation)) == [None] * EXTENTS
        assert read_back(device, one_an_extent(generation)) == [None] * EXTENTS

    for slot in slots:
        target.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.id_of(source))
        source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.id_of(target))
    all_right()
    for key in keys[::2]:
        source.client.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
    all_right()
    for key in keys[1::2]:
        source.client.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
    all_right()
    for slot in slots:
        for node in (target, source):
            node.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", cluster.id_of(target))
    all_right()
    assert cluster.keys(source) == []


def owned_by(cluster, node):
    """The extents of a node."""
    return {int(key.split(b"}")[0].rpartition(b".")[2]) for key in cluster.keys(node)}


def test_while_a_node_is_stopped_its_pages_alone_wait_and_no_byte_is_wrong(cluster, device):
    entries = one_an_extent()
    device.write(entries)
    theirs = owned_by(cluster, cluster.nodes[1])
    assert 0 < len(theirs) < EXTENTS
    wait_until(lambda: owned_by(cluster, cluster.nodes[4]) == theirs, "the replica has the extents")
    cluster.nodes[1].stop()
    try:
        found = read_back(device, entries)
    finally:
        cluster.nodes[1].go_on()
    assert {found[extent] for extent in range(EXTENTS) if extent not in theirs} == {None}
    assert {found[extent] for extent in theirs} == {SwapIOError}
    wait_equal(lambda: read_back(device, entries), [None] * EXTENTS, "it goes on, or its replica has taken over")
    wait_equal(lambda: types_of(device.write(one_an_extent(2))), [None] * EXTENTS, "pages are written again")
    assert read_back(device, one_an_extent(2)) == [None] * EXTENTS


def test_while_a_replica_takes_over_its_pages_alone_wait_and_no_byte_is_wrong(cluster, device):
    entries = one_an_extent()
    device.write(entries)
    primary, replica = cluster.nodes[2], cluster.nodes[5]
    theirs = owned_by(cluster, primary)
    assert 0 < len(theirs) < EXTENTS
    wait_until(lambda: owned_by(cluster, replica) == theirs, "the replica has the extents")
    primary.kill()
    found = read_back(device, entries)
    assert {found[extent] for extent in range(EXTENTS) if extent not in theirs} == {None}
    assert {found[extent] for extent in theirs} == {SwapIOError}
    wait_until(lambda: SwapIOError not in read_back(device, entries), "the replica has taken over")
    assert set(read_back(device, entries)) <= {None, DataLoss}
    wait_equal(lambda: types_of(device.write(one_an_extent(2))), [None] * EXTENTS, "pages are written again")
    assert read_back(device, one_an_extent(2)) == [None] * EXTENTS
    assert device._servers.away() == []


class FakeNode:
    """A primary, its client, the pool of that and its connection in one. It notes in `log` what is done with it."""

    def __init__(self, name, log, answer, arrives=True):
        self.name = name
        self.log = log
        self.answer = answer
        self.arrives = arrives
        self.connection_pool = self
        self._sock = None

    def get_connection(self):
        return self

    def pack_commands(self, commands):
        return commands

    def send_packed_command(self, commands):
        self.log.append(("send", self.name, len(commands)))

    def can_read(self):
        return self.arrives

    def parse_response(self, connection, name):
        self.log.append(("read", self.name))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def release(self, connection):
        self.log.append(("release", self.name))

    def disconnect(self):
        self.log.append(("disconnect", self.name))


class FakeCluster:
    """What the library's client of a cluster is to usmd: the first letter of a key is the name of its primary."""

    def __init__(self, *nodes):
        self.nodes = {node.name: node for node in nodes}
        self.looks = 0
        self.nodes_manager = SimpleNamespace(initialize=self.look)

    def look(self):
        self.looks += 1

    def get_node_from_key(self, key):
        return self.nodes[key[0]]

    def get_node(self, node_name):
        return self.nodes.get(node_name)

    def get_redis_connection(self, node):
        return node

    def execute_command(self, *command):
        return b"from elsewhere"


def ranges(*keys):
    return [("GETRANGE", key, 0, 3) for key in keys]


def test_all_primaries_are_asked_before_the_first_answer_is_read():
    log = []
    primaries = Primaries(FakeCluster(FakeNode("a", log, b"1"), FakeNode("b", log, b"2")), float)
    assert primaries.run(ranges("b1", "a1", "b2")) == [b"2", b"1", b"2"]
    steps = [("send", "b", 2), ("send", "a", 1), ("read", "b"), ("read", "b"), ("release", "b"), ("read", "a")]
    assert log == [*steps, ("release", "a")]


def test_a_primary_that_fails_fails_its_own_requests_and_the_primaries_are_looked_up_again():
    log = []
    client = FakeCluster(FakeNode("a", log, redis.ConnectionError("reset")), FakeNode("b", log, b"2222"))
    target = [memoryview(bytearray(4)) for _ in range(3)]
    replies = Primaries(client, float).run(ranges("a1", "b1", "a2"), [[each] for each in target])
    failure = Failure("ConnectionError: reset", unknown=True)
    assert replies == [failure, PLACED, failure]
    assert (bytes(target[1]), client.looks) == (b"2222", 1)
    assert ("disconnect", "a") in log


def test_primaries_that_are_away_together_take_one_timeout():
    log = []
    late = redis.TimeoutError("Timeout reading from socket")
    nodes = [FakeNode("a", log, late), FakeNode("b", log, late, arrives=False), FakeNode("c", log, b"3")]
    replies = Primaries(FakeCluster(*nodes), float).run(ranges("a1", "b1", "c1"))
    failure = Failure("TimeoutError: Timeout reading from socket", unknown=True)
    assert replies == [failure, failure, b"3"]
    assert ("read", "b") not in log
    assert sorted(step[1] for step in log if step[0] == "release") == ["a", "b", "c"]


def test_a_request_whose_slot_has_moved_is_followed_and_fills_its_buffer():
    log = []
    client = FakeCluster(FakeNode("a", log, redis.exceptions.MovedError("1 127.0.0.1:1")), FakeNode("b", log, b"2"))
    target = memoryview(bytearray(14))
    assert Primaries(client, float).run(ranges("a1", "b1"), [[target], [memoryview(bytearray(1))]]) == [PLACED, PLACED]
    assert bytes(target) == b"from elsewhere"
