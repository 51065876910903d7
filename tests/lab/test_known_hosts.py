"""known_hosts files as OpenSSH writes them, and as nobody should."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgeq.lab.transports import _known_hosts
from edgeq.testing.sshd import make_key

KEY = base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0 " + bytes(32)).decode()
LINE = f"board ssh-ed25519 {KEY}"


def write(folder: Path, *lines: str) -> list[Path]:
    path = folder / "known_hosts"
    path.write_text("\n".join([*lines, ""]))
    return [path]


def openssh_finds(file: Path, name: str) -> bool:
    """Whether ssh-keygen finds the host in the file."""
    argv = ["ssh-keygen", "-F", name, "-f", str(file)]
    return subprocess.run(argv, capture_output=True, check=False, timeout=20).returncode == 0


@pytest.mark.parametrize(
    ("hosts", "name", "found"),
    [
        ("board", "board", True),
        ("board", "boards", False),
        ("Board", "bOARD", True),
        ("a,board,b", "board", True),
        ("*.lab", "board.lab", True),
        ("*.lab", "board.lab.example", False),
        ("bo?rd", "board", True),
        ("*,!board", "board", False),
        ("*,!board", "other", True),
        ("!board", "other", False),
        ("[board]:2222", "[board]:2222", True),
        ("[board]:2222", "board", False),
        ("board", "[board]:2222", False),
        ("[*.lab]:2222", "[board.lab]:2222", True),
        ("[board]:2222", "o", False),
        ("192.0.2.7", "192.0.2.7", True),
        ("[fe80::1]:22", "fe80::1", False),
    ],
)
def test_names_match_as_openssh_says(hosts: str, name: str, found: bool, tmp_path: Path) -> None:
    file = write(tmp_path, f"{hosts} ssh-ed25519 {KEY}")
    assert bool(_known_hosts.known(file, name)) is found
    assert openssh_finds(file[0], name) is found


@pytest.mark.parametrize("name", ["board", "[board]:2222", "192.0.2.7", "[fe80::1]:2222"])
def test_names_that_openssh_hashed(name: str, tmp_path: Path) -> None:
    key = make_key(tmp_path / "key").with_suffix(".pub").read_text()
    file = write(tmp_path, f"{name} {key}")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file[0])], check=True, capture_output=True, timeout=20)
    assert file[0].read_text().startswith("|1|")
    (entry,) = _known_hosts.known(file, name)
    assert entry.key == base64.b64decode(key.split()[1])
    assert _known_hosts.known(file, name.upper())
    assert not _known_hosts.known(file, f"{name}x")


def test_a_fingerprint_is_ssh_keygens(tmp_path: Path) -> None:
    public = make_key(tmp_path / "key").with_suffix(".pub")
    shown = subprocess.run(["ssh-keygen", "-lf", str(public)], capture_output=True, text=True, check=True).stdout
    assert _known_hosts.fingerprint(base64.b64decode(public.read_text().split()[1])) == shown.split()[1]


def test_several_keys_of_one_host_in_several_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    other = base64.b64encode(b"another").decode()
    files = write(tmp_path / "a", "# comment", "", LINE, f"board ssh-rsa {other} comment with words")
    files += [tmp_path / "absent", tmp_path, *write(tmp_path / "b", f"@revoked {LINE}")]
    found = _known_hosts.known(files, "board")
    assert [(entry.type, entry.line, entry.revoked) for entry in found] == [
        ("ssh-ed25519", 3, False),
        ("ssh-rsa", 4, False),
        ("ssh-ed25519", 1, True),
    ]
    assert found[0].where == f"{files[0]}:3"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "# board ssh-ed25519 AAAA",
        f"@cert-authority *.lab ssh-ed25519 {KEY}",
        f"@something board ssh-ed25519 {KEY}",
        "board ssh-ed25519",
        "board ssh-ed25519 not*base64",
        "board ssh-ed25519 A",
        "@revoked",
        "@revoked board",
    ],
)
def test_lines_that_vouch_for_nobody(line: str, tmp_path: Path) -> None:
    """A certificate authority is no host key: its host stays unknown."""
    assert list(_known_hosts.entries(write(tmp_path, line))) == []


@pytest.mark.parametrize(
    "hosts", ["|1|", "|1||", "|1|a|b", "|1|=|=", "|1|AAAA|AAAA|AAAA", "|1|\u00e4|\u00e4", "|2|AA|AA"]
)
def test_broken_hashes_match_nobody(hosts: str) -> None:
    assert not _known_hosts.matches(hosts, "board")


@pytest.mark.parametrize(
    ("host", "port", "name"), [("board", 22, "board"), ("board", 2222, "[board]:2222"), ("::1", 24, "[::1]:24")]
)
def test_how_an_address_is_written(host: str, port: int, name: str) -> None:
    assert _known_hosts.host_name(host, port) == name


def test_the_own_file_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert _known_hosts.own_file() == Path.home() / ".config/edgeq/known_hosts"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert _known_hosts.own_file() == tmp_path / "edgeq/known_hosts"
    monkeypatch.setenv("EDGEQ_KNOWN_HOSTS", "~/mine")
    assert _known_hosts.own_file() == Path.home() / "mine"


@given(st.text(max_size=200))
@example(f"@revoked {LINE}")
@example("|1|AAAA ssh-ed25519 AAAA")
def test_any_line_is_read_or_passed_over(line: str) -> None:
    entry = _known_hosts.parse("file", 1, line)
    if entry is not None:
        assert entry.hosts in line
        assert isinstance(_known_hosts.matches(entry.hosts, "board"), bool)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.binary(max_size=300))
def test_any_bytes_before_a_line_do_not_hide_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any"
    path.write_bytes(content + b"\n" + LINE.encode() + b"\n")
    assert _known_hosts.known([path], "board")
