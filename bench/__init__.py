"""Benchmarks: `make bench` runs them all. Each prints its measurements, the yardstick, and the settings."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def as_program(main: Callable[[], None], about: str | None) -> None:
    """Run a benchmark without options as a program of its own; `about`: what `--help` says."""
    argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
