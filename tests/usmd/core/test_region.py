"""Processes and regions as bookkeeping."""

from usmd.core.region import BASE_ADDRESS, EVICTION_RECORDS, EvictionRecord, Process, Region, page_key


def region_of(process, region_id, address, length):
    process.regions[region_id] = region = Region(region_id, process, address, length, 16, "")
    return region


def test_page_keys_of_two_regions_never_meet():
    assert page_key(1, (1 << 32) - 1) + 1 == page_key(2, 0)
    assert page_key((1 << 31) - 1, (1 << 32) - 1) < 1 << 63


def test_a_region_has_whole_pages_for_its_length():
    process = Process(1, "app", None, None, None)
    assert [region_of(process, n, BASE_ADDRESS, n).page_count for n in (1, 16, 17)] == [1, 1, 2]


def test_a_region_is_found_by_any_address_inside_and_by_no_other():
    process = Process(1, "app", None, None, None)
    assert process.region_at(BASE_ADDRESS) is None
    first = region_of(process, 1, BASE_ADDRESS, 20)
    second = region_of(process, 2, BASE_ADDRESS + 48, 16)
    found = [process.region_at(BASE_ADDRESS + offset) for offset in (-1, 0, 19, 20, 47, 48, 63, 64)]
    assert found == [None, first, first, None, None, second, second, None]


def test_old_eviction_records_make_room_for_new_ones():
    process = Process(1, "app", 10, 20, None)
    for page in range(EVICTION_RECORDS + 1):
        process.evictions.append(EvictionRecord(page, 0.0, "fifo", "first in"))
    assert len(process.evictions) == EVICTION_RECORDS
    assert (process.evictions[0].page, process.evictions[0].result) == (1, "under way")
