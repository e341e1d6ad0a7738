import dataclasses

import pytest

from tests.support.findings import ALL, DENIED, GOOD, NONE
from usmd.ctl.doctor import FEATURES, Limit, Use, diagnose, kernel_version
from usmd.mechanism import uffd
from usmd.mechanism.huge_folios import NO_FOLIOS, Folios
from usmd.mechanism.sampler import NEEDED
from usmd.mechanism.uffd import Feature, Offer


def report(**changes):
    return diagnose(dataclasses.replace(GOOD, **changes))


def only(advice):
    """The one piece of advice there is."""
    (found,) = advice
    return found


def test_a_machine_that_has_everything_gets_real_memory_and_no_advice():
    found = report()
    assert (found.mechanism, found.reason, found.advice) == ("userfaultfd", "", ())
    assert found.verdict == "usmd will use: userfaultfd"


def test_every_feature_of_the_kernel_is_known_with_the_version_that_brought_it():
    assert set(FEATURES) == set(Feature)
    rows = report().features
    versions = [kernel_version(row.since) for row in rows]
    assert versions == sorted(versions)
    assert {row.name for row in rows} == set(uffd.names(ALL))
    assert all(row.gives for row in rows)


def test_the_features_that_usmd_requires_and_uses_are_those_of_the_mechanism():
    rows = {row.name: row.use for row in report().features}
    required, wanted = uffd.names(uffd.REQUIRED), uffd.names(uffd.WANTED | NEEDED)
    assert {name for name, use in rows.items() if use is Use.REQUIRED} == set(required)
    assert {name for name, use in rows.items() if use is Use.USED} == set(wanted)


def test_an_old_kernel_is_told_which_version_has_what_it_lacks():
    found = report(kernel="5.15.0-91-generic", offer=Offer("syscall", Feature.EVENT_REMAP | Feature.MISSING_SHMEM, ""))
    assert found.mechanism == "simulated"
    assert "UFFD_FEATURE_WP_HUGETLBFS_SHMEM" in found.verdict
    blocking = [advice for advice in found.advice if advice.blocks]
    assert found.advice[: len(blocking)] == tuple(blocking)
    assert [advice.how for advice in blocking if "WP_HUGETLBFS_SHMEM" in advice.what] == ["Linux 5.19 or later"]
    assert [advice.how for advice in found.advice if "POISON" in advice.what] == ["Linux 6.6 or later"]


def test_a_new_kernel_without_write_protect_is_told_of_its_architecture():
    lacking = Feature.PAGEFAULT_FLAG_WP | Feature.WP_HUGETLBFS_SHMEM
    found = report(kernel="6.6.9", machine="aarch64", offer=Offer("device", ALL & ~lacking, ""))
    assert found.mechanism == "simulated"
    assert len(found.advice) == 2
    assert all("arm64 since Linux 6.10; this is aarch64" in advice.how for advice in found.advice)


def test_a_feature_that_is_only_used_does_not_decide():
    found = report(offer=Offer("device", ALL & ~Feature.POISON, ""))
    assert found.mechanism == "userfaultfd"
    advice = only(found.advice)
    assert advice.what.startswith("UFFD_FEATURE_POISON")
    assert not advice.blocks


def test_an_unused_feature_that_is_missing_is_not_missed():
    assert report(offer=Offer("device", uffd.REQUIRED | uffd.WANTED | NEEDED, "")).advice == ()


def test_without_a_userfaultfd_the_features_are_unknown():
    found = report(offer=NONE, device=DENIED)
    assert {row.here for row in found.features} == {None}
    assert found.verdict == "usmd will use: simulated, because no userfaultfd: Operation not permitted"
    assert not any("UFFD_FEATURE" in advice.what for advice in found.advice)


def test_a_device_for_others_is_opened_by_a_group_or_passed_over_by_the_sysctl():
    by_device, by_call = report(kernel="5.9.1", offer=NONE, device=DENIED).advice
    assert (by_device.blocks, by_call.blocks) == (True, True)
    assert "mode 0600, root:root" in by_device.what
    assert 'KERNEL=="userfaultfd", GROUP="usmd", MODE="0660"' in by_device.how
    assert "sysctl -w vm.unprivileged_userfaultfd=1" in by_call.how


def test_user_mode_only_is_real_memory_with_a_gap_that_can_be_closed():
    found = report(offer=Offer("user-mode", ALL, ""), device=DENIED)
    assert found.mechanism == "userfaultfd"
    assert len(found.advice) == 2
    assert all(not advice.blocks and "EFAULT" in advice.what for advice in found.advice)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"container": True, "filtered": True}, ["docker run --device /dev/userfaultfd", "seccomp=PROFILE.json"]),
        ({"container": True, "may_trace": True}, ["docker run --device /dev/userfaultfd"]),
        ({"kernel": "5.19.0"}, ["Linux 6.1 or later", "sysctl -w"]),
        ({"kernel": "5.19.0", "unprivileged": 1}, ["Linux 6.1 or later"]),
        ({"unprivileged": None}, ["CONFIG_USERFAULTFD=y"]),
    ],
)
def test_each_way_that_is_closed_is_told_how_to_open(changes, expected):
    advice = report(offer=NONE, device=None, **changes).advice
    assert len(advice) == len(expected)
    assert all(part in each.how for part, each in zip(expected, advice, strict=True))
    assert all(each.blocks for each in advice)


@pytest.mark.parametrize("way", ["device", "syscall"])
def test_one_way_without_restrictions_is_enough(way):
    assert report(offer=Offer(way, ALL, ""), device=None, filtered=True).advice == ()


def test_without_a_sealed_memfd_there_is_no_real_memory():
    found = report(memfd_error="memfd_create: Permission denied")
    assert found.verdict == "usmd will use: simulated, because no sealed memfd: memfd_create: Permission denied"
    assert "vm.memfd_noexec" in only(found.advice).how


@pytest.mark.parametrize(
    ("changes", "what", "how"),
    [
        ({"pidfd_error": "Function not implemented"}, "pidfd", "Linux 5.3"),
        ({"memory_bytes": 32 << 20}, "32 MiB available", "--memory SIZE"),
        ({"open_files": Limit(256, 1024)}, "at most 1,024", "LimitNOFILE=65536"),
        ({"map_count": 1000}, "vm.max_map_count = 1,000", "vm.max_map_count=65530"),
    ],
)
def test_what_is_short_is_told_and_does_not_decide(changes, what, how):
    found = report(**changes)
    advice = only(found.advice)
    assert what in advice.what
    assert how in advice.how
    assert not advice.blocks
    assert found.mechanism == "userfaultfd"


def test_larger_pages_of_the_hardware_want_larger_pages_of_usmd():
    found = report(page_size=16384)
    assert found.reason == "pages of 4 KiB are not a multiple of the hardware's 16 KiB"
    assert "--page-size 16KiB" in only(found.advice).how


def test_a_filter_that_lets_user_mode_pass_only_is_what_stands_between_root_and_all_faults():
    advice = only(report(offer=Offer("user-mode", ALL, ""), device=None, filtered=True, may_trace=True).advice)
    assert "seccomp" in advice.what
    assert not advice.blocks


def test_what_is_unknown_or_without_limit_is_not_short():
    assert report(map_count=None, memory_bytes=None, open_files=Limit(None, None)).advice == ()


@pytest.mark.parametrize(
    ("release", "version"), [("6.18.44-fc", (6, 18)), ("5.4", (5, 4)), ("6.1-rc3", (6, 1)), ("unknown", (0, 0))]
)
def test_a_release_begins_with_its_version(release, version):
    assert kernel_version(release) == version


def test_a_machine_that_gives_no_huge_folios_is_told_how_to_get_them():
    found = only(report(folios=Folios((), (2 << 20,), "never")).advice)
    assert not found.blocks
    assert "shmem_enabled = never" in found.what
    assert found.how.startswith("as root: echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled")


@pytest.mark.parametrize(
    "changes",
    [
        {"folios": Folios((1 << 16, 2 << 20), (), "advise")},
        {"folios": NO_FOLIOS},
        {"folios": Folios((), (2 << 20,), "never"), "offer": Offer("device", ALL & ~Feature.MINOR_SHMEM, "")},
    ],
)
def test_nothing_is_said_of_huge_folios_that_are_there_or_cannot_be_used(changes):
    assert not [each for each in report(**changes).advice if "folios" in each.what]
