"""Policies that are not of this project, in the live daemon: from a file, and from an installed package."""

import os

import pytest

import lib_usm
from tests.support.daemon import USMD, environment, run_usmd, running_daemon, wait_equal
from tests.support.policy_files import write_policies

PAGE = 4096
MEMORY = ("--memory", "256KiB", "--swap", "memory:4MiB")

NEWEST = '''
from usmd.policies.evict.lru import Lru


class NewestFirst(Lru):
    """The page that came last goes first."""

    def __init__(self, memory, word="newest", loud=False):
        super().__init__(memory)
        self.word = word.upper() if loud else word

    def choose_victims(self):
        return reversed(list(super().choose_victims()))

    def reason(self, pfn):
        return self.word


class Fails(Lru):
    """It never names a victim."""

    def choose_victims(self):
        raise SystemExit("none")
'''


@pytest.fixture
def file(tmp_path):
    return write_policies(tmp_path, NEWEST, "newest.py")


_regions = []
"""What a test has mapped; a region that nothing refers to is given back."""


@pytest.fixture(autouse=True)
def regions_live_as_long_as_their_test():
    yield
    _regions.clear()


def overfill(client):
    """Store more than there is memory, and read it back."""
    region = client.mmap(128 * PAGE, name="data")
    _regions.append(region)
    data = os.urandom(len(region))
    region.write(0, data)
    assert region.read(0, len(region)) == data


def reasons(daemon, process="app"):
    """The policy and the reason of the last eviction of each page that is in swap."""
    seen = set()
    for page in range(128):
        found = daemon.usmctl("explain", process, f"data+{page * PAGE}")
        if "last_eviction" in found:
            reason, _, _ = found["last_eviction"]["reason"].partition("; last fault ")  # which the core adds
            seen.add((found["last_eviction"]["policy"], reason))
            break
    return seen


def listed(daemon):
    return {(each["kind"], each["name"]): each for each in daemon.usmctl("policies")["policies"]}


def test_a_policy_in_a_file_chooses_is_explained_and_is_listed_with_who_uses_it_and_its_errors(file, tmp_path):
    newest, fails = f"{file}:NewestFirst(word=last, loud=true)", f"{file}:Fails"
    config = f'[[policy.rules]]\nname = "bad"\nevict = "{fails}"\n'
    with running_daemon(tmp_path, *MEMORY, "--evict", newest, config=config) as daemon:
        with lib_usm.connect(daemon.address, name="app") as good, lib_usm.connect(daemon.address, name="bad") as bad:
            overfill(good)
            overfill(bad)
            assert reasons(daemon) == {(newest, "LAST")}
            assert listed(daemon)["evict", "lru"]["process_ids"] == []
            mine = listed(daemon)["evict", f"{file}:NewestFirst"]
            assert (mine["summary"], mine["is_default"]) == ("The page that came last goes first.", True)
            assert (mine["process_ids"], mine["errors"]) == ([good.process_id], 0)
            theirs = listed(daemon)["evict", fails]
            assert (theirs["summary"], theirs["is_default"]) == ("It never names a victim.", False)
            assert theirs["errors"] > 0 or bad.process_id not in theirs["process_ids"]
        error = daemon.expect("policy_error", count="1")
        assert (error["policy"], f"SystemExit('none') ({file}:" in error["message"]) == (fails, True)


def test_a_file_is_found_from_where_the_daemon_was_started_and_can_be_built_upon(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    specification = "hint_aware(fallback=./newest.py:NewestFirst)"
    with running_daemon(tmp_path, *MEMORY, "--evict", specification) as daemon:
        with lib_usm.connect(daemon.address, name="app") as client:
            overfill(client)
            assert reasons(daemon) == {(specification, "PRIORITY=NORMAL, EVICTION=ALLOW: newest")}
        assert ("evict", "./newest.py:NewestFirst") in listed(daemon)


def test_a_changed_file_is_for_new_sessions_and_a_broken_one_refuses_them_alone(file, tmp_path):
    with running_daemon(tmp_path, *MEMORY, "--evict", f"{file}:NewestFirst") as daemon:
        with lib_usm.connect(daemon.address, name="old") as old:
            file.write_text(NEWEST.replace('"newest"', '"of another day"'))
            with lib_usm.connect(daemon.address, name="new") as new:
                overfill(new)
                assert reasons(daemon, "new") == {(f"{file}:NewestFirst", "of another day")}
            file.write_text("class NewestFirst(")
            with pytest.raises(lib_usm.InvalidArgument, match=rf"never closed \({file}:1\)"):
                lib_usm.connect(daemon.address, name="refused")
            assert listed(daemon)["evict", f"{file}:NewestFirst"]["summary"].startswith("unusable: evict policy /")
            overfill(old)
            assert reasons(daemon, "old") == {(f"{file}:NewestFirst", "newest")}
            file.write_text(NEWEST)
            lib_usm.connect(daemon.address, name="welcome").close()
        wait_equal(lambda: daemon.admin.status().processes, 0, "all sessions have ended")


def start(tmp_path, *flags):
    """What a daemon says that does not start."""
    places = ("--socket", f"{tmp_path}/s", "--admin-socket", f"{tmp_path}/a", "--state-dir", f"{tmp_path}")
    done = run_usmd("serve", *places, *flags)
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, "")
    return done.stderr


@pytest.mark.parametrize(
    ("specification", "said"),
    [
        ("{file}:Newest", "cannot be loaded: {file} has no class Newest; its evict policies are NewestFirst, Fails"),
        ("{file}:NewestFirst(size=1)", "size=1: it has no parameter 'size'; it has word, loud"),
        ("{file}:NewestFirst(loud=1)", "loud=1 is not of type bool, which is true or false; its default is false"),
        ("hint_aware(fallback={file}:Newest)", "{file} has no class Newest"),
        ("{folder}/absent.py:Newest", "{folder}/absent.py cannot be read: No such file or directory"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_at_the_start(file, tmp_path, specification, said):
    place = {"file": file, "folder": tmp_path}
    assert said.format(**place) in start(tmp_path, "--evict", specification.format(**place))


@pytest.mark.parametrize("source", ["raise SystemExit(0)", "raise KeyboardInterrupt", "import os; os.close(99999)"])
def test_a_hostile_file_ends_the_start_with_its_line(file, tmp_path, source):
    file.write_text(f"\n{source}\n")
    said = start(tmp_path, "--evict", f"{file}:NewestFirst")
    assert said.startswith(f"usmd: policy.evict: evict policy {file}:NewestFirst cannot be loaded: ")
    assert said.endswith(f" ({file}:2)\n")


def test_a_file_that_others_may_write_to_is_not_executed(file, tmp_path):
    file.write_text(f"import os; os.mkdir({str(tmp_path / 'ran')!r})")
    file.chmod(0o666)
    refused = start(tmp_path, "--evict", f"{file}:NewestFirst")
    assert f"{file} has mode 0666, so that other users may write to it" in refused
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_not_executed_by_root(file, tmp_path):
    os.chown(file, 12345, 12345)
    said = start(tmp_path, "--evict", f"{file}:NewestFirst")
    assert f"{file} belongs to user 12345 and is not loaded: usmd would execute it as user 0" in said


def test_a_package_brings_a_policy_by_name_but_never_in_the_place_of_one_built_in(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "acme.py").write_text(NEWEST)
    information = site / "acme_policies-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-policies\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[usmd.policies.evict]\nacme = acme:NewestFirst\nlru = acme:Fails\nacme-lost = acme:Lost\n"
    )
    environ = environment(PYTHONPATH=str(site))
    with (
        running_daemon(tmp_path, *MEMORY, "--evict", "acme(word=packed)", environ=environ, program=USMD) as daemon,
        lib_usm.connect(daemon.address, name="app") as client,
    ):
        overfill(client)
        assert reasons(daemon) == {("acme(word=packed)", "packed")}
        policies = listed(daemon)
        assert policies["evict", "acme"]["process_ids"] == [client.process_id]
        unused = "(not used, because the name is taken: acme:Fails of package acme-policies)"
        assert policies["evict", "lru"]["summary"].endswith(unused)
        lost = policies["evict", "acme-lost"]["summary"]
        assert lost.startswith("unusable: evict policy acme-lost (acme:Lost) cannot be loaded: ")
        assert lost.endswith("has no class Lost; its evict policies are NewestFirst, Fails")
