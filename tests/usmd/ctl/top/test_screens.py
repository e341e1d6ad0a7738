from tests.usmd.ctl.top.conftest import FakeSource, live, process, run
from usmd.ctl.top.app import TopApp
from usmd.ctl.top.screens import KEYS, HelpScreen, ProcessScreen


@run
async def test_a_process_is_shown_live_until_it_ends_and_then_as_it_was():
    source = FakeSource([process(1, "cache"), process(2, "indexer")])
    async with live(source) as screen:
        await screen.press("enter")
        await screen.until(lambda: screen.lines[0] == "Process 2 indexer")
        await screen.shows("faults 6")
        assert (source.wanted[-1].process_id, source.wanted[-1].cells) == (2, 0)
        await screen.shows("7  index")
        await screen.read()
        await screen.shows("faults 8")
        del source.processes[1]
        await screen.read()
        await screen.until(lambda: screen.lines[0].startswith("The process has ended"))
        await screen.shows("faults 8")
        source.failure = "no usmd"
        await screen.read()
        await screen.until(lambda: screen.lines[0].startswith("No answer: no usmd"))
        source.failure = ""
        await screen.press("escape")
        await screen.lists("cache")
        assert source.wanted[-1].cells > 0


@run
async def test_the_screens_fit_a_small_terminal_and_scroll():
    async with live(FakeSource([process(1, "cache")]), size=(60, 15)) as screen:
        for key, first in (("question_mark", "Keys"), ("enter", "Process 1 cache")):
            await screen.press(key)
            await screen.until(lambda first=first: screen.lines[0] == first)
            await screen.press("end")
            await screen.until(lambda first=first: screen.lines[0] != first)
            await screen.press("up", "pageup", "pagedown", "down", "home")
            await screen.until(lambda first=first: screen.lines[0] == first)
            await screen.resize(40, 10)
            await screen.until(lambda first=first: screen.lines[0] == first and len(screen.lines) == 10)
            await screen.resize(60, 15)
            await screen.press("q")
            await screen.lists("cache")


@run
async def test_keys_of_the_list_do_nothing_over_another_screen():
    async with live(FakeSource([process(1, "a"), process(2, "b")])) as screen:
        await screen.press("question_mark", "N", "m", "slash", "question_mark", "enter")
        await screen.lists("b", "a")
        await screen.press("question_mark")
        assert isinstance(screen.app.screen, HelpScreen)
        await screen.press("q", "enter")
        assert isinstance(screen.app.screen, ProcessScreen)


def test_the_help_names_every_key():
    names = {"less_than_sign": "<", "greater_than_sign": ">", "question_mark": "?", "slash": "/", "plus": "+",
             "minus": "-", "escape": "Esc", "ctrl+c": "Ctrl-C", "ctrl+z": "Ctrl-Z"}  # fmt: skip
    told = " ".join(f"{key} {words}" for key, words in KEYS)
    keys = [key for binding in TopApp.BINDINGS for key in binding.key.split(",")]
    told_keys = [names.get(key, key.capitalize() if len(key) > 1 else key) for key in keys]
    assert [key for key in told_keys if key not in told and key.lower() not in told] == []
