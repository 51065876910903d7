"""Float TFLite to quantized TFLite, through litert-quantizer with ranges of our own.

litert-quantizer 0.11 averages minimum and maximum over the samples, which ruins small models (0..6.28
becomes 0..3.5 on the sine model); true ranges repair it. TensorFlow's converter is not used: it is never
better with the same ranges, takes five times as long, and fails on LSTM.
"""

from __future__ import annotations

import contextlib
import functools
import struct
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeq import store
from edgeq.converters import Job, describe, improving, listed, observing
from edgeq.converters import _flatbuffer as flatbuffer
from edgeq.converters.tflite import bias, calibration, improve, recurrent, stand_in
from edgeq.converters.tflite.kernels import kernel_gap
from edgeq.converters.tflite.recipe import RecipeManager, recipe
from edgeq.converters.tflite.restore import float_weights, type_name
from edgeq.errors import ConvertError, ModelError
from edgeq.runtimes import litert
from edgeq.types import Dataset, ModelGraph, Plan, Port, Progress, QuantizedModel, RangeMethod, Signature, silent

__all__ = ["convert", "kernel_gap"]

# What litert-quantizer raises: its own ValueError and RuntimeError, and the accidents of unchecked input.
_ACCIDENTS = (
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    struct.error,
)
_TRANSPARENT = ("QUANTIZE", "DEQUANTIZE")


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
    """Write the `.tflite` that `plan.scheme` asks for; see `edgeq.converters.Convert`.

    Static schemes give int8 ports to float ones. Notes name what was restored to float before, and what
    stayed in float.
    """
    started = time.monotonic()
    job = Job(graph=graph, plan=plan, dataset=dataset, progress=progress, prepared=prepared, state=state)
    content, notes = _road(graph, plan)(job)
    with store.replacing(out) as temporary:
        temporary.write_bytes(content)
        inputs, outputs = _ports(temporary, graph, plan)
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


def _road(graph: ModelGraph, plan: Plan) -> Callable[[Job], tuple[bytes, list[str]]]:
    name = plan.scheme.name
    if graph.format != "tflite":
        raise ConvertError(f"is {graph.format}; this converter reads TFLite", where=graph.path)
    if name not in _ROADS:
        raise ConvertError(f"there is no TFLite scheme {name!r}", hint=f"known: {', '.join(_ROADS)}")
    if graph.state == "quantized" and name != "as_is":
        raise ConvertError("is quantized already and is never quantized again", where=graph.path, hint="scheme as_is")
    return _ROADS[name]


def _as_it_is(job: Job) -> tuple[bytes, list[str]]:
    return Path(job.graph.path).read_bytes(), []


def _in_float(job: Job) -> tuple[bytes, list[str]]:
    """The file itself, or one with its weights restored."""
    model = flatbuffer.load(Path(job.graph.path))
    restored = float_weights(model)
    if not restored:
        return _as_it_is(job)
    return flatbuffer.dump(model), [_restored_note(restored)]


def _quantized(job: Job) -> tuple[bytes, list[str]]:
    model = flatbuffer.load(Path(job.graph.path))
    made_before = [tuple(operator.outputs) for operator in model.subgraphs[0].operators]
    restored = float_weights(model)
    names = flatbuffer.number_names(model)
    places = _exceptions(job, model, made_before)
    cells = _cells(model, places)
    notes = [_restored_note(restored)] if restored else []
    scheme, known = job.plan.scheme, improving.Known({}, {})
    samples, count = improving.spread(_dataset(job), job.graph, job.plan) if scheme.is_static else improving.NONE
    if count:
        known, more = improve.improved(model, samples, count, job.progress, scheme)
        notes += more
    _keep(job, model, names)

    @functools.cache
    def seen() -> improving.Known:
        """Looked at only if a file has to be mended."""
        return known if known.seen else improve.looked(model, known.layers, samples, count, job.progress)

    with tempfile.TemporaryDirectory(prefix="edgeq-") as folder:
        make = functools.partial(_made, job, flatbuffer.dump(model), names, places, cells, known, Path(folder))
        made, told = improving.best(
            known,
            scheme,
            improving.methods(job.plan, known, len(_dataset(job).calibration) if count else 0),
            make,
            lambda one: improve.corrected(one, seen(), job.progress),
            lambda one: improve.answers(one, samples(count)),
        )
    notes += told
    flatbuffer.open_added(made)
    flatbuffer.restore_names(made, names)
    flatbuffer.tidy(made)
    if job.plan.scheme.is_static:
        notes += _float_notes(made)
    if job.plan.scheme.default.weights == "int4":
        notes += _wide_notes(made)
    return flatbuffer.dump(made), notes


def _made(
    job: Job,
    content: bytes,
    names: flatbuffer.Names,
    places: dict[int, Signature],
    cells: set[str],
    known: improving.Known,
    folder: Path,
    method: RangeMethod,
) -> Any:
    """The float model `content` as litert-quantizer writes it, repaired; names stay numbered."""
    model = flatbuffer.parse(content)
    found: observing.Ranges = {}
    if job.plan.scheme.is_static:
        state = job.state or (folder if known.answers else None)  # a second method then costs no second pass
        found = _ranges(job, model, names, content, method, state)
    codes = stand_in.put(model, job.plan.scheme.default.activations)
    made = _quantize(job.graph.path, flatbuffer.dump(model), recipe(job.plan.scheme, model, places), found)
    stand_in.take(made, codes)
    bias.repair(model, made)
    recurrent.shrink(made, cells)
    return made


def _keep(job: Job, model: Any, names: flatbuffer.Names) -> None:
    """The float model as it is quantized, for whoever wants to compare with it."""
    if job.prepared is not None:
        flatbuffer.restore_names(model, names)
        store.write_bytes(job.prepared, flatbuffer.dump(model))
        flatbuffer.number_names(model)


def _exceptions(job: Job, model: Any, made: list[tuple[int, ...]]) -> dict[int, Signature]:
    """Overrides by place in the changed first subgraph; `made` holds what each operator made before.

    A DEQUANTIZE that is gone needs no setting, nor do operators of later subgraphs, which stay in float.
    """
    places = {tuple(operator.outputs): place for place, operator in enumerate(model.subgraphs[0].operators)}
    overrides = job.plan.scheme.overrides
    unknown = [index for index in overrides if not 0 <= index < len(job.graph.operators)]
    if unknown:
        raise ConvertError(f"the plan names operator {unknown[0]}, which the model does not have", where=job.graph.path)
    known = {index: places.get(made[index]) for index in overrides if index < len(made)}
    return {place: overrides[index] for index, place in known.items() if place is not None}


def _cells(model: Any, places: dict[int, Signature]) -> set[str]:
    """Recurrent cells that are to have int8 weights, by the name of their result; they are taken out of `places`."""
    subgraph = model.subgraphs[0]
    wanted = {
        place
        for place, signature in places.items()
        if flatbuffer.type_of(model, subgraph.operators[place]) in recurrent.MATRICES and signature.weights == "int8"
    }
    for place in wanted:
        del places[place]
    return {subgraph.tensors[subgraph.operators[place].outputs[0]].name.decode() for place in wanted}


def _dataset(job: Job) -> Dataset:
    if job.dataset is None or not job.dataset.calibration:
        raise ConvertError("a static scheme needs calibration samples", hint="--data dataset.yaml")
    return job.dataset


def _ranges(
    job: Job, model: Any, names: flatbuffer.Names, content: bytes, method: RangeMethod, state: Path | None
) -> observing.Ranges:
    given = observing.shown(_dataset(job), job.graph, is_kept=job.state is not None)
    labels = calibration.activation_labels(model, names)
    with tempfile.TemporaryDirectory(prefix="edgeq-") as folder:
        path = Path(folder) / "numbered.tflite"
        with store.writing(path):
            path.write_bytes(content)
        return calibration.ranges(path, labels, given, method, job.progress, job.graph.path, state)


def _quantize(path: str, content: bytes, settings: RecipeManager, found: observing.Ranges) -> Any:
    """What litert-quantizer's `Quantizer.quantize` does, less its check, which runs the model."""
    from litert_quantizer import model_modifier, params_generator
    from litert_quantizer.utils import tfl_flatbuffer_utils

    known = calibration.calibration_result(found)
    try:
        with _silence():
            model = tfl_flatbuffer_utils.read_model(content)
            model.signatureDefs = model.signatureDefs or []  # it goes through them where ports stay in float
            generator = params_generator.ParamsGenerator(model)
            parameters = generator.generate_quantization_parameters(settings, known, enable_progress_bar=False)
            made = model_modifier.ModelModifier(model).modify_model(parameters, enable_progress_bar=False)
        return flatbuffer.parse(bytes(made))
    except _ACCIDENTS as error:
        cause = " ".join(str(error).split())[:300] or type(error).__name__
        raise ConvertError(f"litert-quantizer cannot convert it: {cause}", where=path) from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep litert-quantizer's warnings from users: biases that overflow, which are repaired after."""
    import numpy as np

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def _restored_note(count: int) -> str:
    return f"{count} weights were stored as integers or half floats and were restored to float32 first"


def _float_notes(model: Any) -> list[str]:
    """Which types of operators compute in float though the file is quantized."""
    counts = Counter(
        flatbuffer.type_of(model, operator)
        for subgraph in model.subgraphs
        for operator in subgraph.operators
        if any(type_name(subgraph.tensors[index]) == "FLOAT32" for index in operator.outputs)
    )
    return listed("computed in float", Counter({name: counts[name] for name in counts if name not in _TRANSPARENT}))


def _wide_notes(model: Any) -> list[str]:
    """Which types of operators have 8-bit weights though 4 bits were asked for."""
    subgraph = model.subgraphs[0]
    wide = {
        int(operator.outputs[0])
        for operator in subgraph.operators
        if flatbuffer.type_of(model, operator) == "DEQUANTIZE"
        and type_name(subgraph.tensors[operator.inputs[0]]) == "INT8"
    }
    readers = (operator for operator in subgraph.operators if wide.intersection(map(int, operator.inputs)))
    return listed("weights in 8 bits", Counter(flatbuffer.type_of(model, operator) for operator in readers))


def _ports(path: Path, graph: ModelGraph, plan: Plan) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Open the written file as a runtime would and hold its ports against the model's; raises ConvertError."""
    try:
        session = litert.open(path)
    except ModelError as error:
        raise ConvertError(f"the converted file {error.message}", where=graph.path) from error
    tensors = {tensor.index: tensor for tensor in graph.tensors}
    for given, ports in ((graph.inputs, session.inputs), (graph.outputs, session.outputs)):
        before = [(tensors[index].name, len(tensors[index].shape)) for index in given]
        if [shape for _, shape in before] != [len(port.shape) for port in ports]:
            raise ConvertError("the converted file has other inputs or outputs than the model", where=graph.path)
    if plan.scheme.is_static and plan.scheme.name != "as_is":
        _refuse_float_ports(session.inputs + session.outputs, graph)
    return session.inputs, session.outputs


def _refuse_float_ports(ports: tuple[Port, ...], graph: ModelGraph) -> None:
    left = [port.name for port in ports if port.dtype == "float32"]
    if left:
        raise ConvertError(f"these ports stayed in float: {', '.join(left)}", where=graph.path)


def _prepared(inputs: tuple[Port, ...], dataset: Dataset | None) -> tuple[Port, ...]:
    if dataset is None:
        return inputs
    from edgeq import datasets

    return tuple(replace(port, preprocessing=datasets.preprocessing(dataset, i)) for i, port in enumerate(inputs))


def _tools() -> dict[str, str]:
    from importlib import metadata

    return {name: metadata.version(name) for name in ("ai-edge-litert", "litert-quantizer", "numpy")}


_ROADS: dict[str, Callable[[Job], tuple[bytes, list[str]]]] = {
    "static_wi8_ai8": _quantized,
    "static_wi8_ai8_per_tensor": _quantized,
    "static_wi8_ai8_mixed": _quantized,
    "static_wi8_ai16": _quantized,
    "dynamic_wi8_af32": _quantized,
    "weight_only_wi8": _quantized,
    "weight_only_wi4": _quantized,
    "weight_only_wf16": _quantized,
    "float32": _in_float,
    "as_is": _as_it_is,
}
