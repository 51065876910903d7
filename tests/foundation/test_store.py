"""Stage files are whole or absent."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq import store
from edgeq.errors import EdgeqError, OutputError
from edgeq.types import Check, Verdict


def _verdict(why: str = "") -> Verdict:
    return Verdict(ok=True, checks=(Check(rule="memory", subject="ram", ok=True, needed=1, available=2.5, why=why),))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    store.write(tmp_path / "deep" / "verdict.json", _verdict("fits"))
    assert store.read(tmp_path / "deep" / "verdict.json", Verdict) == _verdict("fits")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["verdict.json"]


@given(st.text())
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "text.json"
    if any(0xD800 <= ord(char) <= 0xDFFF for char in text):
        return
    store.write(path, _verdict(text))
    assert store.read(path, Verdict).checks[0].why == text


def test_nan_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        store.write(tmp_path / "x.json", {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_an_exception_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), store.replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.tflite"]


def test_a_killed_writer_leaves_no_whole_looking_file(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from edgeq import store
        with store.replacing(Path(sys.argv[1])) as temporary:
            temporary.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    path = tmp_path / "plan.json"
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False, timeout=60)
    assert done.returncode == -9
    assert not path.exists()
    assert all(entry.name.endswith(".part") for entry in tmp_path.iterdir())


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write") as caught:
        store.write(tmp_path / "file" / "plan.json", _verdict())
    assert "file" in (caught.value.where or "")


def test_a_folder_in_the_way_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "plan.json" / "full").mkdir(parents=True)
    with pytest.raises(OutputError, match="folder"):
        store.write(tmp_path / "plan.json", _verdict())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="permission"):
        store.write(tmp_path / "plan.json", _verdict())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named() -> None:
    path = Path("/dev/full")
    with pytest.raises(OutputError, match="disk is full"), store.writing(path), path.open("wb", buffering=0) as stream:
        stream.write(b"x")


def test_hashes_are_sha256(tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    (tmp_path / "f").write_bytes(content)
    assert store.sha256(tmp_path / "f") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"ok": true}', '{"ok": "yes", "checks": []}', "\x00", "null"])
def test_a_broken_stage_file_names_itself(tmp_path: Path, content: str) -> None:
    path = tmp_path / "verdict.json"
    path.write_text(content)
    with pytest.raises(EdgeqError) as caught:
        store.read(path, Verdict)
    assert "verdict.json" in (caught.value.where or "")


def test_a_missing_stage_file_names_itself(tmp_path: Path) -> None:
    with pytest.raises(EdgeqError) as caught:
        store.read(tmp_path / "plan.json", Verdict)
    assert "plan.json" in (caught.value.where or "")


def test_file_modes_follow_the_umask(tmp_path: Path) -> None:
    store.write(tmp_path / "plan.json", _verdict())
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "plan.json").stat().st_mode & 0o777 == 0o666 & ~mask


def test_threads_that_ask_for_the_umask_leave_it_alone() -> None:
    """Asking for it sets it for a moment, for all threads."""
    mask = os.umask(0)
    os.umask(mask)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-7)
    try:
        with ThreadPoolExecutor(8) as pool:
            told = set(pool.map(lambda _: store._umask(), range(5000)))
    finally:
        sys.setswitchinterval(interval)
        after = os.umask(mask)
    assert (told, after) == ({mask}, mask)


KILLED = """
import os, signal, sys
from pathlib import Path
from edgeq import store
with store.part(Path(sys.argv[1]), folder=sys.argv[2] == "folder") as place:
    (place / "half" if place.is_dir() else place).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_writer_left_is_swept_away_by_the_next(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a+[b].json"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), kind], check=False, timeout=30)
    assert done.returncode == -9
    assert len(list(tmp_path.iterdir())) == 1
    store.write(path, _verdict())
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_what_a_living_writer_has_is_not_swept_away(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    with store.part(path) as first, store.part(path, folder=True) as second:
        store.write(path, _verdict())
        assert first.is_file()
        assert second.is_dir()
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_only_leftovers_of_the_same_name_are_swept_away(tmp_path: Path) -> None:
    others = [".two.json.abcdefgh.part", ".one.json.part", "one.json.abcdefgh.part", ".one.json.abcdefgh.part.x"]
    for name in others:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".one.json.abcdefgi.part").symlink_to(tmp_path)
    store.write(tmp_path / "one.json", _verdict())
    assert {one.name for one in tmp_path.iterdir()} == {*others, "one.json", ".one.json.abcdefgi.part"}


@pytest.mark.parametrize("folder", [False, True])
def test_many_writers_of_one_name_leave_nothing(folder: bool, tmp_path: Path) -> None:
    """Sweeping never takes a name from under another's feet."""

    def write(number: int) -> None:
        with store.part(tmp_path / "one", folder=folder) as place:
            inner = place / "x" if folder else place
            inner.write_text(str(number))
            assert inner.read_text() == str(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(200)))
    assert list(tmp_path.iterdir()) == []
