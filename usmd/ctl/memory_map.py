"""Memory as a picture: one character per group of neighbouring frames.

With colour, shades of a block show how full a cell is. Without colour, letters show the state, and a capital means that
more than half of the cell is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from string import ascii_letters
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.text import Text

from usmd.ctl.console import has_blocks, is_coloured, is_piped
from usmd.sizes import format_size
from usmd.text_output import printable

if TYPE_CHECKING:
    from usm_wire.pb.usm.v1 import admin_pb2

MAX_CELLS = 65_536
PIPE_COLUMNS = 64
MAX_COLUMNS = 128
MAX_ROWS = 16
TEXT_ROWS = 8  # lines around the picture, the prompt included
SHADES = "\u2591\u2592\u2593\u2588"  # light, medium, dark, full
FREE_BLOCK = "\u00b7"
FREE_LETTER = "."
OTHERS_LETTER = "+"
OWNER_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "red", "bright_cyan", "bright_yellow", "bright_green")


class By(StrEnum):
    """What the colour of a cell shows."""

    STATE = "state"
    OWNER = "owner"


@dataclass(frozen=True)
class State:
    """A state of frames in the picture."""

    name: str
    letter: str
    colour: str


FREE = State("free", FREE_LETTER, "bright_black")
CLEAN = State("clean", "c", "green")
DIRTY = State("dirty", "d", "yellow")
UNEVICTABLE = State("unevictable", "x", "cyan")
FILLING = State("filling", "f", "blue")
EVICTING = State("evicting", "e", "red")
STATES = (FREE, CLEAN, DIRTY, UNEVICTABLE, FILLING, EVICTING)


@dataclass(frozen=True)
class Layout:
    """Numbers of columns and rows of cells."""

    columns: int
    rows: int

    @property
    def cells(self) -> int:
        """Number of cells that fit into the picture."""
        return min(self.columns * self.rows, MAX_CELLS)


def choose_layout(console: Console, frames: int, cells: int | None) -> Layout:
    """A picture as wide as the terminal, with the cells asked for, else with as many as can be taken in at a glance."""
    columns = PIPE_COLUMNS
    if not is_piped(console):
        room = min(console.width - len(f"{frames:,}") - 2, MAX_COLUMNS)
        columns = max(room // 8 * 8, 8)
    if cells is not None:
        return Layout(columns, -(-cells // columns))
    rows = MAX_ROWS if is_piped(console) else min(max(console.height - TEXT_ROWS, 4), MAX_ROWS)
    return Layout(columns, rows)


def draw_map(
    console: Console,
    memory: admin_pb2.GetMemoryMapResponse,
    status: admin_pb2.GetStatusResponse,
    owners: Mapping[int, str],
    columns: int,
    by: By,
) -> Group:
    """Draw the picture between its heading and its legend. `owners` are the names of processes by number."""
    letters = owner_letters(memory.cells)
    picture = Text(no_wrap=True)
    label = len(f"{memory.frames:,}")
    for start in range(0, len(memory.cells), columns):
        row = memory.cells[start : start + columns]
        picture.append("\n" if start else "")
        picture.append(f"{row[0].first_frame:>{label},}  ", style="dim")
        draw_cells(picture, console, row, letters if by is By.OWNER else None)
    legend = _owner_legend(console, memory.cells, letters, owners) if by is By.OWNER else _state_legend(console)
    return Group(_heading(memory, status), picture, legend)


def draw_cells(
    picture: Text, console: Console, cells: Sequence[admin_pb2.MemoryMapCell], letters: Mapping[int, str] | None
) -> None:
    """Append one character per cell: its owner's letter, or its state if `letters` is None."""
    glyphs = (_state_glyph(cell, console) if letters is None else _owner_glyph(cell, letters) for cell in cells)
    for (glyph, style), run in groupby(glyphs):
        picture.append(glyph * len(list(run)), style=style)


def state_of(cell: admin_pb2.MemoryMapCell) -> State:
    """The state of most used frames of the cell; FREE if none is used.

    A tie goes to the rarer state, which the reader looks for.
    """
    counts = (
        (cell.evicting, EVICTING),
        (cell.filling, FILLING),
        (cell.unevictable, UNEVICTABLE),
        (cell.dirty, DIRTY),
        (max(cell.present - cell.dirty, 0), CLEAN),
    )
    most, state = max(counts, key=lambda pair: pair[0])
    return state if most else FREE


def state_glyph(state: State, full: float, console: Console) -> str:
    """Character for frames in `state`, of which the share `full` (0 to 1) is used."""
    blocks = is_coloured(console) and has_blocks(console)
    if state is FREE:
        return FREE_BLOCK if blocks else FREE_LETTER
    if blocks:
        return SHADES[min(int(full * len(SHADES)), len(SHADES) - 1)]
    return state.letter.upper() if full > 0.5 else state.letter


def _state_glyph(cell: admin_pb2.MemoryMapCell, console: Console) -> tuple[str, str]:
    state = state_of(cell)
    return state_glyph(state, _fullness(cell), console), state.colour


def _owner_glyph(cell: admin_pb2.MemoryMapCell, letters: Mapping[int, str]) -> tuple[str, str]:
    if cell.process_id == 0:
        return FREE_LETTER, FREE.colour
    letter = letters[cell.process_id]
    return letter, owner_style(letter, full=_fullness(cell) > 0.5)


def owner_style(letter: str, *, full: bool) -> str:
    """Style of an owner's letter: filled in where more than half of the cell is used."""
    if letter == OTHERS_LETTER:
        return "black on white" if full else "white"
    colour = OWNER_COLOURS[ascii_letters.index(letter) % len(OWNER_COLOURS)]
    return f"black on {colour}" if full else colour


def _fullness(cell: admin_pb2.MemoryMapCell) -> float:
    return (cell.frames - cell.free) / cell.frames if cell.frames else 0.0


def owner_letters(cells: Sequence[admin_pb2.MemoryMapCell]) -> dict[int, str]:
    """Letter of each process, assigned by process number so that a refresh keeps it; `+` beyond the alphabet."""
    numbers = sorted({cell.process_id for cell in cells} - {0})
    letters = ascii_letters + OTHERS_LETTER * max(len(numbers) - len(ascii_letters), 0)
    return dict(zip(numbers, letters, strict=False))


def _heading(memory: admin_pb2.GetMemoryMapResponse, status: admin_pb2.GetStatusResponse) -> str:
    used = status.frames - status.free_frames
    largest = max((cell.frames for cell in memory.cells), default=0)
    size = format_size(memory.frames * status.page_size)
    return (
        f"{memory.frames:,} frames of {format_size(status.page_size)} ({size}), "
        f"{used:,} in use; one cell is {_count(largest, 'frame')} ({format_size(largest * status.page_size)})"
    )


def _state_legend(console: Console) -> Text:
    legend = Text()
    for state in STATES:
        legend.append(state_glyph(state, 1.0, console), style=state.colour)
        legend.append(f" {state.name}   ")
    legend.append("\n")
    if is_coloured(console) and has_blocks(console):
        legend.append(f"colour: state of most of the used frames of a cell; {SHADES}: a quarter to all used")
    else:
        legend.append("letter: state of most of the used frames of a cell; capital: more than half of the cell is used")
    return legend


def _owner_legend(
    console: Console,
    cells: Sequence[admin_pb2.MemoryMapCell],
    letters: Mapping[int, str],
    owners: Mapping[int, str],
) -> Text:
    count = Counter(cell.process_id for cell in cells)
    legend = Text()
    legend.append(FREE_LETTER, style=FREE.colour)
    legend.append(" free")
    for number, letter in letters.items():
        if letter == OTHERS_LETTER:
            continue
        legend.append("   ")
        legend.append(letter, style=owner_style(letter, full=True))
        legend.append(f" {printable(owners.get(number, '(gone)'))} (process {number}, {_count(count[number], 'cell')})")
    others = [number for number, letter in letters.items() if letter == OTHERS_LETTER]
    if others:
        legend.append("   ")
        legend.append(OTHERS_LETTER, style=owner_style(OTHERS_LETTER, full=True))
        legend.append(f" {len(others)} more processes ({_count(sum(count[number] for number in others), 'cell')})")
    legend.append("\nletter: process with most frames of a cell")
    if is_coloured(console):
        legend.append("; filled in: more than half of the cell used")
    return legend


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
