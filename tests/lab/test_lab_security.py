"""Hostile names, hostile devices, secrets: what nobody may get from edgeq, over a real sshd."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import BuildError, CommandFailed, IllegalInstruction
from edgeq.lab import deploy, preflight, probe
from edgeq.lab.answers import Where
from edgeq.lab.leases import leased
from edgeq.lab.transports import Transport, local, ssh
from edgeq.testing import models
from edgeq.testing.sshd import Server, started_through
from edgeq.types import Bundle, Device, FileEntry, Manifest
from edgeq.workflow import folder_of

TARGET = "generic-linux-" + ("x86_64" if platform.machine() == "x86_64" else "aarch64")
QUICK = ("--runs", "3", "--seconds", "0.1", "--warmup-seconds", "0", "--no-float")
NASTY = "a b'c\"d$(touch pwned);`touch pwned`&|<>*?~#!\\ é\nf"
"""Whatever a shell would act on, in one word."""
LINE = NASTY.splitlines()[0]
"""The same for what is a line in a file."""
ESCAPE = "\x1b]0;pwned\x07\x1b[2J"
PLANTED = "S3CRETdonottell"
EVIDENCE = "pwned"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose model's name a shell would act on."""
    folder = tmp_path_factory.mktemp("model")
    models.conv_tflite(folder)
    models.tiny_dataset(folder)
    (folder / "conv.tflite").rename(folder / f"{LINE}.tflite")
    out = folder / NASTY
    argv = ["build", folder / f"{LINE}.tflite", "-t", TARGET, "--data", folder / "dataset.yaml"]
    done = run([*argv, "-o", out, "-q"], folder, HOME=str(folder))
    assert done.returncode == 0, done.stderr
    return out / "bundle"


def run(argv: list[Any], cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "edgeq", *map(str, argv)]
    environment = {**os.environ, **more}
    return subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False, errors="replace"
    )


def registered(path: Path, monkeypatch: pytest.MonkeyPatch, **words: object) -> None:
    """The device `board` in a file of its own, whose words no command line has looked at."""
    path.write_text(json.dumps({"schema": 1, "devices": {"board": {k: str(v) for k, v in words.items()}}}))
    monkeypatch.setenv("EDGEQ_DEVICES", str(path))


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    """A shell script in the place of the device's Python."""

    def write(text: str, name: str = "python3") -> Path:
        path = tmp_path / "there" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\nPYTHON={shlex.quote(sys.executable)}\n{text}\nexec "$PYTHON" "$@"\n')
        path.chmod(0o755)
        return path

    return write


def nothing_happened(*folders: Path) -> None:
    """No shell has acted on a word."""
    found = [path for folder in folders for path in folder.rglob("*") if path.name == EVIDENCE]
    assert not found
    assert not (Path.cwd() / EVIDENCE).exists()


# No shell ------------------------------------------------------------------------------------------------------------


def test_nasty_words_everywhere_and_it_works(
    bundle: Path,
    sshd: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: Callable[..., Path],
) -> None:
    """Model, bundle, results, folder there, key, Python there."""
    key = tmp_path / LINE
    shutil.copy(sshd.key, key)
    key.chmod(0o600)
    python = script("", LINE)
    there = tmp_path / "device" / LINE
    registered(tmp_path / "devices.yaml", monkeypatch, address=sshd.url, identity=key, python=python, folder=there)
    done = run(["profile", bundle, "-d", "board", "-o", tmp_path / "out" / NASTY, "--json", *QUICK], tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["parity"]["exact"]
    assert list(there.glob("*/model.tflite"))
    assert (tmp_path / "out" / NASTY / "measurement.json").is_file()
    nothing_happened(tmp_path, sshd.folder, bundle.parents[2], Path(os.environ["HOME"]))


FILE_NAMES = ("$(touch pwned)", "`touch pwned`", "a b", "'", '"', "-rf", "--", "*", "~", "a;touch pwned", "%s", "é")


@pytest.mark.parametrize("kind", ["ssh", "local"])
def test_file_names_of_a_bundle_arrive_as_they_are(kind: str, bundle: Path, sshd: Server, tmp_path: Path) -> None:
    changed = with_files(bundle, tmp_path / "bundle", {f"{name}/{name}": name.encode() for name in FILE_NAMES})
    connect = ssh.connect if kind == "ssh" else local.connect
    with connect(sshd.device(transport=kind, folder=str(tmp_path / "device"))) as transport:
        done = deploy.deploy(changed, transport)
        for name in FILE_NAMES:
            assert (Path(done.folder) / name / name).read_bytes() == name.encode()
        assert not deploy.deploy(changed, transport).sent
        transport.remove([done.folder])
    nothing_happened(tmp_path, sshd.folder)


def with_files(bundle: Path, place: Path, files: dict[str, bytes]) -> Bundle:
    """A copy of a bundle with more files."""
    import hashlib

    shutil.copytree(bundle, place)
    document = json.loads((place / "manifest.json").read_text())
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        entry = {"path": name, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        document["files"].append(entry)
    (place / "manifest.json").write_text(json.dumps(document))
    return deploy.load_bundle(place)


@pytest.mark.parametrize(
    "name", ["../out", "/etc/x", "a/../../x", "a\nb", "a\x1b[2Jb", "a\\..\\b", "", ".", "manifest.json", "a\0b", "a//b"]
)
def test_names_that_lead_elsewhere_are_refused(name: str, bundle: Path, tmp_path: Path) -> None:
    place = tmp_path / "bundle"
    shutil.copytree(bundle, place)
    document = json.loads((place / "manifest.json").read_text())
    document["files"].append({"path": name, "sha256": "0" * 64, "size_bytes": 0})
    (place / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(BuildError, match="is not a path inside the bundle"):
        deploy.load_bundle(place)


def test_a_link_out_of_a_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    place = tmp_path / "bundle"
    shutil.copytree(bundle, place)
    (place / "golden.npz").unlink()
    (place / "golden.npz").symlink_to("/etc/passwd")
    with pytest.raises(BuildError, match="is not a path inside the bundle"):
        deploy.load_bundle(place)


@pytest.mark.parametrize("name", ["$(touch pwned)", "../../etc", "", "...", "a/b", "-rf", "\n", "x" * 5000, "é" * 99])
def test_the_folder_there_is_one_plain_name_below_the_device_s(name: str, bundle: Path) -> None:
    manifest = deploy.load_bundle(bundle).manifest
    hostile = Manifest(**{**{key: getattr(manifest, key) for key in Manifest.__slots__}, "name": name})
    folder = deploy.folder_on(Bundle(path=str(bundle), manifest=hostile), Device(name="x", transport="ssh", folder="f"))
    parent, _, own = folder.rpartition("/")
    assert parent == "f"
    assert own.isascii()
    assert 13 < len(own) < 80
    assert own == shlex.quote(own)
    assert own[0] not in "-."


@given(text=st.text(max_size=300))
def test_no_device_s_results_leave_the_folder(text: str) -> None:
    out = Path("/results")
    found = folder_of(out, text)
    assert found.parent == out / "devices"
    assert os.path.normpath(found) == str(found)
    assert len(found.name) < 128


@given(versions=st.text(max_size=40), python=st.text(min_size=1, max_size=40))
def test_a_hint_that_is_pasted_has_each_word_quoted(versions: str, python: str) -> None:
    manifest = Manifest(
        name="n",
        target="t",
        format="tflite",
        scheme="s",
        runtime="litert",
        runtime_versions=versions,
        model="m",
        entry_point="e",
        golden="g",
        golden_vectors=1,
        tools={},
        files=(FileEntry(path="m", sha256="0" * 64, size_bytes=0),),
    )
    device = Device(name="x", transport="ssh", python=python)
    error = preflight.nothing_runs({"litert": "SIGILL"}, Where(), manifest, device)
    assert isinstance(error, IllegalInstruction)
    words = shlex.split(str(error.hint).removeprefix("on the device: "))
    assert words == [python, "-m", "pip", "install", "--force-reinstall", f"ai-edge-litert!={versions or '0'}"]


# Devices that lie ----------------------------------------------------------------------------------------------------

GREETING = "import sys, struct, time\nwrite = sys.stdout.buffer.write\nwrite(b'\\nedgeq agent 1\\n')\n"
FRAME = "def frame(kind, text): write(struct.pack('>cI', kind, len(text)) + text); sys.stdout.buffer.flush()\n"


def liar(script: Callable[..., Path], program: str) -> Path:
    """A Python that greets as the agent does, then does what the program says."""
    path = script("").parent / "liar.py"
    path.write_text(GREETING + FRAME + program)
    return script(f'exec "$PYTHON" {shlex.quote(str(path))}')


@contextlib.contextmanager
def lying(script: Callable[..., Path], program: str, tmp_path: Path) -> Iterator[Transport]:
    python = liar(script, program)
    device = Device(name="board", transport="local", python=str(python), folder=str(tmp_path / "device"))
    with local.connect(device) as transport:
        yield transport


HOMES = ("None", "[]", "1", "''", "'relative'", "'/a\\x1b[2J'", "'/a\\nb'", "'/' + 'a' * 5000")


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("ask", ["home", "hash"])
def test_a_home_that_is_none_is_refused(home: str, ask: str, script: Callable[..., Path], tmp_path: Path) -> None:
    program = f"import json; frame(b'R', json.dumps({{'home': {home}, 'hashes': {{}}}}).encode()); time.sleep(1)"
    with lying(script, program, tmp_path) as transport, pytest.raises(CommandFailed, match="home folder"):
        transport.home() if ask == "home" else transport.hash(["a"])


def test_hashes_of_files_that_nobody_asked_for_are_left_out(script: Callable[..., Path], tmp_path: Path) -> None:
    told = {"home": "/h", "hashes": {"a": "1", "../../etc/passwd": "2", "/x": 3}}
    with lying(script, f"import json; frame(b'R', json.dumps({told}).encode())", tmp_path) as transport:
        assert transport.hash(["a", "b"]) == {"a": "1"}


def test_holders_without_end_are_left(script: Callable[..., Path], tmp_path: Path) -> None:
    """Or a device that lies fills the terminal and the memory for as long as somebody waits."""
    told = 'b\'{"holder": {"host": "h%d"}}\''
    program = f"for n in range(10**9): frame(b'O', {told} % n)"
    heard: list[str] = []
    with lying(script, program, tmp_path) as transport:
        started = time.monotonic()
        with (
            pytest.raises(CommandFailed, match="holders"),
            leased(transport, wait_seconds=60, progress=lambda step, done, total: heard.append(step)),
        ):
            pass
        assert time.monotonic() - started < 30
    assert len(heard) <= 10_000


LIMITED = """
import resource, subprocess, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))  # the host's end would die of more
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""Started from a small process: a child's peak counts what its parent held when it was forked."""

FLOODS = {
    "before the greeting": "exec yes",
    "frames": "FRAMES",
    "the runner": 'case "$*" in *"__main__.py bench "*) exec yes ;; esac',
    "progress": 'case "$*" in *bench*) exec yes \'{"event":"progress","step":"s","done":1,"total":2}\' ;; esac',
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_takes_neither_memory_nor_time(
    flood: str, bundle: Path, tmp_path: Path, script: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = "while True: write(struct.pack('>cI', b'O', 1 << 20) + b'x' * (1 << 20))"
    python = liar(script, frames) if flood == "frames" else script(FLOODS[flood])
    registered(tmp_path / "devices.yaml", monkeypatch, address="local:", python=python, folder=tmp_path / "device")
    started = time.monotonic()
    words = [sys.executable, "-m", "edgeq", "profile", str(bundle), "-d", "board", "-o", str(tmp_path / "out"), *QUICK]
    with (tmp_path / "err").open("wb") as errors:
        ended = subprocess.run(
            [sys.executable, "-c", LIMITED, *words], stdout=subprocess.PIPE, stderr=errors, timeout=120, check=True
        )
    status, peak_kib = map(int, ended.stdout.split())
    text = (tmp_path / "err").read_text(errors="replace")
    assert status == 1, text[-2000:]
    assert "Traceback" not in text
    assert "error: " in text
    assert len(text) < 100_000
    assert peak_kib < 200 << 10
    assert time.monotonic() - started < 60


def test_a_device_s_words_do_not_steer_the_terminal(
    bundle: Path, tmp_path: Path, script: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = json.dumps({"errno": "EACCES", "message": ESCAPE * 500, "path": "/" + ESCAPE})
    python = liar(script, f"frame(b'X', {refusal.encode()!r}); time.sleep(1)")
    registered(tmp_path / "devices.yaml", monkeypatch, address="local:", python=python)
    done = run(["deploy", bundle, "-d", "board"], tmp_path)
    assert done.returncode == 1
    assert "\x1b" not in done.stderr + done.stdout
    assert "\x07" not in done.stderr + done.stdout
    assert len(done.stderr) < 3000


@contextlib.contextmanager
def greeter(text: bytes) -> Iterator[int]:
    """A port that says something and hangs up."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                with server.accept()[0] as client:
                    client.sendall(text)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "text", [b"SSH-9.9-" + ESCAPE.encode() + b"\r\n", ESCAPE.encode() * 9 + b"\r\n", b"HTTP/1.1 400 Bad\r\n" * 200]
)
def test_what_is_no_ssh_server_is_told_plainly(text: bytes, bundle: Path, tmp_path: Path) -> None:
    with greeter(text) as port:
        done = run(["deploy", bundle, "-d", f"ssh://pi@127.0.0.1:{port}"], tmp_path)
    assert done.returncode == 4, done.stderr
    assert "does not speak SSH with us" in done.stderr
    assert "\x1b" not in done.stderr
    assert "Traceback" not in done.stderr


# Secrets and sudo ----------------------------------------------------------------------------------------------------


def command_lines() -> set[bytes]:
    """What `ps` shows to everybody."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.add(path.read_bytes())
    return found


def environments(pids: list[int]) -> bytes:
    found = b""
    for pid in pids:
        with contextlib.suppress(OSError):
            found += (Path("/proc") / str(pid) / "environ").read_bytes()
    return found


def test_secrets_are_nowhere(bundle: Path, sshd: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database's password, a folder's name on the way to a key, the key itself."""
    key = tmp_path / "keys" / PLANTED / "id"
    key.parent.mkdir(parents=True)
    shutil.copy(sshd.key, key)
    key.chmod(0o600)
    inside = sshd.key.read_text().splitlines()[2][:40]
    registered(tmp_path / "devices.yaml", monkeypatch, address=sshd.url, identity=key, python=sys.executable)
    monkeypatch.setenv("EDGEQ_DB", f"postgresql://edgeq:{PLANTED}@127.0.0.1:1/runs")
    words = [sys.executable, "-m", "edgeq", "profile", str(bundle), "-d", "board", "-o", str(tmp_path / "out"), "-v"]
    seen: set[bytes] = set()
    there = b""
    pipe = subprocess.PIPE
    argv = [*words, "--runs", "3", "--seconds", "1", "--warmup-seconds", "0"]
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, cwd=tmp_path) as process:
        while process.poll() is None:
            seen |= command_lines()
            there += environments(started_through(sshd))
            time.sleep(0.05)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert b"not in the history" in err
    files = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    home = b"".join(path.read_bytes() for path in Path(os.environ["HOME"]).rglob("*") if path.is_file())
    device = b"".join(path.read_bytes() for path in (sshd.folder / "device").rglob("*") if path.is_file())
    assert any(b"edgeq agent" in line for line in seen)
    assert b"SSH_CONNECTION" in there
    for secret in (PLANTED.encode(), inside.encode()):
        for place in (out, err, files, home, device, b"".join(seen), there, sshd.log.read_bytes()):
            assert secret not in place


def test_sudo_is_never_run(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On either side: the device is this host, and finds a `sudo` that tells."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sudo", "su", "pkexec", "doas"):
        (tools / name).write_text(f"#!/bin/sh\ntouch {shlex.quote(str(tmp_path / 'ran'))}\n")
        (tools / name).chmod(0o755)
    registered(tmp_path / "devices.yaml", monkeypatch, address="local:", folder=tmp_path / "device")
    path = f"{tools}:{os.environ['PATH']}"
    assert subprocess.run(["sh", "-c", "command -v sudo"], env={"PATH": path}, capture_output=True, check=True)
    argv = ["profile", bundle, "-d", "board", "-o", tmp_path / "out", *QUICK]
    assert run(argv, tmp_path, PATH=path).returncode == 0
    assert run(["devices", "probe", "board"], tmp_path, PATH=path).returncode == 0
    assert not (tmp_path / "ran").exists()


# What was killed there -----------------------------------------------------------------------------------------------


def test_the_runner_s_folder_of_a_killed_one_is_swept_away(tmp_path: Path) -> None:
    """Only folders by that name that nobody has locked; a link is not followed."""
    import fcntl

    kept = tmp_path / "kept"
    for name in ("edgeq-runner-dead", "edgeq-runner-alive", "other", "kept"):
        (tmp_path / name / "runner").mkdir(parents=True)
    (tmp_path / "edgeq-runner-link").symlink_to(kept)
    handle = os.open(tmp_path / "edgeq-runner-alive", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    words = [sys.executable, "-I", "-", "preflight", "--format", "", "--folder", str(tmp_path)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(words, input=probe.carrier(), env=environment, capture_output=True, check=False, timeout=60)
    os.close(handle)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["edgeq-runner-alive", "edgeq-runner-link", "kept", "other"]
    assert (kept / "runner").is_dir()


def test_a_file_that_changes_while_it_is_sent_is_told(bundle: Path, tmp_path: Path) -> None:
    """What arrives whole is not what the manifest says."""
    changed = with_files(bundle, tmp_path / "bundle", {"padding.bin": bytes(1 << 20)})

    def change(step: str, done: int, total: int) -> None:
        if step == "upload":
            (tmp_path / "bundle/padding.bin").write_bytes(b"other")

    device = Device(name="board", transport="local", folder=str(tmp_path / "device"))
    with local.connect(device) as transport:
        with pytest.raises(BuildError, match=r"changed since it was built: padding\.bin"):
            deploy.deploy(changed, transport, progress=change)
        (tmp_path / "bundle/padding.bin").write_bytes(bytes(1 << 20))
        assert deploy.deploy(changed, transport).sent in ((), ("padding.bin",))
