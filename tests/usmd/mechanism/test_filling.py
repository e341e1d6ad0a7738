"""Pages that come in while their client interferes: in its memfd, by mremap, munmap and mprotect."""

import errno

import pytest

from tests.support.real_memory import require_real_memory
from tests.usmd.mechanism.mapped import HARDWARE_PAGE, make_read_only, read, remap, unmap, write
from tests.usmd.mechanism.memory_world import LARGE, PAGES, World, full, large, small, world
from usmd.errors import DataLoss, SwapIOError, Unmapped
from usmd.mechanism import filling
from usmd.mechanism.base import Busy
from usmd.mechanism.uffd import Drained

__all__ = ["large", "small", "world"]


def kinds(errors):
    return [type(error) for error in errors]


# Pages that the client has put there


def test_a_page_that_the_client_has_put_there_is_punched_and_brought_in_at_the_next_try(small):
    small.client_writes_into_the_memfd(2)
    stage = small.stage(2)
    errors = small.memory.fill(stage, [None])
    assert kinds(errors) == [Busy]
    assert small.memory.fill(stage, errors) == [None]
    assert small.seen(2) == full(2, small)


def test_of_several_pages_those_before_are_there_and_the_others_come_at_the_next_try(small):
    small.client_writes_into_the_memfd(3)
    stage = small.stage(1, 2, 3, 4)
    errors = small.memory.fill(stage, [None] * 4)
    assert kinds(errors) == [type(None), type(None), Busy, Busy]
    assert small.resident() == [1, 2]
    while any(errors):
        errors = small.memory.fill(stage, errors)
    assert small.resident() == [1, 2, 3, 4]
    assert [small.seen(page) for page in (1, 2, 3, 4)] == [full(page, small) for page in (1, 2, 3, 4)]


@pytest.mark.parametrize("pages", [(1, 5), (5, 1), (1, 2, 5), (1, 3, 5, 6)])
def test_what_is_written_to_a_page_that_came_is_not_lost_when_another_is_tried_again(world, pages):
    world.client_writes_into_the_memfd(5)
    stage = world.stage(*pages)
    errors = world.memory.fill(stage, [None] * len(pages))
    assert Busy in kinds(errors)
    there = [page for page, error in zip(pages, errors, strict=True) if error is None]
    assert 1 in there
    for page in there:
        write(world.at(page), b"written").result()
    while any(errors):
        assert set(kinds(errors)) <= {Busy, type(None)}
        errors = world.memory.fill(stage, errors)
    for page in pages:
        assert world.seen(page)[:7] == (b"written" if page in there else bytes([page + 1]) * 7)


def test_an_error_of_the_read_stays_that_over_the_tries(small):
    small.client_writes_into_the_memfd(3)
    stage = small.stage(2, 3, 4)
    damaged = DataLoss("damaged")
    errors = small.memory.fill(stage, [damaged, None, None])
    assert errors[0] is damaged
    assert kinds(errors[1:]) == [Busy, Busy]
    assert small.memory.fill(stage, errors) == [damaged, None, None]
    assert small.resident() == [3, 4]


@pytest.mark.parametrize("page_size", [HARDWARE_PAGE, LARGE])
def test_a_client_that_puts_the_page_there_again_and_again_gets_an_error_in_the_end(page_size, monkeypatch):
    require_real_memory()
    monkeypatch.setattr(filling, "MAX_BUSY", 7)
    world = World(page_size)
    stage = world.stage(2)
    errors = [None]
    tries = 0
    while tries == 0 or isinstance(errors[0], Busy):
        world.client_writes_into_the_memfd(2)
        errors = world.memory.fill(stage, errors)
        tries += 1
        assert tries <= 7
    assert tries == 7
    assert kinds(errors) == [SwapIOError]
    assert "File exists" in str(errors[0])
    with pytest.raises(ValueError, match="released"):
        bytes(stage.buffers[0])
    world.close()


@pytest.mark.parametrize("part", [0, 1, 7, 15])
def test_of_a_large_page_what_was_copied_is_not_copied_again(large, part):
    large.client_writes_into_the_memfd(2, offset=part * HARDWARE_PAGE)
    stage = large.stage(2)
    errors = large.memory.fill(stage, [None])
    assert kinds(errors) == [Busy]
    assert large.resident() == []
    assert large.held() == part * HARDWARE_PAGE
    assert large.memory.fill(stage, errors) == [None]
    assert large.seen(2) == full(2, large)
    assert large.resident() == [2]


def test_of_large_pages_each_comes_whole_whatever_the_client_put_where(large):
    places = {(1, 3), (1, 9), (2, 0), (4, 15)}
    for page, part in places:
        large.client_writes_into_the_memfd(page, offset=part * HARDWARE_PAGE)
    stage = large.stage(1, 2, 3, 4, writable=False)
    errors = large.memory.fill(stage, [None] * 4)
    tries = 1
    while any(errors):
        assert set(kinds(errors)) <= {Busy, type(None)}, errors
        errors = large.memory.fill(stage, errors)
        tries += 1
    assert tries <= len(places) + 1
    assert [large.seen(page) for page in (1, 2, 3, 4)] == [full(page, large) for page in (1, 2, 3, 4)]
    assert large.resident() == [1, 2, 3, 4]


def test_a_remap_that_does_not_end_holds_a_page_up_and_is_tried_again(world, monkeypatch):
    answers = [Drained(0, errno.EAGAIN), Drained(0, errno.EAGAIN)]
    real = world.client.memory.copy

    def copy(*arguments, **options):
        return answers.pop() if answers else real(*arguments, **options)

    monkeypatch.setattr(world.client.memory, "copy", copy)
    stage = world.stage(1, 2)
    errors = [None, None]
    for _ in range(2):
        errors = world.memory.fill(stage, errors)
        assert kinds(errors) == [Busy, Busy]
    assert world.memory.fill(stage, errors) == [None, None]
    assert world.seen(2) == full(2, world)


def test_another_error_of_the_kernel_is_told(world, monkeypatch):
    monkeypatch.setattr(world.client.memory, "copy", lambda *_, **__: Drained(0, errno.ENOMEM))
    (error,) = world.fill(1)
    assert type(error) is SwapIOError
    assert "cannot be brought in: Cannot allocate memory" in str(error)


# Mappings that the client has changed


def test_where_the_client_has_unmapped_a_page_cannot_come_and_the_others_do(world):
    unmap(world.at(2), world.page_size)
    assert kinds(world.fill(1, 2, 3)) == [type(None), Unmapped, type(None)]
    assert world.resident() == [1, 3]
    assert kinds(world.fill(2)) == [Unmapped]


def test_in_a_mapping_split_between_pages_they_come_one_by_one(world):
    make_read_only(world.at(2), world.page_size)
    assert world.fill(*range(PAGES)) == [None] * PAGES
    assert [world.seen(page) for page in range(PAGES)] == [full(page, world) for page in range(PAGES)]


def test_in_a_mapping_split_within_a_large_page_it_comes_all_the_same(large):
    make_read_only(large.at(2) + 3 * HARDWARE_PAGE, HARDWARE_PAGE)
    assert large.fill(1, 2, 3) == [None] * 3
    assert [large.seen(page) for page in (1, 2, 3)] == [full(page, large) for page in (1, 2, 3)]


def test_of_a_large_page_that_was_unmapped_in_part_the_rest_comes(large):
    """munmap gives up what it unmaps and nothing else."""
    unmap(large.at(2) + 3 * HARDWARE_PAGE, HARDWARE_PAGE)
    large.fill(2)
    touching = read(large.at(2) + 4 * HARDWARE_PAGE)
    assert touching.result() == b"\3"


def test_pages_that_were_moved_come_where_they_are(world):
    to = world.client.spare(PAGES * world.page_size)
    world.client.moved(world.at(2), 2 * world.page_size, to)
    assert world.fill(*range(PAGES)) == [None] * PAGES
    assert read(to, 2 * world.page_size).result() == full(2, world) + full(3, world)
    assert world.seen(4) == full(4, world)


def test_a_large_page_that_was_moved_in_part_comes_in_both_places(large):
    to = large.client.spare(LARGE)
    large.client.moved(large.at(2) + 4 * HARDWARE_PAGE, 4 * HARDWARE_PAGE, to)
    assert large.fill(1, 2, 3) == [None] * 3
    assert read(to, 4 * HARDWARE_PAGE).result() == full(2, large)[: 4 * HARDWARE_PAGE]
    assert read(large.at(2) + 8 * HARDWARE_PAGE, 8 * HARDWARE_PAGE).result() == full(2, large)[: 8 * HARDWARE_PAGE]


@pytest.mark.parametrize("pages", [1, 2])
def test_a_page_that_is_moved_while_it_comes_in_is_not_lost(world, pages):
    to = world.client.spare(PAGES * world.page_size)
    moving = remap(world.at(2), 2 * world.page_size, to)
    world.client.wait_for_message()
    stage = world.stage(*range(2, 2 + pages))
    errors = world.memory.fill(stage, [None] * pages)
    while any(isinstance(error, Busy) for error in errors):
        errors = world.memory.fill(stage, errors)
    assert moving.result() == to
    assert errors == [None] * pages
    assert read(to, world.page_size).result() == full(2, world)
