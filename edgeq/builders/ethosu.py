"""Bundle for an Arm Ethos-U: the model compiled by Vela, the INT8 model that it came from, Vela's report.

Vela ends with 0 although it left operators on the CPU, so that its answer is read from what it wrote: the operator
split that it prints (`CPU operators = N`), and the compiled model, in which the custom operator `ethos-u` stands for
what runs on the NPU.
"""

from __future__ import annotations

import csv
import dataclasses
import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgeq import builders, models, store, tools
from edgeq.errors import BuildError, CompilerRefused, ModelError
from edgeq.types import Accelerator, Bundle, Manifest, ModelGraph, Plan, QuantizedModel

if TYPE_CHECKING:
    from edgeq.runtimes import Array

VELA_SECONDS = 1800
MEMORY_BYTES = 16 << 30
HOST_RUNTIME = "litert"  # what golden vectors come from: the NPU is bit-exact with the reference kernels
COMMAND = "ethos-u"
CONFIGURATION = "Arm/vela.ini"
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


def build(
    quantized: QuantizedModel,
    folder: Path,
    samples: Iterable[Sequence[Array]],
    out: Path,
    name: str,
    *,
    accelerator: Accelerator,
) -> Bundle:
    """Compile for `accelerator` and build the bundle `out`.

    Raises CompilerRefused, naming the operators, when Vela leaves more on the CPU than planned; ToolError without
    Vela; BuildError and OutputError.
    """
    vela = tools.find("vela")
    if quantized.artifact.format != "tflite":
        raise BuildError(f"Vela reads TFLite, the model is {quantized.artifact.format}")
    with builders.whole(out) as place:
        model = builders.copy_model(place, quantized, folder)
        compiled, placed, estimates = compile_model(vela, model, accelerator, quantized.plan)
        vectors = builders.write_golden(place / "golden.npz", model, HOST_RUNTIME, samples)
        builders.write_contract(place, quantized)
        manifest = builders.describe(
            place, quantized, name, model=compiled.name, entry_point=compiled.name, vectors=vectors
        )
        manifest = _told(manifest, vela, placed, estimates)
        store.write(place / "manifest.json", manifest)
    return Bundle(path=str(out), manifest=manifest)


def _told(manifest: Manifest, vela: tools.Tool, placed: Split, estimates: dict[str, float]) -> Manifest:
    return dataclasses.replace(
        manifest,
        runtime_versions="",
        tools={**manifest.tools, "vela": vela.version},
        placed={"npu": placed.npu, "cpu": placed.cpu},
        estimates=estimates,
    )


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


def compile_model(
    vela: tools.Tool, model: Path, accelerator: Accelerator, plan: Plan
) -> tuple[Path, Split, dict[str, float]]:
    """Write `<model>_vela.tflite` and Vela's report beside `model`; the split and Vela's estimates."""
    with tempfile.TemporaryDirectory(prefix="edgeq-vela-") as work:
        output = Path(work) / "out"
        argv = tools.program(vela, *arguments(model.absolute(), accelerator, output))
        done = tools.run(vela, argv, cwd=Path(work), timeout_seconds=VELA_SECONDS, memory_bytes=MEMORY_BYTES)
        made = output / f"{model.stem}_vela.tflite"
        if done.code != 0 or not made.is_file():
            said = tools.last_line(done.stderr) or tools.last_line(done.stdout) or f"it ended with code {done.code}"
            raise BuildError(f"Vela {vela.version} fails: {said}", where=str(model.name))
        split = read_split(done.stdout)
        judge(split, read_compiled(made), plan)
        compiled = model.with_name(made.name)
        store.write_bytes(compiled, made.read_bytes())
        store.write_bytes(model.with_name("vela.txt"), done.stdout.encode())
        return compiled, split, _reports(output, model)


def _reports(output: Path, model: Path) -> dict[str, float]:
    """Copy the tables that Vela wrote beside the model; the estimates of the summary."""
    estimates: dict[str, float] = {}
    for pattern, name in ((f"{model.stem}_summary_*.csv", "vela_summary.csv"), ("*_per-layer.csv", "vela_layers.csv")):
        for path in sorted(output.glob(pattern))[:1]:
            store.write_bytes(model.with_name(name), path.read_bytes())
            estimates |= read_summary(path) if "summary" in name else {}
    return estimates


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


def read_compiled(path: Path) -> ModelGraph:
    """The compiled model's structure; raises BuildError."""
    try:
        return models.read(path)
    except ModelError as error:
        raise BuildError(f"Vela wrote a model that cannot be read: {error.message}") from error


def judge(split: Split, compiled: ModelGraph, plan: Plan) -> None:
    """Raise CompilerRefused when more operators stay on the CPU than planned, or none runs on the NPU."""
    left = [operator for operator in compiled.operators if operator.type != COMMAND]
    if len(left) == len(compiled.operators) or split.npu == 0:
        raise CompilerRefused(f"Vela places no operator on the NPU: {_listed(Counter(o.type for o in left))}")
    planned = Counter(place.type for place in plan.operators if place.placement != "npu")
    more = Counter(operator.type for operator in left) - planned
    if more:
        raise CompilerRefused(f"Vela leaves operators on the CPU that the plan places on the NPU: {_listed(more)}")
    if split.cpu > planned.total():
        named = "; ".join(split.on_cpu) or f"{split.cpu} operators, which it does not name"
        raise CompilerRefused(f"Vela leaves more operators on the CPU than the plan does: {named}")


def _listed(types: Counter[str]) -> str:
    return (
        ", ".join(f"{name} x {count}" if count > 1 else name for name, count in sorted(types.items())) or "it is empty"
    )
