"""Miss-ratio curves as a picture, PNG and SVG: miss ratio over memory, a line a policy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from usmd.ctl.replay_view import label
from usmd.errors import TraceError
from usmd.lab.loading import Trace
from usmd.lab.replay import Row
from usmd.text_output import printable

MARKERS = "osD^vP*X<>dph"


class Scale:
    """Multiplies an axis by a factor."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, values: Any) -> Any:  # noqa: ANN401 - whatever matplotlib has
        """The values on the other axis; numbers or arrays of them."""
        return values * self.factor


def draw(trace: Trace, rows: Sequence[Row], target: Path) -> list[Path]:
    """Write `target`.png and `target`.svg and return their paths.

    Raises ImportError where matplotlib is not installed, and TraceError where the files cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in rows:
        if row.complete:
            lines[label(row, rows)].append((row.frames, row.miss_ratio))
    for number, (name, points) in enumerate(sorted(lines.items())):
        frames, ratios = zip(*sorted(points), strict=True)
        style = "--" if name.startswith("belady") else "-"
        marker = MARKERS[number % len(MARKERS)]
        axes.plot(frames, ratios, style, marker=marker, markersize=4, linewidth=1.4, label=_plain(name))
    axes.set_xscale("log")
    axes.set_ylim(0, 1)
    axes.set_xlabel("memory (frames, logarithmic)")
    axes.set_ylabel("miss ratio")
    axes.set_title(f"{_plain(trace.name)}: {len(trace):,} accesses to {trace.distinct:,} pages")
    axes.grid(visible=True, which="major", alpha=0.3)
    shares = axes.secondary_xaxis("top", functions=(Scale(100 / trace.distinct), Scale(trace.distinct / 100)))
    # Between two powers of ten other numbers are labelled too, for there may be no power in the picture.
    few = max(row.frames for row in rows) < 10 * min(row.frames for row in rows)
    for axis, form in ((axes.xaxis, "{:,.0f}"), (shares.xaxis, "{:.3g}%")):
        axis.set_major_formatter(FuncFormatter(lambda value, _, form=form: form.format(value)))
        axis.set_minor_formatter(axis.get_major_formatter() if few else NullFormatter())
    shares.set_xlabel("of the distinct pages")
    axes.legend(loc="upper right", fontsize="small")
    written = [target.with_name(f"{target.name}.{ending}") for ending in ("png", "svg")]
    try:
        for path in written:
            figure.savefig(path, dpi=150)
    except OSError as error:
        raise TraceError(f"the picture cannot be written: {error}") from error
    return written


def _plain(text: str) -> str:
    """Text that is not read as mathematics, which stands between dollar signs."""
    return printable(text, "utf-8").replace("$", r"\$")
