"""The picture of usmctl top is of what the screen shows, small, and loads nothing from elsewhere."""

import asyncio

from tests.usmd.ctl.top.conftest import FakeSource, process
from tools.top_picture import picture
from usmd.ctl.top.reading import Wanted


def test_the_picture_is_of_the_screen():
    source = FakeSource([process(1, "web-cache"), process(2, "search-index", frozen_faults=1)])
    svg = asyncio.run(picture(source, source.make(Wanted()), (80, 24), readings=1, interval=0.1))
    assert svg.startswith("<svg")
    for words in ("web-cache", "search-index", "FROZEN", "Pressure"):
        assert words in svg
    assert "url(http" not in svg
    assert len(svg) < 64 << 10
