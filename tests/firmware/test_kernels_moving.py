"""Reductions, copies, resizing, TRANSPOSE_CONV: byte for byte as LiteRT's reference kernels."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeq.codegen import multipliers, strides, tables
from edgeq.testing import kernels
from edgeq.testing.kernel_cases import cases, check, grids, random_s8, seeds
from edgeq.testing.single_op import Grid, channels, constant, reference, single, tensor

Array = NDArray[Any]
Library = ctypes.CDLL
GRID = Grid(0.5, -3)
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


def copied(library: Library, feed: Array, copies: Any, outputs: list[Array], feeds: list[Array] | None = None) -> None:
    """Runs one copy for each output, or one for each of several feeds into the first output."""
    for number, one in enumerate(copies):
        params = kernels.Copy(
            (ctypes.c_uint32 * 5)(*one.dims), (ctypes.c_int32 * 5)(*one.in_stride),
            (ctypes.c_int32 * 5)(*one.out_stride), one.in_offset, one.out_offset, feed.itemsize,
        )  # fmt: skip
        source, output = (feeds[number], outputs[0]) if feeds else (feed, outputs[number])
        library.eq_copy_strided(ctypes.byref(params), kernels.pointer(source), kernels.pointer(output))


def ints(values: Any) -> Array:
    return np.array(values, np.int32)


# --- reductions ------------------------------------------------------------------------------


@st.composite
def reductions(draw: Any) -> tuple[tuple[int, ...], list[int]]:
    shape = draw(shapes)
    axes = draw(st.lists(st.integers(-len(shape), len(shape) - 1), min_size=1, max_size=len(shape)))
    return shape, axes


def reduced(shape: tuple[int, ...], axes: list[int]) -> tuple[kernels.Reduce, tuple[int, ...], int]:
    made = strides.reduce(shape, axes)
    gone = {axis % len(shape) for axis in axes}
    out = tuple(1 if axis in gone else size for axis, size in enumerate(shape))
    count = int(np.prod([shape[axis] for axis in gone]))
    return kernels.Reduce(*((ctypes.c_uint32 * 5)(*part) for part in made)), out, count


@given(what=reductions(), source=grids, out=grids, seed=seeds)
@cases(500)
def test_mean(library: Library, what: Any, source: Grid, out: Grid, seed: int) -> None:
    shape, axes = what
    params, out_shape, count = reduced(shape, axes)
    feed = random_s8(seed, shape)
    ends = [tensor("in", shape, source), constant("axes", ints(axes))], [tensor("out", out_shape, out)]
    want = reference(single("MEAN", *ends, "ReducerOptions", {"keepDims": True}, version=2), feed)[0]
    made = multipliers.mean(source.scale, out.scale, count)
    given_params = kernels.MeanParams(params, *made, -source.zero_point * count, out.zero_point)
    output = np.full(out_shape, 99, np.int8)
    library.eq_mean_s8(ctypes.byref(given_params), kernels.pointer(feed), kernels.pointer(output))
    check("MEAN", want, output)


@given(what=reductions(), seed=seeds)
@cases(200)
def test_reduce_max(library: Library, what: Any, seed: int) -> None:
    shape, axes = what
    params, out_shape, _ = reduced(shape, axes)
    feed = random_s8(seed, shape)
    ends = [tensor("in", shape, GRID), constant("axes", ints(axes))], [tensor("out", out_shape, GRID)]
    want = reference(single("REDUCE_MAX", *ends, "ReducerOptions", {"keepDims": True}, version=2), feed)[0]
    output = np.full(out_shape, 99, np.int8)
    library.eq_reduce_max_s8(ctypes.byref(params), kernels.pointer(feed), kernels.pointer(output))
    check("REDUCE_MAX", want, output)


@given(shape=shapes, axis=st.integers(0, 3), seed=seeds)
@cases(200)
def test_arg_max(library: Library, shape: tuple[int, ...], axis: int, seed: int) -> None:
    axis %= len(shape)
    feed = random_s8(seed, shape) // 32 if seed % 2 else random_s8(seed, shape)
    out_shape = shape[:axis] + shape[axis + 1 :]
    ends = [tensor("in", shape, GRID), constant("axis", ints([axis]))], [tensor("out", out_shape, None, "int32")]
    want = reference(single("ARG_MAX", *ends, "ArgMaxOptions", {"outputType": 2}, version=2), feed)[0]
    sizes = [int(np.prod(part)) for part in (shape[:axis], shape[axis : axis + 1], shape[axis + 1 :])]
    output = np.full(out_shape, 99, np.int32)
    library.eq_arg_max_s8(*map(ctypes.c_uint32, sizes), kernels.pointer(feed), kernels.pointer(output))
    check("ARG_MAX", want, output)


# --- copies ----------------------------------------------------------------------------------


@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=5), data=st.data(), seed=seeds)
@cases(300)
def test_transpose(library: Library, shape: list[int], data: st.DataObject, seed: int) -> None:
    order = data.draw(st.permutations(range(len(shape))))
    feed = random_s8(seed, tuple(shape))
    out_shape = tuple(shape[axis] for axis in order)
    ends = [tensor("in", shape, GRID), constant("order", ints(order))], [tensor("out", out_shape, GRID)]
    want = reference(single("TRANSPOSE", *ends, "TransposeOptions", version=2), feed)[0]
    output = np.full(out_shape, 99, np.int8)
    copied(library, feed, [strides.transpose(shape, order)], [output])
    check("TRANSPOSE", want, output)


@given(shape=shapes, data=st.data(), seed=seeds)
@cases(200)
def test_slice(library: Library, shape: tuple[int, ...], data: st.DataObject, seed: int) -> None:
    begin = [data.draw(st.integers(0, size - 1)) for size in shape]
    dims = [data.draw(st.integers(1, size - first)) for size, first in zip(shape, begin, strict=True)]
    feed = random_s8(seed, shape)
    ends = [tensor("in", shape, GRID), constant("begin", ints(begin)), constant("size", ints(dims))]
    want = reference(single("SLICE", ends, [tensor("out", dims, GRID)], "SliceOptions", version=2), feed)[0]
    output = np.full(dims, 99, np.int8)
    copied(library, feed, [strides.cut(shape, begin, dims)], [output])
    check("SLICE", want, output)


@given(shape=shapes, data=st.data(), seed=seeds)
@cases(500)
def test_strided_slice(library: Library, shape: tuple[int, ...], data: st.DataObject, seed: int) -> None:
    begin = [data.draw(st.integers(-size, size - 1)) for size in shape]
    end = [data.draw(st.integers(-size - 2, size + 2)) for size in shape]
    step = [data.draw(st.sampled_from([1, 1, 2, 3, -1, -2])) for _ in shape]
    shrink = data.draw(st.integers(0, 2 ** len(shape) - 1)) if seed % 3 == 0 else 0
    step = [1 if shrink >> axis & 1 else each for axis, each in enumerate(step)]
    masks = strides.Masks(data.draw(st.integers(0, 15)), data.draw(st.integers(0, 15)), shrink)
    masks = masks._replace(begin=masks.begin & ~shrink, end=masks.end & ~shrink)
    made, dims = strides.strided_slice(shape, begin, end, step, masks)
    assume(all(dims))
    out_shape = [size for axis, size in enumerate(dims) if not shrink >> axis & 1]
    feed = random_s8(seed, shape)
    operands = zip(("begin", "end", "step"), (begin, end, step), strict=True)
    ends = [tensor("in", shape, GRID), *(constant(name, ints(values)) for name, values in operands)]
    options = {"beginMask": masks.begin, "endMask": masks.end, "shrinkAxisMask": masks.shrink}
    graph = single("STRIDED_SLICE", ends, [tensor("out", out_shape, GRID)], "StridedSliceOptions", options, version=2)
    want = reference(graph, feed)[0]
    output = np.full(out_shape, 99, np.int8)
    copied(library, feed, [made], [output])
    check("STRIDED_SLICE", want, output)


@given(shape=shapes, parts=st.integers(1, 3), axis=st.integers(-4, 3), seed=seeds)
@cases(150)
def test_split_and_concatenation(library: Library, shape: tuple[int, ...], parts: int, axis: int, seed: int) -> None:
    axis = axis % len(shape)
    whole = (*shape[:axis], shape[axis] * parts, *shape[axis + 1 :])
    feed = random_s8(seed, whole)
    ends = [constant("axis", ints(axis)), tensor("in", whole, GRID)]
    outs = [tensor(f"out{number}", shape, GRID) for number in range(parts)]
    wanted = reference(single("SPLIT", ends, outs, "SplitOptions", {"numSplits": parts}, version=2), feed)
    outputs = [np.full(shape, 99, np.int8) for _ in range(parts)]
    copied(library, feed, strides.split(whole, axis, [shape[axis]] * parts), outputs)
    for want, output in zip(wanted, outputs, strict=True):
        check("SPLIT", want, output)
    joined = np.full(whole, 99, np.int8)
    copied(library, feed, strides.concatenate([shape] * parts, axis), [joined], outputs)
    back = [tensor(f"in{number}", shape, GRID) for number in range(parts)], [tensor("out", whole, GRID)]
    graph = single("CONCATENATION", *back, "ConcatenationOptions", {"axis": axis}, version=2)
    check("CONCATENATION", reference(graph, *outputs)[0], joined)


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    count=st.integers(1, 3),
    axis=st.integers(0, 3),
    seed=seeds,
)
@cases(150)
def test_pack_and_unpack(library: Library, shape: list[int], count: int, axis: int, seed: int) -> None:
    axis = axis % (len(shape) + 1)
    feeds = [random_s8(seed + number, tuple(shape)) for number in range(count)]
    thin, packed = [*shape[:axis], 1, *shape[axis:]], (*shape[:axis], count, *shape[axis:])
    ends = [tensor(f"in{number}", shape, GRID) for number in range(count)], [tensor("out", packed, GRID)]
    want = reference(single("PACK", *ends, "PackOptions", {"axis": axis, "valuesCount": count}, version=2), *feeds)[0]
    output = np.full(packed, 99, np.int8)
    copied(library, feeds[0], strides.concatenate([thin] * count, axis), [output], feeds)
    check("PACK", want, output)
    outs = [tensor(f"out{number}", shape, GRID) for number in range(count)]
    options = {"axis": axis, "num": count}
    wanted = reference(
        single("UNPACK", [tensor("in", packed, GRID)], outs, "UnpackOptions", options, version=2), output
    )
    apart = [np.full(shape, 99, np.int8) for _ in range(count)]
    copied(library, output, strides.split(packed, axis, [1] * count), apart)
    for one, got in zip(wanted, apart, strict=True):
        check("UNPACK", one, got)


@given(shape=shapes, data=st.data(), grid=grids, value=st.one_of(st.none(), st.integers(-128, 127)), seed=seeds)
@cases(250)
def test_pad(
    library: Library, shape: tuple[int, ...], data: st.DataObject, grid: Grid, value: int | None, seed: int
) -> None:
    amounts = [(data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))) for _ in shape]
    feed = random_s8(seed, shape)
    whole = tuple(before + size + after for size, (before, after) in zip(shape, amounts, strict=True))
    ends = [tensor("in", shape, grid), constant("amounts", ints(amounts))]
    operator, table = "PAD", "PadOptions"
    if value is not None:
        operator, table = "PADV2", "PadV2Options"
        ends.append(constant("value", np.array([value], np.int8), grid))
    want = reference(single(operator, ends, [tensor("out", whole, grid)], table, version=2), feed)[0]
    output = np.zeros(whole, np.int8)
    filling = grid.zero_point if value is None else value
    library.eq_fill_s8(ctypes.c_int8(filling), kernels.pointer(output), ctypes.c_size_t(output.size))
    copied(library, feed, [strides.pad(shape, amounts)], [output])
    check(operator, want, output)


@given(shape=shapes, axis=st.integers(0, 3), count=st.integers(1, 5), batch_dims=st.integers(0, 1), seed=seeds)
@cases(300)
def test_gather(library: Library, shape: tuple[int, ...], axis: int, count: int, batch_dims: int, seed: int) -> None:
    axis = axis % len(shape)
    batch_dims = min(batch_dims, axis)
    feed = random_s8(seed, shape)
    batches = shape[:batch_dims]
    indices = np.random.default_rng(seed).integers(0, shape[axis], (*batches, count)).astype(np.int32)
    out_shape = (*shape[:axis], count, *shape[axis + 1 :])
    ends = (
        [tensor("in", shape, GRID), tensor("indices", indices.shape, None, "int32")],
        [tensor("out", out_shape, GRID)],
    )
    options = {"axis": axis, "batchDims": batch_dims}
    want = reference(single("GATHER", *ends, "GatherOptions", options, version=5 if batch_dims else 2), feed, indices)[
        0
    ]
    outer, inner = int(np.prod(shape[:axis])), int(np.prod(shape[axis + 1 :]))
    numbers = (outer, int(np.prod(batches)), shape[axis], inner, count)
    output = np.full(out_shape, 99, np.int8)
    library.eq_gather(*map(ctypes.c_uint32, numbers), *map(kernels.pointer, (feed, indices, output)))
    check("GATHER", want, output)


def test_gather_stays_inside_memory(library: Library) -> None:
    feed, indices = np.array([5, 6], np.int8), np.array([-1, 2, 2**31 - 1, 1], np.int32)
    output = np.zeros(4, np.int8)
    library.eq_gather(*map(ctypes.c_uint32, (1, 1, 2, 1, 4)), *map(kernels.pointer, (feed, indices, output)))
    assert output.tolist() == [5, 5, 5, 6]


# --- resizing --------------------------------------------------------------------------------


class ResizeNearest(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint16) for name in ("batches", "in_h", "in_w", "channels", "out_h", "out_w")),
        ("row", ctypes.c_void_p),
        ("column", ctypes.c_void_p),
    )


def resized(library: Library, name: str, feed: Array, size: tuple[int, int], row: Array, column: Array) -> Array:
    params = ResizeNearest(*feed.shape, *size, row.ctypes.data, column.ctypes.data)
    output = np.full((feed.shape[0], *size, feed.shape[3]), 99, np.int8)
    getattr(library, name)(ctypes.byref(params), kernels.pointer(feed), kernels.pointer(output))
    return output


@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)),
    size=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    align=st.booleans(), half=st.booleans(), nearest=st.booleans(), seed=seeds,
)  # fmt: skip
@cases(600)
def test_resize(
    library: Library, shape: Any, size: tuple[int, int], align: bool, half: bool, nearest: bool, seed: int
) -> None:
    assume(not (align and half))
    operator, table = (
        ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions")
        if nearest
        else ("RESIZE_BILINEAR", "ResizeBilinearOptions")
    )
    feed = random_s8(seed, shape)
    ends = [tensor("in", shape, GRID), constant("size", ints(size))]
    outs = [tensor("out", (shape[0], *size, shape[3]), GRID)]
    want = reference(
        single(operator, ends, outs, table, {"alignCorners": align, "halfPixelCenters": half}, version=3), feed
    )[0]
    if nearest:
        axes = [
            tables.nearest(n, m, align_corners=align, half_pixel=half) for n, m in zip(shape[1:3], size, strict=True)
        ]
        got = resized(library, "eq_resize_nearest_s8", feed, size, *axes)
    else:
        taps = [
            tables.bilinear(n, m, align_corners=align, half_pixel=half) for n, m in zip(shape[1:3], size, strict=True)
        ]
        got = resized(library, "eq_resize_bilinear_s8", feed, size, *(one.astype(np.int16) for one in taps))
    check(operator, want, got)


# --- transposed convolution ------------------------------------------------------------------


@given(
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)), stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.sampled_from(["SAME", "VALID"]), source=grids, out=grids, per_channel=st.booleans(), seed=seeds,
)  # fmt: skip
@cases(300)
def test_transpose_conv(
    libraries: dict[str, Library],
    sizes: Any,
    kernel: Any,
    stride: Any,
    padding: str,
    source: Grid,
    out: Grid,
    per_channel: bool,
    seed: int,
) -> None:
    in_h, in_w, in_c, out_c = sizes
    dims = [
        n * s if padding == "SAME" else (n - 1) * s + k for n, s, k in zip((in_h, in_w), stride, kernel, strict=True)
    ]
    pads = [
        max(0, (n - 1) * s + k - d) // 2 if padding == "SAME" else 0
        for n, s, k, d in zip((in_h, in_w), stride, kernel, dims, strict=True)
    ]
    feed = random_s8(seed, (1, in_h, in_w, in_c))
    weights = np.maximum(random_s8(seed + 1, (out_c, *kernel, in_c)), -127).astype(np.int8)
    rng = np.random.default_rng(seed)
    count = out_c if per_channel else 1
    weight_scales = tuple(
        float(np.float32(out.scale / source.scale / 64 * 2.0**power)) for power in rng.normal(0, 1, count)
    )
    bias = rng.integers(-4000, 4000, out_c).astype(np.int32)
    biases = tuple(float(np.float32(source.scale) * np.float32(one)) for one in weight_scales)
    shape = (1, *dims, out_c)
    ends = [
        constant("shape", ints(shape)), channels("weights", weights, weight_scales), tensor("in", feed.shape, source),
        channels("bias", bias, biases),
    ]  # fmt: skip
    options = {"padding": 0 if padding == "SAME" else 1, "strideH": stride[0], "strideW": stride[1]}
    want = reference(
        single("TRANSPOSE_CONV", ends, [tensor("out", shape, out)], "TransposeConvOptions", options, version=3), feed
    )[0]
    made = multipliers.conv(source.scale, weight_scales, out.scale)
    params = kernels.Conv2dParams(
        1, in_h, in_w, in_c, *dims, out_c, 1, *kernel, *stride, 1, 1, *pads, -source.zero_point,
        kernels.output_s8(made, out.zero_point, (-128, 127)),
    )  # fmt: skip
    for variant in ("portable", "dsp"):
        output = np.full(shape, 99, np.int8)
        pointers = [kernels.pointer(array) for array in (feed, weights, bias, output)]
        libraries[variant].eq_transpose_conv_s8(ctypes.byref(params), *pointers)
        check("TRANSPOSE_CONV", want, output, variant)
