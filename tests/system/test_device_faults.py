"""Every way in which a device fails, against a real sshd: one error, one exit code, nothing left, then it works."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgeq import devices, store
from edgeq.errors import Altered
from edgeq.lab import bench, deploy
from edgeq.lab.transports import ssh
from edgeq.testing import models
from edgeq.testing import sshd as servers
from edgeq.testing.sshd import Server, started_through
from edgeq.testing.tcp_proxy import Proxy
from edgeq.types import FileEntry, Manifest, RunSettings

TARGET = "generic-linux-x86_64" if platform.machine() == "x86_64" else "generic-linux-aarch64"
QUICK = ("--runs", "5", "--seconds", "0.1", "--warmup-seconds", "0")
LONG = ("--seconds", "60")
PADDING_BYTES = 48 << 20
ENDS_WITHIN_SECONDS = 15.0
GONE_WITHIN_SECONDS = 25.0
Board = Callable[..., None]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, **more}


@dataclass
class Call:
    """A running `edgeq` of which stderr is read as it comes."""

    process: subprocess.Popen[str]
    told: str = ""

    def until(self, beginning: str) -> None:
        """Read on until a line begins so."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.told += line
            if line.startswith(beginning):
                return
        pytest.fail(f"it ended before {beginning!r}: {self.told}")

    def end(self, seconds: float = 60) -> tuple[int, dict[str, Any]]:
        """(exit code, JSON document on stdout)."""
        out, err = self.process.communicate(timeout=seconds)
        self.told += err
        assert "Traceback" not in self.told, self.told
        return self.process.returncode, json.loads(out) if out.strip() else {}


@contextlib.contextmanager
def calling(*argv: object, prefix: tuple[str, ...] = ()) -> Iterator[Call]:
    words = [*prefix, sys.executable, "-m", "edgeq", *map(str, argv), "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, env=environment()) as process:
        try:
            yield Call(process)
        finally:
            process.kill()


def call(*argv: object, prefix: tuple[str, ...] = ()) -> tuple[int, dict[str, Any]]:
    with calling(*argv, prefix=prefix) as running:
        return running.end()


def build(folder: Path) -> Path:
    models.conv_tflite(folder)
    models.tiny_dataset(folder)
    argv = ["build", folder / "conv.tflite", "-t", TARGET, "--data", folder / "dataset.yaml", "-o", folder / "out"]
    words = [sys.executable, "-m", "edgeq", *map(str, argv), "-q"]
    subprocess.run(words, check=True, timeout=120, env=environment(HOME=str(folder)))
    return folder / "out" / "bundle"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle as `edgeq build` makes it."""
    return build(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def large(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a large file, so that an upload takes its time."""
    bundle = tmp_path_factory.mktemp("large") / "bundle"
    shutil.copytree(small, bundle)
    (bundle / "padding.bin").write_bytes(os.urandom(PADDING_BYTES))
    manifest = store.read(bundle / "manifest.json", Manifest)
    entry = FileEntry(path="padding.bin", sha256=store.sha256(bundle / "padding.bin"), size_bytes=PADDING_BYTES)
    document = json.loads((bundle / "manifest.json").read_text())
    document["files"].append({"path": entry.path, "sha256": entry.sha256, "size_bytes": entry.size_bytes})
    (bundle / "manifest.json").write_text(json.dumps(document))
    assert len(deploy.load_bundle(bundle).manifest.files) == len(manifest.files) + 1
    return bundle


@pytest.fixture
def board(sshd: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    """Registers the sshd as the device `board`, again and with other words where a test wants it."""
    path = tmp_path / "devices.yaml"
    monkeypatch.setenv("EDGEQ_DEVICES", str(path))

    def register(server: Server = sshd, **changes: object) -> None:
        words = {"host": server.host, "port": server.port, "identity": server.key, "python": sys.executable}
        words |= {"folder": sshd.folder / "device", **changes}
        address = f"ssh://{server.user}@{words.pop('host')}:{words.pop('port')}"
        path.unlink(missing_ok=True)
        devices.add("board", address, **{key: str(value) for key, value in words.items()})

    register()
    return register


def vouch(server: Server, port: int) -> None:
    """Believe the server's key at another port too."""
    _, kind, key = server.known_hosts.read_text().split()
    with Path(os.environ["EDGEQ_KNOWN_HOSTS"]).open("a") as stream:
        stream.write(f"[{server.host}]:{port} {kind} {key}\n")


def check_nothing_is_left(server: Server, bundle: Path, folder: Path) -> None:
    """No process, no temporary file, no file under its name that is not whole."""
    give_up = time.monotonic() + GONE_WITHIN_SECONDS
    while (left := started_through(server)) and time.monotonic() < give_up:
        time.sleep(0.1)
    assert not left
    assert not list(folder.rglob("*.part"))
    whole = {entry.path: entry.sha256 for entry in deploy.load_bundle(bundle).manifest.files}
    whole["manifest.json"] = store.sha256(bundle / "manifest.json")
    for path in folder.rglob("*"):
        name = "/".join(path.relative_to(folder).parts[1:])
        if path.is_file() and "__pycache__" not in name:
            assert store.sha256(path) == whole[name], name


# Faults that are there before the call -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """What is wrong, and what must be said of it. `change` gives the device's other words."""

    name: str
    code: int
    kind: str
    says: str
    hint: str
    change: Callable[[Server, Path, pytest.MonkeyPatch], dict[str, object]]


def unknown_name(server: Server, tmp: Path, patch: pytest.MonkeyPatch) -> dict[str, object]:
    return {"host": "no-such-board.invalid"}


def refused(server: Server, tmp: Path, patch: pytest.MonkeyPatch) -> dict[str, object]:
    return {"port": servers.free_port()}


def unknown_key(server: Server, tmp: Path, patch: pytest.MonkeyPatch) -> dict[str, object]:
    patch.setenv("EDGEQ_KNOWN_HOSTS", str(tmp / "empty"))
    return {}


def changed_key(server: Server, tmp: Path, patch: pytest.MonkeyPatch) -> dict[str, object]:
    kind, key = servers.make_key(tmp / "other_host").with_suffix(".pub").read_text().split()[:2]
    (tmp / "known_hosts").write_text(f"[{server.host}]:{server.port} {kind} {key}\n")
    patch.setenv("EDGEQ_KNOWN_HOSTS", str(tmp / "known_hosts"))
    return {}


def wrong_key(server: Server, tmp: Path, patch: pytest.MonkeyPatch) -> dict[str, object]:
    return {"identity": str(servers.make_key(tmp / "other_user"))}


def no_python(server: Server, tmp: Path, patch: pytest.MonkeyPatch) -> dict[str, object]:
    return {"python": "/nonexistent/python3"}


def bare_python(server: Server, tmp: Path, patch: pytest.MonkeyPatch) -> dict[str, object]:
    """A Python without any package."""
    argv = [sys.executable, "-m", "venv", "--without-pip", "--clear", str(tmp / "bare")]
    subprocess.run(argv, check=True, timeout=60)
    return {"python": str(tmp / "bare/bin/python3")}


def broken_interpreter(server: Server, tmp: Path, patch: pytest.MonkeyPatch) -> dict[str, object]:
    """A Python whose interpreter package imports and cannot run, as tflite-runtime 2.14 does beside NumPy 2."""
    words = bare_python(server, tmp, patch)
    package = tmp / "packages/tflite_runtime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '2.14.0'\n")
    (package / "interpreter.py").write_text(
        "class Interpreter:\n    def __init__(self, **words):\n"
        "        raise SystemError('initialization of _pywrap_tensorflow_interpreter_wrapper raised')\n"
    )
    (package.parent / "numpy.py").write_text("int8 = uint8 = 'i1'\ndef array(value, dtype): return value\n")
    folder = next((tmp / "bare/lib").glob("python3.*/site-packages"))
    (folder / "test.pth").write_text(f"{package.parent}\n")
    return words


FAULTS = (
    Fault("unknown name", 4, "Unreachable", "no host is called no-such-board.invalid", "", unknown_name),
    Fault("refused", 4, "Unreachable", "the connection was refused", "", refused),
    Fault("unknown host key", 4, "UnknownHostKey", "nobody has vouched .* SHA256:", "edgeq devices trust", unknown_key),
    Fault("changed host key", 4, "HostKeyChanged", "is now SHA256:.*not the recorded SHA256:", "delete", changed_key),
    Fault("wrong key", 4, "AuthenticationFailed", "does not let .* in", "ssh-copy-id", wrong_key),
    Fault("no Python", 1, "RuntimeMissing", "no Python 3.7 or newer", "apt install python3", no_python),
    Fault("no interpreter", 1, "RuntimeMissing", "ai_edge_litert: not installed", "pip install", bare_python),
    Fault("broken interpreter", 1, "RuntimeMissing", "tflite_runtime: SystemError", "pip install", broken_interpreter),
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault.name))
def test_a_fault_that_is_there_before(
    fault: Fault, board: Board, small: Path, sshd: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        board(**fault.change(sshd, tmp_path, patch))
        started = time.monotonic()
        code, document = call("deploy", small, "-d", "board")
        assert time.monotonic() - started < ENDS_WITHIN_SECONDS
    check_refusal(code, document, fault.code, fault.kind, fault.says, fault.hint)
    check_nothing_is_left(sshd, small, sshd.folder / "device")
    board()
    assert call("deploy", small, "-d", "board")[0] == 0


def check_refusal(code: int, document: dict[str, Any], wanted: int, kind: str, says: str, hint: str = "") -> None:
    error = document["error"]
    assert (error["kind"], code) == (kind, wanted), document
    assert re.search(says, error["message"]), error
    assert hint in (error["hint"] or ""), error


@pytest.mark.parametrize("name", ["no interpreter", "broken interpreter"])
def test_profile_says_the_same_of_a_missing_interpreter(
    name: str, board: Board, small: Path, sshd: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = next(fault for fault in FAULTS if fault.name == name)
    words = fault.change(sshd, tmp_path, monkeypatch)
    board(**words)
    argv = ("profile", small, "-d", "board", "-o", tmp_path / "out", *QUICK)
    check_refusal(*call(*argv), fault.code, fault.kind, fault.says, fault.hint)
    assert not (tmp_path / "out/measurement.json").exists()
    check_nothing_is_left(sshd, small, sshd.folder / "device")
    site = next((tmp_path / "bare/lib").glob("python3.*/site-packages"))
    (site / "test.pth").write_text(sysconfig.get_path("purelib") + "\n")  # what the hint's command comes to
    assert call(*argv)[0] == 0


# The device's disk ---------------------------------------------------------------------------------------------------


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True, timeout=20)


@pytest.fixture
def disk(sshd: Server) -> Iterator[Path]:
    """A small file system of its own where the device keeps its bundles; skips where it may not be mounted."""
    folder = sshd.folder / "device"
    folder.mkdir()
    try:
        mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError) as error:
        folder.rmdir()
        pytest.skip(f"a tmpfs cannot be mounted here: {error}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, timeout=20)


def test_disk_full(board: Board, large: Path, sshd: Server, disk: Path) -> None:
    check_refusal(*call("deploy", large, "-d", "board"), 1, "DiskFull", r"MiB free for a bundle of 48", "free space")
    check_nothing_is_left(sshd, large, disk)
    mount("-o", f"remount,size={PADDING_BYTES + (16 << 20)}", str(disk))
    assert call("deploy", large, "-d", "board")[0] == 0


def test_disk_full_while_measuring_inputs_are_sent(board: Board, small: Path, sshd: Server, disk: Path) -> None:
    assert call("deploy", small, "-d", "board")[0] == 0
    with contextlib.suppress(OSError), (disk / "filler").open("wb") as stream:
        while True:
            stream.write(bytes(4096))
            stream.flush()
    argv = ("validate", small, "-d", "board", "--data", small.parents[1] / "dataset.yaml", "-o", sshd.folder / "out")
    check_refusal(*call(*argv), 1, "DiskFull", "No space left")
    (disk / "filler").unlink()
    check_nothing_is_left(sshd, small, disk)
    assert call(*argv)[0] == 0


def test_read_only_folder(board: Board, small: Path, sshd: Server, disk: Path) -> None:
    mount("-o", "remount,ro", str(disk))
    code, document = call("deploy", small, "-d", "board")
    check_refusal(code, document, 1, "NotWritable", "Read-only file system", "folder:")
    check_nothing_is_left(sshd, small, disk)
    mount("-o", "remount,rw", str(disk))
    assert call("deploy", small, "-d", "board")[0] == 0


def test_a_file_where_the_folder_should_be(board: Board, small: Path, sshd: Server) -> None:
    (sshd.folder / "device").write_text("I was here first\n")
    check_refusal(*call("deploy", small, "-d", "board"), 1, "NotWritable", "", "folder:")
    assert (sshd.folder / "device").read_text() == "I was here first\n"
    (sshd.folder / "device").unlink()
    assert call("deploy", small, "-d", "board")[0] == 0


# Files and processes there -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.tflite", "golden.npz", "runner/timing.py", "manifest.json"])
def test_a_file_altered_on_the_device_is_sent_again(name: str, board: Board, small: Path, sshd: Server) -> None:
    folder = Path(call("deploy", small, "-d", "board")[1]["folder"])
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    code, document = call("deploy", small, "-d", "board")
    assert (code, document["sent"]) == (0, [name])
    assert (folder / name).read_bytes() == content


@pytest.mark.parametrize("name", ["model.tflite", "golden.npz", "io.json"])
def test_a_file_altered_between_deployment_and_run(
    name: str, board: Board, small: Path, sshd: Server, tmp_path: Path
) -> None:
    bundle = deploy.load_bundle(small)
    with ssh.connect(sshd.device()) as transport:
        folder = deploy.deploy(bundle, transport).folder
        content = (Path(folder) / name).read_bytes()
        (Path(folder) / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(Altered, match=re.escape(name)) as caught:
            bench.measure(transport, folder, bundle.manifest, RunSettings(runs=1, seconds=0))
    assert "edgeq deploy" in str(caught.value.hint)
    assert call("profile", small, "-d", "board", "-o", tmp_path / "out", *QUICK)[0] == 0


def runner_of(server: Server) -> int:
    """The onboard runner's process, one of those that were started through the server."""
    words = {pid: (Path("/proc") / str(pid) / "cmdline").read_bytes().split(b"\0") for pid in started_through(server)}
    return next(pid for pid, argv in words.items() if any(word.endswith(b"runner/__main__.py") for word in argv))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_the_runner_is_killed(number: signal.Signals, board: Board, small: Path, sshd: Server, tmp_path: Path) -> None:
    argv = ("profile", small, "-d", "board", "-o", tmp_path / "out")
    with calling(*argv, *LONG) as running:
        running.until("runs")
        os.kill(runner_of(sshd), number)
        check_refusal(*running.end(), 1, "RunnerKilled", f"was ended by {number.name}")
    check_nothing_is_left(sshd, small, sshd.folder / "device")
    assert not (tmp_path / "out/measurement.json").exists()
    assert call(*argv, *QUICK)[0] == 0


def test_the_devices_end_of_an_upload_is_killed(board: Board, large: Path, sshd: Server) -> None:
    """It cannot tidy up; whoever sends that file next does."""
    with calling("deploy", large, "-d", "board") as running:
        running.until("upload")
        give_up = time.monotonic() + 10
        while not list((sshd.folder / "device").rglob(".padding.bin.*.part")):
            assert time.monotonic() < give_up, running.told
        for pid in started_through(sshd):
            os.kill(pid, signal.SIGKILL)
        check_refusal(*running.end(), 4, "Disconnected", "the connection to board was lost")
    assert list((sshd.folder / "device").rglob(".padding.bin.*.part"))
    assert call("deploy", large, "-d", "board")[0] == 0
    check_nothing_is_left(sshd, large, sshd.folder / "device")


# The link ------------------------------------------------------------------------------------------------------------

MOMENTS = {"upload": ("deploy", (), ()), "runs": ("profile", LONG, QUICK)}
"""What is under way when the fault comes: verb, flags that make it last, flags for the second time."""


def words_for(moment: str, large: Path, small: Path, tmp_path: Path) -> tuple[Path, list[object], list[object]]:
    verb, lasting, short = MOMENTS[moment]
    bundle = large if moment == "upload" else small
    argv: list[object] = [verb, bundle, "-d", "board"]
    argv += ["-o", tmp_path / "out"] if verb == "profile" else []
    return bundle, [*argv, *lasting], [*argv, *short]


def check_a_cut(argv: list[object], moment: str, cut: Callable[[], None], prefix: tuple[str, ...] = ()) -> None:
    """Start a command, cut the link at that moment, see it end in time.

    Which of the two it is depends on who notices first: this host's kernel (bytes that nobody takes) or edgeq.
    """
    with calling(*argv, prefix=prefix) as running:
        running.until(moment)
        cut()
        started = time.monotonic()
        code, document = running.end(ENDS_WITHIN_SECONDS + 5)
        assert time.monotonic() - started < ENDS_WITHIN_SECONDS
    assert code == 4, document
    assert document["error"]["kind"] in ("TimedOut", "Disconnected"), document


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_link_that_stops_forwarding(
    moment: str, board: Board, large: Path, small: Path, sshd: Server, tmp_path: Path
) -> None:
    """Both ends' kernels go on acknowledging: only the signs of life tell."""
    bundle, lasting, short = words_for(moment, large, small, tmp_path)
    with Proxy(sshd.host, sshd.port) as proxy:
        vouch(sshd, proxy.port)
        board(port=proxy.port)
        check_a_cut(lasting, moment, proxy.cut)
        check_nothing_is_left(sshd, bundle, sshd.folder / "device")
        proxy.mend()
        assert call(*short)[0] == 0


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


@dataclass(frozen=True)
class Cable:
    """A virtual cable between two network namespaces; this machine's own network is not touched."""

    here: str
    there: str

    def cut(self) -> None:
        ip("-n", self.here, "link", "set", "cable", "down")

    def mend(self) -> None:
        ip("-n", self.here, "link", "set", "cable", "up")


@pytest.fixture
def cable() -> Iterator[Cable]:
    """192.0.2.1 here, 192.0.2.2 there (RFC 5737's test network); skips where namespaces are not permitted."""
    made = Cable(f"edgeq-here-{os.getpid()}", f"edgeq-there-{os.getpid()}")
    with contextlib.ExitStack() as stack:
        for name in (made.here, made.there):
            try:
                ip("netns", "add", name)
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"a network namespace cannot be made here: {error}")
            stack.callback(ip, "netns", "del", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", made.here, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", made.there)
        for name, address in ((made.here, "192.0.2.1/30"), (made.there, "192.0.2.2/30")):
            ip("-n", name, "addr", "add", address, "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_cable_that_is_pulled_out(
    moment: str, board: Board, large: Path, small: Path, tmp_path: Path, cable: Cable
) -> None:
    """Nobody acknowledges any more."""
    bundle, lasting, short = words_for(moment, large, small, tmp_path)
    inside = ("ip", "netns", "exec", cable.here)
    there = ("ip", "netns", "exec", cable.there)
    with servers.running(tmp_path / "there", host="192.0.2.2", port=2222, prefix=there) as server:
        board(server, folder=tmp_path / "there/device")
        shutil.copy(server.known_hosts, os.environ["EDGEQ_KNOWN_HOSTS"])
        check_a_cut(lasting, moment, cable.cut, inside)
        check_nothing_is_left(server, bundle, tmp_path / "there/device")
        cable.mend()
        assert call(*short, prefix=inside)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_frozen_device(moment: str, board: Board, large: Path, small: Path, sshd: Server, tmp_path: Path) -> None:
    bundle, lasting, short = words_for(moment, large, small, tmp_path)
    try:
        check_a_cut(lasting, moment, sshd.freeze)
    finally:
        sshd.thaw()
    check_nothing_is_left(sshd, bundle, sshd.folder / "device")
    assert call(*short)[0] == 0


@pytest.mark.slow
def test_a_device_that_was_frozen_before(board: Board, small: Path, sshd: Server) -> None:
    sshd.freeze()
    try:
        started = time.monotonic()
        code, document = call("deploy", small, "-d", "board")
        assert time.monotonic() - started < ENDS_WITHIN_SECONDS
    finally:
        sshd.thaw()
    check_refusal(code, document, 4, "TimedOut", "did not answer")
    assert call("deploy", small, "-d", "board")[0] == 0


# This host -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_edgeq_is_stopped(
    number: signal.Signals, code: int, moment: str, board: Board, large: Path, small: Path, sshd: Server, tmp_path: Path
) -> None:
    bundle, lasting, short = words_for(moment, large, small, tmp_path)
    with calling(*lasting) as running:
        running.until(moment)
        running.process.send_signal(number)
        assert running.end(10)[0] == code, running.told
    check_nothing_is_left(sshd, bundle, sshd.folder / "device")
    assert not (tmp_path / "out/measurement.json").exists()
    assert call(*short)[0] == 0
