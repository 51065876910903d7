"""From a case to its ONNX models: the float twin, and the one with the signature's types."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.conformance.onnx import dynamic, numbers
from edgeq.conformance.onnx.operands import Operand, Recipe, plain_values, real_values
from edgeq.conformance.onnx.parts import Parts, content, element_type
from edgeq.conformance.onnx.recipes import RECIPES, UNTRIED
from edgeq.types import Case, Signature

Array = NDArray[Any]
OPSET = 21
"""Opset of the models where the operator allows it: the oldest with 16-bit and 4-bit QuantizeLinear."""
INTEGERS = frozenset({"int8", "uint8", "int16", "uint16"})
WEIGHTS_ONLY = re.compile(r"weights only")
_OPSET = re.compile(r"opset (\d+)")


class NoModel(Exception):
    """No model of a case can be built, and why."""


@dataclass(frozen=True, slots=True)
class OneOperator:
    """A model of one operator, and what to feed it."""

    content: bytes
    feeds: Mapping[str, Array]


# --- what a case is --------------------------------------------------------------------------


def recipe_of(case: Case) -> Recipe:
    """The recipe of a case's operator and variant; raises NoModel."""
    recipe = RECIPES.get(case.operator)
    if recipe is None:
        raise NoModel(UNTRIED.get(case.operator, "there is no recipe for it"))
    return recipe.varied(case.variant) if case.variant in recipe.variants else recipe


def form(case: Case) -> str:
    """How the case's types are written; raises NoModel.

    `static`, `dynamic` and `plain` say what they are; weights that are `half` (float16) or `stored` (integers) stand
    behind an operator that expands them to float32.
    """
    signature, recipe = case.signature, recipe_of(case)
    if signature.activations in INTEGERS and not recipe.plain:
        return "static"
    if WEIGHTS_ONLY.match(case.variant):
        return "stored"
    if recipe.has("weights") and signature.activations == "float32":
        return {"float16": "half", "int4": "stored", "float32": "plain"}.get(signature.weights or "float32", "dynamic")
    return "plain"


def opset_of(case: Case) -> int:
    """Opset of the case's models: what its variant says, else the newest that all of its recipe allows."""
    said = _OPSET.fullmatch(case.variant)
    return int(said[1]) if said else opset_of_recipe(recipe_of(case))


def opset_of_recipe(recipe: Recipe) -> int:
    """Opset of a recipe's models that says nothing else."""
    return min(max(OPSET, recipe.opset), recipe.until or 1 << 30)


# --- models ----------------------------------------------------------------------------------


def twin(case: Case) -> OneOperator:
    """The case's operator in float32, or in the case's own type where that is not quantized; raises NoModel.

    Its weights are what the quantized ones stand for, so that a difference comes from arithmetic alone.
    """
    recipe, parts = recipe_of(case), Parts()
    dtype = case.signature.activations if form(case) == "plain" else "float32"
    feeds: dict[str, Array] = {}
    names = [_float_operand(parts, feeds, case, dtype, place) for place in range(len(recipe.operands))]
    parts.outputs = _outputs(recipe)
    parts.node(case.operator, names, parts.outputs, **_attributes(recipe, dtype))
    return OneOperator(content(parts, opset_of(case)), feeds)


def quantized(case: Case, wanted: Sequence[Array]) -> OneOperator:
    """The model with the signature's types; `wanted` is what the twin computes. Raises NoModel."""
    return _FORMS[form(case)](case, wanted)


def _plain(case: Case, wanted: Sequence[Array]) -> OneOperator:  # noqa: ARG001 - one signature for all forms
    return twin(case)


def _static(case: Case, wanted: Sequence[Array]) -> OneOperator:
    """Ports in float32, and QuantizeLinear with DequantizeLinear round every tensor of real numbers."""
    recipe, parts = recipe_of(case), Parts()
    feeds: dict[str, Array] = {}
    steps: list[numbers.Step] = []
    names = [_static_operand(parts, feeds, steps, case, place) for place in range(len(recipe.operands))]
    raw = _outputs(recipe)
    parts.node(case.operator, names, raw, **_attributes(recipe, "float32"))
    for name, values in zip(raw, wanted, strict=True):
        if values.dtype != np.float32:
            parts.outputs.append(name)
            continue
        own = steps[0] if recipe.same_scale and steps else _output_step(case.signature, values)
        parts.outputs.append(_pair(parts, name, own))
    return OneOperator(content(parts, opset_of(case)), feeds)


def _half(case: Case, wanted: Sequence[Array]) -> OneOperator:  # noqa: ARG001
    """Weights in float16 behind Cast."""

    def written(parts: Parts, name: str, operand: Operand) -> str:
        held = parts.hold(f"{name}_half", real_values(operand, name).astype(np.float16))
        return parts.node("Cast", [held], [name], to=element_type("float32"))

    return _with_weights(case, written)


def _stored(case: Case, wanted: Sequence[Array]) -> OneOperator:  # noqa: ARG001
    """Weights in few bits behind DequantizeLinear."""

    def written(parts: Parts, name: str, operand: Operand) -> str:
        return _dequantized(parts, name, numbers.stored(operand, case.signature, name))

    return _with_weights(case, written)


def _dynamic(case: Case, wanted: Sequence[Array]) -> OneOperator:  # noqa: ARG001
    recipe = recipe_of(case)
    writer = dynamic.WRITERS.get(case.operator)
    if writer is None:
        raise NoModel("ONNX has no form of it that quantizes activations as they come")
    parts, x = Parts(), recipe.operands[0]
    parts.feed("x0", "float32", x.shape)
    made = [
        numbers.stored(one, case.signature, f"x{place}") if one.kind == "weights" else None
        for place, one in enumerate(recipe.operands)
    ]
    biases = [real_values(one, f"x{place}") for place, one in enumerate(recipe.operands) if one.kind == "bias"]
    parts.outputs = writer(parts, [one for one in made if one], biases[0] if biases else None, recipe)
    return OneOperator(content(parts, opset_of(case)), {"x0": real_values(x, "x0")})


_FORMS: dict[str, Callable[[Case, Sequence[Array]], OneOperator]] = {
    "plain": _plain,
    "static": _static,
    "half": _half,
    "stored": _stored,
    "dynamic": _dynamic,
}


# --- operands --------------------------------------------------------------------------------


def _outputs(recipe: Recipe) -> list[str]:
    return [f"y{number}" for number in range(recipe.outputs)]


def _with_weights(case: Case, written: Callable[[Parts, str, Operand], str]) -> OneOperator:
    """The float model with its weights written another way."""
    recipe, parts = recipe_of(case), Parts()
    feeds: dict[str, Array] = {}
    names = []
    for place, one in enumerate(recipe.operands):
        is_written = one.kind == "weights"
        name = written(parts, f"x{place}", one) if is_written else _float_operand(parts, feeds, case, "float32", place)
        names.append(name)
    parts.outputs = _outputs(recipe)
    parts.node(case.operator, names, parts.outputs, **_attributes(recipe, "float32"))
    return OneOperator(content(parts, opset_of(case)), feeds)


def _float_operand(parts: Parts, feeds: dict[str, Array], case: Case, dtype: str, place: int) -> str:
    """An operand in a type that is not quantized; its name."""
    operand, name = recipe_of(case).operands[place], f"x{place}"
    if operand.kind == "left-out":
        return ""
    if operand.kind == "weights" and form(case) != "plain":
        return parts.hold(name, _real_weights(operand, case.signature, name))
    values = plain_values(operand, dtype, name)
    if operand.kind in ("data", "fed"):
        feeds[name] = values
        return parts.feed(name, str(values.dtype), values.shape)
    return parts.hold(name, values)


def _real_weights(operand: Operand, signature: Signature, name: str) -> Array:
    if signature.weights in numbers.RANGES:
        return numbers.stored(operand, signature, name).reals
    values = real_values(operand, name)
    return values.astype(np.float16).astype(np.float32) if signature.weights == "float16" else values


def _static_operand(parts: Parts, feeds: dict[str, Array], steps: list[numbers.Step], case: Case, place: int) -> str:
    operand, name = recipe_of(case).operands[place], f"x{place}"
    signature = case.signature
    if operand.kind == "weights" and signature.weights in numbers.RANGES:
        return _dequantized(parts, name, numbers.stored(operand, signature, name))
    if operand.kind == "bias" and signature.bias == "int32" and len(operand.shape) == 1:  # recurrent ones have two
        return _bias(parts, case, place, steps)
    if operand.kind not in ("data", "held"):
        return _float_operand(parts, feeds, case, "float32", place)
    values = plain_values(operand, "float32", name)
    own = numbers.step(values, signature.activations, symmetric=signature.symmetric == "both")
    if recipe_of(case).same_scale and steps:
        own = steps[0]
    steps.append(own)
    if operand.kind == "data":
        feeds[name] = values
        return _pair(parts, parts.feed(name, "float32", values.shape), own)
    low, high = numbers.RANGES[own.dtype]
    integers = np.clip(np.round(values / own.scale) + own.zero_point, low, high).astype(own.dtype)
    return _dequantize(parts, parts.hold(f"{name}_q", integers), name, _scale_names(parts, name, own))


def _bias(parts: Parts, case: Case, place: int, steps: list[numbers.Step]) -> str:
    """A bias in int32 with the scale of the sums that it is added to."""
    recipe, name = recipe_of(case), f"x{place}"
    before = next(number for number, one in enumerate(recipe.operands) if one.kind == "weights")
    layer = numbers.stored(recipe.operands[before], case.signature, f"x{before}")
    scales = (layer.scales * np.float32(steps[0].scale)).astype(np.float32)
    integers = np.round(real_values(recipe.operands[place], name) / scales).astype(np.int32)
    axis: dict[str, Any] = {"axis": 0} if layer.per_channel else {}
    one = scales if layer.per_channel else scales.reshape(())
    names = [parts.hold(f"{name}_scale", one), parts.hold(f"{name}_zero", np.zeros_like(one, dtype=np.int32))]
    return parts.node("DequantizeLinear", [parts.hold(f"{name}_q", integers), *names], [name], **axis)


def _dequantized(parts: Parts, name: str, layer: numbers.Stored) -> str:
    shape = layer.scales.shape if layer.per_channel else ()
    zeros = layer.zero_points.astype("int8" if layer.dtype == "int4" else layer.dtype).reshape(shape)
    names = [
        parts.hold(f"{name}_q", layer.integers, layer.dtype),
        parts.hold(f"{name}_scale", layer.scales.reshape(shape)),
        parts.hold(f"{name}_zero", zeros, layer.dtype),
    ]
    axis: dict[str, Any] = {"axis": layer.axis} if layer.per_channel else {}
    return parts.node("DequantizeLinear", names, [name], **axis)


def _pair(parts: Parts, name: str, own: numbers.Step) -> str:
    names = _scale_names(parts, name, own)
    parts.node("QuantizeLinear", [name, *names], [f"{name}_q"])
    return _dequantize(parts, f"{name}_q", f"{name}_dq", names)


def _scale_names(parts: Parts, name: str, own: numbers.Step) -> list[str]:
    scale, zero = np.float32(own.scale), np.asarray(own.zero_point, own.dtype)
    return [parts.hold(f"{name}_scale", np.asarray(scale)), parts.hold(f"{name}_zero", zero)]


def _dequantize(parts: Parts, integers: str, name: str, names: Sequence[str]) -> str:
    return parts.node("DequantizeLinear", [integers, *names], [name])


def _output_step(signature: Signature, values: Array) -> numbers.Step:
    fixed = signature.output
    if fixed and fixed.scale is not None:
        return numbers.Step(fixed.scale, fixed.zero_point or 0, fixed.dtype)
    return numbers.step(values, signature.activations, symmetric=signature.symmetric == "both")


# --- files -----------------------------------------------------------------------------------


def _attributes(recipe: Recipe, dtype: str) -> dict[str, Any]:
    """Attributes with the words that stand for tensors of the signature's type put in."""
    from onnx import numpy_helper

    tensors = {"a tensor": np.ones((2, 3), dtype), "one number": np.ones(1, dtype)}
    return {
        key: numpy_helper.from_array(tensors[value]) if isinstance(value, str) and value in tensors else value
        for key, value in recipe.attributes.items()
    }
