"""One fault's stage: a real sshd, a link that can be spoilt, a lab with an earlier result, real edgeq processes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeq import store
from edgeq.testing import sshd as servers
from edgeq.testing.sshd import Server, started_through
from edgeq.testing.tcp_proxy import Proxy
from edgeq.types import FileEntry, Manifest

SECONDS = "3"
MEASURE = ("--runs", "3", "--seconds", SECONDS, "--warmup-seconds", "0", "--no-float", "--resume", "--json")
MARK = "EDGEQ_FAULT_SCENE"
PADDING_BYTES = 8 << 20
SLOW_UPLOAD = 2 << 20
SLOW_ANSWER = 12 << 10
MOST_SECONDS = 120.0
GONE_WITHIN_SECONDS = 25.0
PROGRAM = (sys.executable, "-m", "edgeq")
FINISHED = "earlier"
"""The device whose result was finished before."""


@dataclass
class Ended:
    """How an edgeq process ended: what it printed, and the time since the fault struck."""

    code: int
    document: dict[str, Any]
    told: str
    seconds: float = 0.0

    @property
    def error(self) -> dict[str, Any]:
        """The error of the device `board` in a call for several, else the call's own; empty where there is none."""
        for entry in self.document.get("devices", []):
            if entry.get("device") == "board":
                return dict(entry.get("error", {}))
        return dict(self.document.get("error", {}))


class Call:
    """A running edgeq whose stderr is read as it comes."""

    def __init__(self, argv: Sequence[object], environment: dict[str, str], folder: Path) -> None:
        words = [*PROGRAM, *map(str, argv)]
        pipe = subprocess.PIPE
        self.out = (folder / f"out-{uuid.uuid4().hex}").open("w+")
        self.process = subprocess.Popen(words, stdout=self.out, stderr=pipe, text=True, env=environment, cwd=folder)
        self.told = ""
        self.struck = time.monotonic()

    def until(self, *steps: str) -> str:
        """Read on until a line begins with one of the steps; raises RuntimeError when it ends before."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.told += line
            if line.removeprefix("board: ").startswith(steps):
                return line
        raise RuntimeError(f"it ended before {steps}: {self.told[-500:]}")

    def end(self, seconds: float = MOST_SECONDS) -> Ended:
        """Wait for its end; a process that takes too long is killed and has the code -99."""
        try:
            self.told += self.process.communicate(timeout=seconds)[1]
            code = self.process.returncode
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.told += self.process.communicate()[1]
            code = -99
        self.out.seek(0)
        text = self.out.read()
        with contextlib.suppress(ValueError):
            return Ended(code, json.loads(text), self.told, time.monotonic() - self.struck)
        return Ended(code, {}, self.told + text[-300:], time.monotonic() - self.struck)


@dataclass
class Stage:
    """What all scenes share: bundles, a model with samples, a lab's folder in which one result is finished."""

    small: Path
    large: Path
    model: Path
    finished: Path


@dataclass
class Scene:
    """Everything of one row, in a folder of its own."""

    folder: Path
    stage: Stage
    server: Server
    step: str
    proxy: Proxy | None = None
    bundle: Path = Path()
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    more: dict[str, str] = field(default_factory=dict)
    verb: list[object] = field(default_factory=list)
    measure: tuple[str, ...] = MEASURE
    finally_: list[Callable[[], object]] = field(default_factory=list)

    @property
    def out(self) -> Path:
        """Where results go."""
        return self.folder / "out"

    @property
    def there(self) -> Path:
        """edgeq's folder on the device."""
        return self.server.folder / "device"

    def environment(self) -> dict[str, str]:
        """A home, devices and known hosts of its own."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("EDGEQ_", "XDG_", "SSH_"))}
        own = {
            "HOME": str(self.folder / "home"),
            "EDGEQ_DEVICES": str(self.folder / "devices.yaml"),
            "EDGEQ_KNOWN_HOSTS": str(self.folder / "known_hosts"),
            MARK: self.mark,
        }
        return {**kept, **own, **self.more}

    def register(self, **changes: object) -> None:
        """The device `board` and the one that was measured earlier, known here."""
        port = self.proxy.port if self.proxy else self.server.port
        words = {"identity": self.server.key, "python": sys.executable, "folder": self.there, **changes}
        address = f"ssh://{words.pop('user', self.server.user)}@127.0.0.1:{words.pop('port', port)}"
        entries = {FINISHED: {"address": "local:"}, "board": {"address": address}}
        entries["board"] |= {key: str(value) for key, value in words.items()}
        (self.folder / "devices.yaml").write_text(json.dumps({"schema": 1, "devices": entries}))
        self.vouch(port)

    def vouch(self, port: int) -> None:
        """Believe the key that the server has now."""
        kind, key = (self.server.folder / "host_key.pub").read_text().split()[:2]
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")

    def through_a_proxy(self, **words: Any) -> Proxy:
        """Put a link between edgeq and the device."""
        self.proxy = Proxy(self.server.host, self.server.port, **words)
        self.finally_.append(self.proxy.close)
        self.register()
        return self.proxy

    def mend(self) -> None:
        """Make the link a good one again."""
        if self.proxy:
            self.proxy.mend()

    def python(self, text: str) -> None:
        """A `python3` on the device that is a shell script; `$PYTHON` is the real one."""
        path = self.folder / "python3"
        path.write_text(f"#!/bin/sh\nPYTHON={sys.executable}\n{text}\n")
        path.chmod(0o755)
        self.register(python=path)

    def argv(self) -> list[object]:
        """The call that the fault strikes, and that must work again."""
        verb = self.verb or ["profile", self.bundle, "-d", "board"]
        return [*verb, "-o", self.out, *self.measure]

    def call(self, argv: Sequence[object] | None = None) -> Call:
        """Start edgeq."""
        return Call(argv or self.argv(), self.environment(), self.folder)

    def run(self, seconds: float = MOST_SECONDS) -> Ended:
        """Start edgeq and wait for its end."""
        return self.call().end(seconds)

    def strike(self, fault: Callable[[Call], object]) -> Ended:
        """Let the fault strike in the middle of the row's step."""
        call = self.at_the_step()
        call.struck = time.monotonic()
        fault(call)
        return call.end()

    def at_the_step(self) -> Call:
        """A call that is in the middle of the row's step."""
        if self.step == "upload":
            self.bundle = self.stage.large
        if self.step in ("connect", "upload", "fetch") and self.proxy is None:
            self.through_a_proxy()
        proxy = self.proxy
        if self.step == "connect" and proxy:
            proxy.delay_seconds = 0.3
            call = self.call()
            proxy.accepted.wait(30)
            time.sleep(0.2)
            return call
        call = self.call()
        if self.step == "upload" and proxy:
            call.until("preflight: 1/1")
            proxy.bytes_per_second = SLOW_UPLOAD
        call.until({"fetch": "parity", "measure": "runs"}.get(self.step, self.step))
        if self.step == "fetch" and proxy:
            proxy.bytes_per_second = SLOW_ANSWER
        time.sleep(0.4)
        return call

    def start_server(self) -> None:
        """Start the sshd again, as after a boot."""
        folder = self.server.folder
        self.server = servers.start(folder, port=self.server.port, options=options_of(folder))
        servers.wait_for_greeting(self.server)

    def tmpfs(self, folder: Path, size: str) -> None:
        """A small file system there, seen by nobody else: the table runs in a mount namespace of its own."""
        kept = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True, timeout=20)
        self.finally_.append(lambda: subprocess.run(["umount", str(folder)], check=True, timeout=20))
        for path, content in kept.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)

    # What is there afterwards --------------------------------------------------------------------------------------

    def host_processes(self) -> list[int]:
        """Processes of edgeq's on this host."""
        mark, found = f"{MARK}={self.mark}".encode(), []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return found

    def orphans(self, before: set[int]) -> list[int]:
        """Which of the processes on either side outlive their time."""
        give_up = time.monotonic() + GONE_WITHIN_SECONDS
        while left := before & {*started_through(self.server), *self.host_processes()}:
            if time.monotonic() > give_up:
                return sorted(left)
            time.sleep(0.2)
        return []

    def processes(self) -> set[int]:
        """All that run for edgeq now."""
        return {*started_through(self.server), *self.host_processes()}

    def leases(self) -> list[str]:
        """Lease files on the device."""
        return sorted(path.name for path in self.there.glob("lease*"))

    def runs(self) -> list[tuple[str, str]]:
        """(id, device) of every run in the history."""
        path = self.folder / "home/.local/state/edgeq/history.sqlite"
        if not path.is_file():
            return []
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return list(database.execute("select id, device from edgeq_runs"))

    def finished_files(self) -> dict[str, bytes]:
        """The earlier result as it is on the disk."""
        folder = self.out / "devices" / FINISHED
        return {path.name: path.read_bytes() for path in folder.glob("*.json")}

    def results(self) -> list[Path]:
        """Measurements of the board."""
        found = [self.out / "measurement.json", *self.out.glob("devices/board/measurement.json")]
        return [path for path in found if path.is_file()]

    def leftovers(self) -> list[str]:
        """Temporary and half files on either side, and files where edgeq has no business."""
        found = [path for root in (self.out, self.there) for path in root.rglob("*.part")]
        found += [path for path in self.out.rglob(".*") if path.is_file() and not path.name.endswith(".lock")]
        found += [path for path in self.out.rglob("*.json") if not _is_whole(path)]
        found += list(Path(self.server.folder, "tmp").glob("edgeq-*"))
        own = ("out", "home", "server", "devices.yaml", "known_hosts", "python3", "large", "small", "prepared")
        found += [path for path in self.folder.iterdir() if not path.name.startswith(own)]
        home = self.folder / "home"
        found += [path for path in home.rglob("*") if path.is_file() and ".local/state/edgeq" not in str(path)]
        return sorted({str(path.relative_to(self.folder)) for path in found})


def options_of(server: Path) -> list[str]:
    """A home and a folder for temporary files of the device's own."""
    return [f"SetEnv HOME={server} TMPDIR={server}/tmp"]


def _is_whole(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except ValueError:
        return False
    return True


def make_stage(folder: Path) -> Stage:
    """Build a bundle as a user does, a larger one, and measure one device before anything goes wrong."""
    from edgeq.testing import models

    (folder / "home").mkdir(parents=True)
    models.conv_tflite(folder)
    models.tiny_dataset(folder)
    target = "generic-linux-" + os.uname().machine
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("EDGEQ_", "XDG_"))}
    environment |= {"HOME": str(folder / "home"), "EDGEQ_DEVICES": str(folder / "devices.yaml")}
    (folder / "devices.yaml").write_text(json.dumps({"schema": 1, "devices": {FINISHED: {"address": "local:"}}}))
    build = ["build", folder / "conv.tflite", "-t", target, "--data", folder / "dataset.yaml", "-o", folder / "built"]
    profile = ["profile", folder / "built/bundle", "-d", "all", "-o", folder / "out", *MEASURE]
    for argv in (build, profile):
        words = [*PROGRAM, *map(str, argv), "-q"]
        subprocess.run(words, check=True, timeout=200, env=environment, capture_output=True)
    small, large = folder / "built/bundle", folder / "large"
    shutil.copytree(small, large)
    _pad(large)
    (folder / "lab").mkdir()
    shutil.copytree(folder / "out", folder / "lab/out")
    shutil.copytree(folder / "home/.local/state", folder / "lab/home/.local/state")
    return Stage(small=small, large=large, model=folder / "conv.tflite", finished=folder / "lab")


def _pad(bundle: Path) -> None:
    """Give a bundle a file whose upload takes its time."""
    (bundle / "padding.bin").write_bytes(os.urandom(PADDING_BYTES))
    manifest = store.read(bundle / "manifest.json", Manifest)
    digest = store.sha256(bundle / "padding.bin")
    entry = FileEntry(path="padding.bin", sha256=digest, size_bytes=PADDING_BYTES)
    store.write(bundle / "manifest.json", dataclasses.replace(manifest, files=(*manifest.files, entry)))


@contextlib.contextmanager
def scene(folder: Path, stage: Stage, step: str) -> Iterator[Scene]:
    """A stage for one row; everything that it started is ended afterwards."""
    folder.mkdir()
    for name in ("out", "home"):
        shutil.copytree(stage.finished / name, folder / name)
    (folder / "server/tmp").mkdir(parents=True)
    with servers.running(folder / "server", options=options_of(folder / "server")) as server:
        made = Scene(folder=folder, stage=stage, server=server, step=step, bundle=stage.small)
        made.register()
        try:
            yield made
        finally:
            for pid in made.host_processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            made.server.thaw()
            if made.server is not server:
                made.server.stop()
            for action in reversed(made.finally_):
                action()
