"""Operators that only move bytes."""

from __future__ import annotations

import math

from edgeq.codegen.lowering.operands import Operands
from edgeq.codegen.program import Step


def same_bytes(at: Operands) -> Step:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: the output lies where the input does, so there is nothing to call."""
    source, output = at.index(0), at.output()
    at.wants(at.dtype(source), output)
    if math.prod(at.net.shape(source)) != math.prod(at.net.shape(output)):
        raise at.refused(f"makes {list(at.net.shape(output))} of {list(at.net.shape(source))}")
    if at.net.is_constant(source):
        raise at.refused("has an input that is stored in the file; fold it before")
    return Step()
