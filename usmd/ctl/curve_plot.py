"""Miss-ratio curves as a picture, PNG and SVG: miss ratio over memory, one line per policy.

The user's settings of matplotlib, in files and environment variables, are ignored: they are made for other work, and
may name missing fonts, backends or programs.
"""

from __future__ import annotations

import importlib
import logging
import os
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from usmd.ctl.replay_view import label
from usmd.errors import InvalidArgument, TraceError
from usmd.lab.loading import Trace
from usmd.lab.replay import Row
from usmd.text_output import printable

MARKERS = "osD^vP*X<>dph"
ENDINGS = ("png", "svg")
MADE_BY = "usmctl replay --mrc"
"""The mark of usmctl's own pictures, which are overwritten without --force."""
_MADE_BY_WITHIN = 4096
"""Number of bytes at the beginning of a picture that are searched for the mark."""


class Scale:
    """Multiplies the values of an axis by a factor."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, values: Any) -> Any:  # noqa: ANN401 - any of matplotlib's types
        """The values on the other axis: numbers or arrays."""
        return values * self.factor


def pictures(target: Path) -> list[Path]:
    """The paths of the files that `draw` writes."""
    return [target.with_name(f"{target.name}.{ending}") for ending in ENDINGS]


def check_folder(target: Path) -> None:
    """Raise InvalidArgument if the pictures' folder is missing; called before the work, which may take hours."""
    if not target.parent.is_dir():
        raise InvalidArgument(f"pictures cannot be written to {target.parent}, which is not a folder; give another -o")


def check_target(target: Path) -> None:
    """Raise InvalidArgument if a picture would overwrite a file that is not one of usmctl's curves."""
    for path in pictures(target):
        try:
            with path.open("rb") as file:
                begins = file.read(_MADE_BY_WITHIN)
        except OSError:
            continue  # there is no such file, or writing it will fail with the reason
        if begins and MADE_BY.encode() not in begins:
            raise InvalidArgument(
                f"{path} exists and is not usmctl's curve; give another name with -o, or --force, which overwrites it"
            )


def draw(trace: Trace, rows: Sequence[Row], target: Path) -> list[Path]:
    """Write `target`.png and `target`.svg and return their paths.

    Raises ImportError if matplotlib is not installed, and TraceError if the files cannot be written.
    """
    with _own_settings():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 5.5), layout="constrained")
        FigureCanvasAgg(figure)
        _fill(figure.add_subplot(), trace, rows)
        written = pictures(target)
        try:
            for path, name in zip(written, ("Software", "Creator"), strict=True):
                figure.savefig(path, dpi=150, metadata={name: MADE_BY})
                figure.set_layout_engine("none")  # the other picture has the layout of this one
        except OSError as error:
            raise TraceError(f"the picture cannot be written: {error}") from error
    return written


def _fill(axes: Any, trace: Trace, rows: Sequence[Row]) -> None:  # noqa: ANN401 - matplotlib may not be there
    from matplotlib.ticker import FuncFormatter, NullFormatter

    lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in rows:
        if row.complete:
            lines[label(row, rows)].append((row.frames, row.miss_ratio))
    names = sorted(lines)
    for number, name in enumerate(names):
        frames, ratios = zip(*sorted(lines[name]), strict=True)
        style = "--" if name.startswith("belady") else "-"
        marker = MARKERS[number % len(MARKERS)]
        axes.plot(frames, ratios, style, marker=marker, markersize=4, linewidth=1.4, label=f"curve {number}")
    axes.set_xscale("log")
    axes.set_ylim(0, 1)
    axes.set_xlabel("memory (frames, logarithmic)")
    axes.set_ylabel("miss ratio")
    _write(axes.set_title(""), f"{trace.name}: {len(trace):,} accesses to {trace.distinct:,} pages")
    axes.grid(visible=True, which="major", alpha=0.3)
    shares = axes.secondary_xaxis("top", functions=(Scale(100 / trace.distinct), Scale(trace.distinct / 100)))
    # Values between powers of ten are labelled too, because the picture may have no power of ten in its range.
    few = max(row.frames for row in rows) < 10 * min(row.frames for row in rows)
    for axis, form in ((axes.xaxis, "{:,.0f}"), (shares.xaxis, "{:.3g}%")):
        axis.set_major_formatter(FuncFormatter(lambda value, _, form=form: form.format(value)))
        axis.set_minor_formatter(axis.get_major_formatter() if few else NullFormatter())
    shares.set_xlabel("of the distinct pages")
    if names:
        # Names are written afterwards, because a legend omits names that begin with an underscore.
        legend = axes.legend(loc="upper right", fontsize="small")
        for text, name in zip(legend.get_texts(), names, strict=True):
            _write(text, name)


def _write(text: Any, words: str) -> None:  # noqa: ANN401 - matplotlib may not be there
    """Write `words` literally: dollar signs do not mark mathematics."""
    text.set_parse_math(False)
    text.set_text(printable(words, "utf-8"))


@contextmanager
def _own_settings() -> Iterator[None]:
    """Use matplotlib's own defaults, whatever the user's files and environment say.

    Warnings are suppressed. Raises ImportError if matplotlib is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about characters missing in a font, which draws a box instead
        matplotlib = _imported()
        defaults = {key: value for key, value in matplotlib.rcParamsDefault.items() if key != "backend"}
        with matplotlib.rc_context(defaults):
            yield


def _imported() -> Any:  # noqa: ANN401 - a module that may not be there
    """matplotlib, imported where it finds none of the user's settings, which it reads during the import.

    It looks for a file in the current folder first, then for the one that MATPLOTLIBRC names.
    """
    ours = {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull}
    before = {name: os.environ.get(name) for name in ours}
    logging.getLogger("matplotlib").setLevel(logging.CRITICAL)  # no warnings of an unwritable home folder, and of fonts
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.environ.update(ours)
        os.chdir("/")
        return importlib.import_module("matplotlib")
    finally:
        os.fchdir(here)
        os.close(here)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
