import dataclasses
import io
import json

import msgspec
import pytest
from rich.console import Console

from tests.support.findings import ALL, DENIED, GOOD, NONE
from usmd.ctl.doctor import DeviceFile, Limit, diagnose
from usmd.ctl.doctor_view import as_document, show_report
from usmd.mechanism.huge_folios import NO_FOLIOS
from usmd.mechanism.uffd import Feature, Offer


def shown(width=100, **changes):
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    show_report(console, diagnose(dataclasses.replace(GOOD, **changes)))
    return console.file.getvalue()


def document(**changes):
    plain = as_document(diagnose(dataclasses.replace(GOOD, **changes)))
    return json.loads(msgspec.json.encode(plain))


def test_the_verdict_is_the_last_line_where_nothing_is_missing():
    text = shown()
    assert text.splitlines()[-1] == "usmd will use: userfaultfd"
    assert "/dev/userfaultfd, mode 0660, root:usmd: open to this user" in text
    assert "Open files     1,024, at most 524,288 (RLIMIT_NOFILE)" in text
    assert "1 GiB available" in text
    assert "of 2 MiB (shmem_enabled = advise); zeros by runs of 2 MiB and more: folios of 2048 KiB" in shown(width=140)


def test_a_feature_is_a_line_with_version_use_and_presence():
    text = shown(offer=Offer("device", ALL & ~Feature.POISON, ""))
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
    assert lines["WP_HUGETLBFS_SHMEM"][:3] == ["5.19", "required", "yes"]
    assert lines["POISON"][:3] == ["6.6", "used", "no"]
    assert lines["MOVE"][:4] == ["6.8", "not", "used", "yes"]


def test_what_is_missing_comes_after_the_verdict_with_the_way_to_it_on_one_line():
    lines = shown(width=110, offer=NONE, device=DENIED, filtered=True).splitlines()
    verdict = lines.index("usmd will use: simulated, because no userfaultfd: Operation not permitted")
    missing = [number for number, line in enumerate(lines) if line.startswith("missing: ")]
    assert len(missing) == 2
    assert all(number > verdict for number in missing)
    assert all(lines[number + 1].startswith("  ") for number in missing)
    assert any(line.endswith('MODE="0660"') for line in lines)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"offer": Offer("syscall", ALL, "")}, "yes, by the system call"),
        ({"offer": Offer("user-mode", ALL, "")}, "user-mode only: a system call that meets an absent page gets EFAULT"),
        ({"device": None}, "/dev/userfaultfd is not there"),
        ({"device": None, "container": True}, "is not there, as in most containers"),
        ({"device": DENIED}, "not for this user (Permission denied)"),
        ({"device": DeviceFile(0o666, "a\x1b[2J", "b", "")}, "a\\x1b[2J:b"),
        ({"may_trace": True, "filtered": True}, "this process with CAP_SYS_PTRACE, under a seccomp filter"),
        ({"unprivileged": None}, "vm.unprivileged_userfaultfd = unknown"),
        ({"memfd_error": "sealing: no"}, "no: sealing: no"),
        ({"pidfd_error": "Function not implemented"}, "no: Function not implemented"),
        ({"io_errors": {"io_uring": "not here", "threads": ""}}, "io_uring: not here; threads: yes"),
        ({"open_files": Limit(None, None)}, "without limit, at most without limit (RLIMIT_NOFILE)"),
        ({"locked_bytes": Limit(65536, None)}, "64 KiB, at most without limit (RLIMIT_MEMLOCK)"),
        ({"map_count": None}, "unknown a process"),
        ({"memory_bytes": None}, "Memory         unknown"),
    ],
)
def test_each_finding_has_its_words(changes, text):
    assert text in shown(width=200, **changes)


def test_without_a_userfaultfd_a_feature_is_a_question():
    text = shown(offer=NONE)
    assert {line.split()[-1] for line in text.splitlines() if line.startswith("EVENT_FORK")} == {"fork()"}
    assert "required  ?" in text


def test_the_document_says_all_of_it_in_plain_values():
    found = document()
    assert (found["mechanism"], found["reason"], found["missing"]) == ("userfaultfd", "", [])
    assert found["userfaultfd"]["device"] == {
        "path": "/dev/userfaultfd", "mode": "0660", "owner": "root", "group": "usmd", "denied": "",
    }  # fmt: skip
    features = {each["name"]: each for each in found["userfaultfd"]["features"]}
    assert features["UFFD_FEATURE_POISON"]["since"] == "6.6"
    assert features["UFFD_FEATURE_POISON"]["use"] == "used"
    assert features["UFFD_FEATURE_POISON"]["here"] is True
    assert found["limits"]["open_files"] == {"soft": 1024, "hard": 524_288}


def test_the_document_of_a_machine_without_userfaultfd_says_what_blocks():
    found = document(offer=NONE, device=None, container=True, filtered=True)
    assert found["mechanism"] == "simulated"
    assert found["userfaultfd"]["device"] is None
    assert found["userfaultfd"]["features"][0]["here"] is None
    assert [each["blocks"] for each in found["missing"]] == [True, True]
    assert set(found["missing"][0]) == {"what", "how", "blocks"}


def test_a_line_says_whether_touches_can_be_sampled():
    assert "Touches        sampled, by client" in shown()
    assert "Touches        sampled, by pageout" in shown(sampling_way="pageout")
    assert "Touches        faults alone: the kernel has swap" in shown(sampling_error="the kernel has swap")


def test_a_machine_without_huge_folios_fills_by_single_pages():
    found = {"folios": NO_FOLIOS, "ways": ()}
    assert "none (shmem_enabled = not there); zeros by UFFDIO_ZEROPAGE" in shown(**found)
    assert document(**found)["folios"] == {"sizes": [], "others": [], "shmem_enabled": ""}
    assert document()["zero_fill"] == [{"least_bytes": 2 << 20, "way": "folios of 2048 KiB"}]
