"""Vela: its command line, and how what it prints and writes is read."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path
from typing import NamedTuple

from edgeq.errors import BuildError
from edgeq.tools.environments import Tool
from edgeq.tools.running import last_line, program, run
from edgeq.types import Accelerator

MEMORY_BYTES = 16 << 30
CONFIGURATION = "Arm/vela.ini"
COMMAND = "ethos-u"
"""The custom operator of a compiled model that stands for what runs on the NPU."""
_SUMMARY_LIMIT_BYTES = 1 << 20
_SPLIT = re.compile(r"^\s*(CPU|NPU) operators = (\d{1,9}) \(", re.MULTILINE)
_ON_CPU = re.compile(r"^\s+CPU: (.{1,300})$", re.MULTILINE)
_KIB, _SECOND = 1024.0, 1000.0
# Column of Vela's summary, our name, factor. Memory is in KiB there, and the time in seconds.
_COLUMNS = (
    ("sram_memory_used", "sram_bytes", _KIB),
    ("dram_memory_used", "dram_bytes", _KIB),
    ("on_chip_flash_memory_used", "on_chip_flash_bytes", _KIB),
    ("off_chip_flash_memory_used", "off_chip_flash_bytes", _KIB),
    ("cycles_npu", "cycles_npu", 1.0),
    ("cycles_total", "cycles_total", 1.0),
    ("core_clock", "clock_hz", 1.0),
    ("inference_time", "inference_ms", _SECOND),
    ("nn_macs", "macs", 1.0),
)


class Split(NamedTuple):
    """How many operators Vela says it placed where, and its words on those on the CPU."""

    cpu: int
    npu: int
    on_cpu: tuple[str, ...] = ()


class Compiled(NamedTuple):
    """What one start of Vela left: what it printed, the compiled model, and the folder with its tables."""

    text: str
    model: Path
    folder: Path


def arguments(model: Path, accelerator: Accelerator, output: Path) -> list[str]:
    """Vela's command line, without its name; raises BuildError for a profile that lacks a setting."""
    settings = (
        ("--accelerator-config", accelerator.config),
        ("--config", CONFIGURATION),
        ("--system-config", accelerator.system_config),
        ("--memory-mode", accelerator.memory_mode),
        ("--output-dir", str(output)),
    )
    missing = [flag.removeprefix("--") for flag, value in settings if not value]
    if missing:
        raise BuildError(f"the target's accelerator {accelerator.name} has no {' and no '.join(missing)}")
    return [str(model), *(str(word) for pair in settings for word in pair), "--show-cpu-operations"]


def start(vela: Tool, model: Path, accelerator: Accelerator, work: Path, *, timeout_seconds: float) -> Compiled:
    """Compile a model in the folder `work`; raises BuildError with Vela's words, ToolError where it does not finish."""
    output = work / "out"
    argv = program(vela, *arguments(model.absolute(), accelerator, output))
    done = run(vela, argv, cwd=work, timeout_seconds=timeout_seconds, memory_bytes=MEMORY_BYTES)
    made = output / f"{model.stem}_vela.tflite"
    if done.code != 0 or not made.is_file():
        said = last_line(done.stderr) or last_line(done.stdout) or f"it ended with code {done.code}"
        raise BuildError(f"Vela {vela.version} fails: {said}", where=str(model.name))
    return Compiled(done.stdout, made, output)


def read_split(text: str) -> Split:
    """The operator split that Vela prints; raises BuildError for a text without one."""
    counts = {place: int(number) for place, number in _SPLIT.findall(text)}
    if set(counts) != {"CPU", "NPU"}:
        raise BuildError("Vela's output does not say how many operators run on the NPU", hint="edgeq tools")
    on_cpu = tuple(" ".join(line.split()) for line in _ON_CPU.findall(text))
    return Split(counts["CPU"], counts["NPU"], on_cpu)


def read_summary(path: Path) -> dict[str, float]:
    """Vela's own estimates from its summary (CSV: a line of names, a line of values); what is not there is left out."""
    if path.stat().st_size > _SUMMARY_LIMIT_BYTES:
        return {}
    with path.open(newline="", encoding="utf-8", errors="replace") as stream:
        try:
            row = next(csv.DictReader(stream), {})
        except csv.Error:
            return {}
    found = {ours: _number(row.get(column), factor) for column, ours, factor in _COLUMNS}
    return {name: value for name, value in found.items() if value is not None}


def _number(text: str | None, factor: float) -> float | None:
    try:
        value = float(text or "") * factor
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
