"""A pin's life; what it does to pages is in test_region_memory."""

import asyncio

import pytest

import lib_usm
from lib_usm.pin import Pin, PinAsync


class Client:
    def __init__(self):
        self.log = []

    def unpin(self, _region, first_page, page_count):
        self.log.append(("unpin", first_page, page_count))

    async def pin_async(self, _region, first_page, page_count):
        self.log.append(("pin", first_page, page_count))


class Region:
    def __init__(self):
        self.client = Client()

    def __repr__(self):
        return "<Region>"


@pytest.fixture
def region():
    return Region()


def test_a_pin_is_released_once(region):
    pin = Pin(region, 3, 2)
    assert repr(pin) == "<Pin of 2 pages from page 3 on of <Region>>"
    with pin as entered:
        assert entered is pin
        assert not region.client.log
    pin.release()
    assert region.client.log == [("unpin", 3, 2)]
    assert pin.released
    assert repr(pin).endswith(", released>")
    with pytest.raises(lib_usm.ClosedError, match="pin the pages again"):
        pin.__enter__()


def test_an_awaited_pin_holds_from_then_on(region):
    async def main():
        made = PinAsync(region, 1, 4)
        assert not region.client.log
        pin = await made
        assert region.client.log == [("pin", 1, 4)]
        async with pin:
            pass
        assert region.client.log.pop() == ("unpin", 1, 4)
        async with PinAsync(region, 5, 6) as other:
            assert not other.released
        assert region.client.log[1:] == [("pin", 5, 6), ("unpin", 5, 6)]

    asyncio.run(main())
