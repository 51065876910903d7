"""Makes `edgeq/lab/onboard/known_answer.py`: two tiny INT8 models whose answer is known by hand.

Run `python -m edgeq.testing.known_answer` after a change here and commit the result.
"""

from __future__ import annotations

import base64
import textwrap
from pathlib import Path

import numpy as np

from edgeq.testing.tflite import Graph, Node, Tensor, tflite_bytes

TARGET = Path(__file__).parents[1] / "lab/onboard/known_answer.py"
INPUT = np.array([[1, 2, 3, 4, 5, 6, 7, 8]])
WEIGHTS = np.array(
    [[1, 0, 2, 0, 1, 0, 2, 1], [0, 1, 0, 1, 0, 1, 0, 1], [2, 1, 1, 0, 0, 1, 1, 2], [1, 1, 1, 1, 1, 1, 1, 1]]
)
ANSWER = INPUT @ WEIGHTS.T


def tflite_model() -> bytes:
    """An INT8 FULLY_CONNECTED with all scales 1, so that stored values are the products themselves."""
    unit = {"scales": (1.0,), "zero_points": (0,)}
    tensors = (
        Tensor(name="x", shape=(1, 8), dtype="int8", **unit),  # type: ignore[arg-type]
        Tensor(name="w", shape=WEIGHTS.shape, dtype="int8", data=WEIGHTS.astype(np.int8), **unit),  # type: ignore[arg-type]
        Tensor(name="b", shape=(4,), dtype="int32", data=np.zeros(4, np.int32), **unit),  # type: ignore[arg-type]
        Tensor(name="y", shape=(1, 4), dtype="int8", **unit),  # type: ignore[arg-type]
    )
    node = Node(
        type="FULLY_CONNECTED",
        inputs=("x", "w", "b"),
        outputs=("y",),
        options_table="FullyConnectedOptions",
        version=4,
    )
    return tflite_bytes(Graph(tensors=tensors, nodes=(node,), inputs=("x",), outputs=("y",)), signature=False)


def onnx_model() -> bytes:
    """A UINT8 QLinearMatMul with all scales 1, opset 10 for the sake of old runtimes."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {"w": WEIGHTS.T.astype(np.uint8), "one": np.array(1, np.float32), "zero": np.array(0, np.uint8)}
    node = helper.make_node("QLinearMatMul", ["x", "one", "zero", "w", "one", "zero", "one", "zero"], ["y"])
    graph = helper.make_graph(
        [node],
        "known",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [1, 4])],
        [numpy_helper.from_array(np.ascontiguousarray(array), key) for key, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 10)], ir_version=5)
    return bytes(model.SerializeToString(deterministic=True))


def source() -> str:
    """Text of the module that the onboard runner carries."""
    blocks = "\n".join(_literal(name, data) for name, data in (("TFLITE", tflite_model()), ("ONNX", onnx_model())))
    return (
        '"""Two tiny INT8 models with a known answer; made by edgeq/testing/known_answer.py."""\n\n'
        "import base64\n\n"
        f"INPUT = {INPUT.tolist()}\nANSWER = {ANSWER.tolist()}\n{blocks}"
    )


def _literal(name: str, data: bytes) -> str:
    lines = textwrap.wrap(base64.b64encode(data).decode(), 100)
    body = "".join(f'    "{line}"\n' for line in lines)
    return f"{name} = base64.b64decode(\n{body})\n"


if __name__ == "__main__":
    TARGET.write_text(source())
