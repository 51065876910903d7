"""Float ONNX to quantized ONNX: QDQ through onnxruntime's quantizer, with ranges and layout of our own.

Activations are best uint8 on x86: onnxruntime rewrites int8 ones to uint8 while it loads a file, fails at
tensors with several readers, and leaves those operators in float (resnet8: 8 of 14). Weights are best int8
where the CPU has VNNI or is an ARM, uint8 elsewhere: 16-bit sums of int8 products saturate there.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeq import store
from edgeq.converters import Job, describe, improving, listed, observing
from edgeq.converters.onnx import calibration, floating, improve, prepare, smoothing, static, tables, weights
from edgeq.converters.onnx.kernels import host_differs, kernel_gap, kernels
from edgeq.errors import ConvertError, ModelError
from edgeq.runtimes import onnxruntime as runtime
from edgeq.types import Dataset, ModelGraph, Plan, Port, Progress, QuantizedModel, RangeMethod, Signature, silent

__all__ = ["convert", "host_differs", "kernel_gap", "kernels"]

_STATIC = ("static_wi8_ai8", "static_wi8_ai8_per_tensor", "static_wi8_ai8_mixed", "static_wi8_ai16")
_INTEGERS = ("int8", "uint8")
_ACTIVATIONS = (*_INTEGERS, "int16", "uint16")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job(Job):
    folder: Path


Made = tuple[bytes, list[str]]


def convert(
    graph: ModelGraph,
    plan: Plan,
    dataset: Dataset | None,
    out: Path,
    *,
    progress: Progress = silent,
    prepared: Path | None = None,
    state: Path | None = None,
) -> QuantizedModel:
    """Write the `.onnx` that `plan.scheme` asks for; see `edgeq.converters.Convert`.

    Ports stay float. Weights lie inside the one file. Notes name what was restored to float before, what
    stayed in float, and how many integer kernels the runtime finds on this host.
    """
    started = time.monotonic()
    road = _road(graph, plan)
    with tempfile.TemporaryDirectory(prefix="edgeq-") as folder, _silence():
        job = _Job(
            graph=graph,
            plan=plan,
            dataset=dataset,
            progress=progress,
            folder=Path(folder),
            prepared=prepared,
            state=state,
        )
        content, notes = road(job)
    with store.replacing(out) as temporary:
        temporary.write_bytes(content)
        with _silence():
            inputs, outputs = _verified(temporary, graph)
            notes += _kernel_notes(temporary, plan)
    return describe(
        graph,
        plan,
        out,
        inputs=_prepared(inputs, dataset),
        outputs=outputs,
        notes=tuple(notes),
        tools=_tools(),
        seconds=time.monotonic() - started,
    )


def _road(graph: ModelGraph, plan: Plan) -> Callable[[_Job], Made]:
    name = plan.scheme.name
    if graph.format != "onnx":
        raise ConvertError(f"is {graph.format}; this converter reads ONNX", where=graph.path)
    if graph.state == "quantized" and name != "as_is":
        raise ConvertError("is quantized already and is never quantized again", where=graph.path, hint="scheme as_is")
    if name in _ROADS:
        return _ROADS[name]
    if name not in _STATIC:
        raise ConvertError(f"there is no ONNX scheme {name!r}", hint=f"known: {', '.join((*_STATIC, *_ROADS))}")
    used = (plan.scheme.default.activations, plan.scheme.default.weights or "int8")
    if used[0] not in _ACTIVATIONS or used[1] not in _INTEGERS:
        raise ConvertError(f"ONNX models are not quantized to {'/'.join(used)}", hint="uint8/int8 or int16/int8")
    return _static


def _as_it_is(job: _Job) -> Made:
    """The file itself; external data moves inside."""
    path = Path(job.graph.path)
    model = prepare.load(path)
    if prepare.has_external_data(path):
        prepare.check_size(model, job.graph.path)
        return model.SerializeToString(), ["external data was moved into the file"]
    return path.read_bytes(), []


def _in_float(job: _Job) -> Made:
    model, notes = _restored(job)
    if not notes:
        return _as_it_is(job)
    prepare.check_size(model, job.graph.path)
    return model.SerializeToString(), notes


def _halved(job: _Job) -> Made:
    original, notes = _restored(job)
    model = prepare.prepared(original, job.folder, job.graph.path)
    count = floating.halve_weights(model, _excluded(job, original, model))
    prepare.check_size(model, job.graph.path)
    return model.SerializeToString(), [*notes, f"{count} weights are stored as float16"]


def _shrunk(job: _Job) -> Made:
    original, notes = _restored(job)
    where, bits = job.graph.path, _BITS[job.plan.scheme.name]
    model = prepare.prepared(original, job.folder, where, weights.OPSET[bits])
    _keep(job, model)
    excluded = _excluded(job, original, model)
    asked = {node.name: bits for node in model.graph.node if node.name not in excluded}
    asked.update(dict.fromkeys(_covered(job, original, model, lambda one: one.weights == "int8"), 8))
    kinds = {node.name: node.op_type for node in model.graph.node}
    looked_up = [name for name in asked if kinds[name] == "Gather"]
    done = dict.fromkeys(tables.readers(model, looked_up), 8)
    tables.shrink(model, done)
    done.update(weights.shrink(model, asked))
    if not done:
        raise ConvertError("holds no weights that can be stored as integers", where=where)
    prepare.check_size(model, where)
    wider = Counter(kind for name, kind in kinds.items() if done.get(name, bits) > bits)
    return model.SerializeToString(), notes + listed("weights in 8 bits", wider)


def _dynamic(job: _Job) -> Made:
    original, notes = _restored(job)
    where = job.graph.path
    model = prepare.prepared(original, job.folder, where)
    source = job.folder / "prepared.onnx"
    prepare.save(model, source, where)
    _keep(job, model)
    excluded = _excluded(job, original, model)
    made = prepare.guarded(
        where, "quantize it", lambda: floating.dynamic(source, excluded, job.plan.scheme, job.folder)
    )
    if not floating.has_integers(made):
        raise ConvertError("holds no operator that can be quantized dynamically (MatMul, Gemm, LSTM)", where=where)
    return made.read_bytes(), notes


def _static(job: _Job) -> Made:
    original, notes = _restored(job)
    where = job.graph.path
    is_wide = job.plan.scheme.default.activations in ("int16", "uint16")
    model = prepare.prepared(original, job.folder, where, static.WIDE_OPSET if is_wide else prepare.OPSET)
    nodes = static.chosen(model, _excluded(job, original, model))
    names = {node.name for node in nodes}
    scheme, data = job.plan.scheme, _dataset(job)
    if improving.is_per_channel(scheme) and static.is_transformer(model):
        pool = improving.evenly(data, job.graph)
        model, more = smoothing.smoothed(model, names, *pool, job.folder, where, job.progress)
        notes += more
    samples, count = improving.spread(data, job.graph, job.plan)
    model, known, more = improve.improved(model, names, samples, count, job.folder, where, job.progress, scheme)
    nodes = [node for node in model.graph.node if node.name in names]
    _keep(job, model)

    @functools.cache
    def seen() -> improving.Known:
        """Looked at only if a file has to be mended."""
        if known.seen:
            return known
        return improve.looked(model, known.layers, samples, count, job.folder, where, job.progress)

    (made, kept), told = improving.best(
        known,
        scheme,
        improving.methods(job.plan, known, len(data.calibration)),
        lambda method: _made(job, model, nodes, method, is_reread=bool(known.layers)),
        lambda one: (improve.corrected(one[0], seen(), job.progress), one[1]),
        lambda one: improve.answers(one[0], samples(count), job.folder, where),
    )
    more += told
    if all(one.placement in ("cpu", "float") for one in job.plan.operators):
        more += _in_eight_bits(made)
    prepare.check_size(made, where)
    return made.SerializeToString(), [*notes, *more, *listed("computed in float", kept)]


def _in_eight_bits(made: Any) -> list[str]:
    """Notes on weights that are stored in 8 bits though their operators compute in float: tables, recurrent cells."""
    count = tables.shrink(made, {node.name for node in made.graph.node}) if static.is_transformer(made) else 0
    cells = {node.name: node.op_type for node in made.graph.node if node.op_type in weights.RECURRENT}
    shrunk = weights.shrink(made, dict.fromkeys(cells, 8)) if cells else {}
    return [
        *listed("tables in 8 bits", Counter({"Gather": count} if count else {})),
        *listed("weights in 8 bits, arithmetic in float", Counter(cells[name] for name in shrunk)),
    ]


def _made(job: _Job, model: Any, nodes: list[Any], method: RangeMethod, *, is_reread: bool) -> tuple[Any, Counter[str]]:
    """The quantized model, and what is computed in float."""
    where = job.graph.path
    found = _ranges(job, model, static.float_activations(model, nodes), method, is_reread=is_reread)
    ready = static.measurable(model, nodes, found)
    if not ready:
        raise ConvertError("holds no operator that can be quantized statically", where=where)
    names = {node.name for node in ready}
    kept = Counter(node.op_type for node in model.graph.node if node.name not in names)
    fresh = type(model)()
    fresh.CopyFrom(model)
    made = prepare.guarded(where, "quantize it", lambda: static.quantized(fresh, ready, found, job.plan.scheme))
    return made, kept


def _keep(job: _Job, model: Any) -> None:
    """The float model as it is quantized, for whoever wants to compare with it."""
    if job.prepared is not None:
        prepare.save(model, job.prepared, job.graph.path)


def _restored(job: _Job) -> tuple[Any, list[str]]:
    model = prepare.load(Path(job.graph.path))
    count = prepare.restore_weights(model)
    note = f"{count} weights were stored as integers and were restored to float32 first"
    return model, [note] if count else []


def _excluded(job: _Job, original: Any, model: Any) -> set[str]:
    """Nodes of the prepared model that the plan's overrides keep in float."""
    is_expanded = job.plan.scheme.name in _BITS
    return _covered(
        job,
        original,
        model,
        lambda one: one.weights not in ("int8", "int4") if is_expanded else one.activations not in _ACTIVATIONS,
    )


def _covered(job: _Job, original: Any, model: Any, wanted: Callable[[Signature], bool]) -> set[str]:
    """Nodes of the prepared model that do the work of the operators whose overrides are `wanted`."""
    operators = {operator.index: operator for operator in job.graph.operators}
    names = {tensor.index: tensor.name for tensor in job.graph.tensors}
    found: set[str] = set()
    for index, signature in job.plan.scheme.overrides.items():
        if index not in operators:
            raise ConvertError(f"the plan names operator {index}, which the model does not have", where=job.graph.path)
        if wanted(signature):
            found.update(names[output] for output in operators[index].outputs if output in names)
    return prepare.covering(model, original, found)


def _dataset(job: _Job) -> Dataset:
    if job.dataset is None or not job.dataset.calibration:
        raise ConvertError("a static scheme needs calibration samples", hint="--data dataset.yaml")
    return job.dataset


def _ranges(job: _Job, model: Any, names: set[str], method: RangeMethod, *, is_reread: bool) -> observing.Ranges:
    """Ranges by that method; with `is_reread` a second method costs no second pass."""
    given = observing.shown(_dataset(job), job.graph, is_kept=job.state is not None)
    state = job.state or (job.folder if is_reread else None)
    return calibration.ranges(model, names, given, method, job.folder, job.progress, job.graph.path, state)


def _kernel_notes(path: Path, plan: Plan) -> list[str]:
    if not plan.scheme.is_static or plan.scheme.name == "as_is":
        return []
    found = kernels(path)
    return [
        f"onnxruntime {runtime.version()} on this host runs {found.integer} operators with weights in integers "
        f"and {found.floating} in float"
    ]


def _verified(path: Path, graph: ModelGraph) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Check the written file, open it, and hold its ports against the model's; raises ConvertError."""
    import onnx

    prepare.guarded(graph.path, "verify the converted file", lambda: onnx.checker.check_model(str(path)))
    try:
        session = runtime.open(path)
    except ModelError as error:
        raise ConvertError(f"the converted file fails: {error.message}", where=graph.path) from error
    names = {tensor.index: tensor.name for tensor in graph.tensors}
    for given, ports in ((graph.inputs, session.inputs), (graph.outputs, session.outputs)):
        if [names[index] for index in given] != [port.name for port in ports]:
            raise ConvertError("the converted file has other inputs or outputs than the model", where=graph.path)
    return session.inputs, session.outputs


def _prepared(inputs: tuple[Port, ...], dataset: Dataset | None) -> tuple[Port, ...]:
    if dataset is None:
        return inputs
    from edgeq import datasets

    return tuple(replace(port, preprocessing=datasets.preprocessing(dataset, i)) for i, port in enumerate(inputs))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep onnxruntime's advice on the root logger, and its warnings, from users."""
    import numpy as np

    before = logging.root.manager.disable
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def _tools() -> dict[str, str]:
    from importlib import metadata

    return {name: metadata.version(name) for name in ("numpy", "onnx", "onnxruntime")}


_ROADS: dict[str, Callable[[_Job], Made]] = {
    "dynamic_wi8_af32": _dynamic,
    "weight_only_wi8": _shrunk,
    "weight_only_wi4": _shrunk,
    "weight_only_wf16": _halved,
    "float32": _in_float,
    "as_is": _as_it_is,
}
_BITS = {"weight_only_wi8": 8, "weight_only_wi4": 4}
