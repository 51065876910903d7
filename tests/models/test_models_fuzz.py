"""Damaged files end in a ModelGraph or a ModelError, quickly, whatever was changed in them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeq import models
from edgeq.errors import ModelError
from edgeq.models import liveness, onnx_shapes
from edgeq.models import onnx as onnx_reader
from edgeq.models import tflite as tflite_reader
from edgeq.testing import models as tiny
from edgeq.testing.tflite import Graph, Node, Tensor, tflite_bytes
from edgeq.types import ModelGraph

SECONDS = 2.0
MUTATIONS = 1500
EDGES = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x00\x00\x00\x00", b"\x01\x00\x00\x00")


def truncate(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(len(data)) :]


def flip_bits(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.randrange(1, 9)):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def overwrite(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.randrange(1, 9)):
        data[draw.randrange(len(data))] = draw.randrange(256)


def splice(data: bytearray, draw: random.Random) -> None:
    length, source, target = draw.randrange(1, 64), draw.randrange(len(data)), draw.randrange(len(data))
    data[target : target + length] = data[source : source + length]


def plant_edge(data: bytearray, draw: random.Random) -> None:
    """An offset or a length at a limit, as flatbuffers store them."""
    place = draw.randrange(len(data) - 4) & ~3
    data[place : place + 4] = draw.choice((*EDGES, len(data).to_bytes(4, "little")))


def drop_block(data: bytearray, draw: random.Random) -> None:
    place = draw.randrange(len(data))
    del data[place : place + draw.randrange(1, 64)]


CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    truncate,
    flip_bits,
    overwrite,
    splice,
    plant_edge,
    drop_block,
)


def mutations(content: bytes, count: int, seed: int, keep: slice) -> Iterator[bytes]:
    """`count` damaged copies; the bytes in `keep` stay, so that the damage gets past the format's mark."""
    draw = random.Random(seed)  # noqa: S311 reproducible, not secret
    for _ in range(count):
        data = bytearray(content)
        draw.choice(CHANGES)(data, draw)
        if len(data) > 8:
            data[keep] = content[keep]
        yield bytes(data)


def quantized_content() -> bytes:
    """Control flow, a custom operator, quantized tensors, strings and a variable in one TFLite file."""
    per_channel: dict[str, Any] = {"scales": (1.0,) * 4, "zero_points": (0,) * 4}
    tensors = (
        Tensor(name="x", shape=(-1, 8), dtype="int8", scales=(0.1,), zero_points=(3,)),
        Tensor(name="w", shape=(4, 8), dtype="int8", data=np.ones((4, 8), np.int8), **per_channel),
        Tensor(name="h", shape=(-1, 4), dtype="int8", scales=(0.2,), zero_points=(0,)),
        Tensor(name="state", shape=(1, 4), variable=True),
        Tensor(name="m", shape=(-1, 4), dtype="int8"),
        Tensor(name="y", shape=(-1, 4), dtype="int8"),
    )
    whiles = {"condSubgraphIndex": 1, "bodySubgraphIndex": 1}
    nodes = (
        Node(type="FULLY_CONNECTED", inputs=("x", "w", ""), outputs=("h",), options_table="FullyConnectedOptions"),
        Node(type="Mystery", inputs=("h", "state"), outputs=("m",), custom=True),
        Node(type="WHILE", inputs=("m",), outputs=("y",), options_table="WhileOptions", options=whiles),
    )
    body = Graph(
        tensors=(Tensor(name="a", shape=(4,)), Tensor(name="b", shape=(4,))),
        nodes=(Node(type="RELU", inputs=("a",), outputs=("b",)),),
        inputs=("a",),
        outputs=("b",),
    )
    return tflite_bytes(Graph(tensors=tensors, nodes=nodes, inputs=("x",), outputs=("y",)), body)


def branching_content() -> bytes:
    """An ONNX file with subgraphs, quantization, a local function and constants of several kinds."""
    branch = [
        helper.make_graph(
            [helper.make_node("MatMul", ["r", "w"], [f"{name}_y"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, (1, 4))],
        )
        for name in ("yes", "no")
    ]
    arrays = {"q": np.ones((4, 4), np.int8), "s": np.full(4, 0.5, np.float32), "z": np.zeros(4, np.int8)}
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=1),
        helper.make_node("F", ["x"], ["f"], domain="local"),
        helper.make_node("Constant", [], ["k"], value_floats=[1.0, 2.0, 3.0, 4.0]),
        helper.make_node("Add", ["f", "k"], ["r"]),
        helper.make_node("If", ["c"], ["y"], then_branch=branch[0], else_branch=branch[1]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4]),
        helper.make_tensor_value_info("c", TensorProto.BOOL, ()),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    function = helper.make_function("local", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], opsets[:1])
    return bytes(helper.make_model(graph, opset_imports=opsets, functions=[function]).SerializeToString())


def annotated_content(folder: Path) -> bytes:
    return bytes(onnx.shape_inference.infer_shapes(onnx.load(str(tiny.conv_onnx(folder)))).SerializeToString())


def check(read: Callable[[Path], ModelGraph], path: Path, content: bytes) -> bool:
    """Read a damaged file; whether it was still a model."""
    path.write_bytes(content)
    start = time.process_time()
    try:
        graph = read(path)
        assert liveness.arena_bytes(graph) >= graph.peak_activation_bytes
        assert all(tensor.index == number for number, tensor in enumerate(graph.tensors))
        assert all(
            -1 <= tensor < len(graph.tensors)
            for operator in graph.operators
            for tensor in (*operator.inputs, *operator.outputs)
        )
        return True
    except ModelError as error:
        assert "\n" not in error.message
        assert error.where == str(path)
        return False
    finally:
        assert time.process_time() - start < SECONDS


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", ["conv", "quantized"])
def test_damaged_tflite_files(tmp_path: Path, kind: str, seed: int) -> None:
    content = tiny.conv_tflite(tmp_path).read_bytes() if kind == "conv" else quantized_content()
    damaged = mutations(content, MUTATIONS, seed, slice(4, 8))
    whole = sum(check(tflite_reader.read, tmp_path / "damaged.tflite", each) for each in damaged)
    assert 0 < whole < MUTATIONS, "some damage must be harmless, and some must be found"


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", ["conv", "branching"])
def test_damaged_onnx_files(tmp_path: Path, kind: str, seed: int) -> None:
    content = annotated_content(tmp_path) if kind == "conv" else branching_content()

    def read(path: Path) -> ModelGraph:
        return onnx_reader.read(path, onnx_shapes.written)

    damaged = mutations(content, MUTATIONS, seed, slice(0, 0))
    whole = sum(check(read, tmp_path / "damaged.onnx", each) for each in damaged)
    assert 0 < whole < MUTATIONS


def test_damaged_onnx_files_through_the_inference(tmp_path: Path) -> None:
    damaged = mutations(branching_content(), 30, 3, slice(0, 0))
    assert sum(check(models.read, tmp_path / "damaged.onnx", each) for each in damaged) > 0


@pytest.mark.parametrize("content", [quantized_content(), branching_content()], ids=["tflite", "onnx"])
def test_every_truncation_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    suffix = ".tflite" if content[4:8] == b"TFL3" else ".onnx"
    path = tmp_path / f"short{suffix}"

    def read(path: Path) -> ModelGraph:
        if suffix == ".onnx":
            return onnx_reader.read(path, onnx_shapes.written)
        return tflite_reader.read(path)

    whole = [length for length in range(1, len(content)) if check(read, path, content[:length])]
    assert len(whole) <= 8, "nearly every truncation must be noticed"


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=400), marked=st.booleans(), suffix=st.sampled_from([".tflite", ".onnx"]))
def test_random_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes, marked: bool, suffix: str) -> None:
    path = tmp_path_factory.mktemp("random") / f"random{suffix}"
    check(models.read, path, content[:4] + b"TFL3" + content[8:] if marked and suffix == ".tflite" else content)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 110))
def test_many_more_damaged_files(tmp_path: Path, seed: int) -> None:
    def read_onnx(path: Path) -> ModelGraph:
        return onnx_reader.read(path, onnx_shapes.written)

    for each in mutations(quantized_content(), 3000, seed, slice(4, 8)):
        check(tflite_reader.read, tmp_path / "damaged.tflite", each)
    for each in mutations(branching_content(), 3000, seed, slice(0, 0)):
        check(read_onnx, tmp_path / "damaged.onnx", each)
