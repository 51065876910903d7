"""Tiny models with seeded weights, in both formats, and a data set that they classify."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeq.testing.tflite import Graph, Node, Tensor, write_tflite

if TYPE_CHECKING:
    import onnx

Floats = NDArray[np.float32]

CONV_SHAPE = (12, 12, 3)
MLP_SHAPE = (16,)
CLASSES = 4
_NOISE = 0.05


def conv_tflite(folder: Path, name: str = "conv.tflite") -> Path:
    """A convolutional classifier: float input [-1, 12, 12, 3], softmax output [-1, 4].

    CONV_2D, DEPTHWISE_CONV_2D (RELU6 fused), AVERAGE_POOL_2D, MEAN, FULLY_CONNECTED, SOFTMAX. It scores
    above 0.9 on `tiny_dataset(folder, CONV_SHAPE, CLASSES)`.
    """
    return write_tflite(folder / name, conv_graph())


def conv_graph() -> Graph:
    """The subgraph of `conv_tflite`."""
    weights = conv_weights()
    tensors = (
        Tensor(name="input", shape=(-1, *CONV_SHAPE)),
        _constant("conv/w", weights["conv"].transpose(3, 0, 1, 2)),
        _constant("conv/b", weights["conv_bias"]),
        Tensor(name="conv", shape=(-1, 6, 6, 8)),
        _constant("depthwise/w", weights["depthwise"][np.newaxis]),
        _constant("depthwise/b", weights["depthwise_bias"]),
        Tensor(name="depthwise", shape=(-1, 6, 6, 8)),
        Tensor(name="pool", shape=(-1, 3, 3, 8)),
        _constant("mean/axes", np.array([1, 2], np.int32)),
        Tensor(name="mean", shape=(-1, 8)),
        _constant("dense/w", weights["dense"].T),
        _constant("dense/b", weights["dense_bias"]),
        Tensor(name="dense", shape=(-1, CLASSES)),
        Tensor(name="scores", shape=(-1, CLASSES)),
    )
    relu6 = {"fusedActivationFunction": 3}
    nodes = (
        Node(
            type="CONV_2D",
            inputs=("input", "conv/w", "conv/b"),
            outputs=("conv",),
            options_table="Conv2DOptions",
            options={"strideW": 2, "strideH": 2, **relu6},
        ),
        Node(
            type="DEPTHWISE_CONV_2D",
            inputs=("conv", "depthwise/w", "depthwise/b"),
            outputs=("depthwise",),
            options_table="DepthwiseConv2DOptions",
            options={"strideW": 1, "strideH": 1, "depthMultiplier": 1, **relu6},
        ),
        Node(
            type="AVERAGE_POOL_2D",
            inputs=("depthwise",),
            outputs=("pool",),
            options_table="Pool2DOptions",
            options={"padding": 1, "strideW": 2, "strideH": 2, "filterWidth": 2, "filterHeight": 2},
        ),
        Node(type="MEAN", inputs=("pool", "mean/axes"), outputs=("mean",), options_table="ReducerOptions"),
        _dense("mean", "dense", "dense"),
        _softmax("dense", "scores"),
    )
    return Graph(tensors=tensors, nodes=nodes, inputs=("input",), outputs=("scores",))


def mlp_tflite(folder: Path, name: str = "mlp.tflite") -> Path:
    """Two dense layers and a softmax: float input [-1, 16], output [-1, 4]."""
    hidden, hidden_bias, dense, dense_bias = mlp_weights()
    tensors = (
        Tensor(name="input", shape=(-1, *MLP_SHAPE)),
        _constant("hidden/w", hidden.T),
        _constant("hidden/b", hidden_bias),
        Tensor(name="hidden", shape=(-1, 32)),
        _constant("dense/w", dense.T),
        _constant("dense/b", dense_bias),
        Tensor(name="dense", shape=(-1, CLASSES)),
        Tensor(name="scores", shape=(-1, CLASSES)),
    )
    nodes = (_dense("input", "hidden", "hidden", activation=1), _dense("hidden", "dense", "dense"))
    graph = Graph(tensors=tensors, nodes=(*nodes, _softmax("dense", "scores")), inputs=("input",), outputs=("scores",))
    return write_tflite(folder / name, graph)


def offset_tflite(folder: Path, offset: float, name: str = "offset.tflite") -> Path:
    """`mlp_tflite` with an offset added to its input and taken away again: rounding between them ruins it.

    ADD and SUB are operators 0 and 1, the tensor between them is `raised`.
    """
    hidden, hidden_bias, dense, dense_bias = mlp_weights()
    tensors = (
        Tensor(name="input", shape=(-1, *MLP_SHAPE)),
        _constant("offset", np.array([offset], np.float32)),
        Tensor(name="raised", shape=(-1, *MLP_SHAPE)),
        Tensor(name="lowered", shape=(-1, *MLP_SHAPE)),
        _constant("hidden/w", hidden.T),
        _constant("hidden/b", hidden_bias),
        Tensor(name="hidden", shape=(-1, 32)),
        _constant("dense/w", dense.T),
        _constant("dense/b", dense_bias),
        Tensor(name="scores", shape=(-1, CLASSES)),
    )
    nodes = (
        Node(type="ADD", inputs=("input", "offset"), outputs=("raised",), options_table="AddOptions"),
        Node(type="SUB", inputs=("raised", "offset"), outputs=("lowered",), options_table="SubOptions"),
        _dense("lowered", "hidden", "hidden", activation=1),
        _dense("hidden", "dense", "scores"),
    )
    graph = Graph(tensors=tensors, nodes=nodes, inputs=("input",), outputs=("scores",))
    return write_tflite(folder / name, graph)


def custom_op_tflite(folder: Path, name: str = "custom.tflite") -> Path:
    """The dense classifier's shapes with a custom operator `EdgeqMystery` in the middle."""
    tensors = (
        Tensor(name="input", shape=(-1, *MLP_SHAPE)),
        Tensor(name="mystery", shape=(-1, *MLP_SHAPE)),
        _constant("dense/w", np.ones((CLASSES, *MLP_SHAPE), np.float32)),
        _constant("dense/b", np.zeros(CLASSES, np.float32)),
        Tensor(name="dense", shape=(-1, CLASSES)),
    )
    mystery = Node(type="EdgeqMystery", inputs=("input",), outputs=("mystery",), custom=True)
    nodes = (mystery, _dense("mystery", "dense", "dense"))
    return write_tflite(folder / name, Graph(tensors=tensors, nodes=nodes, inputs=("input",), outputs=("dense",)))


def conv_onnx(folder: Path, name: str = "conv.onnx") -> Path:
    """The network of `conv_tflite` in ONNX: input [N, 3, 12, 12], opset 17.

    Give `tiny_dataset` the argument `channels_first=True` for it.
    """
    import onnx

    path = folder / name
    onnx.save(_conv_model(), str(path))
    return path


def external_data_onnx(folder: Path, name: str = "external.onnx") -> Path:
    """`conv_onnx` with its weights in `<name>.data` beside it."""
    import onnx

    path = folder / name
    data = path.with_name(path.name + ".data")
    data.unlink(missing_ok=True)
    onnx.save_model(_conv_model(), str(path), save_as_external_data=True, location=data.name, size_threshold=0)
    return path


def custom_op_onnx(folder: Path, name: str = "custom.onnx") -> Path:
    """A Relu behind a node `Mystery` of the domain `edgeq.test`, which no runtime has."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Mystery", ["input"], ["mystery"], domain="edgeq.test", strength=3),
        helper.make_node("Relu", ["mystery"], ["scores"]),
    ]
    ports = [helper.make_tensor_value_info(port, TensorProto.FLOAT, ["N", *MLP_SHAPE]) for port in ("input", "scores")]
    graph = helper.make_graph(nodes, "custom", ports[:1], ports[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("edgeq.test", 1)]
    path = folder / name
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path


def tiny_dataset(
    folder: Path,
    shape: Sequence[int] = CONV_SHAPE,
    classes: int = CLASSES,
    *,
    count: int = 64,
    channels_first: bool = False,
) -> Path:
    """`samples.npz` (x, y) and `dataset.yaml` for it; the yaml's path.

    Each class is a seeded pattern plus noise, float32 around 0..1. The first quarter calibrates and the
    rest scores, by top1. `channels_first` adds the transpose that an ONNX image model wants.
    """
    samples, labels = tiny_samples(shape, classes, count)
    np.savez(folder / "samples.npz", x=samples, y=labels)
    transpose = ", transpose: [2, 0, 1]" if channels_first else ""
    path = folder / "dataset.yaml"
    path.write_text(
        "# A tiny made-up classification set\n"
        f"inputs:\n  - {{npz: samples.npz, array: x{transpose}}}\n"
        "labels: {npz: samples.npz, array: y}\n"
        "metric: top1\n"
        f'calibration: "0:{count // 4}"\nevaluation: "{count // 4}:{count}"\n'
    )
    return path


def tiny_samples(shape: Sequence[int], classes: int, count: int, seed: int = 1) -> tuple[Floats, NDArray[np.int64]]:
    """Samples [count, *shape] and labels [count]; the patterns depend on shape and classes only."""
    patterns = np.random.default_rng(0).uniform(0, 1, (classes, *shape))
    noise = np.random.default_rng(seed).normal(0, _NOISE, (count, *shape))
    labels = np.arange(count, dtype=np.int64) % classes
    return (patterns[labels] + noise).astype(np.float32), labels


def conv_weights() -> dict[str, Floats]:
    """Weights of the convolutional classifier: [height, width, in, out] kernels; the last layer is fitted."""
    draw = np.random.default_rng(7).normal
    made = {
        "conv": draw(0, 0.3, (3, 3, 3, 8)).astype(np.float32),
        "conv_bias": draw(0.5, 0.2, 8).astype(np.float32),
        "depthwise": draw(0, 0.5, (3, 3, 8)).astype(np.float32),
        "depthwise_bias": draw(0.5, 0.2, 8).astype(np.float32),
    }
    samples, labels = tiny_samples(CONV_SHAPE, CLASSES, 256, seed=2)
    made["dense"], made["dense_bias"] = _fit(_conv_features(samples, made), labels)
    return made


def mlp_weights() -> tuple[Floats, Floats, Floats, Floats]:
    """Weights [in, out] and biases of both dense layers; the last layer is fitted."""
    draw = np.random.default_rng(9).normal
    hidden, bias = draw(0, 0.4, (*MLP_SHAPE, 32)).astype(np.float32), draw(0, 0.2, 32).astype(np.float32)
    samples, labels = tiny_samples(MLP_SHAPE, CLASSES, 256, seed=2)
    return (hidden, bias, *_fit(np.maximum(samples @ hidden + bias, 0), labels))


def _conv_features(samples: Floats, weights: dict[str, Floats]) -> Floats:
    padded = np.pad(samples, ((0, 0), (0, 1), (0, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::2, ::2]
    values = np.clip(np.einsum("nhwcij,ijco->nhwo", windows, weights["conv"]) + weights["conv_bias"], 0, 6)
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    values = np.clip(np.einsum("nhwcij,ijc->nhwc", windows, weights["depthwise"]) + weights["depthwise_bias"], 0, 6)
    return np.asarray(values.mean(axis=(1, 2)), np.float32)


def _fit(features: Floats, labels: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Ridge regression towards logits of +4 for the label and -4 for the others: small weights bear eight bits."""
    columns = np.concatenate([features, np.ones((len(features), 1), np.float32)], axis=1)
    wanted = np.where(labels[:, None] == np.arange(CLASSES), 4.0, -4.0)
    gram = columns.T @ columns + 0.03 * np.eye(columns.shape[1])
    solution = np.linalg.solve(gram, columns.T @ wanted).astype(np.float32)
    return solution[:-1], solution[-1]


def _conv_model() -> onnx.ModelProto:
    from onnx import TensorProto, helper, numpy_helper

    weights = conv_weights()
    arrays = {
        "conv_w": weights["conv"].transpose(3, 2, 0, 1),
        "conv_b": weights["conv_bias"],
        "depthwise_w": weights["depthwise"].transpose(2, 0, 1)[:, np.newaxis],
        "depthwise_b": weights["depthwise_bias"],
        "low": np.array(0, np.float32),
        "high": np.array(6, np.float32),
        "dense_w": weights["dense"],
        "dense_b": weights["dense_bias"],
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["input", "conv_w", "conv_b"], ["conv_raw"], pads=[0, 0, 1, 1], strides=[2, 2]),
        node("Clip", ["conv_raw", "low", "high"], ["conv"]),
        node("Conv", ["conv", "depthwise_w", "depthwise_b"], ["depthwise_raw"], pads=[1, 1, 1, 1], group=8),
        node("Clip", ["depthwise_raw", "low", "high"], ["depthwise"]),
        node("AveragePool", ["depthwise"], ["pool"], kernel_shape=[2, 2], strides=[2, 2]),
        node("ReduceMean", ["pool"], ["mean"], axes=[2, 3], keepdims=0),
        node("Gemm", ["mean", "dense_w", "dense_b"], ["dense"]),
        node("Softmax", ["dense"], ["scores"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "conv",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 12, 12])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(np.ascontiguousarray(array), key) for key, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _constant(name: str, data: NDArray[Any]) -> Tensor:
    return Tensor(name=name, shape=data.shape, dtype=str(data.dtype), data=data)


def _dense(source: str, weights: str, result: str, activation: int = 0) -> Node:
    return Node(
        type="FULLY_CONNECTED",
        inputs=(source, f"{weights}/w", f"{weights}/b"),
        outputs=(result,),
        options_table="FullyConnectedOptions",
        options={"fusedActivationFunction": activation},
    )


def _softmax(source: str, result: str) -> Node:
    return Node(
        type="SOFTMAX", inputs=(source,), outputs=(result,), options_table="SoftmaxOptions", options={"beta": 1.0}
    )
