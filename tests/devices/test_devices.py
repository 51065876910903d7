"""Devices: addresses, the file that keeps them, no secrets, no surprises."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgeq import devices
from edgeq.errors import DeviceError, EdgeqError, OutputError, UsageError
from edgeq.types import Device


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A devices file of the test's own, which is not there yet."""
    path = tmp_path / "config" / "devices.yaml"
    monkeypatch.setenv("EDGEQ_DEVICES", str(path))
    return path


ADDRESSES = [
    ("local:", "local", None, None, None),
    ("local://", "local", None, None, None),
    ("qemu:", "qemu", None, None, None),
    ("serial:///dev/ttyACM0", "serial", "/dev/ttyACM0", None, None),
    ("ssh://host", "ssh", "host", None, None),
    ("ssh://host/", "ssh", "host", None, None),
    ("ssh://host:2222", "ssh", "host", 2222, None),
    ("ssh://pi@10.0.0.5", "ssh", "10.0.0.5", None, "pi"),
    ("ssh://pi@raspberrypi.local:22", "ssh", "raspberrypi.local", 22, "pi"),
    ("ssh://user@[::1]:22", "ssh", "::1", 22, "user"),
    ("ssh://[fe80::1%eth0]", "ssh", "fe80::1%eth0", None, None),
    ("ssh://[2001:DB8::1]:65535", "ssh", "2001:db8::1", 65535, None),
    ("adb:", "adb", None, None, None),
]


@pytest.mark.parametrize(("ref", "transport", "host", "port", "user"), ADDRESSES, ids=[case[0] for case in ADDRESSES])
def test_address(ref: str, transport: str, host: str | None, port: int | None, user: str | None) -> None:
    assert devices.load(ref) == Device(name=ref, transport=transport, host=host, port=port, user=user)


BAD_ADDRESSES = [
    ("ssh:host", "starts with ssh://"),
    ("ssh://", "not a host's name"),
    ("ssh://@host", "not a user's name"),
    ("ssh://pi@", "not a host's name"),
    ("ssh://-oProxyCommand=id", "not a host's name"),
    ("ssh://-l@host", "not a user's name"),
    ("ssh://pi@host@other", "not user@host:port"),
    ("ssh://host/folder", "not a host's name"),
    ("ssh://ho st", "not a host's name"),
    ("ssh://host;id", "not a host's name"),
    ("ssh://$(id)", "not a host's name"),
    ("ssh://host:0", "not a port"),
    ("ssh://host:65536", "not a port"),
    ("ssh://host:22x", "not a port"),
    ("ssh://host:", "not a port"),
    ("ssh://host:\u0664\u0664", "not a port"),
    ("ssh://::1", "not user@host:port"),
    ("ssh://[::1", "not user@host:port"),
    ("ssh://[zz]", "not an IPv6 address"),
    ("ssh://[::1%$(id)]", "not an IPv6 address"),
    ("ssh://host\n", "control characters"),
    ("ssh://host\x1b[2J", "control characters"),
    ("local:/tmp", "nothing may follow local:"),
    ("pi:raspberry@host", "starts with ssh://"),
]


@pytest.mark.parametrize(("ref", "message"), BAD_ADDRESSES, ids=range(len(BAD_ADDRESSES)))
def test_bad_address_is_refused(ref: str, message: str, kept: Path) -> None:
    with pytest.raises(DeviceError) as caught:
        devices.load(ref)
    assert message in caught.value.message
    with pytest.raises(DeviceError):
        devices.add("pi", ref)
    assert not kept.exists()


@pytest.mark.parametrize("ref", ["ssh://pi:raspberry@host", "ssh://pi:rasp@berry@host:22", "ssh://:raspberry@host"])
def test_password_in_an_address_is_refused_and_not_repeated(ref: str) -> None:
    with pytest.raises(DeviceError, match="holds no password") as caught:
        devices.add("pi", ref)
    assert "rasp" not in str(caught.value)
    assert "agent" in (caught.value.hint or "")


def test_added_is_found_again(kept: Path) -> None:
    options = {
        "identity": "~/.ssh/id",
        "folder": "/srv/edgeq",
        "python": "python3.9",
        "meter": "hwmon",
        "notes": 'on "top"\n',
    }
    added = devices.add("pi5-lab", "ssh://pi@[::1]:2222", **options)
    assert added == Device(name="pi5-lab", transport="ssh", host="::1", port=2222, user="pi", **options)  # type: ignore[arg-type]
    assert devices.load("pi5-lab") == added
    assert devices.add("here", "local:") == Device(name="here", transport="local")
    assert [device.name for device in devices.load_all()] == ["here", "pi5-lab"]
    assert kept.stat().st_mode & 0o777 == 0o600


def test_removed_is_gone(kept: Path) -> None:
    devices.add("a", "local:")
    devices.add("b", "local:")
    devices.remove("a")
    assert [device.name for device in devices.load_all()] == ["b"]
    devices.remove("b")
    assert devices.load_all() == []
    assert kept.exists()


def test_taken_name_is_refused() -> None:
    devices.add("pi", "local:")
    with pytest.raises(UsageError, match="called 'pi' already") as caught:
        devices.add("pi", "ssh://host")
    assert caught.value.hint == "edgeq devices remove pi"
    assert devices.load("pi").transport == "local"


@pytest.mark.parametrize("name", ["", ".", "-x", "a b", "a/b", "../a", "a:b", "x" * 64, "a\n", "é", "a\0"])
def test_bad_name_is_refused(name: str, kept: Path) -> None:
    with pytest.raises(UsageError, match="cannot be a device's name"):
        devices.add(name, "local:")
    assert not kept.exists()


def test_unknown_name_has_a_hint() -> None:
    with pytest.raises(DeviceError, match="no device is called 'pi'") as caught:
        devices.load("pi")
    assert caught.value.hint == "edgeq devices add pi ssh://user@host"
    devices.add("pi5", "local:")
    with pytest.raises(DeviceError) as caught:
        devices.load("pi55")
    assert caught.value.hint == "did you mean pi5?"
    with pytest.raises(DeviceError, match="no device is called"):
        devices.remove("other")


@pytest.mark.parametrize("option", ["password", "passphrase", "token", "secret"])
def test_secret_as_an_option_is_refused(option: str) -> None:
    with pytest.raises(UsageError, match="secrets are not kept") as caught:
        devices.add("pi", "local:", **{option: "hunter2"})
    assert "hunter2" not in str(caught.value)
    assert caught.value.hint


def test_unknown_and_empty_options_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown option 'colour'"):
        devices.add("pi", "local:", colour="red")
    with pytest.raises(DeviceError, match="identity is empty"):
        devices.add("pi", "local:", identity="")
    with pytest.raises(DeviceError, match="control characters"):
        devices.add("pi", "local:", python="python3\nrm")


BAD_FILES = [
    (
        "devices:\n  pi:\n    address: ssh://pi@host\n    password: hunter2\n",
        "devices.pi.password: secrets are not kept",
        4,
    ),
    ("devices:\n  pi:\n    address: ssh://pi:hunter2@host\n", "an address holds no password", 2),
    ("devices:\n  pi:\n    addr: ssh://host\n", "devices.pi.address: is missing", 2),
    ("devices:\n  pi: {address: 'local:', colour: red}\n", "devices.pi.colour: unknown key", 2),
    ("devices:\n  pi: {address: 5}\n", "devices.pi.address: should be text", 2),
    ("devices:\n  pi: ssh://host\n", "devices.pi: should be a mapping", 2),
    ("devices:\n  'a b': {address: 'local:'}\n", "'a b' cannot be a device's name", 2),
    ("devices:\n  pi: {address: nonsense}\n", "'nonsense' is not an address", 2),
    ("devices: &a [*a]\n", "anchors and aliases", 1),
    ("- pi\n", "must be a mapping", None),
    ("device: {}\n", "device: unknown key; did you mean 'devices'?", 1),
]


@pytest.mark.parametrize(("text", "message", "line"), BAD_FILES, ids=range(len(BAD_FILES)))
def test_bad_file_is_refused_and_left_alone(kept: Path, text: str, message: str, line: int | None) -> None:
    kept.parent.mkdir()
    kept.write_text(text)
    for action in (devices.load_all, lambda: devices.load("pi"), lambda: devices.add("new", "local:")):
        with pytest.raises(DeviceError) as caught:
            action()
        assert message in caught.value.message
        assert "hunter2" not in caught.value.message
        assert caught.value.where == (f"{kept}:{line}" if line else str(kept))
    assert kept.read_text() == text


def test_place_of_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EDGEQ_DEVICES")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert devices.file() == tmp_path / "edgeq" / "devices.yaml"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert devices.file() == tmp_path / "home" / ".config" / "edgeq" / "devices.yaml"
    devices.add("pi", "local:")
    assert devices.load("pi").transport == "local"


def test_unwritable_place_is_one_error(kept: Path) -> None:
    kept.parent.write_text("a file is in the way")
    with pytest.raises(OutputError, match="cannot write"):
        devices.add("pi", "local:")


def _add(number: int) -> None:
    devices.add(f"pi{number}", "local:")


def test_many_at_once_lose_none() -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.map(_add, range(12))
    assert len(devices.load_all()) == 12


@settings(max_examples=800, deadline=2000, suppress_health_check=list(HealthCheck))
@given(
    ref=st.text(max_size=40)
    | st.builds("ssh://{}@{}:{}".format, st.text(max_size=8), st.text(max_size=8), st.text(max_size=6))
)
@example(ref="ssh://[::1%]")
@example(ref="ssh://[]")
def test_any_reference_is_a_device_or_an_error(ref: str) -> None:
    try:
        device = devices.load(ref)
    except EdgeqError as error:
        assert isinstance(error, DeviceError)
        return
    assert device.transport
    assert device.port is None or 0 < device.port < 65536
    assert not (device.host or "").startswith("-")
    assert all(character.isprintable() for character in (device.host or "") + (device.user or ""))


TEXT = "schema: 1\ndevices:\n  pi:\n    address: \"ssh://pi@host:22\"\n    notes: lab\n  here: {address: 'local:'}\n"
WORDS = [
    "",
    "&a ",
    "*a",
    "!!x ",
    "{",
    "}",
    "[",
    "]",
    ":",
    "@",
    "'",
    '"',
    "\n",
    "  ",
    "null",
    "1e9",
    "password: x\n",
    "\t",
    "-",
    "\x7f",
]


@settings(max_examples=800, deadline=2000, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_mutated_file_loads_or_says_why(data: st.DataObject, kept: Path) -> None:
    text = TEXT
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        stop = min(len(text), start + data.draw(st.integers(0, 8)))
        text = text[:start] + data.draw(st.sampled_from(WORDS)) + text[stop:]
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(text)
    try:
        found = devices.load_all()
    except EdgeqError as error:
        assert isinstance(error, DeviceError)
        assert "\n" not in error.message
        return
    assert all(isinstance(device, Device) for device in found)


# --- boards behind serial ports --------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "host", "baud"),
    [
        ("serial:///dev/ttyACM0", "/dev/ttyACM0", None),
        ("serial:/dev/ttyACM0", "/dev/ttyACM0", None),
        ("serial:///dev/ttyUSB1?baud=57600", "/dev/ttyUSB1", 57600),
        ("serial:///dev/serial/by-id/usb-ST_a@b:c-if02?baud=300", "/dev/serial/by-id/usb-ST_a@b:c-if02", 300),
        ("serial:///dev/pts/3?baud=12000000", "/dev/pts/3", 12_000_000),
    ],
)
def test_addresses_of_ports(address: str, host: str, baud: int | None) -> None:
    found = devices.load(address)
    assert (found.transport, found.host, found.baud, found.port) == ("serial", host, baud, None)


@pytest.mark.parametrize(
    "address",
    [
        "serial:", "serial://", "serial:ttyACM0", "serial://ttyACM0", "serial:///dev/ttyACM0?", "serial:///dev/a?baud=",
        "serial:///dev/a?baud=fast", "serial:///dev/a?baud=0", "serial:///dev/a?baud=299", "serial:///dev/a?baud=-9600",
        "serial:///dev/a?baud=12000001", "serial:///dev/a?baud=99999999999", "serial:///dev/a?speed=9600",
        "serial:///dev/a?baud=9600&parity=E", "serial:///dev/a?baud=9600?baud=9600", "serial:///dev/a\x1b[2J",
    ],
)  # fmt: skip
def test_addresses_that_name_no_port(address: str) -> None:
    with pytest.raises(DeviceError) as caught:
        devices.load(address)
    assert "\x1b" not in caught.value.message


def test_a_board_is_kept_with_its_speed() -> None:
    devices.add("nucleo", "serial:///dev/ttyACM0?baud=57600", notes="on the desk")
    assert devices.load("nucleo").baud == 57600
    assert "baud=57600" in devices.file().read_text()
