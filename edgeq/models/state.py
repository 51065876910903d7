"""How far a model is quantized already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgeq.models.liveness import DEQUANTIZES
from edgeq.models.tensors import ACTIVATION_INTEGERS, SMALL_INTEGERS
from edgeq.types import Operator, TensorSpec

State = Literal["float", "quantized", "weights", "partial"]

_LSTM = (*range(1, 9), 16)

Role = tuple[int | None, tuple[int, ...]]

_TFLITE: Mapping[str, Role] = {
    "CONV_2D": (0, (1,)),
    "CONV_3D": (0, (1,)),
    "DEPTHWISE_CONV_2D": (0, (1,)),
    "TRANSPOSE_CONV": (2, (1,)),
    "CONV_3D_TRANSPOSE": (2, (1,)),
    "FULLY_CONNECTED": (0, (1,)),
    "BATCH_MATMUL": (0, (0, 1)),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (0, _LSTM),
    "BIDIRECTIONAL_SEQUENCE_LSTM": (0, (*_LSTM, *range(18, 26), 33)),
    "LSTM": (0, _LSTM),
    "RNN": (0, (1, 2)),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (0, (1, 2)),
    "BIDIRECTIONAL_SEQUENCE_RNN": (0, (1, 2, 4, 5)),
    "SVDF": (0, (1, 2)),
}
_ONNX: Mapping[str, Role] = {
    "Conv": (0, (1,)),
    "ConvTranspose": (0, (1,)),
    "MatMul": (0, (0, 1)),
    "Gemm": (0, (0, 1)),
    "LSTM": (0, (1, 2)),
    "GRU": (0, (1, 2)),
    "RNN": (0, (1, 2)),
    "QLinearConv": (0, (3,)),
    "QLinearMatMul": (0, (3,)),
    "com.microsoft.FusedConv": (0, (1,)),
    "com.microsoft.FusedMatMul": (0, (0, 1)),
    "com.microsoft.QGemm": (0, (3,)),
    # their integer activations are made at run time: dynamic range
    "ConvInteger": (None, (1,)),
    "MatMulInteger": (None, (1,)),
    "com.microsoft.DynamicQuantizeMatMul": (None, (1,)),
    "com.microsoft.MatMulIntegerToFloat": (None, (1,)),
    "com.microsoft.MatMulNBits": (None, (1,)),
    "com.microsoft.DynamicQuantizeLSTM": (None, (1, 2)),
}
ROLES: Mapping[str, Mapping[str, Role]] = {"tflite": _TFLITE, "onnx": _ONNX}
"""Format -> compute operator -> position of its activation (None: quantized at run time), positions of its weights."""

PASSING = DEQUANTIZES | {"CAST", "Cast", "TRANSPOSE", "Transpose"}
"""What may stand between a stored constant and the operator that uses it as weights."""


@dataclass(frozen=True, slots=True)
class _Fact:
    """Stored data types of a compute operator's activation and weights ("" for none)."""

    activation: str
    weights: str
    behind: bool

    @property
    def is_reduced(self) -> bool:
        return self.weights in SMALL_INTEGERS or (self.weights == "float16" and self.activation != "float16")


def find_state(format: str, tensors: Sequence[TensorSpec], operators: Sequence[Operator]) -> tuple[State, str | None]:
    """The state of a model and, where something is reduced, a sentence that says what was found.

    Looked at are the compute operators (convolutions, matrix products, recurrent layers):

    - `quantized`: the activations of at least one are integers fixed ahead of time (stored as integers, or
      behind DequantizeLinear). It is taken as it stands.
    - `weights`: activations are float and every operator with weights has reduced ones: integers read
      directly (dynamic range), or float16. It is taken as it stands.
    - `partial`: activations are float, and some operators' weights are integers while others' are float, or
      integer weights stand behind DEQUANTIZE. Its weights can be restored to float.
    - `float`: none of these.
    """
    makers = {tensor: operator for operator in operators for tensor in operator.outputs}
    roles = ROLES[format]
    facts = [_fact(operator, roles[operator.type], tensors, makers) for operator in operators if operator.type in roles]
    static = sum(fact.activation in ACTIVATION_INTEGERS for fact in facts)
    if static or (not facts and any(_is_integer_activation(tensor) for tensor in tensors)):
        return "quantized", f"quantized: {static} of {len(facts)} compute operators have integer activations"
    weighted = [fact for fact in facts if fact.weights]
    if not any(fact.is_reduced for fact in weighted):
        return "float", None
    return _reduced(weighted), _sentence(weighted)


def _reduced(weighted: Sequence[_Fact]) -> State:
    integers = [fact for fact in weighted if fact.weights in SMALL_INTEGERS]
    if all(fact.is_reduced for fact in weighted) and not any(fact.behind for fact in integers):
        return "weights"
    return "partial" if integers else "float"


def _sentence(weighted: Sequence[_Fact]) -> str:
    kinds = Counter(fact.weights + (" behind DEQUANTIZE" if fact.behind else "") for fact in weighted)
    listed = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    return f"weights of the compute operators: {listed}; activations are float"


def _fact(operator: Operator, role: Role, tensors: Sequence[TensorSpec], makers: Mapping[int, Operator]) -> _Fact:
    position, places = role
    inputs = dict(enumerate(operator.inputs))
    weights = [stored(inputs.get(place, -1), tensors, makers) for place in places]
    constants = [(tensor.dtype, behind) for tensor, behind in weights if tensor is not None and tensor.is_constant]
    constants.sort(key=lambda constant: constant[0] not in SMALL_INTEGERS)
    kind, behind = constants[0] if constants else ("", False)
    source = None if position is None else stored(inputs.get(position, -1), tensors, makers)[0]
    return _Fact(source.dtype if source else "", kind, behind)


def stored(
    tensor: int, tensors: Sequence[TensorSpec], makers: Mapping[int, Operator]
) -> tuple[TensorSpec | None, bool]:
    """What is stored behind a tensor: through DEQUANTIZE always, through CAST and TRANSPOSE to a constant.

    Second: whether a DEQUANTIZE was passed. An operand left out is (None, False).
    """
    if tensor < 0:
        return None, False
    start, dequantized = tensor, False
    for _ in range(4):
        maker = makers.get(tensor)
        if maker is None or maker.type not in PASSING or not maker.inputs or maker.inputs[0] < 0:
            break
        tensor = maker.inputs[0]
        if maker.type in DEQUANTIZES:
            start, dequantized = tensor, True
    return tensors[tensor if tensors[tensor].is_constant else start], dequantized


def _is_integer_activation(tensor: TensorSpec) -> bool:
    return tensor.dtype in ACTIVATION_INTEGERS and tensor.quantization is not None and not tensor.is_constant
