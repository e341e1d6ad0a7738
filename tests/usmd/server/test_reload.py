"""Reloads: what changes while the daemon runs, what does not, and that a mistake changes nothing."""

import asyncio

import pytest

from tests.support.waiting import wait_until_async
from tests.usmd.server.test_engine import PAGE, Bench
from usmd.config import load
from usmd.config_source import Source, values_of
from usmd.core import events
from usmd.errors import ConfigError, InvalidArgument, LimitExceeded
from usmd.server import reload as module
from usmd.server.core_settings import core_settings
from usmd.server.metrics import Metrics
from usmd.server.pressure_watch import PressureWatch
from usmd.server.reload import GROWING, LIVE, Parts, Reload
from usmd.server.swap_devices import SwapDevices
from usmd.swap.memory import MemoryKind

FRAMES = 128
BASE = f'[memory]\nsize = "{4 * FRAMES}KiB"\n'


class Sockets:
    """In the place of the endpoints."""

    def __init__(self):
        self.config = None
        self.error = None

    def apply(self, metrics, page):
        if self.error is not None:
            raise self.error
        self.config, self.page = metrics, page


class Setup:
    """A daemon's parts, and a file that a test writes."""

    def __init__(self, folder, text, logged):
        self.path = folder / "usmd.toml"
        self.write(text)
        source = Source(self.path, environ={"XDG_RUNTIME_DIR": str(folder)})
        config = source.load()
        settings = core_settings(config.memory, config.policy)
        self.bench = Bench(
            **{name: getattr(settings, name) for name in settings.__struct_fields__ if name != "page_size"}
        )
        self.state = self.bench.engine.core.state
        self.sessions = type("Sessions", (), {"rules": config.policy, "max_sessions": 0, "of_user": 0})()
        self.metrics = Metrics(self.bench.engine, processes=1, most_sessions=lambda: 1, draining=lambda: False)
        self.sockets = Sockets()
        self.grace, self.told, self.logged = [], [], logged
        self.defaults = {"evict": config.policy.evict}
        self.pressure = PressureWatch(self.state, lambda _: None, config.server.pressure_threshold, 0.0)
        engine = self.bench.engine
        self.swap = SwapDevices(
            engine, (*config.swap, MemoryKind(size=1)), [queue.device for queue in engine.queues], folder,
            lambda: self.sessions.rules, lambda _: None,
        )  # fmt: skip
        parts = Parts(
            engine, self.sessions, self.metrics, self.sockets,
            lambda *both: self.grace.append(both), self.defaults, lambda: None, self.pressure, self.swap,
        )  # fmt: skip
        self.reload = Reload(config, source, parts, self.told.append)

    def write(self, text):
        self.path.write_text(BASE + text)

    async def reloaded(self, text):
        self.write(text)
        done = await self.reload.reload()
        return [[each.key for each in changes] for changes in done]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run `test(setup)` on a daemon with a configuration."""
    logged = []
    monkeypatch.setattr(module.log, "configure", lambda log_format, level: logged.append((log_format, level)))

    def run_with(test, text=""):
        async def main():
            setup = Setup(tmp_path, text, logged)
            await test(setup)
            await setup.bench.engine.close()

        asyncio.run(main())

    return run_with


def test_what_can_change_is_in_force_at_once(run):
    async def test(setup):
        applied, rest = await setup.reloaded(
            """
            low_watermark = "10%"
            high_watermark = "20%"
            max_regions = 7
            deny_budget = "60%"
            [server]
            max_sessions = 5
            max_user_sessions = 4
            drain_grace = 9
            drain_notice = 30
            log_level = "error"
            pressure_threshold = "7.5%"
            [metrics]
            processes = 3
            [page]
            listen = "127.0.0.1:9843"
            [policy]
            evict = "lru"
            max_errors = 3
            [[policy.rules]]
            name = "a"
            memory_max = "25%"
            """
        )
        assert rest == []
        settings = setup.state.settings
        assert (settings.low, settings.high, settings.max_regions, settings.policy_errors) == (12, 25, 7, 3)
        assert (settings.deny_budget, settings.default_policies[1]) == (76, "lru")
        assert (setup.sessions.max_sessions, setup.sessions.of_user, setup.grace) == (5, 4, [(9.0, 30.0)])
        assert setup.sessions.rules.choose("a", None).memory_max == "25%"
        assert setup.sockets.config.processes == 3
        assert setup.pressure.threshold == 0.075
        assert setup.logged == [("auto", "error")]
        assert setup.defaults == {"evict": "lru"}
        assert "policy.rules" in applied
        assert (setup.metrics.reloads, setup.metrics.reloaded) == ({"success": 1, "failure": 0}, 1.0)
        assert (await setup.reloaded("low_watermark = '10%'\nhigh_watermark = '20%'"))[1] == ["memory.deny_budget"]

    run(test)


def test_limits_of_users_change_at_once_and_those_that_do_not_fit_change_nothing(run):
    user = '[[policy.users]]\nuid = 5\nmemory_max = "50%"\n'

    async def test(setup):
        assert await setup.reloaded(user) == [["policy.users"], []]
        assert setup.state.users.of[5].memory_max == FRAMES // 2
        await setup.reloaded(user.replace("50%", "75%"))
        assert setup.state.users.of[5].memory_max == FRAMES * 3 // 4
        for _ in range(3):
            setup.bench.engine.submit(events.Attach("more", "first_fit", "fifo", "refuse", uid=5))
        with pytest.raises(ConfigError, match=r"policy.users: user 5: memory_max of 64 pages .* 96 and more"):
            await setup.reloaded(user)
        assert setup.state.users.of[5].memory_max == FRAMES * 3 // 4
        await setup.reloaded("")
        assert setup.state.users.of == {}

    run(test)


def test_the_new_watermark_makes_reclaim_begin(run):
    async def test(setup):
        region = setup.bench.engine.map(events.Map(setup.bench.process, FRAMES * PAGE, "")).region_id
        setup.bench.region = region
        for page in range(FRAMES - 16):
            setup.bench.faults(page)
        assert setup.state.totals().evictions == 0
        await setup.reloaded('low_watermark = "20%"\nhigh_watermark = "30%"')
        setup.bench.engine.tick()
        assert setup.state.victims.counts

    run(test)


def test_what_cannot_change_is_named_until_the_restart_and_the_rest_is_in_force(run):
    async def test(setup):
        text = "[server]\nuvloop = false\nmax_sessions = 5\n"
        for applied in (["server.max_sessions"], []):
            assert await setup.reloaded(text) == [applied, ["server.uvloop"]]
        assert setup.reload.config.server.uvloop is True
        assert await setup.reloaded("[server]\nmax_sessions = 5\n") == [[], []]

    run(test)


MORE = """[[swap]]
kind = "memory"
size = "2MiB"
[[swap]]
kind = "file"
path = "more"
size = "1MiB"
"""
OTHER = '[[swap]]\nkind = "file"\npath = "other"\nsize = "1MiB"\n'


def names_of(setup):
    return [queue.device.name for queue in setup.bench.engine.queues]


def test_swap_devices_that_are_new_are_opened_and_those_that_are_left_out_retire(run, tmp_path):
    async def test(setup):
        (tmp_path / "usmd").mkdir()
        assert await setup.reloaded(MORE) == [["swap"], []]
        assert names_of(setup) == ["memory0", "memory1", "file2"]
        assert (tmp_path / "usmd" / "more").exists()
        assert await setup.reloaded(MORE) == [[], []]
        larger = MORE.replace("1MiB", "2MiB")
        assert await setup.reloaded(larger) == [[], ["swap"]]
        setup.write("")
        done = await setup.reload.reload()
        (change,) = done.applied
        assert (len(change.before), len(change.after), done.needs_restart) == (2, 1, [])
        await wait_until_async(lambda: names_of(setup) == ["memory0", "memory1"], "it is closed")
        assert not (tmp_path / "usmd" / "more").exists()

    run(test)


def test_a_swap_device_that_cannot_be_opened_or_retired_leaves_everything(run, tmp_path):
    async def test(setup):
        (tmp_path / "usmd").mkdir()
        (tmp_path / "foreign").write_text("mine")
        await setup.reloaded(MORE)
        with pytest.raises(ConfigError, match="not a usmd swap file"):
            await setup.reloaded(MORE + OTHER + OTHER.replace("other", str(tmp_path / "foreign")))
        assert not (tmp_path / "usmd" / "other").exists()
        setup.sockets.error = ConfigError("the port is taken", "metrics.listen")
        with pytest.raises(ConfigError, match="the port is taken"):
            await setup.reloaded(MORE + OTHER)
        assert not (tmp_path / "usmd" / "other").exists()
        setup.sockets.error = None
        with pytest.raises(ConfigError, match=r"policy.swap = 'file2' is not a swap device"):
            await setup.reloaded('[policy]\nswap = "file2"\n')
        setup.state.swap.devices[2].free = -1000  # as if so many pages were there
        with pytest.raises(ConfigError, match="are lacking"):
            await setup.reloaded("")
        setup.state.swap.devices[2].free = setup.state.swap.devices[2].slots
        assert names_of(setup) == ["memory0", "memory1", "file2"]
        assert await setup.reloaded(MORE + '[policy]\nswap = "file2"\n') == [["policy.swap"], []]

    run(test)


def test_a_budget_of_deny_grows_and_does_not_shrink(run):
    async def test(setup):
        assert (await setup.reloaded('deny_budget = "60%"'))[0] == ["memory.deny_budget"]
        assert await setup.reloaded('deny_budget = "40%"') == [[], ["memory.deny_budget"]]
        assert setup.state.settings.deny_budget == 76
        values = {name: getattr(setup.state.settings, name) for name in events.Configure.__struct_fields__}
        with pytest.raises(InvalidArgument, match="may only grow"):
            setup.bench.engine.submit(events.Configure(**values | {"deny_budget": 1}))

    run(test)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('low_watermark = "x"\nhigh_watermark = "y"', "memory.low_watermark = 'x'"),
        ("nothing = 1", "memory.nothing is not a key"),
        ('[policy]\nevict = "mru"', "policy.evict: evict policy 'mru' does not exist"),
        ('[policy]\nswap = "ssd"', "policy.swap = 'ssd' is not a swap device"),
        ("[policy", "is not TOML"),
    ],
)
def test_a_mistake_leaves_everything_and_says_what_is_wrong(run, text, said):
    async def test(setup):
        before = values_of(setup.reload.config), setup.state.settings, setup.sessions.rules
        with pytest.raises(ConfigError, match=said.replace("[", r"\[")):
            await setup.reloaded(text)
        assert (values_of(setup.reload.config), setup.state.settings, setup.sessions.rules) == before
        assert setup.sockets.config is None
        assert (setup.metrics.reloads, setup.metrics.reloaded) == ({"success": 0, "failure": 1}, 0.0)
        assert (await setup.reloaded(""))[0] == []
        assert setup.metrics.reloaded == 1.0

    run(test)


def test_a_port_that_is_taken_leaves_everything_too(run):
    async def test(setup):
        setup.sockets.error = ConfigError("the port is taken", "metrics.listen")
        before = setup.state.settings
        with pytest.raises(ConfigError, match="the port is taken"):
            await setup.reloaded('low_watermark = "10%"\nhigh_watermark = "20%"')
        assert setup.state.settings is before
        assert setup.sessions.max_sessions == 0

    run(test)


def test_a_share_that_does_not_fit_the_memory_in_force_is_refused(run):
    async def test(setup):
        setup.path.write_text('[memory]\nsize = "8MiB"\nlow_watermark = "1MiB"\nhigh_watermark = "2MiB"\n')
        with pytest.raises(ConfigError, match="low_watermark"):
            await setup.reload.reload()

    run(test)


def test_a_watermark_that_the_guarantees_of_sessions_leave_no_room_for_is_refused(run):
    async def test(setup):
        engine = setup.bench.engine
        engine.submit(events.Attach("a", "first_fit", "lru", "refuse", memory_min=FRAMES // 2))
        with pytest.raises(ConfigError, match=r"memory.high_watermark: a high watermark of 76 pages .* have 64 pages"):
            await setup.reloaded('high_watermark = "60%"')
        assert setup.state.settings.high < 76
        assert (await setup.reloaded('high_watermark = "40%"'))[0] == ["memory.high_watermark"]
        with pytest.raises(LimitExceeded, match="all guarantees together may have"):
            engine.submit(events.Attach("b", "first_fit", "lru", "refuse", memory_min=FRAMES // 4))

    run(test)


def test_the_service_manager_is_told_the_beginning_and_the_end(run):
    async def test(setup):
        await setup.reloaded("")
        begin, end = (message.splitlines() for message in setup.told)
        assert begin[0] == "RELOADING=1"
        assert begin[1].removeprefix("MONOTONIC_USEC=").isdecimal()
        assert end == ["READY=1", "STATUS="]
        with pytest.raises(ConfigError):
            await setup.reloaded("nothing = 1")
        assert setup.told[-1].startswith("READY=1\nSTATUS=the configuration is as before: memory.nothing is not a key")

    run(test)


def test_each_key_is_one_that_there_is():
    keys = set(values_of(load(None, environ={})))
    assert keys >= LIVE
    assert set(GROWING) <= LIVE
