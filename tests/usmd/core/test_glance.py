"""Counters that agree, and what is said of those that do not. Property tests look after each event."""

import pytest

from tests.support.shell import PAGE, Shell, check_at_the_end, make_core
from usmd.core import events
from usmd.core.glance import disagreement


@pytest.fixture
def shell():
    """A process with a page in memory, one on its way in, one on its way out, and one in swap."""
    shell = Shell(make_core(frames=5), auto_io=False)
    process = shell.attach()
    region = shell.map(process, 8)
    for page in range(4):
        shell.put(process, region, page, bytes([page + 1]) * PAGE)
    for page in (1, 2):
        shell.evict(process, region, page, 1)
        shell.complete_io()
    shell.fault(process, region, 1)
    shell.evict(process, region, 3, 1)
    assert [kind for kind, _ in shell.pending] == ["read", "write"]
    return shell


def test_counters_agree_while_pages_are_on_their_way_and_after_their_session_has_ended(shell):
    assert disagreement(shell.core.state, shell.core.life) is None
    shell.do(events.Detach(1, "it left"))
    assert disagreement(shell.core.state, shell.core.life) is None
    shell.complete_io()
    assert disagreement(shell.core.state, shell.core.life) is None


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda core: core.state.frames.take(), "4 frames are in use, and 3 belong to a session"),
        (
            lambda core: setattr(core.state.processes[1], "resident", 2),
            "3 frames are in use, and 2 belong",
        ),
        (lambda core: setattr(core.state, "dying_frames", 1), "3 frames are in use, and 4 belong"),
        (lambda core: setattr(core.state.swap.devices[0], "free", -1), "counts -1 free slots of"),
    ],
)
def test_what_does_not_agree_is_said_in_words(shell, spoil, said):
    shell.check = False
    spoil(shell.core)
    assert said in disagreement(shell.core.state, shell.core.life)


def test_what_the_last_events_of_a_test_did_is_looked_at_when_it_ends(shell):
    shell.every_event = 0
    shell.tick()
    shell.core.state.dying_frames = 1
    with pytest.raises(AssertionError, match="3 frames are in use, and 4 belong"):
        check_at_the_end()
    shell.check = False
