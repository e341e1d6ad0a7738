"""What the kernel says of this process."""

import os
import resource
from pathlib import Path

from usmd.server.own_facts import own_facts, started


def test_memory_time_and_descriptors_are_those_of_this_process():
    before = os.times()
    facts = own_facts()
    assert 0 < facts.shared < facts.resident < facts.virtual
    assert before.user + before.system <= facts.cpu_seconds <= sum(os.times()[:2])
    assert facts.most_descriptors == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert facts.descriptors in (0, len(os.listdir("/proc/self/fd")) - 1)  # listing takes one; 0: an old kernel


def test_the_start_is_after_that_of_the_machine_and_before_what_was_made_since(tmp_path):
    booted = next(int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if "btime" in line)
    (tmp_path / "new").touch()
    assert booted <= started() < (tmp_path / "new").stat().st_mtime
