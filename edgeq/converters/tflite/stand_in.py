"""Operators that litert-quantizer 0.11 does not know, shown to it as ones that quantize in the same way.

It looks at an operator's type and tensors, never at its options, and leaves unknown types in float: an island
of DEQUANTIZE, operator, QUANTIZE. TFLite has int8 kernels for all of these, and int16 ones for most.
"""

from __future__ import annotations

from edgeq.converters._flatbuffer import Model, builtin_number, type_of_code

Codes = dict[int, int]

_STAND_INS = {
    # values are moved: output scale is the input's
    "DEPTH_TO_SPACE": "SPACE_TO_DEPTH",
    "SQUEEZE": "RESHAPE",
    "EXPAND_DIMS": "RESHAPE",
    # element by element: input and output have scales of their own
    "RELU6": "RELU",
    "LEAKY_RELU": "RELU",
    "ELU": "RELU",
    # one scale for all operands
    "MINIMUM": "MAXIMUM",
    "REDUCE_MAX": "REDUCE_MIN",
}
# DEPTH_TO_SPACE has none either, but nor has its stand-in, so that litert-quantizer leaves it in float.
_WITHOUT_INT16 = ("ELU",)


def put(model: Model, activations: str) -> Codes:
    """Change the types; returns the true ones by place of the operator code, for `take`.

    What has no kernel for this type of `activations` is left as it is, and stays in float.
    """
    changed = {}
    left = _WITHOUT_INT16 if activations == "int16" else ()
    for place, code in enumerate(model.operatorCodes):
        name = type_of_code(code)
        stand_in = None if name in left else _STAND_INS.get(name)
        if stand_in is not None:
            changed[place] = code.builtinCode
            _set(code, builtin_number(stand_in))
    return changed


def take(model: Model, codes: Codes) -> None:
    """Put the true types back. litert-quantizer adds codes behind those that were there."""
    for place, number in codes.items():
        _set(model.operatorCodes[place], number)


def _set(code: object, number: int) -> None:
    """Set a type, in the field of old files too, which ends at 127."""
    vars(code).update(builtinCode=number, deprecatedBuiltinCode=min(number, 127))
