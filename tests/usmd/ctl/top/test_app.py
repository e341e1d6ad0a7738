from tests.usmd.ctl.top.conftest import FakeSource, live, process, run, terminal
from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl.top.app import REST, pause_after

DEVICES = [pb.SwapDevice(number=n, name=f"file{n}", capacity_bytes=1 << 20) for n in range(9)]


def two():
    return FakeSource([process(1, "cache"), process(2, "indexer")])


@run
async def test_the_screen_fits_every_size_of_terminal_and_asks_for_the_map_that_it_shows():
    source = two()
    source.devices = DEVICES
    async with live(source) as screen:
        await screen.lists("indexer", "cache")
        lines = screen.lines
        assert lines[0].startswith("usmd 0.1.0  up 2.0 s, 2 processes, simulated, pid 4711")
        assert lines[1].startswith("Memory   [")
        assert lines[2].startswith("Swap     [")
        assert lines[3].startswith("Pressure [")
        assert lines[4].startswith("A second 3 faults")
        assert "a cell: 8.0K" in screen.text
        assert "and 7 more: usmctl swap" in screen.text
        await screen.until(lambda: screen.lines[-1].split()[:2] == ["q", "Quit"])
        for width, height, cells in ((100, 40, 500), (60, 15, 0), (200, 60, 1024), (44, 9, 0), (12, 3, 0)):
            await screen.resize(width, height)
            await screen.until(lambda: len(screen.lines) == height)  # noqa: B023
            await screen.until(lambda: source.wanted[-1].cells == cells)  # noqa: B023
            if height >= 9:
                await screen.lists("indexer", "cache")
        assert set(source.wanted[-1].counters) == {"faults", "major_faults", "evictions", "swap_ins", "swap_outs"}
        await screen.press("enter")
        await screen.until(lambda: source.wanted[-1].process_id == 2)
        assert not source.wanted[-1].counters  # all
        await screen.press("escape", "question_mark", "escape", "slash", "escape")


@run
async def test_keys_sort_and_a_key_pressed_twice_reverses():
    source = FakeSource([process(1, "b", resident_pages=9), process(2, "a", swapped_pages=4), process(3, "c")])
    async with live(source) as screen:
        for key, names in (
            ("M", "bca"), ("S", "abc"), ("N", "abc"), ("N", "cba"), ("I", "abc"), ("less_than_sign", "cab"),
            ("greater_than_sign", "abc"), ("F", "cab"), ("F", "bac"), ("I", "cab"), ("E", "bac"), ("P", "bac"),
        ):  # fmt: skip
            await screen.press(key)
            await screen.lists(*names)


@run
async def test_a_filter_is_typed_kept_and_ended():
    source = FakeSource([process(1, "web-1"), process(2, "web-2"), process(3, "db")])
    async with live(source) as screen:
        await screen.press("slash", "w", "e", "b", "-", "q", "backspace")
        await screen.lists("web-2", "web-1")
        await screen.shows("Keep the filter")
        await screen.press("enter")
        await screen.read()
        await screen.shows("filter: web-")
        await screen.lists("web-2", "web-1")
        await screen.press("slash", "x")
        await screen.shows("no process passes the filter")
        await screen.press("escape")
        await screen.lists("db", "web-2", "web-1")
        await screen.press("slash", "1", "escape", "p")
        await screen.shows("PAUSED")


@run
async def test_a_pause_reads_nothing_but_by_the_space_key_and_the_interval_has_bounds():
    source = two()
    async with live(source, interval=1800.0) as screen:
        await screen.press("p", "m", "d", "minus", "plus", "N")
        before = len(source.wanted)
        await screen.shows("PAUSED")
        await screen.read()
        assert len(source.wanted) == before + 1
        await screen.press("p")
        await screen.until(lambda: len(source.wanted) == before + 2)
        await screen.shows("every 1800 s")
        await screen.press("plus")
        await screen.shows("every 900 s")
        await screen.press("minus", "minus", "minus", "minus")
        await screen.shows("every 3600 s")


@run
async def test_the_map_is_by_state_by_owner_or_none_and_devices_are_shown_or_not():
    source = two()
    source.devices = DEVICES
    async with live(source) as screen:
        await screen.shows("unevictable")
        await screen.press("m", "d")
        await screen.shows("b indexer")
        assert "more: usmctl swap" not in screen.text
        await screen.press("m")
        await screen.until(lambda: "a cell" not in screen.text and source.wanted[-1].cells == 0)
        await screen.press("m", "d")
        await screen.shows("unevictable")
        await screen.shows("and 7 more: usmctl swap")


@run
async def test_the_end_of_the_daemon_is_told_and_another_one_is_shown_with_rates_of_its_own():
    source = two()
    async with live(source) as screen:
        source.failure = "no usmd at unix:/run/usmd/admin.sock"
        await screen.read()
        await screen.shows("No answer: no usmd at unix:/run/usmd/admin.sock; trying again every 3600 s")
        await screen.lists("indexer", "cache")
        await screen.press("p")
        await screen.until(lambda: "trying again" not in screen.text)
        source.failure, source.pid, source.seconds = "", 5000, 0
        await screen.press("p")
        await screen.shows("pid 5000")
        await screen.shows("A second - faults")
        await screen.read()
        await screen.shows("A second 3 faults")


def test_a_reading_that_takes_long_makes_the_next_one_later():
    assert pause_after(0.001, 1.0) == 1.0
    assert pause_after(2.0, 1.0) == 2.0 * REST


@run
async def test_q_f10_and_ctrl_c_quit_also_while_a_filter_is_typed():
    for keys in (["q"], ["slash", "ctrl+c"], ["enter", "f10", "ctrl+c"]):
        source = two()
        async with live(source) as screen:
            await screen.press(*keys[:-1])
            assert not screen.app._exit
            await screen.press(keys[-1])
            assert screen.app._exit
        assert source.closed


@run
async def test_without_colour_nothing_but_text_tells_states_apart():
    async with live(two(), console=terminal(colour=False, encoding="ascii")) as screen:
        await screen.shows("C clean")
        assert screen.text.isascii()
