"""Bundle for an Arm Ethos-U: the model compiled by Vela, the INT8 model that it came from, Vela's report.

Vela ends with 0 although it left operators on the CPU, so that its answer is read from what it wrote: the operator
split that it prints (`CPU operators = N`), and the compiled model, in which the custom operator `ethos-u` stands for
what runs on the NPU.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq import builders, models, store, tools
from edgeq.errors import BuildError, CompilerRefused, ModelError
from edgeq.tools.vela import COMMAND, Split, read_split, read_summary, start
from edgeq.types import Accelerator, Bundle, Manifest, ModelGraph, Plan, QuantizedModel

if TYPE_CHECKING:
    from edgeq.runtimes import Array

VELA_SECONDS = 1800
HOST_RUNTIME = "litert"  # what golden vectors come from: the NPU is bit-exact with the reference kernels


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


def compile_model(
    vela: tools.Tool, model: Path, accelerator: Accelerator, plan: Plan
) -> tuple[Path, Split, dict[str, float]]:
    """Write `<model>_vela.tflite` and Vela's report beside `model`; the split and Vela's estimates."""
    with tempfile.TemporaryDirectory(prefix="edgeq-vela-") as work:
        made = start(vela, model, accelerator, Path(work), timeout_seconds=VELA_SECONDS)
        split = read_split(made.text)
        judge(split, read_compiled(made.model), plan)
        kept = model.with_name(made.model.name)
        store.write_bytes(kept, made.model.read_bytes())
        store.write_bytes(model.with_name("vela.txt"), made.text.encode())
        return kept, split, _reports(made.folder, model)


def _reports(output: Path, model: Path) -> dict[str, float]:
    """Copy the tables that Vela wrote beside the model; the estimates of the summary."""
    estimates: dict[str, float] = {}
    for pattern, name in ((f"{model.stem}_summary_*.csv", "vela_summary.csv"), ("*_per-layer.csv", "vela_layers.csv")):
        for path in sorted(output.glob(pattern))[:1]:
            store.write_bytes(model.with_name(name), path.read_bytes())
            estimates |= read_summary(path) if "summary" in name else {}
    return estimates


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
