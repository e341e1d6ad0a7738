"""Lists of frames, against plain Python lists."""

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usmd.core.frame_list import FrameLinks

FRAMES = 6
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["append", "remove", "discard", "move_to_end", "clear"]), st.integers(0, 1), st.integers(0, 5)
    )
)


@given(steps=STEPS)
def test_two_lists_behave_like_plain_lists_that_share_no_frame(steps):
    links = FrameLinks(FRAMES)
    lists, model = [links.new_list(), links.new_list()], [[], []]
    for step, which, pfn in steps:
        frames, plain = lists[which], model[which]
        if step == "append" and pfn not in model[0] + model[1]:
            frames.append(pfn)
            plain.append(pfn)
        elif step == "discard":
            assert frames.discard(pfn) == (pfn in plain)
            model[which] = [each for each in plain if each != pfn]
        elif step == "clear":
            frames.clear()
            plain.clear()
        elif step == "append" or pfn not in plain:
            with pytest.raises(ValueError, match=f"frame {pfn}"):
                getattr(frames, step)(pfn)
        else:
            getattr(frames, step)(pfn)
            plain.remove(pfn)
            if step == "move_to_end":
                plain.append(pfn)
        for found, expected in zip(lists, model, strict=True):
            assert list(found) == expected
            assert list(reversed(found)) == expected[::-1]
            assert len(found) == len(expected)
            assert found.first == (expected[0] if expected else None)
            assert [each for each in range(FRAMES) if each in found] == sorted(expected)


def test_the_frame_just_given_may_be_removed_or_moved():
    frames = FrameLinks(4).new_list()
    for pfn in range(4):
        frames.append(pfn)
    seen = []
    for pfn in frames:
        seen.append(pfn)
        if pfn % 2:
            frames.remove(pfn)
    assert seen == [0, 1, 2, 3]
    assert list(frames) == [0, 2]
    for pfn in reversed(frames):
        frames.remove(pfn)
    assert list(frames) == []


def test_a_released_frame_is_in_no_list_and_the_rest_stays_in_order():
    links = FrameLinks(3)
    frames = links.new_list()
    for pfn in range(3):
        frames.append(pfn)
    links.release(1)
    assert (list(frames), 1 in frames, links.owner[1]) == ([0, 2], False, 0)


def test_a_frame_of_a_list_that_is_gone_can_be_released():
    links = FrameLinks(1)
    frames = links.new_list()
    frames.append(0)
    del frames
    gc.collect()
    links.release(0)
    other = links.new_list()
    other.append(0)
    assert list(other) == [0]


def test_after_goes_from_frame_to_frame_and_knows_only_those_of_its_list():
    links = FrameLinks(3)
    frames, other = links.new_list(), links.new_list()
    frames.append(2)
    frames.append(0)
    other.append(1)
    assert (frames.after(2), frames.after(0)) == (0, None)
    with pytest.raises(ValueError, match="frame 1"):
        frames.after(1)


@given(first=st.integers(0, FRAMES - 1), count=st.integers(1, FRAMES), before=st.lists(st.integers(0, 5), unique=True))
def test_a_run_is_appended_as_its_frames_are_one_by_one_or_not_at_all(first, count, before):
    run = range(first, min(first + count, FRAMES))
    links = FrameLinks(FRAMES)
    frames, other = links.new_list(), links.new_list()
    for index, pfn in enumerate(before):
        (frames if index % 2 else other).append(pfn)
    mine = before[1::2]
    if set(run) & set(before):
        with pytest.raises(ValueError, match=f"of frames {run.start} to {run.stop - 1} some are in a list already"):
            frames.extend(run)
    else:
        frames.extend(run)
        mine += run
    assert list(frames) == mine
    assert list(reversed(frames)) == mine[::-1]
    assert len(frames) == len(mine)
    assert list(other) == before[::2]


@given(moved=st.lists(st.integers(0, FRAMES - 1)))
def test_many_frames_are_moved_as_one_by_one_up_to_the_first_that_is_not_in_the_list(moved):
    links = FrameLinks(FRAMES)
    frames, other = links.new_list(), links.new_list()
    other.append(FRAMES - 1)
    plain = list(range(FRAMES - 1))
    for pfn in plain:
        frames.append(pfn)
    expected = moved[: moved.index(FRAMES - 1)] if FRAMES - 1 in moved else moved
    for pfn in expected:
        plain.remove(pfn)
        plain.append(pfn)
    if expected == moved:
        frames.move_all_to_end(moved)
    else:
        with pytest.raises(ValueError, match=f"frame {FRAMES - 1} is not in this list"):
            frames.move_all_to_end(moved)
    assert list(frames) == plain
    assert list(reversed(frames)) == plain[::-1]
    assert (len(frames), list(other)) == (FRAMES - 1, [FRAMES - 1])


def test_nothing_is_moved_in_an_empty_list():
    frames = FrameLinks(1).new_list()
    with pytest.raises(ValueError, match="frame 0 is not in this list"):
        frames.move_all_to_end([0])
    frames.move_all_to_end([])
    assert (list(frames), frames.head_besides(()), frames.first_besides(())) == ([], -1, None)
