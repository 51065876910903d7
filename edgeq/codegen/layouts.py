"""Weights in the order of the firmware's kernels, their scratch memory, and how far output may run into input."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.int8]
_BLOCK = 4


def pack_conv(weights: NDArray[Any], groups: int = 1, *, wide: bool = False) -> Bytes:
    """CONV_2D's weights [out_c, kernel_h, kernel_w, in_c / groups]; `wide` for int16 activations."""
    rows = np.asarray(weights, np.int8).reshape(groups, len(weights) // groups, -1)
    return np.concatenate([pack_dense(group, wide=wide) for group in rows])


def pack_dense(weights: NDArray[Any], *, wide: bool = False) -> Bytes:
    """FULLY_CONNECTED's weights [out_c, in_c]: blocks of four channels, four values of depth at a time."""
    rows, depth = weights.shape
    padded = pack_rows(weights).reshape(rows, -1)
    whole = rows // _BLOCK * _BLOCK
    blocks = padded[:whole].reshape(-1, _BLOCK, depth4(depth) // 4, 4).transpose(0, 2, 1, 3)
    packed = np.concatenate([blocks.ravel(), padded[whole:].ravel()])
    return _swapped(packed) if wide else packed


def _swapped(packed: Bytes) -> Bytes:
    """The second and third of each four in each other's place: SXTB16 then yields pairs of neighbours."""
    return packed.reshape(-1, _BLOCK)[:, [0, 2, 1, 3]].ravel()


def pack_rows(weights: NDArray[Any]) -> Bytes:
    """An LSTM gate's weights [cells, depth]: rows padded with zeros to whole groups of four."""
    rows, depth = weights.shape
    padded = np.zeros((rows, depth4(depth)), np.int8)
    padded[:, :depth] = weights
    return padded.ravel()


def pack_depthwise(weights: NDArray[Any], *, wide: bool = False) -> Bytes:
    """DEPTHWISE_CONV_2D's weights [1, kernel_h, kernel_w, channels], depth multiplier 1."""
    channels = weights.shape[-1]
    taps = np.asarray(weights, np.int8).reshape(-1, channels)
    whole = channels // _BLOCK * _BLOCK
    blocks = taps[:, :whole].reshape(len(taps), -1, _BLOCK).transpose(1, 0, 2).ravel()
    return np.concatenate([_swapped(blocks) if wide else blocks, taps[:, whole:].T.ravel()])


def multiplied_depthwise(weights: NDArray[Any], in_c: int) -> NDArray[Any]:
    """Depthwise weights of a depth multiplier above 1 as CONV_2D weights of `in_c` groups, for `pack_conv`."""
    _, height, width, out_c = weights.shape
    if out_c % in_c:
        raise ValueError(f"{out_c} output channels are no multiple of {in_c} input channels")
    return np.ascontiguousarray(np.asarray(weights).reshape(height, width, out_c).transpose(2, 0, 1))[..., np.newaxis]


def depth4(depth: int) -> int:
    """Depth of a channel's weights, rounded up to whole groups of four."""
    return -(-depth // 4) * 4


def conv_scratch_bytes(kernel_h: int, kernel_w: int, in_c: int, groups: int = 1) -> int:
    """What `eq_conv2d_s8_get_buffer_size` returns."""
    depth = depth4(kernel_h * kernel_w * (in_c // groups))
    return 4 * depth + (0 if in_c // groups % 4 == 0 else depth)


def wide_conv_scratch_bytes(kernel_h: int, kernel_w: int, in_c: int, groups: int = 1) -> int:
    """What `eq_conv2d_s16_get_buffer_size` returns."""
    return 4 * depth4(kernel_h * kernel_w * (in_c // groups))


def dense_scratch_bytes(in_c: int) -> int:
    """What `eq_fully_connected_s8_get_buffer_size` and its twin for int16 return."""
    return 2 * depth4(in_c)


def lstm_scratch_bytes(in_c: int, cells: int) -> int:
    """What `eq_lstm_s8_get_buffer_size` returns."""
    return 2 * (depth4(in_c) + depth4(cells))


class Window(NamedTuple):
    """A convolution's geometry, with the names of `eq_conv2d_params`."""

    batches: int
    in_h: int
    in_w: int
    in_c: int
    out_h: int
    out_w: int
    out_c: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    pad_top: int
    pad_left: int


def conv_overlap(window: Window) -> int:
    """Values by which the output must begin before the input (0: at the same address) when their memory overlaps.

    For `eq_conv2d_s8` and `_s16` with one group: pixels are written in pairs, after the windows of both were read.
    """
    needed = _still_needed(window)
    pixels = window.out_h * window.out_w
    number = np.arange(window.batches * pixels)
    within = number % pixels
    last = number - within + np.minimum(within | 1, pixels - 1)
    return max(0, int(((last + 1) * window.out_c - needed[last + 1]).max()))


def depthwise_overlap(window: Window) -> int:
    """The same for `eq_depthwise_conv2d_s8`: a pixel is written block by block of channels, each after its reading."""
    first, needed = _first_read(window), _still_needed(window)
    number = np.arange(len(first))
    within = number * window.in_c - first
    behind = (number + 1) * window.in_c - needed[number + 1]
    return max(0, int(within.max()), int(behind.max()))


def _still_needed(window: Window) -> NDArray[np.int64]:
    """For each pixel, and one past the last, the lowest byte of input that it or a later one reads."""
    first = np.append(_first_read(window), np.iinfo(np.int64).max // 2)
    return np.minimum.accumulate(first[::-1])[::-1]


def _first_read(window: Window) -> NDArray[np.int64]:
    """For each output pixel the lowest byte of input that it reads; a huge number for one that reads nothing."""
    y = _first_tap(window.out_h, window.stride_h, window.pad_top, window.dilation_h, window.kernel_h, window.in_h)
    x = _first_tap(window.out_w, window.stride_w, window.pad_left, window.dilation_w, window.kernel_w, window.in_w)
    image = window.in_h * window.in_w
    batch = np.arange(window.batches)[:, np.newaxis, np.newaxis] * image
    index = batch + y[:, np.newaxis] * window.in_w + x
    outside = (y < 0)[:, np.newaxis] | (x < 0)
    return np.where(outside, np.iinfo(np.int64).max // 2, index * window.in_c).ravel()


def _first_tap(count: int, stride: int, pad: int, dilation: int, kernel: int, size: int) -> NDArray[np.int64]:
    """The first tap of each output inside 0..size-1; -1 where there is none."""
    taps = np.arange(count)[:, np.newaxis] * stride - pad + np.arange(kernel) * dilation
    inside = (taps >= 0) & (taps < size)
    found = np.where(inside, taps, np.iinfo(np.int64).max // 2).min(axis=1)
    return np.where(inside.any(axis=1), found, -1)
