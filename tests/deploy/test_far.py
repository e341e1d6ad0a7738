"""deploy/far: its nodes make a cluster on which two daemons have keyspaces of their own; its units and files fit."""

import contextlib
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import redis
import yaml

from tests.deploy.test_deploy import run, tool
from tests.support.redis_servers import PAGE, PROGRAM, free_port, out, read_back, require_redis
from tests.support.waiting import wait_until
from usmd.config import load
from usmd.config_values import read_table
from usmd.swap.open import open_devices
from usmd.swap.remote.kind import RedisKind

ROOT = Path(__file__).resolve().parents[2]
FAR = ROOT / "deploy" / "far"
DOC = (ROOT / "docs" / "far-memory.md").read_text()
COMPOSE = yaml.safe_load((FAR / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
NODES = [name for name in SERVICES if re.fullmatch(r"far\d", name)]
HOSTS = [name for name in SERVICES if name.startswith("host")]
PORT = "7001"


def settings(path):
    """Pairs of the lines of a unit or of a configuration of Redis, without comments."""
    return [line for line in path.read_text().splitlines() if line and line[0] not in "#["]


def command_of(node, port, folder):
    """The command of a node with another place for what it names, and less memory."""
    words = shlex.split(re.sub(r"\$\{\w+:-\w+\}", "100mb", node["command"]))
    places = {
        "redis-server": PROGRAM,
        "/etc/usmd/node.conf": str(FAR / "node.conf"),
        PORT: str(port),
        "/data": str(folder),
    }
    return [places.get(word, word) for word in words]


@pytest.fixture
def ports(tmp_path):
    """Six nodes that run the commands of the compose file; their ports by name."""
    require_redis()
    found = {}
    with contextlib.ExitStack() as stack:
        for name in NODES:
            found[name] = free_port()
            folder = tmp_path / name
            folder.mkdir()
            command = command_of(SERVICES[name], found[name], folder)
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL))
            stack.callback(process.kill)
        for port in found.values():
            client = stack.enter_context(redis.Redis(port=port, protocol=2))
            wait_until(lambda client=client: answers(client), "the node answers")
        yield found


def answers(client):
    try:
        return client.ping()
    except redis.RedisError:
        return False


def test_its_commands_make_a_cluster_on_which_each_daemon_has_a_keyspace_of_its_own(ports, monkeypatch):
    if shutil.which("redis-cli") is None:
        pytest.skip("there is no redis-cli here")
    _, shell, text = shlex.split(SERVICES["cluster"]["command"])
    assert shell == "-c"
    text = text.replace("$$", "$")
    for name, port in ports.items():
        text = text.replace(f"{name}:{PORT}", f"127.0.0.1:{port}")
    code, said, complaint = run("sh", "-c", text)
    assert code == 0, said + complaint
    (swap,) = load(FAR / "usmd.toml").swap
    url = swap.url
    for name, port in ports.items():
        url = url.replace(f"{name}:{PORT}", f"127.0.0.1:{port}")
    assert PORT not in url
    devices = []
    try:
        for host in HOSTS:
            monkeypatch.setattr("socket.gethostname", lambda host=host: SERVICES[host]["hostname"])
            spec = read_table(RedisKind, {"url": url, "size": 200 * PAGE}, "swap[0]").placed(FAR, 0)
            assert spec.keyspace == f"{host}-0"
            devices += open_devices([spec], PAGE)
        for generation, device in enumerate(devices):
            assert device.write([out(slot, generation) for slot in range(200)]) == [None] * 200
        for generation, device in enumerate(devices):
            assert read_back(device, [out(slot, generation) for slot in range(200)]) == [None] * 200
    finally:
        for device in devices:
            device.close()
    code, said, _ = run("sh", "-c", text)
    assert (code, said) == (0, "")  # a cluster that is there stays


def test_all_nodes_are_in_the_cluster_and_the_daemons_begin_with_some_of_them():
    assert len(NODES) == 6
    assert re.findall(rf"(far\d):{PORT}", SERVICES["cluster"]["command"]) == NODES
    assert list(SERVICES["cluster"]["depends_on"]) == NODES
    (swap,) = load(FAR / "usmd.toml").swap
    assert "keyspace" not in re.sub("#.*", "", (FAR / "usmd.toml").read_text())
    assert set(re.findall(r"far\d", swap.url)) <= set(NODES)
    assert len({SERVICES[host]["hostname"] for host in HOSTS}) == len(HOSTS) == 2


def test_the_compose_file_runs_usmd_as_the_readme_says():
    readme = (FAR.parent / "README.md").read_text()
    for host in HOSTS:
        daemon = SERVICES[host]
        assert f"--memory {daemon['mem_limit']} " in readme
        assert f"--ulimit nofile={daemon['ulimits']['nofile']}:" in readme
        assert f"--stop-timeout {daemon['stop_grace_period'].removesuffix('s')} " in readme
        assert (daemon["pid"], daemon["userns_mode"], daemon["devices"]) == ("host", "host", ["/dev/userfaultfd"])
        assert (FAR / daemon["build"]["context"] / daemon["build"]["dockerfile"]).exists()
        for each in daemon["volumes"]:
            source = each.partition(":")[0]
            assert source.startswith("/run/") or (FAR / source).exists()


def test_the_nodes_keep_pages_as_the_documentation_says():
    lines = settings(FAR / "node.conf")
    for each in ("maxmemory-policy noeviction", 'save ""', "appendonly no", "cluster-require-full-coverage no"):
        assert each in lines
        assert each in DOC


def test_the_unit_of_a_node_verifies_and_starts_the_node_of_its_port(tmp_path):
    analyze = tool("systemd-analyze")
    path = tmp_path / "usmd-redis@.service"
    path.write_text((FAR / path.name).read_text().replace("/usr/bin/redis-server ", "/bin/true "))
    assert run(analyze, "verify", str(path)) == (0, "", "")
    (start,) = [each for each in settings(FAR / path.name) if each.startswith("ExecStart=")]
    assert start.startswith("ExecStart=/usr/bin/redis-server /etc/usmd/node.conf --port %i --dir /var/lib/")
    assert "StateDirectory=usmd-redis/%i" in settings(FAR / path.name)


def test_the_drop_in_is_that_of_the_documentation_and_verifies(tmp_path):
    analyze = tool("systemd-analyze")
    lines = settings(FAR / "usmd-far.conf")
    assert "\n".join(["[Service]", *lines]) in DOC
    unit = tmp_path / "usmd.service"
    text = re.sub(r"/usr/bin/usm\w+", "/bin/true", (FAR.parent / "usmd.service").read_text())
    unit.write_text(text.replace("[Install]", "\n".join(lines) + "\n[Install]"))
    assert run(analyze, "verify", str(unit)) == (0, "", "")
