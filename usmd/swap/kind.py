"""A kind of swap device: how an operator writes one, and how it is opened.

An instance is one device to open. Its fields are the keys of a `[[swap]]` table, each annotated with the reader of its
value (usmd.config_values). usmd.swap.kinds has the kinds.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import msgspec

from usmd import config_values as values
from usmd.sizes import parse_size
from usmd.swap.base import SwapDevice


class SwapKind(msgspec.Struct, frozen=True, kw_only=True):
    """A swap device to open.

    A kind defines `device` and `open`, and the other methods if it has settings of its own.
    """

    device: ClassVar[type[SwapDevice]]
    """Class of the devices; its class attributes `kind`, the name, and `read_jobs` describe the kind."""

    form: ClassVar[str] = "SIZE"
    """The part behind the name and a colon on the command line."""

    size: values.Size
    """Bytes that the device may hold."""

    name: values.Word | None = None
    """Name of the device; None: its kind and number."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the part behind the name and a colon on the command line.

        Raises InvalidSize for an invalid size, and ValueError for text that does not match `form`.
        """
        return cls(size=parse_size(text))

    def placed(self, folder: Path, number: int) -> Self:
        """The same device with its relative paths in `folder`; `number` is the device's."""
        del folder, number
        return self

    def parts(self) -> tuple[SwapKind, ...]:
        """The devices that it is made of, which are checked as others are."""
        return ()

    def in_threads(self) -> Self:
        """The same device for a caller that runs all its jobs in threads."""
        return self

    def claim(self) -> str | None:
        """What only one device may use, such as a file, in a canonical spelling; None: nothing."""
        return None

    def open(self, number: int, name: str, page_size: int) -> SwapDevice:
        """Open the device; `size` is at least one page of `page_size` bytes.

        Raises ConfigError for contradictory settings, and SwapDeviceError if the device cannot be opened. Either way
        nothing is left behind.
        """
        raise NotImplementedError
