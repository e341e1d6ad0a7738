from pathlib import Path

import pytest

from tools import check_test_files as check


@pytest.fixture
def tree(tmp_path):
    def write(path, text="x = 1\n"):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    write.root = tmp_path
    return write


def test_a_source_without_a_test_is_printed_with_the_path_expected(tree, capsys):
    tree("usmd/policies/evict/lru.py")
    tree("lib_usm/client.py")
    tree("usmd/sizes.py")
    tree("tests/usmd/test_sizes.py", "")
    assert check.main(tree.root) == 1
    assert capsys.readouterr().out.splitlines() == [
        "lib_usm/client.py has no test file; expected is tests/lib_usm/test_client.py",
        "usmd/policies/evict/lru.py has no test file; expected is tests/usmd/policies/evict/test_lru.py",
    ]


def test_a_test_of_the_same_name_elsewhere_does_not_count(tree):
    tree("usmd/swap/file.py")
    tree("tests/usmd/test_file.py", "")
    assert check.main(tree.root) == 1
    tree("tests/usmd/swap/test_file.py", "")
    assert check.main(tree.root) == 0


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("usmd/empty.py", ""),
        ("usmd/documented.py", '"""Words."""\n'),
        ("usmd/x/__init__.py", '"""Words."""\nfrom usmd.y import z\n__all__ = ["z"]\n'),
        ("usm_wire/pb/usm/v1/client_pb2.py", "x = 1\n"),
        ("bench/echo.py", "x = 1\n"),
        ("tests/usmd/helper.py", "x = 1\n"),
    ],
)
def test_what_has_no_code_of_its_own_needs_no_test(tree, path, text, capsys):
    tree(path, text)
    assert check.main(tree.root) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("text", ["def f(): ...\n", "x = 1\n", "from a import b\nb()\n"])
def test_a_package_with_code_needs_a_test(tree, text):
    tree("usmd/x/__init__.py", text)
    assert check.missing_tests(tree.root) == [(Path("usmd/x/__init__.py"), Path("tests/usmd/x/test___init__.py"))]


def test_a_module_that_only_imports_needs_a_test_unlike_a_package(tree):
    tree("usmd/x.py", "import os\n")
    assert check.main(tree.root) == 1


def test_it_looks_at_its_own_repository():
    assert Path(__file__).is_relative_to(check.ROOT)
