from pathlib import Path

import pytest

from tools import check_file_lengths as check


@pytest.fixture
def tree(tmp_path):
    def write(path, lines):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("x = 1\n" * lines)

    write.root = tmp_path
    return write


def test_files_that_are_too_long_are_printed_with_their_lines_and_tests_are_no_exception(tree, capsys):
    tree("usmd/core/faults.py", 401)
    tree("tests/e2e/test_faults.py", 900)
    tree("tests/e2e/conftest.py", 400)
    assert check.main(tree.root) == 1
    assert capsys.readouterr().out.splitlines() == [
        "tests/e2e/test_faults.py has 900 lines; allowed are 400: divide it by what it is about",
        "usmd/core/faults.py has 401 lines; allowed are 400: divide it by what it is about",
    ]


@pytest.mark.parametrize(
    "path", ["usm_wire/pb/usm/v1/client_pb2_grpc.py", "build/usmd/core/faults.py", "usmd/notes.md"]
)
def test_generated_code_and_other_files_may_be_longer(tree, path, capsys):
    tree(path, 401)
    assert check.main(tree.root) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("folder", check.FOLDERS)
def test_it_looks_at_all_that_is_linted(tree, folder):
    tree(f"{folder}/inner/long.py", 402)
    assert check.long_files(tree.root) == [(Path(f"{folder}/inner/long.py"), 402)]


def test_it_looks_at_its_own_repository():
    assert Path(__file__).is_relative_to(check.ROOT)
    assert all((check.ROOT / folder).is_dir() for folder in check.FOLDERS)
