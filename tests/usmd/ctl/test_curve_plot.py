"""The picture of a curve: both files, only whole replays, and a folder that is not there."""

from array import array

import msgspec
import pytest

from usmd.ctl.curve_plot import Scale, draw
from usmd.errors import TraceError
from usmd.lab.loading import gather
from usmd.lab.replay import Replay, Setup
from usmd.lab.traces.trace import cut


@pytest.fixture
def trace():
    return gather(cut(array("q", [1, 2, 3, 1, 5, 2])), "small", lambda: "made")


@pytest.fixture
def rows(trace):
    found = []
    for frames in (1, 2, 3):
        replay = Replay(trace, Setup(frames, "lru"))
        list(replay.run())
        found.append(replay.row())
    return found


def test_png_and_svg_are_written_and_name_the_policy(trace, rows, tmp_path):
    written = draw(trace, rows, tmp_path / "v1.2")
    assert written == [tmp_path / "v1.2.png", tmp_path / "v1.2.svg"]
    assert written[0].stat().st_size > 10_000
    assert "lru" in written[1].read_text()


def test_a_replay_that_was_interrupted_is_no_point(trace, rows, tmp_path):
    cut_short = [msgspec.structs.replace(rows[0], evict="half", complete=False), *rows[1:]]
    assert "half" not in draw(trace, cut_short, tmp_path / "curve")[1].read_text()


def test_a_folder_that_is_not_there_is_told(trace, rows, tmp_path):
    with pytest.raises(TraceError, match="cannot be written"):
        draw(trace, rows, tmp_path / "none" / "curve")


def test_the_second_axis_is_a_share():
    assert Scale(0.5)(10) == 5
