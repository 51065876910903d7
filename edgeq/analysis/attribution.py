"""Which operator in which step of a conversion loses the accuracy."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgeq.analysis import arriving, describing, measuring, preparing
from edgeq.analysis.measuring import Chain
from edgeq.analysis.net import Net
from edgeq.errors import ModelError
from edgeq.types import Analysis, Blame, OperatorAnalysis, Progress, silent

if TYPE_CHECKING:
    from edgeq.analysis.measuring import Sample


class Files(NamedTuple):
    """The model files of one conversion, in one format.

    `prepared` is the float model that was quantized, the original where nothing was prepared; `runtime` what the
    runtime is given, the quantized file itself unless something stands between them.
    """

    floating: Path
    prepared: Path
    quantized: Path
    runtime: Path


def attribute(files: Files, samples: Iterable[Sample], count: int, *, progress: Progress = silent) -> Analysis:
    """Run the chain on real samples and say what each operator costs and which one is wrong.

    Memory holds one sample's activations, several times over, and sums; whatever `count` is. Raises ModelError.
    """
    started = time.monotonic()
    formats = _formats(files.quantized)
    chain = _chain(files, formats)
    with tempfile.TemporaryDirectory(prefix="edgeq-analyze-") as folder:
        measured = measuring.measure(chain, formats, samples, count, Path(folder), progress)
    if not measured.samples:
        raise ModelError("there are no samples to analyse it with", where=str(files.floating), hint="--data")
    rows = describing.operators(chain, formats, measured)
    blames = describing.blames(rows, preparing.pieces(chain, measured))
    return Analysis(
        model=str(files.floating),
        quantized=str(files.quantized),
        format=chain.quantized.graph.format,
        samples=measured.samples,
        steps=describing.steps(chain, measured, rows),
        operators=rows,
        first_wrong=blames[0] if blames else None,
        guilty=_guilty(blames),
        notes=tuple(_notes(rows)),
        tools=_tools(chain.quantized.graph.format),
        seconds=round(time.monotonic() - started, 3),
    )


def costs(files: Files, found: Analysis, samples: Sequence[Sample], *, progress: Progress = silent) -> dict[str, float]:
    """What each analysed tensor's own noise adds to the outputs' noise, by name; see `arriving.costs`."""
    formats = _formats(files.prepared)
    with tempfile.TemporaryDirectory(prefix="edgeq-analyze-") as folder:
        net = formats.load(files.prepared)
        return arriving.costs(formats, net, found.operators, samples, Path(folder), progress)


def _guilty(blames: Sequence[Blame]) -> Blame | None:
    """What is furthest beyond, in the first step in which it goes wrong: a later step only trips over it."""
    worst = max(blames, key=lambda one: one.excess_db, default=None)
    return next((one for one in blames if worst is not None and one.name == worst.name), None)


def _chain(files: Files, formats: Any) -> Chain:
    known: dict[bytes, Net] = {}
    nets = [known.setdefault(path.read_bytes(), formats.load(path)) for path in files]
    if len({net.graph.format for net in nets}) > 1:
        raise ModelError("is of another format than the float model", where=str(files.quantized))
    if nets[2].graph.state == "float":
        raise ModelError("is not quantized: there is nothing to analyse", where=str(files.quantized))
    sides = [(len(net.graph.inputs), len(net.graph.outputs)) for net in nets]
    if len(set(sides)) > 1:
        raise ModelError(
            "has other inputs or outputs than the float model: it was not made from it", where=str(files.quantized)
        )
    chain = Chain(*nets)
    if chain.runtime is not chain.quantized and _shape(chain.runtime) != _shape(chain.quantized):
        raise ModelError("has other operators than the quantized model", where=str(files.runtime))
    return chain


def _shape(net: Net) -> list[tuple[object, ...]]:
    dtypes = [tensor.dtype for tensor in net.graph.tensors]
    return [(one.type, one.inputs, one.outputs, *(dtypes[tensor] for tensor in one.outputs)) for one in net.operators]


def _formats(path: Path) -> Any:
    """The module that runs and cuts files of this kind."""
    if path.suffix.lower() == ".onnx":
        from edgeq.analysis import onnx

        return onnx
    from edgeq.analysis import tflite

    return tflite


def _notes(rows: Iterable[OperatorAnalysis]) -> Iterable[str]:
    reasons: dict[str, int] = {}
    for row in rows:
        if row.unavailable:
            reasons[row.unavailable] = reasons.get(row.unavailable, 0) + 1
    return (f"not measured, {count} of the operators: {why}" for why, count in reasons.items())


def _tools(model_format: str) -> dict[str, str]:
    from importlib import metadata

    import edgeq

    name = {"tflite": "ai-edge-litert", "onnx": "onnxruntime"}[model_format]
    return {"edgeq": edgeq.__version__, name: metadata.version(name)}
