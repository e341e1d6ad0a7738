"""`usmd config` as people and programs see it."""

import json

import pytest
from typer.testing import CliRunner

from usmd import cli


def run(*arguments):
    return CliRunner().invoke(cli.app, ("config", *arguments))


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "usmd.toml"


def test_a_configuration_that_can_be_used_is_exit_code_0(path):
    path.write_text('[memory]\nsize = "8MiB"\n')
    done = run("check", str(path))
    assert (done.exit_code, done.stdout) == (0, f"{path} can be used\n")
    done = run("check", "--format", "json", str(path))
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"file": str(path), "usable": True, "problems": []})


def test_each_problem_is_a_line_with_its_place_and_exit_code_2(path):
    path.write_text('[memory]\nsize = "x"\npage_size = 3\n')
    done = run("check", str(path))
    first, second, last = done.stdout.splitlines()
    assert done.exit_code == 2
    assert first.startswith(f"{path}:2: memory.size: size 'x' cannot be read; allowed is ")
    assert second == f"{path}:3: memory.page_size = 3 is not allowed; allowed is a power of two from 512B to 2MiB"
    assert last == "2 problems: usmd does not start with this file, nor reload it"
    document = json.loads(run("check", "--format", "json", str(path)).stdout)
    assert [(each["key"], each["line"]) for each in document["problems"]] == [
        ("memory.size", 2),
        ("memory.page_size", 3),
    ]
    assert document["usable"] is False


def test_values_are_shown_with_their_origin_in_80_columns(path, monkeypatch):
    path.write_text('[memory]\nsize = "8MiB"\n')
    done = run("show", "--config", str(path), "--evict", "lru")
    lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert done.exit_code == 0
    assert lines["KEY"] == ["VALUE", "FROM"]
    assert lines["memory.size"] == ['"8MiB"', f"{path}:2"]
    assert lines["policy.evict"] == ['"lru"', "--evict"]
    assert lines["metrics.listen"] == ["-", "default"]
    assert lines["server.uvloop"] == ["true", "default"]
    assert not [line for line in done.stdout.splitlines() if line.endswith(" ")]


def test_values_as_json(path):
    path.write_text("[metrics]\nunix = false\n")
    found = {
        each["key"]: each
        for each in json.loads(run("show", "--config", str(path), "--format", "json").stdout)["settings"]
    }
    assert found["metrics.unix"] == {"key": "metrics.unix", "value": False, "origin": "file", "place": f"{path}:2"}
    assert found["memory.size"] == {"key": "memory.size", "value": "64MiB", "origin": "default", "place": None}


def test_what_cannot_be_shown_is_all_mistakes_and_exit_code_2(path):
    path.write_text('[memory]\nsize = "x"\npage_size = 3\n')
    done = run("show", "--config", str(path))
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("usmd: memory.size: ")
    assert len(done.stderr.splitlines()) == 2


def test_a_device_within_another_is_shown_as_a_table_with_its_place_and_a_mistake_in_it_on_its_line(path):
    text = '[[swap]]\nkind = "mirror"\n[swap.far]\nkind = "memory"\nsize = "8MiB"\n[swap.local]\nkind = "memory"\n'
    path.write_text(f'{text}size = "4MiB"\n')
    lines = [line.split(None, 1) for line in run("show", "--config", str(path)).stdout.splitlines()]
    (local,) = [rest for key, rest in lines if key == "swap[0].local"]
    assert local.split("  ")[0] == '{kind = "memory", size = "4MiB"}'
    assert local.endswith(f"  {path}:6")
    path.write_text(f'{text}sise = "4MiB"\n')
    done = run("check", str(path))
    assert done.exit_code == 2
    assert f"{path}:8: swap[0].local: sise is not a key; did you mean size?" in done.stdout
