"""A configuration with the origin of each value, and its mistakes with their lines."""

import re
from pathlib import Path

import msgspec

from usmd.cli import app
from usmd.config import Config, MemoryConfig, MetricsConfig, PageConfig, ServerConfig, load
from usmd.config_source import FLAGS, Setting, Source, values_of
from usmd.core.running import Running
from usmd.policy_rules import PolicyRules
from usmd.server.policy_check import check_policies
from usmd.swap.open import parse_swap_spec


def source(tmp_path, text="", overrides=None, swap=(), environ=None):
    path = tmp_path / "usmd.toml"
    path.write_text(text)
    return Source(path, overrides, swap, environ or {})


def settings(*given, **more):
    return {each.key: each for each in source(*given, **more).settings()}


def test_each_value_says_where_it_comes_from(tmp_path):
    text = '[memory]\nlow_watermark = "4%"\nsize = "8MiB"\n[server]\nsocket_mode = "660"\n'
    tmp_path.chmod(0o700)
    found = settings(tmp_path, text, {"memory.size": "16MiB"}, environ={"XDG_RUNTIME_DIR": str(tmp_path)})
    path = tmp_path / "usmd.toml"
    assert found["memory.low_watermark"] == Setting("memory.low_watermark", "4%", "file", f"{path}:2")
    assert found["memory.size"] == Setting("memory.size", "16MiB", "flag", "--memory")
    assert found["memory.page_size"] == Setting("memory.page_size", "4KiB", "default", "")
    assert found["server.socket_mode"].value == "0660"
    place = str(tmp_path / "usmd" / "usmd.sock")
    assert found["server.socket"] == Setting("server.socket", place, "environment", "$XDG_RUNTIME_DIR")
    assert settings(tmp_path)["server.socket"].origin == "default"


def test_devices_and_rules_are_numbered(tmp_path):
    text = '[[swap]]\nkind = "memory"\nsize = 8192\n[[policy.rules]]\nname = "a"\nevict = "lru"\n'
    found = settings(tmp_path, text)
    path = tmp_path / "usmd.toml"
    assert found["swap[0].kind"] == Setting("swap[0].kind", "memory", "file", f"{path}:2")
    assert found["swap[0].size"].value == "8KiB"
    assert found["swap[0].name"].origin == "default"
    assert found["policy.rules[0].evict"] == Setting("policy.rules[0].evict", "lru", "file", f"{path}:6")
    assert "policy.rules[0].uid" not in found
    by_flag = settings(tmp_path, text, swap=[parse_swap_spec("memory:1MiB")])
    assert by_flag["swap[0].size"] == Setting("swap[0].size", "1MiB", "flag", "--swap")
    assert settings(tmp_path)["swap[0].kind"].origin == "default"


def test_every_key_is_shown_and_is_read_back_as_it_was(tmp_path):
    for config in (load(None, environ={}), load(Path(__file__).parents[2] / "deploy" / "usmd.toml")):
        values = values_of(config)
        expected = {
            f"{section}.{name}"
            for section, struct in (
                ("server", ServerConfig), ("memory", MemoryConfig), ("metrics", MetricsConfig),
                ("page", PageConfig), ("policy", PolicyRules)
            )
            for name in struct.__struct_fields__
        }  # fmt: skip
        assert set(values) == expected | {"swap"}
        given = {
            key: value for key, value in values.items() if value is not None and key not in ("swap", "policy.rules")
        }
        assert load(None, given, config.swap) == config
    assert set(Config.__struct_fields__) == {"server", "memory", "metrics", "page", "policy", "swap"}
    assert msgspec.json.encode(values)


def test_tables_of_an_array_have_the_keys_that_are_set(tmp_path):
    text = '[[swap]]\nkind = "memory"\nsize = 8192\n[[policy.rules]]\nname = "a"\nevict = "lru"\n'
    values = values_of(source(tmp_path, text).load())
    assert values["swap"] == [{"kind": "memory", "size": "8KiB"}]
    assert values["policy.rules"] == [{"name": "a", "evict": "lru"}]


def test_every_flag_of_serve_is_named():
    serve = next(each for each in app.registered_commands if each.callback.__name__ == "serve")
    flags = {f"--{name.replace('_', '-')}" for name in serve.callback.__annotations__} - {"--return"}
    assert set(FLAGS.values()) | {"--config", "--swap"} == flags


def checked(rules, names):
    check_policies(rules, names, Running())


def problems(*given, **more):
    return source(*given, **more).problems(checked)


def test_problems_have_key_and_line_in_the_order_of_the_file(tmp_path):
    text = '[policy]\nevcit = "lru"\n[memory]\nsize = "x"\n[server]\nmax_sessions = 0\n'
    found = problems(tmp_path, text)
    assert [(each.key, each.line) for each in found] == [
        ("policy.evcit", 2), ("memory.size", 4), ("server.max_sessions", 6),
    ]  # fmt: skip
    assert "did you mean policy.evict?" in found[0].message


def test_policies_devices_and_conflicts_are_checked_too(tmp_path):
    text = '[policy]\nevict = "mru"\nswap = "ssd"\n[[policy.rules]]\nuid = 1\noom = "panic"\n'
    assert [(each.key, each.line) for each in problems(tmp_path, text)] == [
        ("policy.evict", 2), ("policy.swap", 3), ("policy.rules[0].oom", 6),
    ]  # fmt: skip
    text = '[[swap]]\nkind = "memory"\nsize = 1\n'
    (small,) = problems(tmp_path, text)
    assert (small.key, small.line) == ("swap[0].size", 3)
    text = '[memory]\nlow_watermark = "9%"\n'
    (crossed,) = problems(tmp_path, text)
    assert (crossed.key, crossed.line) == ("memory.low_watermark", 2)


def test_every_mistake_of_every_rule_is_told_with_its_line_whatever_else_is_wrong(tmp_path):
    text = """\
        [[policy.rules]]
        name = "a"
        uid = 1
        memory_max = "4KiB"
        max_regions = 2000
        deny_budget = "60%"
        evict = "mru"
        swap = "tape"

        [[policy.rules]]
        glob = "b-*"
        memory_weight = 0
        max_faults = "many"

        [[policy.rules]]
        uid = 2
        swap_max = "10%"
        oom = "panic"

        [[policy.users]]
        uid = 5
        memory_max = "1MiB"
        memory_min = "2MiB"

        [[swap]]
        kind = "memory"
        size = "1MiB"
        name = "x"

        [[swap]]
        kind = "memory"
        size = 1
        name = "x"

        [metrics]
        processes = -1
        """
    assert [(each.line, each.key.removeprefix("policy.")) for each in problems(tmp_path, text)] == [
        (1, "rules[0]"), (4, "rules[0].memory_max"), (5, "rules[0].max_regions"), (6, "rules[0].deny_budget"),
        (7, "rules[0].evict"), (12, "rules[1].memory_weight"), (13, "rules[1].max_faults"), (17, "rules[2].swap_max"),
        (18, "rules[2].oom"), (23, "users[0].memory_min"), (33, "swap[1].name"), (36, "metrics.processes"),
    ]  # fmt: skip
    text = text.replace('name = "x"', "", 1)
    assert (32, "swap[1].size") in [(each.line, each.key) for each in problems(tmp_path, text)]
    text = text.replace("size = 1\n", "size = 8192\n")
    assert (8, "policy.rules[0].swap") in [(each.line, each.key) for each in problems(tmp_path, text)]


def test_what_depends_on_memory_or_devices_that_cannot_be_read_is_not_told(tmp_path):
    text = '[memory]\nsize = "x"\n[[policy.rules]]\nname = "a"\nmax_regions = 2000\nswap = "tape"\n'
    assert [each.key for each in problems(tmp_path, text)] == ["memory.size"]


def test_what_is_not_toml_or_not_there_has_the_line_if_there_is_one(tmp_path):
    (broken,) = problems(tmp_path, "[memory]\nsize = \n")
    assert (broken.key, broken.line) == ("", 2)
    assert re.search("is not TOML", broken.message)
    (absent,) = Source(tmp_path / "absent").problems(checked)
    assert (absent.line, "cannot be read" in absent.message) == (None, True)
    assert problems(tmp_path) == []


def test_a_mistake_of_a_flag_is_on_no_line(tmp_path):
    (found,) = problems(tmp_path, '[memory]\nsize = "1MiB"\n', {"memory.size": "x"})
    assert (found.key, found.line) == ("memory.size", None)
