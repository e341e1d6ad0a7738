"""Staging memory: blocks are used again."""

from tests.usmd.mechanism.mapped import HARDWARE_PAGE
from tests.usmd.mechanism.memory_world import REGION, key, world
from usmd.core.commands import SlotPage
from usmd.mechanism.staging import BLOCK_PAGES, SPARE_BLOCKS, SPARE_BYTES
from usmd.mechanism.userfaultfd import UserfaultfdMemory

__all__ = ["world"]


def test_staging_memory_is_used_again_and_some_of_it_kept(world, monkeypatch):
    monkeypatch.setattr("usmd.mechanism.staging.SPARE_BYTES", 0)
    stages = [world.stage(0) for _ in range(SPARE_BLOCKS + 2)]
    blocks = [stage.block for stage in stages]
    for stage in stages:
        world.memory.unstage(stage)
    again = [world.stage(0) for _ in range(SPARE_BLOCKS + 2)]
    assert sum(stage.block in blocks for stage in again) == SPARE_BLOCKS
    assert len({id(stage.block) for stage in again}) == SPARE_BLOCKS + 2
    for stage in again:
        world.memory.unstage(stage)


def test_a_batch_larger_than_a_block_has_one_of_its_own():
    memory = UserfaultfdMemory(HARDWARE_PAGE)
    memory.add_region(REGION, 1, 2 * BLOCK_PAGES)
    pages = [SlotPage(page, page, 1, key(page), 1) for page in range(BLOCK_PAGES + 1)]
    stage = memory.stage(pages)
    for number, buffer in enumerate(stage.buffers):
        buffer[:] = bytes([number]) * HARDWARE_PAGE
    assert memory.fill(stage, [None] * len(pages)) == [None] * len(pages)
    assert [memory.load([0], key(page), 0, 1)[0] for page in range(BLOCK_PAGES + 1)] == list(range(BLOCK_PAGES + 1))
    memory.close()


def test_as_many_small_blocks_are_kept_as_take_16_mib(world):
    most = SPARE_BYTES // (BLOCK_PAGES * world.page_size)
    stages = [world.stage(0) for _ in range(most + 2)]
    blocks = {id(stage.block): stage.block for stage in stages}
    for stage in stages:
        world.memory.unstage(stage)
    again = [world.stage(0) for _ in stages]
    assert sum(id(stage.block) in blocks for stage in again) == most
    for stage in again:
        world.memory.unstage(stage)
