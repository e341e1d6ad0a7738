from pathlib import Path

import msgspec
import pytest

from usmd.config import Config, MemoryConfig, MetricsConfig, ServerConfig, frames_of, load
from usmd.errors import ConfigError
from usmd.policy_rules import PolicyRule, PolicyRules
from usmd.swap.file import FileKind
from usmd.swap.memory import MemoryKind

ENVIRON = {"XDG_RUNTIME_DIR": "/run/user/1000"}


def read(tmp_path, text, **overrides):
    path = tmp_path / "usmd.toml"
    path.write_text(text)
    return load(path, overrides, environ=ENVIRON)


def refusal(tmp_path, text):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    return str(caught.value)


def test_without_a_file_the_defaults_are_in_the_users_runtime_folder():
    config = load(environ=ENVIRON)
    assert str(config.server.socket) == "/run/user/1000/usmd/usmd.sock"
    assert str(config.server.admin_socket) == "/run/user/1000/usmd/admin.sock"
    assert str(config.server.state_dir) == "/run/user/1000/usmd"
    assert config.memory == MemoryConfig()
    assert config.policy == PolicyRules()


@pytest.mark.parametrize("mechanism", ["auto", "simulated", "userfaultfd"])
@pytest.mark.parametrize("fault_wakeup", ["auto", "sleep", "follow", "spin:1", "spin:10000"])
def test_every_mechanism_and_way_to_wait_for_faults_can_be_configured(tmp_path, mechanism, fault_wakeup):
    memory = read(tmp_path, f'[memory]\nmechanism = "{mechanism}"\nfault_wakeup = "{fault_wakeup}"').memory
    assert (memory.mechanism, memory.fault_wakeup) == (mechanism, fault_wakeup)
    assert (MemoryConfig().mechanism, MemoryConfig().fault_wakeup) == ("auto", "auto")


@pytest.mark.parametrize(
    ("text", "rate"), [('"auto"', 2.0), ('"off"', 0.0), ("1", 1.0), ("0.5", 0.5), ("16", 16.0)]
)  # fmt: skip
def test_sampling_is_a_rate_in_the_end(tmp_path, text, rate):
    assert read(tmp_path, f"[memory]\nsampling = {text}").memory.sampling_rate == rate
    assert MemoryConfig().sampling == "auto"


@pytest.mark.parametrize(("text", "share"), [("25%", 0.25), ("2.5 %", 0.025), ("100%", 1.0)])
def test_the_cost_of_sampling_is_a_share_of_cpu(tmp_path, text, share):
    assert read(tmp_path, f'[memory]\nsampling_cpu = "{text}"').memory.sampling_cpu == pytest.approx(share)
    assert MemoryConfig().sampling_cpu == 0.25


@pytest.mark.parametrize(("text", "share"), [('"7.5%"', 0.075), ('"0%"', 0.0), ('"100 %"', 1.0)])
def test_a_threshold_of_pressure_is_a_percentage_or_none(tmp_path, text, share):
    assert read(tmp_path, f"[server]\npressure_threshold = {text}").server.pressure_threshold == pytest.approx(share)


def test_the_default_swap_is_one_memory_device_of_four_times_the_memory(tmp_path):
    assert read(tmp_path, '[memory]\nsize = "8MiB"').swap == (MemoryKind(size=32 << 20),)


def test_every_key_of_a_file_is_read(tmp_path):
    config = read(
        tmp_path,
        """
        [server]
        socket = "unix:/a/usmd.sock"
        admin_socket = "/a/admin.sock"
        socket_mode = "0666"
        admin_socket_mode = "660"
        state_dir = "/var/lib/usmd"
        trace_events = "/var/log/events.jsonl"
        trace_events_size = "1MiB"
        max_sessions = 3
        max_user_sessions = 2
        max_user_connections = 9
        attach_timeout = 1
        drain_grace = 0
        drain_notice = 30
        uvloop = false
        device_timeout = 7.5
        pressure_threshold = "80%"
        log_format = "json"
        log_level = "warning"
        [memory]
        size = 1048576
        page_size = "16KiB"
        mechanism = "simulated"
        fault_wakeup = "spin:250"
        sampling = 0.25
        low_watermark = "10%"
        high_watermark = "256KiB"
        deny_budget = "0%"
        deny_budget_total = "100%"
        hold_budget = "12.5%"
        hold_seconds = 2.5
        max_regions = 7
        max_mapped = "1GiB"
        [metrics]
        unix = false
        socket_mode = "0640"
        listen = "[::1]:9842"
        processes = 3
        [[swap]]
        kind = "file"
        path = "/dev/shm/swap"
        size = "1GiB"
        name = "ssd"
        [[swap]]
        kind = "memory"
        size = "64KiB"
        [policy]
        alloc = "first_fit"
        evict = "lru"
        oom = "kill_largest"
        max_errors = 0
        call_timeout = 2.5
        choices = ["lru", "arc"]
        [[policy.rules]]
        uid = 1000
        evict = "fifo"
        """,
    )
    assert msgspec.structs.asdict(config.server) | {"socket": "", "admin_socket": "", "state_dir": ""} == {
        "socket": "",
        "admin_socket": "",
        "socket_mode": 0o666,
        "admin_socket_mode": 0o660,
        "state_dir": "",
        "max_sessions": 3,
        "max_user_sessions": 2,
        "max_user_connections": 9,
        "attach_timeout": 1.0,
        "drain_grace": 0.0,
        "drain_notice": 30.0,
        "device_timeout": 7.5,
        "pressure_threshold": 0.8,
        "uvloop": False,
        "trace_events": Path("/var/log/events.jsonl"),
        "trace_events_size": 1 << 20,
        "log_format": "json",
        "log_level": "warning",
    }
    paths = [str(path) for path in (config.server.socket, config.server.admin_socket, config.server.state_dir)]
    assert paths == ["/a/usmd.sock", "/a/admin.sock", "/var/lib/usmd"]
    assert config.memory == MemoryConfig(
        size=1 << 20,
        page_size=16384,
        mechanism="simulated",
        fault_wakeup="spin:250",
        sampling=0.25,
        low_watermark="10%",
        high_watermark="256KiB",
        deny_budget="0%",
        deny_budget_total="100%",
        hold_budget="12.5%",
        hold_seconds=2.5,
        max_regions=7,
        max_mapped=1 << 30,
    )
    assert config.memory.frames == 64
    assert config.metrics == MetricsConfig(unix=False, socket_mode=0o640, listen="[::1]:9842", processes=3)
    assert config.metrics.address == ("::1", 9842)
    assert config.swap == (
        FileKind(size=1 << 30, path="/dev/shm/swap", name="ssd"),
        MemoryKind(size=65536),
    )
    assert config.policy == PolicyRules(
        alloc="first_fit", evict="lru", oom="kill_largest", max_errors=0, call_timeout=2.5, choices=("lru", "arc"),
        rules=(PolicyRule(uid=1000, evict="fifo"),),
    )  # fmt: skip


def test_a_swap_file_bypasses_the_page_cache_when_it_says_so(tmp_path):
    text = "".join(
        f'[[swap]]\nkind = "file"\nsize = 4096\n{more}\n' for more in ("", "direct = true", "direct = false")
    )
    assert [spec.direct for spec in read(tmp_path, text).swap] == [False, True, False]


def test_overrides_win_over_the_file_and_leave_the_rest(tmp_path):
    overrides = {"memory.size": "2MiB", "policy.evict": "lru", "server.uvloop": False}
    text = '[memory]\nsize = "8MiB"\npage_size = "8KiB"\n[[swap]]\nkind = "memory"\nsize = "1GiB"'
    config = read(tmp_path, text, **overrides)
    assert (config.memory.size, config.memory.page_size) == (2 << 20, 8192)
    assert (config.policy.evict, config.policy.alloc, config.server.uvloop) == ("lru", "async_aware", False)
    path = tmp_path / "usmd.toml"
    given = [MemoryKind(size=4096)]
    assert load(path, swap=given, environ=ENVIRON).swap == tuple(given)


def test_an_override_is_checked_like_the_file():
    with pytest.raises(ConfigError, match=r"memory\.page_size = '3KiB' is not allowed"):
        load(None, {"memory.page_size": "3KiB"}, environ=ENVIRON)


@pytest.mark.parametrize(("path", "expected"), [("", "/state/swap1"), ('path = "a/b"', "/state/a/b")])
def test_swap_files_without_an_absolute_path_are_in_the_state_folder(tmp_path, path, expected):
    text = f'[server]\nstate_dir="/state"\n[[swap]]\nkind="memory"\nsize=4096\n[[swap]]\nkind="file"\nsize=4096\n{path}'
    assert read(tmp_path, text).swap[1].path == expected


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[memry]", ["memry is not a key", "did you mean memory?", "server, memory, swap, policy"]),
        ("[memory]\npagesize = 1", ["memory.pagesize is not a key", "did you mean memory.page_size?", "hold_seconds"]),
        ("[memory]\nzzz = 1", ["memory.zzz is not a key; allowed are size, page_size"]),
        ('[[swap]]\nkind = "memory"\nsize = 4096\nsice = 1', ["swap[0].sice is not a key", "mean swap[0].size?"]),
        ('[[policy.rules]]\nname = "a"\nevikt = "b"', ["policy.rules[0].evikt", "policy.rules[0].evict?"]),
    ],
)
def test_an_unknown_key_is_named_with_those_that_exist(tmp_path, text, parts):
    message = refusal(tmp_path, text)
    assert [part for part in parts if part not in message] == []


@pytest.mark.parametrize(
    ("text", "key", "value", "allowed"),
    [
        ('[memory]\nsize = "64MQ"', "memory.size", "'64MQ'", "MiB"),
        ('[memory]\nsize = "0B"', "memory.size", "'0B'", "from 1B to 256TiB"),
        ('[memory]\nsize = "999999TiB"', "memory.size", "'999999TiB'", "256TiB"),
        ("[memory]\nsize = true", "memory.size", "True", "MiB"),
        ("[memory]\nsize = 1.5", "memory.size", "1.5", "MiB"),
        ('[memory]\nsize = "6KiB"', "memory.size", "6 KiB", "whole number of pages of 4 KiB"),
        ('[memory]\nsize = "2KiB"', "memory.size", "2 KiB", "whole number of pages of 4 KiB"),
        ('[memory]\npage_size = "256B"', "memory.page_size", "'256B'", "512B to 2MiB"),
        ('[memory]\npage_size = "4MiB"', "memory.page_size", "'4MiB'", "512B to 2MiB"),
        ("[memory]\npage_size = 5000", "memory.page_size", "5000", "power of two"),
        ('[memory]\nmechanism = "magic"', "memory.mechanism", "'magic'", "one of auto, simulated, userfaultfd"),
        ('[memory]\nmechanism = ""', "memory.mechanism", "''", "one of auto, simulated, userfaultfd"),
        ("[memory]\nmechanism = 1", "memory.mechanism", "1", "one of auto, simulated, userfaultfd"),
        ('[memory]\nfault_wakeup = "wake"', "memory.fault_wakeup", "'wake'", '"auto", "sleep", "follow", or "spin:US"'),
        ('[memory]\nfault_wakeup = "spin:0"', "memory.fault_wakeup", "'spin:0'", "1 to 10000 microseconds"),
        ("[memory]\nsampling = 0", "memory.sampling", "0", '"auto", "off", or a number above 0 and up to 16'),
        ("[memory]\nsampling = 16.5", "memory.sampling", "16.5", "up to 16"),
        ("[memory]\nsampling = nan", "memory.sampling", "nan", "up to 16"),
        ("[memory]\nsampling = true", "memory.sampling", "True", "up to 16"),
        ('[memory]\nsampling = "2"', "memory.sampling", "'2'", "up to 16"),
        ('[memory]\nsampling_cpu = "0%"', "memory.sampling_cpu", "'0%'", 'a share of CPU above "0%" and up to "100%"'),
        ('[memory]\nsampling_cpu = "100.1%"', "memory.sampling_cpu", "'100.1%'", 'up to "100%"'),
        ('[server]\npressure_threshold = "101%"', "server.pressure_threshold", "'101%'", 'from "0%" to "100%"'),
        ("[server]\npressure_threshold = 0.5", "server.pressure_threshold", "0.5", 'from "0%" to "100%"'),
        ("[memory]\nsampling_cpu = 0.25", "memory.sampling_cpu", "0.25", 'up to "100%"'),
        ('[memory]\nlow_watermark = "101%"', "memory.low_watermark", "'101%'", "0% to 100%"),
        ('[memory]\nlow_watermark = "-1%"', "memory.low_watermark", "'-1%'", "0% to 100%"),
        ("[memory]\nlow_watermark = 0.03", "memory.low_watermark", "0.03", "percentage"),
        ('[memory]\nlow_watermark = "7%"', "memory.low_watermark", "'7%' (1146 frames)", "high_watermark = '6%'"),
        ('[memory]\nhold_budget = "65MiB"', "memory.hold_budget", "'65MiB' of 64 MiB", "up to all of it"),
        ("[memory]\nhold_seconds = 0", "memory.hold_seconds", "0", "seconds"),
        ("[memory]\nhold_seconds = nan", "memory.hold_seconds", "nan", "seconds"),
        ('[policy]\nchoices = "lru"', "policy.choices", "'lru'", "a list of printable texts"),
        ('[policy]\nchoices = ["lru", 3]', "policy.choices", "['lru', 3]", "a list of printable texts"),
        ("[memory]\nmax_regions = 0", "memory.max_regions", "0", "from 1 to"),
        ("[memory]\nmax_regions = true", "memory.max_regions", "True", "from 1 to"),
        ("[server]\nattach_timeout = inf", "server.attach_timeout", "inf", "seconds"),
        ("[server]\ndrain_grace = -1", "server.drain_grace", "-1", "from 0 to 86400"),
        ("[server]\nuvloop = 1", "server.uvloop", "1", "true or false"),
        ("[server]\nsocket_mode = 432", "server.socket_mode", "432", '"0660"'),
        ('[server]\nsocket_mode = "0888"', "server.socket_mode", "'0888'", '"0660"'),
        ('[server]\nsocket = "usmd.sock"', "server.socket", "'usmd.sock'", "absolute path"),
        ("[server]\nsocket = 5", "server.socket", "5", "absolute path"),
        (f'[server]\nsocket = "/{"x" * 98}"', "server.socket", "x" * 98, "at most 98"),
        ('[server]\nsocket = "/a"\nadmin_socket = "/a"', "server.admin_socket", "'/a'", "server.socket"),
        ('[server]\nstate_dir = "state"', "server.state_dir", "'state'", "absolute path"),
        ('[server]\nlog_format = "xml"', "server.log_format", "'xml'", "auto, human, json"),
        ("server = 1", "server", "1", "a table with the keys socket"),
        ("memory = []", "memory", "[]", "a table"),
        ("swap = 1", "swap", "1", "[[swap]]"),
        ("swap = [1]", "swap[0]", "1", "a table"),
        ("[[swap]]\nsize = 1", "swap[0].kind", "missing", "one of memory, "),
        ('[[swap]]\nkind = "file"', "swap[0].size", "missing", "a size"),
        ('[[swap]]\nkind = "tape"\nsize = 1', "swap[0].kind", "'tape'", "one of memory, "),
        ('[[swap]]\nkind = "memory"\nsize = 1\npath = "/a"', "swap[0].path", "not a key", "kind, size, name for kind"),
        ('[[swap]]\nkind = "memory"\nsize = 1\ndirect = true', "swap[0].direct", "not a key", "for kind = 'memory'"),
        ("[[swap]]\nkind = 1\nsize = 1", "swap[0].kind", "1", "one of memory, "),
        ('[[swap]]\nkind = "file"\nsize = 1\ndirect = "yes"', "swap[0].direct", "'yes'", "true or false"),
        ('[policy]\nalloc = ""', "policy.alloc", "''", "not empty"),
        ('[metrics]\nlisten = "0.0.0.0:9842"', "metrics.listen", "'0.0.0.0:9842'", "of this machine alone"),
        ('[metrics]\nlisten = "localhost:9842"', "metrics.listen", "'localhost:9842'", 'for example "127.0.0.1:9842"'),
        ('[metrics]\nlisten = "127.0.0.1:0"', "metrics.listen", "'127.0.0.1:0'", "with a port"),
        ("[metrics]\nprocesses = 1001", "metrics.processes", "1001", "from 0 to 1000"),
        ("[metrics]\nunix = 1", "metrics.unix", "1", "true or false"),
        ("[policy]\nevict = 1", "policy.evict", "1", "text"),
        ("[policy]\nrules = 1", "policy.rules", "1", "[[policy.rules]]"),
        ('[[policy.rules]]\nalloc = "lru"', "policy.rules[0]", "none of them", "exactly one of name, glob, uid"),
        ('[[policy.rules]]\nname = "a"\nuid = 1', "policy.rules[0]", "name and uid", "exactly one of name, glob, uid"),
        ('[[policy.rules]]\nuid = "root"', "policy.rules[0].uid", "'root'", "a whole number from 0"),
        ("[[policy.rules]]\nuid = 1\nmax_faults = 0", "policy.rules[0].max_faults", "0", "from 1 to 4096"),
        ("[[policy.rules]]\nuid = 1\nmax_hint_ranges = -1", "policy.rules[0].max_hint_ranges", "-1", "from 0 to 16384"),
        ("[[policy.rules]]\nuid = 1\nmax_regions = 1025", "policy.rules[0].max_regions", "1025", "which is 1024"),
        ('[[policy.rules]]\nuid = 1\ndeny_budget = "51%"', "policy.rules[0].deny_budget", "'51%'", "which is '50%'"),
    ],
)
def test_a_bad_value_is_named_with_its_key_and_what_is_allowed(tmp_path, text, key, value, allowed):
    message = refusal(tmp_path, text)
    assert message.startswith(key)
    assert value in message
    assert allowed in message


def test_all_mistakes_of_a_file_are_in_one_error_with_their_keys(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read(
            tmp_path,
            """
            nothing = 1
            [server]
            max_sessions = 0
            sokcet = "/a"
            [memory]
            size = "x"
            low_watermark = "101%"
            [metrics]
            processes = -1
            [[swap]]
            kind = "memory"
            [[swap]]
            kind = "tape"
            [[swap]]
            kind = "memory"
            size = "1MiB"
            path = "/b"
            [[policy.rules]]
            name = ""
            [[policy.rules]]
            uid = -1
            """,
        )
    assert [each.key for each in caught.value.all] == [
        "nothing", "server.sokcet", "server.max_sessions", "memory.size", "memory.low_watermark",
        "policy.rules[0].name", "policy.rules[1].uid", "metrics.processes",
        "swap[0].size", "swap[1].kind", "swap[2].path",
    ]  # fmt: skip
    assert str(caught.value).startswith("nothing is not a key")


def test_a_file_that_is_missing_or_no_toml_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml cannot be read: No such file.*--config"):
        load(tmp_path / "absent.toml")
    assert "usmd.toml is not TOML: " in refusal(tmp_path, "[memory")
    (tmp_path / "usmd.toml").write_bytes(b'a = "\xff"')
    with pytest.raises(ConfigError, match="is not TOML"):
        load(tmp_path / "usmd.toml")


@pytest.mark.parametrize("struct", [Config, ServerConfig, MemoryConfig, MetricsConfig, PolicyRules, PolicyRule])
def test_sections_cannot_be_changed_and_take_no_unknown_field(struct):
    assert struct.__struct_config__.frozen
    assert struct.__struct_config__.forbid_unknown_fields


def test_shares_round_down_to_frames():
    assert frames_of("3%", 16384, 4096) == 491
    assert frames_of("29%", 100, 4096) == 29
    assert frames_of("12.5 %", 8, 4096) == 1
    assert frames_of("10KiB", 8, 4096) == 2


def test_more_frames_than_have_numbers_are_refused_by_the_name_of_the_key():
    with pytest.raises(ConfigError, match=r"memory.size = 100 TiB is not allowed; .* 2,147,483,647 pages"):
        MemoryConfig(size=100 << 40)


def test_a_budget_that_is_too_small_names_the_rule(tmp_path):
    path = tmp_path / "usmd.toml"
    path.write_text('[[policy.rules]]\nname = "hog"\nmemory_max = "4KiB"\n')
    with pytest.raises(ConfigError, match=r"policy.rules\[0\].*memory_max.*32 pages and more"):
        load(path)


def test_a_budget_of_swap_is_checked_when_the_file_is_read(tmp_path):
    path = tmp_path / "usmd.toml"
    rule = '[[policy.rules]]\nname = "hog"\nmemory_max = "25%"\nswap_max = '
    for value, said in (
        ('"1KiB"', r"policy.rules\[0\].swap_max: share '1KiB' is less than a page of 4 KiB; .* of the swap slots"),
        ('"101%"', r"policy.rules\[0\].swap_max = '101%' is not allowed; allowed is .* of the swap slots, or a size"),
        ("-1", r"policy.rules\[0\].swap_max"),
    ):
        path.write_text(rule + value)
        with pytest.raises(ConfigError, match=said):
            load(path)
    path.write_text('[[policy.rules]]\nname = "hog"\nswap_max = "25%"\n')
    with pytest.raises(
        ConfigError, match=r"policy.rules\[0\] has swap_max = '25%' without memory_max: .*give memory_max"
    ):
        load(path)
