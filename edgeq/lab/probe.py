"""What a device really is, asked by a runner that is sent along and leaves nothing behind."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Sequence
from dataclasses import asdict

from edgeq.lab import runner
from edgeq.lab.answers import Probe
from edgeq.lab.faults import clean
from edgeq.lab.runner import USUAL_ROOTS, Roots
from edgeq.lab.transports import Transport
from edgeq.types import Progress, silent

TIMEOUT_SECONDS = 600.0
_CARRIER = """\
import base64, fcntl, io, os, shutil, signal, subprocess, sys, tempfile, zipfile
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: sys.exit(128 + number))
def lock(path):
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return os.fstat(handle)
def new_folder():
    while True:
        folder = tempfile.mkdtemp(prefix=PREFIX)
        try:
            if lock(folder).st_nlink:
                return folder
        except (FileNotFoundError, BlockingIOError):
            continue
        except OSError:
            return folder
def sweep():
    for entry in os.scandir(tempfile.gettempdir()):
        try:
            if entry.name.startswith(PREFIX) and lock(entry.path).st_uid == os.geteuid():
                shutil.rmtree(entry.path, ignore_errors=True)
        except OSError:
            pass
PREFIX = "edgeq-runner-"
folder = new_folder()
child = None
try:
    sweep()
    zipfile.ZipFile(io.BytesIO(base64.b64decode("{archive}"))).extractall(folder)
    argv = [sys.executable, "-I", folder + "/runner/__main__.py"] + sys.argv[1:]
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    status = child.wait()
finally:
    if child is not None and child.poll() is None:
        child.kill()
        child.wait()
    shutil.rmtree(folder, ignore_errors=True)
if status < 0:
    signal.signal(-status, signal.SIG_DFL) if -status not in (9, 19) else None
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


def carrier() -> bytes:
    """A Python program with the runner inside: unpacks it to a temporary folder, runs it, removes it.

    The folder is locked meanwhile; those that nobody has locked were left by one that was killed, and go too.
    """
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for path in runner.files():
            zipped.writestr(f"runner/{path.name}", path.read_bytes())
    return _CARRIER.format(archive=base64.b64encode(archive.getvalue()).decode()).encode()


def carried(transport: Transport, words: Sequence[str]) -> list[str]:
    """The argv of a verb for a device without a bundle; `carrier()` goes to its standard input."""
    return [transport.device.python, "-I", "-", *words, "--own", own_folder(transport)]


def own_folder(transport: Transport) -> str:
    """edgeq's folder on the device, from the home folder there unless absolute."""
    return transport.device.folder.removeprefix("~/")


def probe(transport: Transport, *, progress: Progress = silent, roots: Roots = USUAL_ROOTS) -> dict[str, object]:
    """Machine, interpreters that were really run, sensors, conditions; raises a DeviceError.

    Keys: device, runtimes {name: {version, ok, why}}, sensors {name: {ok, what}}, conditions.
    """
    argv = carried(transport, ["probe", *roots.argv()])
    answer = runner.call(transport, argv, Probe, timeout_seconds=TIMEOUT_SECONDS, stdin=carrier(), progress=progress)
    told = asdict(answer)
    del told["event"]
    printable = _printable(told)
    return printable if isinstance(printable, dict) else {}


def _printable(value: object) -> object:
    """The same with every text made safe for a terminal."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(key, 100): _printable(inner) for key, inner in value.items()}
    return [_printable(inner) for inner in value] if isinstance(value, list | tuple) else value
