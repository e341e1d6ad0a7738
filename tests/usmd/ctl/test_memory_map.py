import io

import pytest
from rich.console import Console

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl.console import PIPE_WIDTH
from usmd.ctl.memory_map import (
    CLEAN,
    DIRTY,
    EVICTING,
    FILLING,
    FREE,
    MAX_CELLS,
    STATES,
    UNEVICTABLE,
    By,
    choose_layout,
    draw_map,
    state_glyph,
    state_of,
)

STATUS = pb.GetStatusResponse(page_size=4096, frames=64, free_frames=16)


def make(width=PIPE_WIDTH, *, colour=False, height=25):
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    return Console(
        file=file, width=width, height=height, force_terminal=colour, color_system="truecolor" if colour else None,
        no_color=not colour, highlight=False, markup=False, legacy_windows=False,
    )  # fmt: skip


def drawn(console, cells, *, by=By.STATE, columns=8, owners=None, status=STATUS):
    memory = pb.GetMemoryMapResponse(cells=cells, frames=sum(cell.frames for cell in cells))
    with console.capture() as capture:
        console.print(draw_map(console, memory, status, owners or {}, columns, by))
    return capture.get().splitlines()


@pytest.mark.parametrize(
    ("counts", "state"),
    [
        ({"free": 8}, FREE),
        ({"free": 7, "present": 1}, CLEAN),
        ({"present": 8, "dirty": 5}, DIRTY),
        ({"present": 8, "dirty": 3}, CLEAN),
        ({"present": 8, "dirty": 8, "unevictable": 8}, UNEVICTABLE),
        ({"filling": 5, "present": 3}, FILLING),
        ({"filling": 4, "evicting": 4}, EVICTING),
    ],
)
def test_a_cell_shows_the_state_of_most_of_its_used_frames(counts, state):
    assert state_of(pb.MemoryMapCell(frames=8, **counts)) is state


def test_without_colour_every_state_has_a_glyph_of_its_own():
    console = make()
    for full in (0.1, 1.0):
        assert len({state_glyph(state, full, console) for state in STATES}) == len(STATES)


def test_without_colour_a_capital_means_more_than_half():
    console = make()
    assert [state_glyph(DIRTY, full, console) for full in (0.1, 0.5, 0.51, 1.0)] == ["d", "d", "D", "D"]


def test_with_colour_the_shade_tells_how_full_a_cell_is():
    console = make(80, colour=True)
    assert [state_glyph(DIRTY, full, console) for full in (0.1, 0.3, 0.6, 1.0)] == [
        "\u2591",
        "\u2592",
        "\u2593",
        "\u2588",
    ]


def test_a_picture_has_a_row_label_a_glyph_per_cell_and_a_legend():
    kinds = [{"free": 4}, {"present": 4}, {"present": 4, "dirty": 4}, {"present": 4, "unevictable": 4}]
    kinds += [{"filling": 4}, {"evicting": 4}, {"free": 3, "present": 1}, {"free": 4}]
    cells = [pb.MemoryMapCell(first_frame=4 * n, frames=4, **kinds[n % 8]) for n in range(16)]
    lines = drawn(make(), cells)
    assert lines[0] == "64 frames of 4 KiB (256 KiB), 48 in use; one cell is 4 frames (16 KiB)"
    assert lines[1:3] == [" 0  .CDXFEc.", "32  .CDXFEc."]
    assert [word for word in lines[3].split() if len(word) > 1] == [state.name for state in STATES]


def test_with_colour_states_differ_in_colour():
    cells = [pb.MemoryMapCell(frames=1, present=1), pb.MemoryMapCell(first_frame=1, frames=1, present=1, dirty=1)]
    line = drawn(make(80, colour=True), cells)[1]
    assert "\x1b[32m\u2588" in line
    assert "\x1b[33m\u2588" in line


def test_by_owner_a_letter_stands_for_a_process_and_the_legend_names_it():
    cells = [
        pb.MemoryMapCell(frames=4, free=4),
        pb.MemoryMapCell(first_frame=4, frames=4, present=4, process_id=9),
        pb.MemoryMapCell(first_frame=8, frames=4, present=4, process_id=3),
        pb.MemoryMapCell(first_frame=12, frames=4, present=4, process_id=9),
    ]
    lines = drawn(make(), cells, by=By.OWNER, owners={3: "index\x1ber"})
    assert lines[1] == " 0  .bab"
    assert "a index\\x1ber (process 3, 1 cell)" in lines[2]
    assert "b (gone) (process 9, 2 cells)" in lines[2]


def test_owners_beyond_the_alphabet_share_a_glyph():
    cells = [pb.MemoryMapCell(first_frame=n, frames=1, present=1, process_id=n + 1) for n in range(60)]
    lines = drawn(make(), cells, by=By.OWNER, columns=60)
    assert lines[1].endswith("YZ++++++++")
    assert "+ 8 more processes (8 cells)" in lines[2]


def test_with_colour_an_owner_that_fills_a_cell_fills_it_on_screen():
    cells = [pb.MemoryMapCell(frames=2, present=2, process_id=1), pb.MemoryMapCell(frames=4, free=3, process_id=1)]
    line = drawn(make(80, colour=True), cells, by=By.OWNER)[1]
    assert "\x1b[30;46ma" in line
    assert "\x1b[36ma" in line


@pytest.mark.parametrize("width", [20, 40, 80, 133, 300])
def test_rows_fit_the_terminal(width):
    layout = choose_layout(make(width), 1_000_000, None)
    cells = [pb.MemoryMapCell(first_frame=62_500 * n, frames=62_500, present=62_500) for n in range(16)]
    for line in drawn(make(width), cells, columns=layout.columns)[1:-4]:
        assert len(line) <= width
    assert layout.columns % 8 == 0


def test_a_layout_leaves_room_for_the_words_around_it():
    assert choose_layout(make(80, height=24), 1024, None).rows == 16
    assert choose_layout(make(80, height=15), 1024, None).rows == 7
    assert choose_layout(make(80, height=5), 1024, None).rows == 4


def test_a_pipe_gets_a_picture_of_a_fixed_size():
    layout = choose_layout(make(), 1 << 30, None)
    assert (layout.columns, layout.rows) == (64, 16)


def test_the_cells_asked_for_decide_the_rows():
    assert choose_layout(make(), 1024, 65).rows == 2
    assert choose_layout(make(), 1 << 30, MAX_CELLS).cells == MAX_CELLS


def test_memory_without_cells_is_drawn_as_nothing():
    assert drawn(make(), [])[0].startswith("0 frames")
