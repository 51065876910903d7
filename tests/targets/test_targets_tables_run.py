"""The tables against the runtimes themselves: one-operator models of claimed signatures, near to float."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeq import conformance, targets
from edgeq.testing.tflite import Graph, Node, Tensor, tflite_bytes
from edgeq.types import Signature

Array = NDArray[Any]
NEAR = 0.02
"""Largest difference to float that still counts as right, relative to the largest float value."""

RNG = np.random.default_rng(5)
X = RNG.uniform(-1, 1, (1, 4, 4, 4)).astype(np.float32)
Y = RNG.uniform(0.2, 1, (1, 4, 4, 4)).astype(np.float32)


def quantized(
    values: Array, dtype: str, zero: int | None = None, scale: float | None = None
) -> tuple[Array, float, int]:
    """Stored values, scale and zero point; symmetric for int16 and wherever `zero` is given."""
    info = np.iinfo(dtype)
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    if dtype == "int16" or zero == 0:
        scale, zero = scale or max(-low, high, 1e-6) / info.max, 0
    scale = scale or max(high - low, 1e-6) / (info.max - info.min)
    zero = round(-low / scale) + int(info.min) if zero is None else zero
    return np.clip(np.round(values / scale) + zero, info.min, info.max).astype(dtype), scale, zero


def run_tflite(model: bytes, feeds: list[Array]) -> Array:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    for detail, values in zip(interpreter.get_input_details(), feeds, strict=True):
        interpreter.set_tensor(detail["index"], values)
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def tflite(node: Node, feeds: dict[str, Tensor], constants: list[Tensor], output: Tensor) -> bytes:
    tensors = (*feeds.values(), *constants, output)
    return tflite_bytes(Graph(tensors=tensors, nodes=(node,), inputs=tuple(feeds), outputs=(output.name,)))


# --- TFLite: operators without weights -------------------------------------------------------

ONE = (
    "ABS",
    "EXP",
    "SQRT",
    "RSQRT",
    "LOG",
    "RELU",
    "RELU6",
    "LOGISTIC",
    "TANH",
    "SOFTMAX",
    "GELU",
    "LEAKY_RELU",
    "ELU",
)
ONE += (
    "HARD_SWISH",
    "AVERAGE_POOL_2D",
    "MAX_POOL_2D",
    "DEPTH_TO_SPACE",
    "SPACE_TO_DEPTH",
    "SIN",
    "COS",
    "FLOOR",
    "NEG",
)
TWO = ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "POW")
SAME_SCALE = ("AVERAGE_POOL_2D", "MAX_POOL_2D", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH", "MAXIMUM", "MINIMUM")
POSITIVE = ("SQRT", "RSQRT", "LOG", "POW")
POOL = {"strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "SOFTMAX": ("SoftmaxOptions", {"beta": 1.0}),
    "LEAKY_RELU": ("LeakyReluOptions", {"alpha": 0.1}),
    "AVERAGE_POOL_2D": ("Pool2DOptions", POOL),
    "MAX_POOL_2D": ("Pool2DOptions", POOL),
    "DEPTH_TO_SPACE": ("DepthToSpaceOptions", {"blockSize": 2}),
    "SPACE_TO_DEPTH": ("SpaceToDepthOptions", {"blockSize": 2}),
    "GELU": ("GeluOptions", {}),
}
TFLITE = targets.load_table("tflite-litert-cpu").operators
CLAIMED = [(name, one) for name in ONE + TWO for one in TFLITE[name].signatures or () if one.activations != "float32"]


def elementwise(name: str, signature: Signature) -> float:
    """Difference of the claimed signature to float, relative."""
    feeds = [Y if name in POSITIVE else X] + ([Y] if name in TWO else [])
    table, options = OPTIONS.get(name, ("", {}))
    names = tuple(f"in{number}" for number in range(len(feeds)))
    node = Node(type=name, inputs=names, outputs=("out",), options_table=table, options=options)
    plain = {key: Tensor(name=key, shape=X.shape) for key in names}
    wanted = run_tflite(tflite(node, plain, [], Tensor(name="out", shape=X.shape)), feeds)

    dtype = signature.activations
    stored = [quantized(values, dtype) for values in feeds]
    if name in SAME_SCALE:
        _, scale, zero = quantized(np.concatenate(feeds), dtype)
        stored = [quantized(values, dtype, zero, scale) for values in feeds]
    fixed = signature.output
    _, scale, zero = stored[0] if name in SAME_SCALE else quantized(wanted, dtype)
    scale, zero = (fixed.scale or scale, fixed.zero_point or 0) if fixed else (scale, zero)
    typed = {
        key: Tensor(name=key, shape=X.shape, dtype=dtype, scales=(one[1],), zero_points=(one[2],))
        for key, one in zip(names, stored, strict=True)
    }
    output = Tensor(name="out", shape=wanted.shape, dtype=dtype, scales=(scale,), zero_points=(zero,))
    got = run_tflite(tflite(node, typed, [], output), [one[0] for one in stored])
    return float(np.abs((got.astype(np.float64) - zero) * scale - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize(("name", "signature"), CLAIMED, ids=[f"{name}-{one}" for name, one in CLAIMED])
def test_claimed_signature_runs_in_litert(name: str, signature: Signature) -> None:
    assert elementwise(name, signature) < NEAR


DENIED = [("SIN", "int8"), ("FLOOR", "int8"), ("POW", "int8"), ("DEPTH_TO_SPACE", "int16"), ("HARD_SWISH", "int16")]
DENIED += [("ABS", "uint8"), ("SQUARED_DIFFERENCE", "uint8"), ("NEG", "int8"), ("ELU", "int16")]


@pytest.mark.parametrize(("name", "dtype"), DENIED)
def test_denied_signature_fails_in_litert(name: str, dtype: str) -> None:
    assert dtype not in {one.activations for one in TFLITE[name].signatures or ()}
    try:
        difference = elementwise(name, Signature(activations=dtype))
    except (RuntimeError, ValueError):
        return
    assert difference > NEAR


# --- TFLite: layers with weights -------------------------------------------------------------

STRIDES = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, "padding": 0}
LAYERS: dict[str, tuple[str, dict[str, Any], Array, int]] = {
    "CONV_2D": ("Conv2DOptions", STRIDES, RNG.uniform(-1, 1, (8, 3, 3, 4)).astype(np.float32), 0),
    "DEPTHWISE_CONV_2D": (
        "DepthwiseConv2DOptions",
        {**STRIDES, "depthMultiplier": 1},
        RNG.uniform(-1, 1, (1, 3, 3, 4)).astype(np.float32),
        3,
    ),
    "FULLY_CONNECTED": ("FullyConnectedOptions", {}, RNG.uniform(-1, 1, (8, 64)).astype(np.float32), 0),
}
INTEGER = ("int8", "uint8")
WEIGHTED = [(name, one) for name in LAYERS for one in TFLITE[name].signatures or () if one.weights in INTEGER]


def layer(name: str, signature: Signature) -> float:
    """Difference of a layer with quantized weights to float, relative."""
    table, options, weights, axis = LAYERS[name]
    x = X.reshape(1, 64) if name == "FULLY_CONNECTED" else X
    node = Node(type=name, inputs=("in", "w", "b"), outputs=("out",), options_table=table, options=options)
    bias = RNG.uniform(-1, 1, weights.shape[axis]).astype(np.float32)
    constants = [Tensor(name="w", shape=weights.shape, data=weights), Tensor(name="b", shape=bias.shape, data=bias)]
    plain = {"in": Tensor(name="in", shape=x.shape)}
    wanted = run_tflite(tflite(node, plain, constants, Tensor(name="out", shape=(1, 1))), [x])

    dtype, stored_dtype = signature.activations, signature.weights or ""
    around = tuple(number for number in range(weights.ndim) if number != axis)
    per_channel = signature.granularity == "per-channel"
    scales = np.abs(weights).max(axis=around if per_channel else None, keepdims=True) / 127
    middle = 128 if stored_dtype == "uint8" else 0
    flat = scales.ravel()
    w = Tensor(
        name="w",
        shape=weights.shape,
        dtype=stored_dtype,
        data=(np.round(weights / scales) + middle).astype(stored_dtype),
        scales=tuple(map(float, flat)),
        zero_points=(middle,) * len(flat),
        axis=axis if per_channel else 0,
    )
    if dtype == "float32":
        return _relative(
            run_tflite(tflite(node, plain, [w, constants[1]], Tensor(name="out", shape=(1, 1))), [x]), wanted
        )
    values, scale, zero = quantized(x, dtype)
    _, out_scale, out_zero = quantized(wanted, dtype)
    step = scale * flat
    b = Tensor(
        name="b",
        shape=bias.shape,
        dtype=signature.bias or "",
        data=np.round(bias / step).astype(signature.bias),
        scales=tuple(map(float, step)),
        zero_points=(0,) * len(step),
    )
    typed = {"in": Tensor(name="in", shape=x.shape, dtype=dtype, scales=(scale,), zero_points=(zero,))}
    output = Tensor(name="out", shape=wanted.shape, dtype=dtype, scales=(out_scale,), zero_points=(out_zero,))
    got = run_tflite(tflite(node, typed, [w, b], output), [values]).astype(np.float64)
    return _relative((got - out_zero) * out_scale, wanted)


def _relative(got: Array, wanted: Array) -> float:
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize(("name", "signature"), WEIGHTED, ids=[f"{name}-{one}" for name, one in WEIGHTED])
def test_claimed_layer_runs_in_litert(name: str, signature: Signature) -> None:
    assert layer(name, signature) < NEAR


# --- ONNX: the whole table -------------------------------------------------------------------


def test_onnxruntime_table_says_what_onnxruntime_does() -> None:
    table, here = targets.load_table("onnx-ort-cpu"), metadata.version("onnxruntime")
    if here != table.version:
        pytest.skip(f"the table is that of onnxruntime {table.version}, and this is {here}")
    found = conformance.verify(table, "")
    wrong = [f"{one.case.operator} {one.case.signature} {one.case.variant}: {one.why}" for one in found.details]
    assert (found.false_claims, found.missed) == (0, 0), wrong
    assert found.proved > 1000
    assert found.denied > 500
    assert found.version == here
