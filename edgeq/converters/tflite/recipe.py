"""A scheme as litert-quantizer's recipe."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, TypeAlias

from edgeq.converters._flatbuffer import Model, numbered, type_of
from edgeq.errors import ConvertError
from edgeq.types import Scheme, Signature

RecipeManager: TypeAlias = Any

_EVERYTHING = "*"
_NO_QUANTIZE = "no_quantize"
_STATIC = ("int8", "int8")
_DYNAMIC = ("float32", "int8")
_HALF = ("float32", "float16")
_FLOAT = ("float32", "float32")


def recipe(scheme: Scheme, model: Model, exceptions: Mapping[int, Signature]) -> RecipeManager:
    """Settings for a model whose tensors are numbered; `exceptions` by operator of the first subgraph.

    Subgraphs behind the first (bodies of IF and WHILE) stay in float: their tensors are not calibrated.
    Raises ConvertError for a signature that litert-quantizer has no setting for.
    """
    from litert_quantizer import recipe_manager

    settings = recipe_manager.RecipeManager()
    settings.add_quantization_config(".*", _EVERYTHING, *_setting(scheme.default))
    if len(model.subgraphs) > 1:
        settings.add_quantization_config(r"^[1-9]\d*\.", _EVERYTHING, None, _NO_QUANTIZE)
    for (operation, signature), scopes in _grouped(model, exceptions).items():
        pattern = f"^(?:{'|'.join(map(re.escape, scopes))})$"
        settings.add_quantization_config(pattern, operation, *_setting(signature))
    return settings


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
    weights = signature.weights or ("int8" if signature.activations == "int8" else "float32")
    return signature.activations, weights


def _setting(signature: Signature) -> tuple[Any, str]:
    """litert-quantizer's configuration and algorithm for a signature."""
    from litert_quantizer import qtyping

    tensor, operator = qtyping.TensorQuantizationConfig, qtyping.OpQuantizationConfig
    integer, floating = qtyping.ComputePrecision.INTEGER, qtyping.ComputePrecision.FLOAT
    whole, channel = qtyping.QuantGranularity.TENSORWISE, qtyping.QuantGranularity.CHANNELWISE
    weights = tensor(
        num_bits=8, symmetric=True, granularity=whole if signature.granularity == "per-tensor" else channel
    )
    activations = tensor(num_bits=8, symmetric=False)
    half = tensor(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    settings: dict[tuple[str, str], tuple[Any, str]] = {
        _STATIC: (
            operator(
                activation_tensor_config=activations,
                weight_tensor_config=weights,
                compute_precision=integer,
                explicit_dequantize=False,
            ),
            "min_max_uniform_quantize",
        ),
        _DYNAMIC: (
            operator(weight_tensor_config=weights, compute_precision=integer, explicit_dequantize=False),
            "min_max_uniform_quantize",
        ),
        _HALF: (
            operator(weight_tensor_config=half, compute_precision=floating, explicit_dequantize=True),
            "float_casting",
        ),
        _FLOAT: (None, _NO_QUANTIZE),
    }
    if _kind(signature) not in settings:
        raise ConvertError(f"TFLite files cannot be quantized to {signature} here")
    return settings[_kind(signature)]
