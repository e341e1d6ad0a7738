"""A pin's life; what it does to pages is in test_region_memory."""

import asyncio

import pytest

import lib_usm
from lib_usm import pins
from lib_usm.pin import Pin, PinAsync


class Region:
    def __init__(self):
        self.log = []

    def __repr__(self):
        return "<Region>"


@pytest.fixture
def region(monkeypatch):
    async def pin_async(region, first_page, page_count):
        region.log.append(("pin", first_page, page_count))

    monkeypatch.setattr(pins, "unpin", lambda region, first, count: region.log.append(("unpin", first, count)))
    monkeypatch.setattr(pins, "pin_async", pin_async)
    return Region()


def test_a_pin_is_released_once(region):
    pin = Pin(region, 3, 2)
    assert repr(pin) == "<Pin of 2 pages from page 3 on of <Region>>"
    with pin as entered:
        assert entered is pin
        assert not region.log
    pin.release()
    assert region.log == [("unpin", 3, 2)]
    assert pin.released
    assert repr(pin).endswith(", released>")
    with pytest.raises(lib_usm.ClosedError, match="pin the pages again"):
        pin.__enter__()


def test_an_awaited_pin_holds_from_then_on(region):
    async def main():
        made = PinAsync(region, 1, 4)
        assert not region.log
        pin = await made
        assert region.log == [("pin", 1, 4)]
        async with pin:
            pass
        assert region.log.pop() == ("unpin", 1, 4)
        async with PinAsync(region, 5, 6) as other:
            assert not other.released
        assert region.log[1:] == [("pin", 5, 6), ("unpin", 5, 6)]

    asyncio.run(main())
