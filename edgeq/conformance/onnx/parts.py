"""A graph of ONNX nodes in the making, and the file that it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
_IR_VERSIONS = ((19, 9), (21, 10), (23, 11), (25, 12))
_NEWEST_IR = 13


@dataclass(slots=True)
class Parts:
    """A graph in the making."""

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    def node(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **attributes: Any
    ) -> str:
        """Add a node; the name of its first output."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **attributes))
        return outputs[0]

    def hold(self, name: str, values: Array, dtype: str | None = None) -> str:
        """Add a constant, in `dtype` where numpy has no such type; its name."""
        from onnx import helper, numpy_helper

        if dtype == "int4":
            item = helper.make_tensor(name, element_type("int4"), values.shape, values.ravel().tolist())
        else:
            item = numpy_helper.from_array(values, name)
        self.constants.append(item)
        return name

    def feed(self, name: str, dtype: str, shape: Sequence[int]) -> str:
        """Add an input of the graph; its name."""
        from onnx import helper

        self.inputs.append(helper.make_tensor_value_info(name, element_type(dtype), shape))
        return name


def element_type(dtype: str) -> int:
    """ONNX's number of a data type."""
    from onnx import TensorProto

    return int(TensorProto.DataType.Value({"float32": "FLOAT"}.get(dtype, dtype.upper())))


def content(parts: Parts, opset: int) -> bytes:
    """The model as a file of that opset, with the types of its outputs."""
    from onnx import ValueInfoProto, helper, shape_inference

    outputs = [ValueInfoProto(name=name) for name in parts.outputs]
    graph = helper.make_graph(parts.nodes, "one_operator", parts.inputs, outputs, parts.constants)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    version = next((ir for newest, ir in _IR_VERSIONS if opset < newest), _NEWEST_IR)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=version)
    model = shape_inference.infer_shapes(model)  # gives the outputs their types, except those of composed operators
    for output in model.graph.output:
        if not output.type.tensor_type.elem_type:
            output.type.tensor_type.elem_type = element_type("float32")
    return bytes(model.SerializeToString())
