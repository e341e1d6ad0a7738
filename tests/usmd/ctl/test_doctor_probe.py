import errno
import mmap
import os
import platform
import stat

import pytest

from usmd.ctl import doctor_probe
from usmd.ctl.doctor_probe import look, look_at_device, try_memfd, try_pidfd
from usmd.mechanism import uffd


def fake_root(folder, **files):
    """A folder with such files of /proc; `__` in a name is a slash."""
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def refuse(code):
    def call(*arguments):
        raise OSError(code, os.strerror(code))

    return call


def test_this_machine_is_looked_at_as_it_is():
    found = look()
    assert (found.kernel, found.machine) == (platform.release(), platform.machine())
    assert found.page_size == mmap.PAGESIZE
    assert found.offer == uffd.probe()
    assert (found.memfd_error, found.pidfd_error) == ("", "")
    assert found.memory_bytes > 1 << 20


def test_nothing_stays_open():
    before = len(os.listdir("/proc/self/fd"))
    look()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_rights_and_settings_come_from_proc(tmp_path):
    root = fake_root(
        tmp_path,
        proc__self__status="Name:\tpython\nCapEff:\t0000000000080000\nSeccomp:\t2\nSeccomp_filters:\t1\n",
        proc__meminfo="MemTotal:       2048 kB\nMemAvailable:       1024 kB\n",
        proc__sys__vm__unprivileged_userfaultfd="1\n",
        proc__sys__vm__max_map_count="65530\n",
        dev__userfaultfd="",
        run__x="",
    )
    (root / ".dockerenv").touch()
    found = look(root)
    assert (found.may_trace, found.filtered, found.container) == (True, True, True)
    assert (found.unprivileged, found.map_count, found.memory_bytes) == (1, 65_530, 1 << 20)
    assert found.device is not None


def test_what_proc_does_not_say_is_unknown(tmp_path):
    found = look(tmp_path)
    assert (found.may_trace, found.filtered, found.container) == (False, False, False)
    assert (found.unprivileged, found.map_count, found.memory_bytes, found.device) == (None, None, None, None)


def test_a_process_without_the_capability_and_without_a_filter(tmp_path):
    found = look(fake_root(tmp_path, proc__self__status="CapEff:\t000001fffff7ffff\nSeccomp:\t0\n"))
    assert (found.may_trace, found.filtered) == (False, False)


def test_a_device_is_told_with_mode_owner_and_group(tmp_path):
    device = tmp_path / "device"
    device.touch(mode=0o640)
    found = look_at_device(device)
    assert found.mode == stat.S_IMODE(device.stat().st_mode)
    assert found.owner
    assert found.group
    assert found.denied == ""


def test_a_device_that_cannot_be_opened_says_why(tmp_path):
    found = look_at_device(tmp_path)  # a folder cannot be written to, by root neither
    assert found.denied == os.strerror(errno.EISDIR)


def test_there_may_be_no_device(tmp_path):
    assert look_at_device(tmp_path / "none") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_an_owner_without_a_name_is_a_number(tmp_path):
    device = tmp_path / "device"
    device.touch()
    os.chown(device, 3_999_999_999, 3_999_999_998)
    assert look_at_device(device)[1:3] == ("3999999999", "3999999998")


def test_memory_that_cannot_be_made_says_why():
    assert try_memfd(refuse(errno.EACCES)) == "memfd_create: Permission denied"


def test_memory_that_cannot_be_sealed_says_why():
    assert try_memfd(lambda name, flags: os.memfd_create(name)).startswith("sealing and mapping it: ")


def test_a_pidfd_that_is_refused_says_why():
    assert try_pidfd(refuse(errno.ENOSYS)) == "Function not implemented"


@pytest.mark.parametrize(("compiled", "way"), [(True, "client"), (False, "pageout")])
def test_without_a_right_touches_are_heard_where_clients_take_their_own_pages_out(tmp_path, monkeypatch, compiled, way):
    monkeypatch.setattr(doctor_probe, "taking_out", lambda: tmp_path if compiled else None)
    monkeypatch.setattr(doctor_probe.sampler, "why_no_features", lambda _: "")
    monkeypatch.setattr(doctor_probe.sampler, "why_not_permitted", lambda *_: "no right")
    found = look(tmp_path)
    assert (found.sampling_way, found.sampling_error) == (way, "" if compiled else "no right")
