"""The picture of a curve: both files, only whole replays, and a folder that is not there."""

import os
import pickle
import subprocess
import sys
import warnings
from array import array

import matplotlib
import msgspec
import pytest

from usmd.ctl.curve_plot import Scale, check_target, draw
from usmd.errors import InvalidArgument, TraceError
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


NAMES = ["_mine.py:P", "_", "__init__", "cost$1_$2.py:P", "a\\b{c}^d%", "x\ny", "\u7b56\u7565"]


def test_each_curve_is_named_in_the_legend(trace, rows, tmp_path):
    named = [msgspec.structs.replace(row, evict=name) for name in NAMES for row in rows] + rows
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = draw(trace, named, tmp_path / "curve")[1].read_text()
    for name in NAMES:
        assert f"<!-- {name.replace(chr(10), chr(92) + 'n')} -->" in svg
    assert "<!-- lru -->" in svg
    assert "<!-- curve " not in svg


def test_settings_of_the_user_neither_change_a_picture_nor_are_changed(trace, rows, tmp_path):
    plain = draw(trace, rows, tmp_path / "plain")[0].read_bytes()
    settings = {"text.usetex": True, "figure.dpi": 20, "lines.linewidth": 9, "savefig.bbox": "tight", "axes.grid": True}
    with matplotlib.rc_context(settings):
        assert draw(trace, rows, tmp_path / "other")[0].read_bytes() == plain
        assert {key: matplotlib.rcParams[key] for key in settings} == settings


HOSTILE = """
import os, pickle, sys
from pathlib import Path
from usmd.ctl.curve_plot import draw
def environment():
    return {key: value for key, value in os.environ.items() if key != "MPLCONFIGDIR"}  # matplotlib gives it another
before = environment(), os.getcwd()
trace, rows = pickle.loads(Path("data").read_bytes())
draw(trace, rows, Path("curve"))
assert (environment(), os.getcwd()) == before and Path("curve.svg").exists()
"""


def test_settings_in_files_and_in_the_environment_are_not_looked_at(trace, rows, tmp_path):
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe not a setting")
    (tmp_path / "rc").write_text("text.usetex: True\nbackend: Qt4Agg\nno such setting\n")
    (tmp_path / "data").write_bytes(pickle.dumps((trace, rows)))
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "MPLBACKEND": "Qt4Agg", "MATPLOTLIBRC": str(tmp_path / "rc"), "MPLCONFIGDIR": "/proc/none"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_a_curve_is_drawn_again_and_other_pictures_are_not_overwritten(trace, rows, tmp_path):
    target = tmp_path / "curve"
    check_target(target)
    draw(trace, rows, target)
    check_target(target)
    for ending in ("png", "svg"):
        other = tmp_path / f"photo.{ending}"
        other.write_bytes(b"\x89PNG a photo")
        with pytest.raises(InvalidArgument, match=rf"photo\.{ending} exists .* --force"):
            check_target(tmp_path / "photo")
        other.write_bytes(b"")
        check_target(tmp_path / "photo")
