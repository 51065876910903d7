"""The firmware's kernels as a shared library of this host, called through ctypes with NumPy arrays."""

from __future__ import annotations

import ctypes
import functools
import subprocess
from collections.abc import Sequence
from ctypes import POINTER, c_int8, c_int16, c_int32, c_size_t, c_uint8, c_uint16, c_uint32
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.codegen.multipliers import Multiplier

Array = NDArray[Any]
SOURCES = Path(__file__).parents[2] / "firmware_helpers" / "kernels"
WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
VARIANTS: dict[str, tuple[str, ...]] = {
    "portable": (),
    "portable narrow": ("-DEQ_NARROW_ACCUMULATORS",),
    "dsp": ("-DEQ_EMULATE_DSP",),
    "dsp narrow": ("-DEQ_EMULATE_DSP", "-DEQ_NARROW_ACCUMULATORS"),
}
"""The compile-time paths, by name."""


class OutputS8(ctypes.Structure):
    """eq_output_s8."""

    _fields_ = (
        ("multiplier", POINTER(c_int32)),
        ("right_shift", POINTER(c_int8)),
        ("step", c_uint8),
        ("offset", c_int16),
        ("act_min", c_int16),
        ("act_max", c_int16),
    )


class Conv2dParams(ctypes.Structure):
    """eq_conv2d_params."""

    _fields_ = (
        *((name, c_uint16) for name in ("batches", "in_h", "in_w", "in_c", "out_h", "out_w", "out_c", "groups")),
        *((name, c_uint16) for name in ("kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w")),
        *((name, c_uint16) for name in ("pad_top", "pad_left")),
        ("in_offset", c_int16),
        ("out", OutputS8),
    )


class FullyConnectedParams(ctypes.Structure):
    """eq_fully_connected_params."""

    _fields_ = (
        ("batches", c_uint16),
        ("in_c", c_uint16),
        ("out_c", c_uint16),
        ("in_offset", c_int16),
        ("out", OutputS8),
    )


class PoolParams(ctypes.Structure):
    """eq_pool_params."""

    _fields_ = (
        *((name, c_uint16) for name in ("batches", "in_h", "in_w", "channels", "out_h", "out_w")),
        *((name, c_uint16) for name in ("kernel_h", "kernel_w", "stride_h", "stride_w", "pad_top", "pad_left")),
        ("act_min", c_int16),
        ("act_max", c_int16),
    )


class Broadcast(ctypes.Structure):
    """eq_broadcast."""

    _fields_ = (("dims", c_uint32 * 5), ("stride_a", c_uint32 * 5), ("stride_b", c_uint32 * 5))


class AddParams(ctypes.Structure):
    """eq_add_params."""

    _fields_ = (
        ("shape", Broadcast),
        *((name, c_int32) for name in ("a_multiplier", "b_multiplier", "out_multiplier")),
        *((name, c_int8) for name in ("a_shift", "b_shift", "out_shift", "sign")),
        *((name, c_int16) for name in ("a_offset", "b_offset", "out_offset", "act_min", "act_max")),
    )


class MulParams(ctypes.Structure):
    """eq_mul_params."""

    _fields_ = (
        ("shape", Broadcast),
        ("out_multiplier", c_int32),
        ("out_shift", c_int8),
        *((name, c_int16) for name in ("a_offset", "b_offset", "out_offset", "act_min", "act_max")),
    )


class PreluParams(ctypes.Structure):
    """eq_prelu_params."""

    _fields_ = (
        ("shape", Broadcast),
        ("positive_multiplier", c_int32),
        ("negative_multiplier", c_int32),
        ("positive_shift", c_int8),
        ("negative_shift", c_int8),
        *((name, c_int16) for name in ("in_offset", "alpha_offset", "out_offset")),
    )


class RequantizeParams(ctypes.Structure):
    """eq_requantize_params."""

    _fields_ = (
        ("multiplier", c_int32),
        ("right_shift", c_int8),
        ("in_zero_point", c_int32),
        ("out_zero_point", c_int32),
    )


class SoftmaxParams(ctypes.Structure):
    """eq_softmax_params."""

    _fields_ = (
        ("rows", c_uint32),
        ("depth", c_uint32),
        ("multiplier", c_int32),
        ("left_shift", c_int8),
        ("diff_min", c_int32),
    )


class Reduce(ctypes.Structure):
    """eq_reduce."""

    _fields_ = tuple((name, c_uint32 * 5) for name in ("kept", "kept_stride", "gone", "gone_stride"))


class MeanParams(ctypes.Structure):
    """eq_mean_params."""

    _fields_ = (
        ("shape", Reduce),
        ("multiplier", c_int32),
        ("right_shift", c_int8),
        ("in_sum_offset", c_int32),
        ("out_offset", c_int16),
    )


class Copy(ctypes.Structure):
    """eq_copy."""

    _fields_ = (
        ("dims", c_uint32 * 5),
        ("in_stride", c_int32 * 5),
        ("out_stride", c_int32 * 5),
        ("in_offset", c_uint32),
        ("out_offset", c_uint32),
        ("size", c_uint8),
    )


class LstmGate(ctypes.Structure):
    """eq_lstm_gate."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("input_weights", "recurrent_weights", "bias")),
        ("input_multiplier", c_int32),
        ("recurrent_multiplier", c_int32),
        ("input_shift", c_int8),
        ("recurrent_shift", c_int8),
    )


class LstmParams(ctypes.Structure):
    """eq_lstm_params."""

    _fields_ = (
        *((name, c_uint16) for name in ("batches", "steps", "in_c", "cells")),
        ("time_major", c_uint8),
        ("cell_power", c_int8),
        *((name, c_int16) for name in ("in_offset", "hidden_offset", "cell_clip")),
        *((name, LstmGate) for name in ("forget", "input", "cell", "output")),
        *((name, c_int32) for name in ("forget_multiplier", "input_multiplier", "hidden_multiplier")),
        *((name, c_int8) for name in ("forget_shift", "input_shift", "hidden_shift")),
    )


class SvdfParams(ctypes.Structure):
    """eq_svdf_params."""

    _fields_ = (
        *((name, c_uint16) for name in ("batches", "in_c", "filters", "rank", "memory")),
        ("is_wide", c_uint8),
        *((name, c_int16) for name in ("in_offset", "state_zero_point", "out_offset")),
        ("feature_multiplier", c_int32),
        ("out_multiplier", c_int32),
        ("feature_shift", c_int8),
        ("out_shift", c_int8),
    )


def compile_library(folder: Path, variant: str = "portable", extra: Sequence[str] = ()) -> Path:
    """Build every kernel with the warnings as errors; raises CalledProcessError with gcc's words on stderr."""
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"kernels_{variant.replace(' ', '_')}.so"
    sources = sorted(map(str, SOURCES.glob("*.c")))
    argv = ["gcc", *WARNINGS, "-O2", "-fPIC", "-shared", *VARIANTS[variant], *extra, *sources, "-o", str(made)]
    subprocess.run(argv, check=True, timeout=120, stdin=subprocess.DEVNULL)
    return made


@functools.cache
def load(path: Path) -> ctypes.CDLL:
    """The library with the return types of its sizes."""
    library = ctypes.CDLL(str(path))
    for name in ("conv2d_s8", "fully_connected_s8", "lstm_s8", "conv2d_s16", "fully_connected_s16"):
        getattr(library, f"eq_{name}_get_buffer_size").restype = c_size_t
    return library


def pointer(values: Array) -> ctypes.c_void_p:
    """The address of an array's memory; the caller keeps the array."""
    return ctypes.c_void_p(values.ctypes.data)


def output_s8(multipliers: Sequence[Multiplier], zero_point: int, clamp: tuple[int, int]) -> OutputS8:
    """eq_output_s8 with tables of its own."""
    mantissas = (c_int32 * len(multipliers))(*(one.mantissa for one in multipliers))
    shifts = (c_int8 * len(multipliers))(*(one.right_shift for one in multipliers))
    made = OutputS8(mantissas, shifts, int(len(multipliers) > 1), zero_point, *clamp)
    made.kept = (mantissas, shifts)
    return made


def exact_buffer(size: int) -> Array:
    """Scratch of exactly `size` bytes, aligned to 4, filled with rubbish."""
    return np.full(max(size // 4, 1), 0x5A5A5A5A, np.uint32)
