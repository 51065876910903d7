"""Sizes and limits of tensors, shared by both readers."""

from __future__ import annotations

from collections.abc import Iterable

from edgeq.errors import ModelError
from edgeq.types import Shape

MAX_RANK = 32
MAX_BYTES = 1 << 46
"""No host has this much memory (64 TiB): a larger tensor means a damaged file."""

BITS = {
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 64),
    **dict.fromkeys(("float32", "int32", "uint32"), 32),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 16),
    **dict.fromkeys(("int8", "uint8", "bool"), 8),
    **dict.fromkeys(("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"), 8),
    **dict.fromkeys(("float6_e2m3fn", "float6_e3m2fn"), 6),
    **dict.fromkeys(("int4", "uint4", "float4_e2m1fn"), 4),
    **dict.fromkeys(("int2", "uint2"), 2),
    "complex128": 128,
}
FLOATS = frozenset(("float64", "float32", "float16", "bfloat16"))
SMALL_INTEGERS = frozenset(("int8", "uint8", "int4", "uint4", "int2", "uint2"))
ACTIVATION_INTEGERS = frozenset(("int8", "uint8", "int16", "uint16"))


def elements(shape: Iterable[int]) -> int:
    """Number of elements; a dynamic axis (-1) counts as 1."""
    count = 1
    for size in shape:
        count *= 1 if size == -1 else size
    return count


def tensor_bytes(shape: Iterable[int], dtype: str) -> int:
    """Bytes of a tensor, a dynamic axis as 1; 0 for strings, resources and the like.

    Types below a byte are packed, as both formats store them.
    """
    return (elements(shape) * BITS.get(dtype, 0) + 7) // 8


def checked_shape(sizes: Iterable[int], dtype: str, path: str, place: str) -> Shape:
    """The shape, if such a tensor can exist; raises ModelError with `place` in the file."""
    shape = tuple(sizes)
    if len(shape) > MAX_RANK:
        raise ModelError(f"{place} has {len(shape)} axes; at most {MAX_RANK} make sense", where=path)
    wrong = [size for size in shape if size < -1]
    if wrong:
        raise ModelError(f"{place} has an axis of size {wrong[0]}; it must be 0 or more, or -1 for dynamic", where=path)
    if tensor_bytes(shape, dtype) > MAX_BYTES:
        raise ModelError(f"{place} of shape {list(shape)} would take more than 64 TiB; the file is damaged", where=path)
    return shape


def shown(text: str) -> str:
    """Text of a file for one line of a message: at most 200 characters, none that could steer a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:200])
