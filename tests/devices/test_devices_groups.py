"""Groups of devices, and what a list of names, groups and addresses comes to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq import devices
from edgeq.errors import DeviceError, UsageError
from edgeq.workflow import folder_of

Edgeq = Callable[..., Any]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three devices, two of them in a group."""
    monkeypatch.setenv("EDGEQ_DEVICES", str(tmp_path / "devices.yaml"))
    devices.add("pi5", "ssh://pi@pi5", groups=("arm", "desk"))
    devices.add("jetson", "ssh://jetson", groups=("arm",))
    devices.add("here", "local:")
    return tmp_path / "devices.yaml"


def test_groups_are_kept_and_told(lab: Path) -> None:
    assert devices.groups() == {"arm": ("pi5", "jetson"), "desk": ("pi5",)}
    assert [one.name for one in devices.load_all()] == ["here", "jetson", "pi5"]


def test_removing_a_device_takes_it_out_of_its_groups(lab: Path) -> None:
    devices.remove("pi5")
    assert devices.groups() == {"arm": ("jetson",)}
    devices.remove("jetson")
    assert devices.groups() == {}
    assert "groups" not in lab.read_text()


@pytest.mark.parametrize(
    ("refs", "found"),
    [
        (["pi5"], ["pi5"]),
        (["arm"], ["pi5", "jetson"]),
        (["all"], ["here", "jetson", "pi5"]),
        (["arm", "all"], ["pi5", "jetson", "here"]),
        (["here", "arm", "here"], ["here", "pi5", "jetson"]),
        (["local:", "ssh://pi@pi5", "pi5"], ["local:", "ssh://pi@pi5", "pi5"]),
        (["nosuch"], ["nosuch"]),
    ],
)
def test_what_names_come_to(lab: Path, refs: list[str], found: list[str]) -> None:
    assert list(devices.expand(refs)) == found


@pytest.mark.parametrize(
    ("refs", "one"),
    [(["pi5"], "pi5"), (["local:"], "local:"), (["desk"], None), (["all"], None), (["pi5", "pi5"], None)],
)
def test_a_group_is_never_one_device(lab: Path, refs: list[str], one: str | None) -> None:
    assert devices.single(refs) == one


def test_all_of_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_DEVICES", str(tmp_path / "none.yaml"))
    with pytest.raises(DeviceError, match="no devices are known") as caught:
        devices.expand(["all"])
    assert "devices add" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "groups"),
    [("all", ()), ("arm", ()), ("new", ("pi5",)), ("new", ("all",)), ("new", ("new",)), ("new", ("a b",))],
)
def test_names_that_would_mean_two_things(lab: Path, name: str, groups: tuple[str, ...]) -> None:
    before = lab.read_text()
    with pytest.raises(UsageError):
        devices.add(name, "local:", groups=groups)
    assert lab.read_text() == before


BROKEN = (
    ("devices:\n  a: {address: 'local:'}\ngroups:\n  g: [a, b]\n", "the group g holds 'b', which is no device", 4),
    ("devices:\n  a: {address: 'local:'}\ngroups:\n  g: []\n", "the group g is empty", 4),
    ("devices:\n  a: {address: 'local:'}\ngroups:\n  a: [a]\n", "'a' cannot be a group's name", 4),
    ("devices:\n  a: {address: 'local:'}\ngroups:\n  all: [a]\n", "'all' cannot be a group's name", 4),
    ("devices:\n  a: {address: 'local:'}\ngroups:\n  'x/y': [a]\n", "'x/y' cannot be a group's name", 4),
    ("devices:\n  all: {address: 'local:'}\n", "'all' cannot be a device's name", 2),
    ("devices: {}\ngroups:\n  g: a\n", "groups.g", 3),
    ("devices: {}\ngroups: [a]\n", "groups", 2),
)


@pytest.mark.parametrize(("text", "message", "line"), BROKEN)
def test_a_broken_file_names_the_line(lab: Path, text: str, message: str, line: int) -> None:
    lab.write_text(f"schema: 1\n{text}")
    with pytest.raises(DeviceError, match=message) as caught:
        devices.expand(["all"])
    assert str(caught.value.where) == f"{lab}:{line + 1}"


def test_the_command_line(edgeq: Edgeq, lab: Path) -> None:
    assert edgeq("devices", "add", "rock", "ssh://rock", "--group", "arm", "--group", "new").code == 0
    document = edgeq("devices", "--json").document
    assert document["groups"] == {"arm": ["pi5", "jetson", "rock"], "desk": ["pi5"], "new": ["rock"]}
    assert [one["name"] for one in document["devices"]] == ["here", "jetson", "pi5", "rock"]
    shown = edgeq("devices").out
    assert "arm, new" in shown
    assert "groups" in shown
    ran = edgeq("devices", "add", "arm", "local:")
    assert (ran.code, ran.error) == (2, "error: a group is called 'arm' already")


# --- folders of results ------------------------------------------------------------------------------

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)
ADDRESSES = st.builds(lambda word: f"ssh://{word}", st.text(max_size=40)) | st.text(max_size=40)


def test_a_name_is_its_own_folder_and_an_address_says_what_it_was(tmp_path: Path) -> None:
    assert folder_of(tmp_path, "pi5.lab") == tmp_path / "devices" / "pi5.lab"
    found = folder_of(tmp_path, "ssh://pi@10.0.0.7:2222")
    assert found.parent == tmp_path / "devices"
    assert found.name.startswith("_ssh-pi-10.0.0.7-2222-")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=NAMES | ADDRESSES, other=NAMES | ADDRESSES)
def test_no_two_share_a_folder_and_none_leads_out(tmp_path: Path, one: str, other: str) -> None:
    folders = [folder_of(tmp_path, name) for name in (one, other)]
    assert (folders[0] == folders[1]) == (one == other)
    for folder in folders:
        assert folder.parent == tmp_path / "devices"
        assert folder.resolve().parent == folder.parent.resolve()
        assert 0 < len(folder.name) <= 80
        assert folder.name.isascii()
        json.dumps(folder.name)
