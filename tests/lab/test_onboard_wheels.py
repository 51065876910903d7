"""Unpacking wheels on the device: what is good arrives, what is hostile writes nothing outside and is refused."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq.lab.onboard import wheels
from edgeq.lab.onboard.events import Failure
from edgeq.testing.wheels import LINK, make_wheel, row

NAME = "tiny-1.0-py3-none-any.whl"
INFO = "tiny-1.0.dist-info"
ROOMY = 1 << 20


def unpack(wheel: Path, folder: Path, limit_bytes: int = ROOMY, files: int = 1000) -> set[str]:
    folder.mkdir(exist_ok=True)
    wheels.unpack(wheel, folder, wheels.Budget(limit_bytes, files))
    return present(folder)


def present(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def refused(wheel: Path, tmp_path: Path, says: str, limit_bytes: int = ROOMY, files: int = 1000) -> None:
    """Refused with these words; whatever was written before lies in the folder, and nothing beside it."""
    before = present(tmp_path)
    with pytest.raises(Failure) as caught:
        unpack(wheel, tmp_path / "in", limit_bytes, files)
    assert caught.value.kind == "bad-wheel"
    assert says in caught.value.message, caught.value.message
    assert {name for name in present(tmp_path) - before if not name.startswith("in/")} == set()
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_a_good_wheel_arrives(tmp_path: Path) -> None:
    files = {"tiny/__init__.py": b"x = 1\n", "tiny/libs/native.so": bytes(range(256)) * 100, "tiny/empty.py": b""}
    assert unpack(make_wheel(tmp_path, NAME, files), tmp_path / "in") == {
        *files,
        f"{INFO}/METADATA",
        f"{INFO}/WHEEL",
        f"{INFO}/RECORD",
    }
    for name, content in files.items():
        assert (tmp_path / "in" / name).read_bytes() == content
        assert stat.S_IMODE((tmp_path / "in" / name).stat().st_mode) & 0o133 == 0  # nothing can be started or altered


def test_scripts_and_pth_files_stay_behind_and_libraries_are_put_in_place(tmp_path: Path) -> None:
    data = "tiny-1.0.data"
    files = {
        "tiny/__init__.py": b"",
        "tiny.pth": b"import os; os.abort()\n",
        "tiny/inner.PTH": b"import os; os.abort()\n",
        f"{data}/scripts/tiny": b"#!python\n",
        f"{data}/headers/tiny.h": b"",
        f"{data}/data/etc/passwd": b"",
        f"{data}/purelib/extra.py": b"y = 2\n",
        f"{data}/platlib/tiny/native.so": b"\0",
        f"{data}/platlib/late.pth": b"import os; os.abort()\n",
    }
    found = unpack(make_wheel(tmp_path, NAME, files), tmp_path / "in")
    assert {name for name in found if not name.startswith(INFO)} == {"tiny/__init__.py", "extra.py", "tiny/native.so"}


@pytest.mark.parametrize(
    "name",
    [
        *("../evil", "/tmp/evil", "tiny/../../evil", "tiny/./x", "tiny//x", "./x", "~/x", "~root/x", "a\\..\\b"),
        *("c:/x", "x\x07y", "\x1b[31m", "tiny/" + "x" * 300, "d/" * 300 + "x", "tiny-1.0.data/purelib/../../../evil"),
        *("../", "tiny/../../", "/"),
    ],
)
def test_no_path_leaves_the_folder(name: str, tmp_path: Path) -> None:
    refused(make_wheel(tmp_path / "w", NAME, {name: b"evil"}), tmp_path, "is not a path inside the folder")


@pytest.mark.parametrize("mode", [0o120777, 0o010644, 0o020644, 0o060644, 0o140644])
def test_links_and_devices_are_refused(mode: int, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", NAME, {"tiny/link": b"/etc/passwd"}, attributes={"tiny/link": mode << 16})
    refused(wheel, tmp_path, "is not a regular file")


def test_a_link_and_then_a_file_through_it(tmp_path: Path) -> None:
    files = {"tiny": b"..", "tiny/evil": b"evil"}
    refused(make_wheel(tmp_path / "w", NAME, files, attributes={"tiny": LINK}), tmp_path, "is not a regular file")
    refused(make_wheel(tmp_path / "v", NAME, files), tmp_path / "v", "is in another wheel, too")


def test_a_link_that_lies_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "outside").write_text("mine")
    (tmp_path / "in/evil").symlink_to(tmp_path / "outside")
    with pytest.raises(Failure, match="another wheel"):
        unpack(make_wheel(tmp_path, NAME, {"evil": b"evil"}), tmp_path / "in")
    assert (tmp_path / "outside").read_text() == "mine"


RECORDS = {
    "another hash": (row("tiny/a", b"evil"), "has not the hash"),
    "no hash": ("tiny/a,,", "has not the hash"),
    "a weak hash": ("tiny/a,md5=CY9rzUYh03PK3k6DJie09g,4", "has not the hash"),
    "another size": (row("tiny/a", b"good").replace(",4", ",5"), "has another size"),
    "no size": (row("tiny/a", b"evil").rpartition(",")[0] + ",", "has not the hash"),
    "not listed": ("", "is not in its RECORD"),
    "a size that is none": (row("tiny/a", b"good").replace(",4", ",x"), "RECORD cannot be read"),
    "too many fields": (row("tiny/a", b"good") + ",1", "RECORD cannot be read"),
    "a hash that is not ASCII": ("tiny/a,sha256=ü,4", "has not the hash"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_what_record_says_holds(name: str, tmp_path: Path) -> None:
    line, says = RECORDS[name]
    refused(make_wheel(tmp_path / "w", NAME, {"tiny/a": b"good"}, record={"tiny/a": line}), tmp_path, says)


def test_a_wheel_has_one_record(tmp_path: Path) -> None:
    other = {"other-2.dist-info/RECORD": b""}
    refused(make_wheel(tmp_path / "w", NAME, other), tmp_path, "2 RECORD files")
    with zipfile.ZipFile(tmp_path / "none.whl", "w") as archive:
        archive.writestr("x", "y")
    refused(tmp_path / "none.whl", tmp_path, "0 RECORD files")


def test_a_file_twice(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", NAME, {"tiny/a": b"good"})
    with zipfile.ZipFile(wheel, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("tiny/a", b"good")
    refused(wheel, tmp_path, "holds a file twice")


def test_two_wheels_with_one_file(tmp_path: Path) -> None:
    unpack(make_wheel(tmp_path, NAME, {"tiny/a": b"1"}), tmp_path / "in")
    refused(make_wheel(tmp_path / "w", "other-1.0-py3-none-any.whl", {"tiny/a": b"2"}), tmp_path, "in another wheel")
    assert (tmp_path / "in/tiny/a").read_bytes() == b"1"


def test_a_bomb_stops_at_its_limit(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", NAME, {"tiny/zeros": bytes(64 << 20)})
    assert wheel.stat().st_size < 1 << 20
    refused(wheel, tmp_path, "unpacks to more", limit_bytes=1 << 20)
    assert sum(path.stat().st_size for path in (tmp_path / "in").rglob("*")) < 2 << 20


def test_a_bomb_that_lies_about_its_size(tmp_path: Path) -> None:
    """The zip's headers say 4 bytes where 8 MiB follow."""
    wheel = make_wheel(tmp_path / "w", NAME, {"tiny/zeros": bytes(8 << 20)}, record={"tiny/zeros": "tiny/zeros,,4"})
    content = wheel.read_bytes().replace(struct.pack("<I", 8 << 20), struct.pack("<I", 4))
    wheel.write_bytes(content)
    refused(wheel, tmp_path, "tiny/zeros", limit_bytes=1 << 20)
    assert sum(path.stat().st_size for path in (tmp_path / "in").rglob("*")) < 2 << 20


def test_a_record_bomb(tmp_path: Path) -> None:
    line = "x" * (17 << 20)
    wheel = make_wheel(tmp_path / "w", NAME, {"tiny/a": b""}, record={"tiny/a": line})
    refused(wheel, tmp_path, "bigger than it may be")


def test_too_many_files(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", NAME, {f"tiny/{number}": b"" for number in range(50)})
    refused(wheel, tmp_path, "more than was announced", files=20)


def test_methods_that_wheels_do_not_use(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "lzma.whl", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("tiny/a", b"good")
        archive.writestr(f"{INFO}/RECORD", row("tiny/a", b"good") + "\n", zipfile.ZIP_DEFLATED)
    refused(tmp_path / "lzma.whl", tmp_path, "in a way that wheels do not use")


def test_an_encrypted_file(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", NAME, {"tiny/a": b"good"})
    content = bytearray(wheel.read_bytes())
    central = content.index(b"PK\x01\x02")
    content[central + 8] |= 1
    wheel.write_bytes(bytes(content))
    refused(wheel, tmp_path, "in a way that wheels do not use")


def test_a_file_that_is_not_the_one_that_was_sent(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, NAME)
    with pytest.raises(Failure, match="not the file that was sent"):
        wheels.check(wheel, "0" * 64)
    with pytest.raises(Failure, match="cannot be read"):
        wheels.check(tmp_path / "absent.whl", "0" * 64)


SAMPLE = make_wheel(Path(tempfile.mkdtemp(prefix="edgeq-test-")), NAME, {"tiny/a": b"good" * 50, "tiny/b.py": b"x"})
CONTENT = SAMPLE.read_bytes()
shutil.rmtree(SAMPLE.parent)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_wheels_are_refused_or_arrive_whole(changes: list[tuple[int, int]], tmp_path: Path) -> None:
    """Whatever bytes change: a Failure, or files with the right content; never another error, nothing outside."""
    content = bytearray(CONTENT)
    for place, value in changes:
        content[place] = value
    place = Path(tempfile.mkdtemp(dir=tmp_path))
    (place / NAME).write_bytes(content)
    (place / "in").mkdir()
    try:
        wheels.unpack(place / NAME, place / "in", wheels.Budget(1 << 16))
    except Failure as failure:
        assert failure.kind == "bad-wheel"
    else:
        for name, wanted in {"tiny/a": b"good" * 50, "tiny/b.py": b"x"}.items():
            assert not (place / "in" / name).exists() or (place / "in" / name).read_bytes() == wanted
    assert {path.name for path in place.iterdir()} == {NAME, "in"}


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=60))
def test_whatever_a_member_is_called_it_stays_inside(name: str) -> None:
    archive = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="edgeq-test-") as scratch:
        place, clean = Path(scratch), zipfile.ZipInfo(name).filename
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr(zipfile.ZipInfo(name), b"x")
            zipped.writestr("t-1.dist-info/RECORD", "")
        (place / NAME).write_bytes(archive.getvalue())
        (place / "in").mkdir()
        try:
            wheels.unpack(place / NAME, place / "in", wheels.Budget(1 << 16))
        except Failure as failure:
            assert failure.kind == "bad-wheel"
        else:
            assert clean.endswith("/"), "a folder's own entry is left out; everything else is not in RECORD"
        assert {path.name for path in place.iterdir()} == {NAME, "in"}, clean
        assert not any(files for _folder, _folders, files in os.walk(place / "in"))
