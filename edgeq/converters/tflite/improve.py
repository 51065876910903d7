"""Prepare a float TFLite model for quantization, and round the weights of the quantized one by what layers read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq import store
from edgeq.converters import _flatbuffer as flatbuffer
from edgeq.converters import improving
from edgeq.converters.improving import Known, Samples
from edgeq.converters.tflite import layers as reading
from edgeq.converters.tflite.restore import type_name
from edgeq.quantization.layers import Layer
from edgeq.quantization.rounding import Grid
from edgeq.runtimes import encode, infer, litert
from edgeq.types import Progress, Scheme

Array = NDArray[Any]
_BIASES = {"FLOAT32": np.float32, "INT32": np.int32, "INT64": np.int64}
_THREADS = 4


def improved(model: Any, samples: Samples, count: int, progress: Progress, scheme: Scheme) -> tuple[Known, list[str]]:
    """Equalize the model's channels; its layers with what the model answers, and notes. Names are numbered.

    What layers read is known of a corrected scheme; `looked` finds it for another. Only a corrected scheme equalizes.
    Weights with one scale for all outputs would pay for channels that are raised where they are made.
    """
    if not count:
        return Known({}, {}), []
    layers = reading.layers(model)
    if not scheme.corrected:
        return looked(model, {}, samples, count, progress)._replace(layers=layers), []
    known = looked(model, layers, samples, count, progress)
    places = reading.channel_sites(model, layers) if improving.is_per_channel(scheme) else []
    after, changed = improving.equalized(known, places)
    if not changed:
        return known, []
    reading.write(model, [one for name, one in after.layers.items() if one is not layers[name]])
    is_kept = improving.is_faithful(known, answers(model, samples(improving.CHECKED)))
    if not is_kept:
        reading.write(model, layers.values())
    return after if is_kept else known, improving.note(changed, len(places), is_kept=is_kept)


def looked(model: Any, layers: Mapping[str, Layer], samples: Samples, count: int, progress: Progress) -> Known:
    """What these layers read and the model answers."""
    sources = {layer.source for layer in layers.values()}
    outputs = [model.subgraphs[0].tensors[index].name.decode() for index in model.subgraphs[0].outputs]
    return improving.observed(layers, _watch(model, sources, outputs, samples(count)), outputs, count, progress)


def _watch(
    model: Any, names: set[str], outputs: Sequence[str], samples: Iterable[tuple[Array, ...]]
) -> Iterator[Mapping[str, Array]]:
    """Those tensors' values, and the outputs', sample by sample."""
    session = _session(model, preserve=bool(names))
    for sample in samples:
        answers = session.run([encode(port, real) for port, real in zip(session.inputs, sample, strict=True)])
        seen = dict(session.tensors(names)) if names else {}
        yield seen | dict(zip(outputs, answers, strict=True))


def _session(model: Any, *, preserve: bool) -> litert.LiteRtSession:
    with tempfile.TemporaryDirectory(prefix="edgeq-") as folder:
        path = Path(folder) / "model.tflite"
        with store.writing(path):
            path.write_bytes(flatbuffer.dump(model))
        return litert.open(path, threads=_THREADS, preserve=preserve)


def answers(made: Any, samples: Iterable[tuple[Array, ...]]) -> Iterator[Sequence[Array]]:
    """What a model answers."""
    session = _session(made, preserve=False)
    for sample in samples:
        yield infer(session, sample)


def corrected(model: Any, known: Known, progress: Progress) -> Any:
    """A quantized model with its weights rounded anew and its biases mended, by what layers were seen to read."""
    made = flatbuffer.parse(flatbuffer.dump(model))
    tensors = made.subgraphs[0].tensors
    found = [
        one
        for one in made.subgraphs[0].operators
        if flatbuffer.type_of(made, one) in reading.LAYERS and tensors[one.outputs[0]].name.decode() in known.layers
    ]
    for done, operator in enumerate(found):
        progress("round weights", done, len(found))
        name, weights = tensors[operator.outputs[0]].name.decode(), tensors[operator.inputs[1]]
        if type_name(weights) != "INT8" or not flatbuffer.is_constant(made, weights):
            continue
        grid = Grid(np.asarray(weights.quantization.scale, np.float64), np.zeros(1, np.int64), -127, 127)
        bias = tensors[operator.inputs[2]] if len(operator.inputs) > 2 and operator.inputs[2] >= 0 else None
        answer = improving.corrected(name, known, grid, has_bias=bias is not None)
        if answer is None:
            continue
        stored = reading.as_stored(known.layers[name], tuple(weights.shape), answer[0].astype(np.int8))
        reading.store(made, weights, stored)
        if bias is not None and answer[1] is not None and type_name(bias) in _BIASES:
            held = np.frombuffer(made.buffers[bias.buffer].data, _BIASES[type_name(bias)])
            scales = None if held.dtype == np.float32 else np.asarray(bias.quantization.scale)
            reading.store(made, bias, improving.mended(held, scales, answer[1]))
    if found:
        progress("round weights", len(found), len(found))
    return made
