"""What may be removed on a device, judged by the pure function. No test here calls anything that removes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.lab.transports._agent import check_removable, true_path

WRONG = [
    "/",
    "//",
    "///",
    "",
    ".",
    "..",
    "/..",
    "//..",
    "/tmp",
    "//tmp",
    "/tmp/..",
    "//etc",
    "/etc/ssh",
    "~",
    "/home/x",
]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("path", WRONG)
def test_nothing_outside_is_removable(own: Path, path: str) -> None:
    with pytest.raises(PermissionError, match="refused"):
        check_removable(path, [str(own)])


@pytest.mark.parametrize("folder", ["/", "//", "/tmp", "//tmp", "", "/..", "//home"])
def test_a_shallow_folder_owns_nothing(folder: str) -> None:
    if true_path(os.path.realpath(folder)).count("/") >= 2:
        pytest.skip(f"{folder!r} is deep enough here")
    with pytest.raises(PermissionError):
        check_removable("/tmp/a/b", [folder])


def test_the_folder_itself_and_ways_out_of_it_are_refused(own: Path, tmp_path: Path) -> None:
    (own / "link").symlink_to(tmp_path)
    for name in ("", ".", "..", "../other", "a/../..", "link/other", "link/..", "../own"):
        with pytest.raises(PermissionError):
            check_removable(f"{own}/{name}", [str(own)])
    with pytest.raises(PermissionError):
        check_removable(f"{own}er", [str(own)])


def test_what_is_inside_may_go(own: Path) -> None:
    (own / "link").symlink_to("/")
    for path in (f"{own}/a", f"{own}/a/b", f"/{own}/a", f"{own}/./a", f"{own}/link"):
        check_removable(path, [str(own)])
    assert true_path(f"{own}/link") == f"{own}/link"


@given(st.text("/.~a\\", max_size=12))
def test_no_text_leads_out_of_an_owned_folder(text: str) -> None:
    inside = "/nonexistent/owned"
    try:
        check_removable(text, [inside])
    except PermissionError:
        return
    assert true_path(text).startswith(inside + "/")
