from tests.usmd.ctl.top.conftest import FakeSource, live, process, run
from usmd.ctl.top.process_list import ProcessList


def marked(screen):
    return screen.app.screen.query_one(ProcessList).marked.process.process_id


@run
async def test_the_mark_moves_by_keys_and_the_list_scrolls_with_it():
    async with live(FakeSource([process(n) for n in range(1, 1001)]), sort="id", size=(80, 15)) as screen:
        await screen.until(lambda: screen.names[:1] == ["p1000"])
        shown = len(screen.names)
        assert marked(screen) == 1000
        await screen.press("down", "down", "up")
        assert marked(screen) == 999
        await screen.press("pagedown")
        assert marked(screen) == 999 - (shown - 1)
        await screen.until(lambda: screen.names[-1] == f"p{marked(screen)}")
        await screen.press("end")
        assert marked(screen) == 1
        await screen.until(lambda: screen.names[-1] == "p1")
        await screen.press("down")
        assert marked(screen) == 1
        await screen.press("pageup")
        assert marked(screen) == shown
        await screen.press("home", "up")
        assert marked(screen) == 1000
        await screen.until(lambda: screen.names[0] == "p1000")


@run
async def test_the_mark_stays_on_its_process_or_on_the_first_line():
    source = FakeSource([process(1, "a"), process(2, "b"), process(3, "c")])
    async with live(source) as screen:
        await screen.lists("c", "b", "a")
        assert marked(screen) == 3
        source.processes[0].counters["faults"] += 100
        await screen.read()
        await screen.lists("a", "c", "b")
        assert marked(screen) == 1
        await screen.press("down")
        assert marked(screen) == 3
        source.processes[1].counters["faults"] += 500
        await screen.read()
        await screen.lists("b", "c", "a")
        assert marked(screen) == 3
        del source.processes[2]
        await screen.read()
        assert marked(screen) == 1  # the process is gone: what stands in its line
        source.processes.clear()
        await screen.read()
        await screen.shows("no processes: no application is attached")
        assert screen.app.screen.query_one(ProcessList).marked is None
        await screen.press("down", "end", "enter")
        await screen.shows("no processes")


@run
async def test_a_frozen_process_has_a_state_and_the_column_stays_once_it_was_there():
    source = FakeSource([process(1, "a"), process(2, "b")])
    async with live(source) as screen:
        await screen.lists("b", "a")
        assert "STATE" not in screen.text
        source.processes[0].frozen_faults, source.processes[0].frozen_seconds = 2, 7.0
        await screen.read()
        await screen.shows("FROZEN 7s")
        await screen.press("enter", "escape", "down", "enter")
        await screen.shows("State     FROZEN for 7.0 s: 2 faults wait for memory")
        await screen.press("escape")
        source.processes[0].frozen_faults = 0
        await screen.read()
        await screen.until(lambda: "FROZEN" not in screen.text)
        assert "STATE" in screen.text


@run
async def test_a_click_sorts_by_a_title_marks_a_line_and_opens_the_marked_one():
    async with live(FakeSource([process(1, "a"), process(2, "b"), process(3, "c")])) as screen:
        await screen.lists("c", "b", "a")
        for offset in ((8, 0), (79, 0)):
            await screen.pilot.click(ProcessList, offset=offset)
        await screen.until(lambda: screen.app._settings.sort == "pressure")
        await screen.pilot.click(ProcessList, offset=(8, 3))
        await screen.until(lambda: marked(screen) == 3)
        await screen.pilot.click(ProcessList, offset=(8, 7))  # below the last line
        await screen.pilot.click(ProcessList, offset=(8, 3))
        await screen.shows("Process 3 c")


@run
async def test_names_of_any_script_keep_the_columns_in_place():
    names = ["日本語", "naïve-Ω", "שלום", "a" * 64, "\x1b[31mred", "[red]x[/red]", "e\u0301" * 20]
    async with live(FakeSource([process(n, name) for n, name in enumerate(names, 1)])) as screen:
        await screen.shows("日本語")
        await screen.shows(r"\x1b[31mred")
        await screen.shows("[red]x[/red]")
        strips = screen.app.screen._compositor.render_strips()
        assert {strip.cell_length for strip in strips} == {80}
