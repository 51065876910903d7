"""Vouching for a host key, against a real sshd."""

from __future__ import annotations

import base64
import subprocess
import threading
from pathlib import Path

import pytest

from edgeq.errors import HostKeyChanged, OutputError, TimedOut, UnknownHostKey, Unreachable, UsageError
from edgeq.lab import trust
from edgeq.lab.transports import ssh
from edgeq.testing import sshd as servers
from edgeq.testing.sshd import Server
from edgeq.testing.tcp_proxy import Proxy
from edgeq.types import Device


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """edgeq's own file, not there yet."""
    path = tmp_path / "config" / "known_hosts"
    monkeypatch.setenv("EDGEQ_KNOWN_HOSTS", str(path))
    return path


def shown_by_ssh_keygen(server: Server) -> str:
    argv = ["ssh-keygen", "-lf", str(server.folder / "host_key.pub")]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout.split()[1]


def test_scan_shows_the_key_and_believes_nothing(sshd: Server, own: Path) -> None:
    key = trust.scan(sshd.device())
    assert key.fingerprint == shown_by_ssh_keygen(sshd)
    assert key.type == "ssh-ed25519"
    assert key.line == sshd.known_hosts.read_text().strip()
    assert not own.exists()
    with pytest.raises(UnknownHostKey, match=key.fingerprint.replace("+", r"\+")) as caught:
        ssh.connect(sshd.device())
    assert caught.value.hint == f"edgeq devices trust {sshd.url}"


def test_record_lets_in_and_forget_shuts_out(sshd: Server, own: Path) -> None:
    device = sshd.device()
    assert trust.record(device, trust.scan(device)) == own
    assert own.stat().st_mode & 0o777 == 0o600
    with ssh.connect(device) as transport:
        assert transport.home()
    trust.forget(device)
    assert own.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UnknownHostKey):
        ssh.connect(device)
    trust.forget(device)


def test_what_was_recorded_is_openssh_s_format(sshd: Server, own: Path) -> None:
    trust.record(sshd.device(), trust.scan(sshd.device()))
    argv = ["ssh", "-F", "none", "-o", f"UserKnownHostsFile={own}", "-o", "StrictHostKeyChecking=yes"]
    argv += ["-o", "BatchMode=yes", "-i", str(sshd.key), "-p", str(sshd.port), f"{sshd.user}@{sshd.host}", "true"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr


def test_recording_replaces_the_hosts_old_key_only(sshd: Server, own: Path) -> None:
    device, key = sshd.device(), trust.scan(sshd.device())
    name, kind, _ = key.line.split()
    old = base64.b64encode(b"old").decode()
    others = ["# mine", f"other {kind} {old}", f"@revoked {name} {kind} {old}", "not a line of that kind"]
    own.parent.mkdir()
    own.write_text("\n".join([*others, f"{name} {kind} {old}", ""]))
    with pytest.raises(HostKeyChanged):
        ssh.connect(device)
    trust.record(device, key)
    trust.record(device, key)
    assert own.read_text().splitlines() == [*others, key.line]
    ssh.connect(device).close()


def test_a_changed_key_names_file_and_line(sshd: Server, own: Path) -> None:
    name, kind, _ = sshd.known_hosts.read_text().split()
    own.parent.mkdir()
    own.write_text(f"# first\n{name} {kind} {base64.b64encode(b'old').decode()}\n")
    with pytest.raises(HostKeyChanged, match=r"is now SHA256:.*not the recorded SHA256:") as caught:
        ssh.connect(sshd.device())
    assert caught.value.where == f"{own}:2"
    assert "edgeq devices trust" in str(caught.value.hint)


def test_a_revoked_key_is_refused_even_if_somebody_vouches_for_it(sshd: Server, own: Path) -> None:
    line = sshd.known_hosts.read_text().strip()
    own.parent.mkdir()
    own.write_text(f"{line}\n@revoked {line}\n")
    with pytest.raises(HostKeyChanged, match="is revoked") as caught:
        ssh.connect(sshd.device())
    assert caught.value.where == f"{own}:2"


def test_a_certificate_authority_vouches_for_nobody_here(sshd: Server, own: Path) -> None:
    own.parent.mkdir()
    own.write_text(f"@cert-authority {sshd.known_hosts.read_text()}")
    with pytest.raises(UnknownHostKey):
        ssh.connect(sshd.device())


def test_the_kind_of_key_on_record_is_asked_for(tmp_path: Path, own: Path) -> None:
    """A server with two keys, of which only the one that is not preferred is known."""
    (tmp_path / "two").mkdir()
    rsa = tmp_path / "two" / "rsa_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(rsa)], check=True, timeout=60)
    with servers.running(tmp_path / "two", options=[f"HostKey {rsa}"]) as server:
        kind, key = rsa.with_suffix(".pub").read_text().split()[:2]
        own.parent.mkdir()
        own.write_text(f"[{server.host}]:{server.port} {kind} {key}\n")
        ssh.connect(server.device()).close()
        own.write_text(server.known_hosts.read_text())
        ssh.connect(server.device()).close()


def test_two_at_once_lose_no_line(own: Path) -> None:
    kind, key = "ssh-ed25519", base64.b64encode(b"key").decode()
    keys = [trust.HostKey(type=kind, fingerprint="", line=f"host{n} {kind} {key}") for n in range(12)]
    device = Device(name="any", transport="ssh", host="any")
    threads = [threading.Thread(target=trust.record, args=(device, one)) for one in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(own.read_text().splitlines()) == sorted(one.line for one in keys)


def test_what_has_no_host_key() -> None:
    with pytest.raises(UsageError, match="no host key"):
        trust.scan(Device(name="here", transport="local"))


def test_nobody_listens() -> None:
    device = Device(name="board", transport="ssh", host="127.0.0.1", port=servers.free_port())
    with pytest.raises(Unreachable, match="refused"):
        trust.scan(device)


def test_somebody_listens_and_says_nothing(sshd: Server) -> None:
    with Proxy(sshd.host, sshd.port) as proxy:
        proxy.cut()
        with pytest.raises(TimedOut, match="did not answer within 1 s"):
            trust.scan(sshd.device(port=proxy.port), timeout_seconds=1)


def test_a_folder_that_cannot_be_made(sshd: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEQ_KNOWN_HOSTS", str(tmp_path / "file" / "known_hosts"))
    with pytest.raises(OutputError):
        trust.record(sshd.device(), trust.scan(sshd.device()))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
