"""docs/far-memory.md: its configurations, command lines and access rights are those that usmd takes and needs."""

import re
import shlex
from pathlib import Path

import pytest

from tests.support.redis_servers import open_redis, out, read_back, running_redis
from usmd.config import load
from usmd.swap.open import parse_swap_spec
from usmd.swap.remote.address import parse_url
from usmd.swap.remote.kind import PASSWORD_VARIABLE, RedisKind

TEXT = (Path(__file__).parents[2] / "docs" / "far-memory.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def test_its_configurations_can_be_loaded(tmp_path):
    assert len(blocks("toml")) == 2
    for number, block in enumerate(blocks("toml")):
        path = tmp_path / f"{number}.toml"
        path.write_text(block)
        (spec,) = load(path).swap
        assert isinstance(spec, RedisKind)
        assert spec.password_file == Path("/etc/usmd/redis.password")


def test_its_command_lines_are_devices():
    commands = [shlex.split(line) for line in "".join(blocks("sh")).splitlines()]
    assert len(commands) == 2
    for command in commands:
        assert command[:3] == ["usmd", "serve", "--swap"]
        assert isinstance(parse_swap_spec(command[3]), RedisKind)


def test_its_table_has_every_setting_with_its_default():
    table = TEXT.partition("| Key | Default | Meaning |")[2].partition("\n\n")[0]
    cells = [[each.strip() for each in row.strip("|").split("|")] for row in table.splitlines()[2:]]
    found = {name: default for names, default, _ in cells for name in re.findall(r"`(\w+)`", names)}
    assert found.keys() == set(RedisKind.__struct_fields__) - {"name"}
    spec = RedisKind(url="redis://far", size=4096)
    assert {name: float(value) for name, value in found.items() if value.isdigit()} == {
        name: getattr(spec, name) for name in ("timeout", "patience", "lease", "expire")
    }


@pytest.mark.parametrize("form", re.findall(r"^\| `(\w[^`]*://[^`]*)` \|", TEXT, re.MULTILINE))
def test_its_urls_are_read(form):
    filled = form.replace("...", "HOST").replace("[", "").replace("]", "").replace("PORT", "7").replace("DB", "3")
    assert parse_url(filled.replace(",HOST", ",B")).url


def test_its_user_may_do_what_usmd_does_and_no_more(tmp_path, monkeypatch):
    (rights,) = re.findall(r"^user (.*)$", TEXT, re.MULTILINE)
    assert 'maxmemory-policy noeviction\nsave ""\nappendonly no\n' in TEXT
    with running_redis(tmp_path / "redis") as server:
        server.client.execute_command("ACL", "SETUSER", *rights.replace("PASSWORD", "s3cret").split())
        server.client.execute_command("ACL", "SETUSER", "default", "nopass", "-@all", "+auth", "+acl|log")
        monkeypatch.setenv(PASSWORD_VARIABLE, "s3cret")
        device = open_redis(f"unix://usmd@{server.path}", lease=0.1)
        entries = [out(slot) for slot in range(100)]
        assert device.write(entries) == [None] * 100
        device._extents.doubt(0)
        assert device.write([out(0, 2)]) == [None]
        assert read_back(device, [out(0, 2), *entries[1:]]) == [None] * 100
        device._keeper._renewed = float("-inf")
        device._keeper._leftovers = "gone"
        device._keeper._looked = float("-inf")
        device._keeper._round(0.0)
        device.close()
        refused = server.client.execute_command("ACL", "LOG")
        assert refused == []
