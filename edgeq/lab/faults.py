"""What a failed runner means: which error of the tree, and what mends it."""

from __future__ import annotations

import re
import shlex
import signal

from edgeq import documents
from edgeq.errors import (
    Altered,
    BuildError,
    CommandFailed,
    DiskFull,
    EdgeqError,
    IllegalInstruction,
    MeterError,
    NotWritable,
    OutOfMemory,
    RunnerKilled,
    RuntimeMissing,
    TimedOut,
    ToolError,
    UsageError,
)
from edgeq.lab.answers import Refusal
from edgeq.lab.transports import Completed
from edgeq.types import Device

KINDS: dict[str, tuple[type[EdgeqError], str | None]] = {
    "altered": (Altered, "edgeq deploy BUNDLE -d {device}"),
    "bad-settings": (UsageError, None),
    "bad-vectors": (BuildError, None),
    "bad-wheel": (ToolError, None),
    "disk-full": (DiskFull, "free space there, or set another `folder:` for the device"),
    "model-failed": (CommandFailed, None),
    "no-meter": (MeterError, None),
    "not-writable": (NotWritable, "set a writable `folder:` for the device in devices.yaml"),
    "out-of-memory": (OutOfMemory, None),
    "timed-out": (TimedOut, None),
}
_SIGNAL_HINTS = {
    "SIGILL": "edgeq devices probe {device}",
    "SIGKILL": "was it out of memory? ask the kernel there: sudo dmesg | grep -i 'out of memory'",
    "SIGSEGV": "edgeq devices probe {device}",
    "SIGABRT": "edgeq devices probe {device}",
    "SIGBUS": "edgeq devices probe {device}",
}
_HARD_TIMEOUT = b"Timeout ("
_LITERT_MACHINES = ("x86_64", "aarch64", "arm64")


def error(device: Device, completed: Completed, event: dict[str, object]) -> EdgeqError:
    """The error for a runner that did not end with a result."""
    if event.get("event") == "error":
        return told(device, event)
    name = ended_by(completed)
    if name is not None:
        return killed(device, name)
    if completed.exit_status in (126, 127):
        return RuntimeMissing(f"{device.name} cannot start {device.python}: {_tail(completed)}", hint=_PYTHON_HINT)
    if completed.stderr.startswith(_HARD_TIMEOUT) or b"\n" + _HARD_TIMEOUT in completed.stderr:
        return TimedOut(f"the runner on {device.name} did not end in its time")
    if completed.exit_status == 0:
        return CommandFailed(f"{device.name} gave an answer that cannot be used: {_tail(completed)}")
    return CommandFailed(f"the runner on {device.name} ended with status {completed.exit_status}: {_tail(completed)}")


_PYTHON_HINT = "on the device: sudo apt-get install -y python3"


def told(device: Device, event: dict[str, object]) -> EdgeqError:
    """The error that an error event stands for."""
    refusal = documents.decode(Refusal, event, where=f"the runner on {device.name}", error=CommandFailed)
    message = f"{device.name}: {clean(refusal.message)}"
    if refusal.kind == "runtime-missing":
        return RuntimeMissing(message, hint=install_command(device, refusal))
    kind, hint = KINDS.get(refusal.kind, (CommandFailed, None))
    return kind(message, hint=hint.format(device=device.name) if hint else None)


def ended_by(completed: Completed) -> str | None:
    """Name of the signal that ended the runner, also where a shell in between made it a status."""
    if completed.signal is not None:
        return completed.signal
    if not 128 < completed.exit_status < 160:
        return None
    try:
        return signal.Signals(completed.exit_status - 128).name
    except ValueError:
        return f"signal {completed.exit_status - 128}"


def killed(device: Device, name: str) -> EdgeqError:
    """The error for a runner that a signal ended."""
    hint = _SIGNAL_HINTS.get(name)
    hint = hint.format(device=device.name) if hint else None
    if name == "SIGILL":
        message = f"the runtime on {device.name} has instructions that its processor lacks (SIGILL)"
        return IllegalInstruction(message, hint=hint)
    return RunnerKilled(f"the runner on {device.name} was ended by {clean(name, 40)}", hint=hint)


def install_command(device: Device, refusal: Refusal) -> str:
    """The command that gives the device a working interpreter. ai-edge-litert has wheels for Python 3.10 and
    newer on x86-64 and aarch64; elsewhere tflite-runtime is all there is, and it cannot run beside numpy 2."""
    where = refusal.device
    python = shlex.quote(device.python)
    packages = "onnxruntime" if refusal.format == "onnx" else _tflite_package(where.machine, where.python)
    words = f"{python} -m pip install {packages}"
    if where.pip == "managed":
        words = f"{python} -m pip install --break-system-packages {packages}"
    if where.pip == "none":
        words = f"sudo apt-get install -y python3-pip && {python} -m pip install --break-system-packages {packages}"
    return f"on the device: {words}"


def _tflite_package(machine: str, python: str) -> str:
    version = re.match(r"(\d{1,3})\.(\d{1,3})", python)
    new_enough = version is not None and (int(version[1]), int(version[2])) >= (3, 10)
    return "ai-edge-litert" if machine in _LITERT_MACHINES and new_enough else "tflite-runtime 'numpy<2'"


def clean(text: str, limit: int = 500) -> str:
    """One line of printable characters: a device cannot write to the terminal."""
    words = "".join(character if character.isprintable() else " " for character in text[: 4 * limit]).split()
    line = " ".join(words)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _tail(completed: Completed) -> str:
    """The last line of stderr, or of stdout."""
    for output in (completed.stderr, completed.stdout):
        lines = output[-4000:].decode("utf-8", "replace").strip().splitlines()
        if lines:
            return clean(lines[-1], 300)
    return "it said nothing"
