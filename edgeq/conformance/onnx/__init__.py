"""One-operator ONNX models of an operator table's signatures, for every prover that reads ONNX.

`cases` lists what to try, `twin` builds the float model with its feeds, and `quantized` the model that a signature asks
for, from what the twin computes. Nothing here knows a runtime or an execution provider.
"""

from __future__ import annotations

from edgeq.conformance.onnx.build import OPSET, NoModel, OneOperator, form, quantized, twin
from edgeq.conformance.onnx.universe import cases

__all__ = ["OPSET", "NoModel", "OneOperator", "cases", "form", "quantized", "twin"]
