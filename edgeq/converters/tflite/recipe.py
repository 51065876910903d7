"""A scheme as litert-quantizer's recipe."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

from edgeq.converters._flatbuffer import Model, numbered, type_of
from edgeq.errors import ConvertError
from edgeq.types import Scheme, Signature

RecipeManager: TypeAlias = Any

_EVERYTHING = "*"
_NO_QUANTIZE = "no_quantize"
_ROUNDING = "min_max_uniform_quantize"
_CASTING = "float_casting"
_FLOAT = ("float32", "float32")
_INTEGERS = ("int8", "int16")


class _Row(NamedTuple):
    """What litert-quantizer is asked for; None leaves activations in float."""

    activation_bits: int | None
    weight_bits: int
    algorithm: str = _ROUNDING


# By types of activations and weights, and whether weights are expanded to float before the operator.
_ROWS = {
    ("int8", "int8", False): _Row(8, 8),
    ("int16", "int8", False): _Row(16, 8),
    ("float32", "int8", False): _Row(None, 8),
    ("float32", "int8", True): _Row(None, 8),
    ("float32", "int4", True): _Row(None, 4),
    ("float32", "float16", True): _Row(None, 16, _CASTING),
}
# LiteRT's integer kernel reads one scale for a constant operand and answers 0 to several.
_ONE_SCALE = ("BATCH_MATMUL",)
# litert-quantizer has no 4-bit setting for them, under its own names.
_EIGHT_BITS = ("DEPTHWISE_CONV_2D", "CONV_2D_TRANSPOSE")


def recipe(scheme: Scheme, model: Model, exceptions: Mapping[int, Signature]) -> RecipeManager:
    """Settings for a model whose tensors are numbered; `exceptions` by operator of the first subgraph.

    Subgraphs behind the first (bodies of IF and WHILE) stay in float: their tensors are not calibrated.
    Raises ConvertError for a signature that litert-quantizer has no setting for.
    """
    from litert_quantizer import recipe_manager

    settings = recipe_manager.RecipeManager()
    settings.add_quantization_config(".*", _EVERYTHING, *_setting(scheme.name, scheme.default))
    for operation in (*_ONE_SCALE, *_EIGHT_BITS):
        if _fitted(scheme.default, operation) != scheme.default:
            setting = _setting(scheme.name, _fitted(scheme.default, operation))
            settings.add_quantization_config(".*", operation, *setting)
    if len(model.subgraphs) > 1:
        settings.add_quantization_config(r"^[1-9]\d*\.", _EVERYTHING, None, _NO_QUANTIZE)
    for (operation, signature), scopes in _grouped(model, exceptions).items():
        pattern = f"^(?:{'|'.join(map(re.escape, scopes))})$"
        setting = _setting(scheme.name, _fitted(signature, str(operation.value)))
        settings.add_quantization_config(pattern, operation, *setting)
    return settings


def is_expanded(name: str) -> bool:
    """Whether a scheme stores weights small and computes in float: they are expanded before the operator."""
    return name.startswith("weight_only_")


def _fitted(signature: Signature, operation: str) -> Signature:
    """The nearest signature that the operation can have."""
    if operation in _ONE_SCALE and signature.activations in _INTEGERS:
        return replace(signature, granularity="per-tensor")
    if operation in _EIGHT_BITS and signature.weights == "int4":
        return replace(signature, weights="int8")
    return signature


def _grouped(model: Model, exceptions: Mapping[int, Signature]) -> dict[tuple[Any, Signature], list[str]]:
    """Scopes by operation and signature. A scope is what litert-quantizer matches: `output;output;`."""
    from litert_quantizer.utils.tfl_flatbuffer_utils import TFL_OP_CODE_TO_NAME

    groups: dict[tuple[Any, Signature], list[str]] = defaultdict(list)
    for index, signature in exceptions.items():
        operator = model.subgraphs[0].operators[index]
        operation = TFL_OP_CODE_TO_NAME.get(model.operatorCodes[operator.opcodeIndex].builtinCode)
        if operation is not None:  # what litert-quantizer does not know stays in float anyway
            groups[operation, signature].append(_scope(operator))
        elif _kind(signature) != _FLOAT:
            raise ConvertError(f"{type_of(model, operator)} (operator {index}) can only stay in float")
    return groups


def _scope(operator: Any) -> str:
    indices = list(operator.outputs) or list(operator.inputs)
    return "".join(f"{numbered(0, index)};" for index in indices if index >= 0)


def _kind(signature: Signature) -> tuple[str, str]:
    weights = signature.weights or ("int8" if signature.activations in _INTEGERS else "float32")
    return signature.activations, weights


def _setting(name: str, signature: Signature) -> tuple[Any, str]:
    """litert-quantizer's configuration and algorithm for a signature under the scheme `name`."""
    from litert_quantizer import qtyping

    kind, expanded = _kind(signature), is_expanded(name)
    if kind == _FLOAT:
        return None, _NO_QUANTIZE
    if (*kind, expanded) not in _ROWS:
        raise ConvertError(f"TFLite files cannot be quantized to {signature} here")
    row, precision = _ROWS[(*kind, expanded)], qtyping.ComputePrecision
    settings = qtyping.OpQuantizationConfig(
        activation_tensor_config=_activations(row),
        weight_tensor_config=_weights(row, signature),
        compute_precision=precision.FLOAT if expanded else precision.INTEGER,
        explicit_dequantize=expanded,
    )
    return settings, row.algorithm


def _activations(row: _Row) -> Any:
    """16-bit kernels take no zero points."""
    from litert_quantizer import qtyping

    bits = row.activation_bits
    return None if bits is None else qtyping.TensorQuantizationConfig(num_bits=bits, symmetric=bits > 8)


def _weights(row: _Row, signature: Signature) -> Any:
    from litert_quantizer import qtyping

    if row.algorithm == _CASTING:
        return qtyping.TensorQuantizationConfig(num_bits=row.weight_bits, dtype=qtyping.TensorDataType.FLOAT)
    whole, channel = qtyping.QuantGranularity.TENSORWISE, qtyping.QuantGranularity.CHANNELWISE
    granularity = whole if signature.granularity == "per-tensor" else channel
    return qtyping.TensorQuantizationConfig(num_bits=row.weight_bits, symmetric=True, granularity=granularity)
