"""Tiny graphs, tables and targets built by hand, for every test of the planner."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from edgeq.types import (
    Cpu,
    Memory,
    ModelGraph,
    Operator,
    OperatorRow,
    OperatorTable,
    Quantization,
    Roofline,
    RuntimeSpec,
    Signature,
    Target,
    TensorSpec,
)

BYTES = {"int8": 1, "uint8": 1, "float16": 2, "float32": 4, "int32": 4, "int64": 8}


class Graph:
    """Collects tensors and operators by name and makes a ModelGraph of them."""

    def __init__(self, model_format: str = "tflite") -> None:
        self.format = model_format
        self.names: dict[str, int] = {}
        self.tensors: list[TensorSpec] = []
        self.operators: list[Operator] = []

    def tensor(
        self, name: str, shape: Sequence[int], dtype: str = "float32", *, constant: bool = False, **words: Any
    ) -> Graph:
        count = 1
        for length in shape:
            count *= abs(length)
        spec = TensorSpec(
            index=len(self.tensors),
            name=name,
            shape=tuple(shape),
            dtype=dtype,
            size_bytes=count * BYTES[dtype],
            is_constant=constant,
            quantization=words.get("quantization"),
        )
        self.names[name] = spec.index
        self.tensors.append(spec)
        return self

    def operator(self, kind: str, inputs: str, outputs: str, **words: Any) -> Graph:
        self.operators.append(
            Operator(
                index=len(self.operators),
                type=kind,
                version=words.pop("version", 1),
                inputs=tuple(self.names.get(name, -1) for name in inputs.split()),
                outputs=tuple(self.names[name] for name in outputs.split()),
                macs=words.pop("macs", 0),
                custom=words.pop("custom", False),
                attributes=words,
            )
        )
        return self

    def done(self, inputs: str, outputs: str, state: str = "float") -> ModelGraph:
        weight_bytes = sum(tensor.size_bytes for tensor in self.tensors if tensor.is_constant)
        return ModelGraph(
            format=self.format,  # type: ignore[arg-type]
            path=f"model.{self.format}",
            sha256="0" * 64,
            size_bytes=weight_bytes + 2000,
            inputs=tuple(self.names[name] for name in inputs.split()),
            outputs=tuple(self.names[name] for name in outputs.split()),
            tensors=tuple(self.tensors),
            operators=tuple(self.operators),
            parameters=0,
            weight_bytes=weight_bytes,
            macs=sum(operator.macs for operator in self.operators),
            peak_activation_bytes=0,
            state=state,  # type: ignore[arg-type]
        )


def conv_net() -> Graph:
    """Two convolutions, reshape, dense, softmax."""
    return (
        Graph()
        .tensor("x", (1, 8, 8, 3))
        .tensor("w1", (16, 3, 3, 3), constant=True)
        .tensor("b1", (16,), constant=True)
        .tensor("a", (1, 8, 8, 16))
        .tensor("wm", (16, 3, 3, 16), constant=True)
        .tensor("bm", (16,), constant=True)
        .tensor("m", (1, 8, 8, 16))
        .tensor("shape", (2,), "int32", constant=True)
        .tensor("flat", (1, 1024))
        .tensor("w2", (10, 1024), constant=True)
        .tensor("b2", (10,), constant=True)
        .tensor("dense", (1, 10))
        .tensor("y", (1, 10))
        .operator("CONV_2D", "x w1 b1", "a", macs=27648, stride_w=1)
        .operator("CONV_2D", "a wm bm", "m", macs=147456, stride_w=1)
        .operator("RESHAPE", "m shape", "flat")
        .operator("FULLY_CONNECTED", "flat w2 b2", "dense", macs=10240)
        .operator("SOFTMAX", "dense", "y")
    )


def quantized_net(
    conv_weights: str = "int8", granularity: str = "per-channel", softmax_scale: float = 1 / 256
) -> Graph:
    """A convolution and a softmax as a converter left them."""
    activation = Quantization(scales=(0.1,), zero_points=(3,))
    count = 16 if granularity == "per-channel" else 1
    weights = Quantization(scales=(0.01,) * count, zero_points=(0,) * count, axis=0 if count > 1 else None)
    return (
        Graph()
        .tensor("x", (1, 8, 8, 3), "int8", quantization=activation)
        .tensor("w", (16, 3, 3, 3), conv_weights, constant=True, quantization=weights)
        .tensor("b", (16,), "int32", constant=True, quantization=weights)
        .tensor("a", (1, 8, 8, 16), "int8", quantization=activation)
        .tensor("y", (1, 8, 8, 16), "int8", quantization=Quantization(scales=(softmax_scale,), zero_points=(-128,)))
        .operator("CONV_2D", "x w b", "a", macs=27648)
        .operator("SOFTMAX", "a", "y")
    )


def onnx_net() -> Graph:
    """Convolution, Relu, matrix product."""
    return (
        Graph("onnx")
        .tensor("x", (1, 3, 8, 8))
        .tensor("w1", (4, 3, 3, 3), constant=True)
        .tensor("b1", (4,), constant=True)
        .tensor("a", (1, 4, 8, 8))
        .tensor("r", (1, 4, 8, 8))
        .tensor("w2", (8, 10), constant=True)
        .tensor("y", (1, 4, 8, 10))
        .operator("Conv", "x w1 b1", "a", macs=6912)
        .operator("Relu", "a", "r")
        .operator("MatMul", "r w2", "y", macs=2560)
    )


PER_CHANNEL = Signature(
    activations="int8", weights="int8", bias="int32", granularity="per-channel", symmetric="weights"
)
PER_TENSOR = dataclasses.replace(PER_CHANNEL, granularity="per-tensor")
DYNAMIC = Signature(activations="float32", weights="int8", granularity="per-channel", symmetric="weights")
FLOAT = Signature(activations="float32", weights="float32")
LAYER = (PER_CHANNEL, PER_TENSOR, DYNAMIC, FLOAT)


def rows(**changed: OperatorRow | None) -> dict[str, OperatorRow]:
    """The operators of a small CPU runtime; a row of None is taken out."""
    plain = (Signature(activations="int8"), Signature(activations="float32"))
    found: dict[str, OperatorRow | None] = {
        "CONV_2D": OperatorRow(signatures=LAYER, max_version=6),
        "FULLY_CONNECTED": OperatorRow(signatures=LAYER),
        "ADD": OperatorRow(signatures=plain),
        "MUL": OperatorRow(signatures=plain),
        "LOGISTIC": OperatorRow(signatures=plain),
        "SOFTMAX": OperatorRow(signatures=plain),
        "RESHAPE": OperatorRow(signatures=None, passes_quantization=True),
        "DEQUANTIZE": OperatorRow(signatures=None),
        **changed,
    }
    return {name: row for name, row in found.items() if row is not None}


def onnx_rows() -> dict[str, OperatorRow]:
    both = tuple(
        Signature(activations=kind, weights=kind, bias="int32", granularity=granularity)
        for kind in ("int8", "uint8")
        for granularity in ("per-channel", "per-tensor")
    )
    plain = tuple(Signature(activations=kind) for kind in ("int8", "uint8", "float32"))
    return {
        "Conv": OperatorRow(signatures=(*both, FLOAT)),
        "MatMul": OperatorRow(signatures=(*both, DYNAMIC, FLOAT)),
        "Relu": OperatorRow(signatures=plain),
        "Cast": OperatorRow(signatures=None),
        "QuantizeLinear": OperatorRow(signatures=None),
        "DequantizeLinear": OperatorRow(signatures=None),
    }


def table(operators: Mapping[str, OperatorRow], name: str = "tiny", fallback: str = "none") -> OperatorTable:
    return OperatorTable(
        name=name,
        runtime=name,
        version="1",
        source="a test",
        operators=dict(operators),
        fallback=fallback,  # type: ignore[arg-type]
    )


def target(*, kind: str = "linux", features: tuple[str, ...] = (), **words: Any) -> Target:
    runtimes = (
        RuntimeSpec(name="litert", format="tflite", operators="tiny"),
        RuntimeSpec(name="onnxruntime", format="onnx", operators="tiny-onnx"),
    )
    return Target(
        name="board",
        title="A board",
        kind=kind,  # type: ignore[arg-type]
        cpu=Cpu(arch=words.get("arch", "aarch64"), core="any", features=features),
        memory=words.get("memory", Memory(ram_bytes=1 << 30)),
        runtimes=words.get("runtimes", runtimes),
        sources=(),
        roofline=words.get("roofline"),
    )


ROOFLINE = Roofline(source="a test", int8_macs_per_s=4e9, float32_macs_per_s=1e9, memory_bytes_per_s=1e9)


class Tiny:
    """What the tests take through the fixture `tiny`."""

    Graph = Graph
    conv_net = staticmethod(conv_net)
    quantized_net = staticmethod(quantized_net)
    onnx_net = staticmethod(onnx_net)
    rows = staticmethod(rows)
    onnx_rows = staticmethod(onnx_rows)
    table = staticmethod(table)
    target = staticmethod(target)
    layer, per_channel, per_tensor, dynamic, float32 = LAYER, PER_CHANNEL, PER_TENSOR, DYNAMIC, FLOAT
    roofline = ROOFLINE

    @staticmethod
    def tables(fallback: str = "none", **changed: OperatorRow | None) -> dict[str, OperatorTable]:
        return {
            "tiny": table(rows(**changed), fallback=fallback),
            "tiny-onnx": table(onnx_rows(), "tiny-onnx", fallback),
        }


@pytest.fixture(scope="session")
def tiny() -> type[Tiny]:
    """Builders of tiny graphs, tables and targets."""
    return Tiny
