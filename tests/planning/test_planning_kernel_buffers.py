"""What single kernels of TFLite Micro ask for, the sizes of structs, and the operators at borders of types."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgeq.planning.tflm import cmsis, head, kernels, structs
from edgeq.planning.tflm.borders import with_borders
from edgeq.planning.tflm.operands import Operands, elements
from edgeq.planning.tflm.structs import Build
from edgeq.types import ModelGraph, Operator, Quantization, TensorSpec

WIDTHS = {"int4": 1, "int8": 1, "uint8": 1, "int16": 2, "float32": 4, "int32": 4}
REFERENCE, PLAIN, DSP, MVE = (Build(cmsis=kind) for kind in ("none", "plain", "dsp", "mve"))


def spec(shape: tuple[int, ...], dtype: str = "int8", scales: int = 0) -> TensorSpec:
    quantization = Quantization(scales=(0.1,) * scales, zero_points=(0,) * scales) if scales else None
    one = TensorSpec(index=0, name="t", shape=shape, dtype=dtype, size_bytes=0, quantization=quantization)
    return dataclasses.replace(one, size_bytes=elements(one) * WIDTHS[dtype])


def operands(
    kind: str, inputs: Any, made: tuple[int, ...] = (), dtype: str = "int8", build: Build = REFERENCE, **words: Any
) -> Operands:
    """An operator whose operands are shapes of one data type, finished tensors, or None."""
    read = tuple(spec(one, dtype) if isinstance(one, tuple) else one for one in inputs)
    operator = Operator(index=0, type=kind, version=1, inputs=(), outputs=(), attributes=words)
    return Operands(operator, read, (spec(made, dtype),), build)


def asked(kind: str, inputs: Any, made: tuple[int, ...] = (), **words: Any) -> tuple[list[int], list[int]]:
    found = kernels.needs(operands(kind, inputs, made, **words))
    return found.persistent, found.scratch


# --- buffers of the reference kernels --------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "int16", "float32"])
def test_a_convolution_keeps_two_numbers_per_channel_in_any_type(dtype: str) -> None:
    assert asked("CONV_2D", [(1, 8, 8, 3), (16, 3, 3, 3)], (1, 8, 8, 16), dtype=dtype) == ([64, 64], [])
    assert asked("DEPTHWISE_CONV_2D", [(1, 8, 8, 6), (1, 3, 3, 6)], (1, 8, 8, 6), dtype=dtype) == ([24, 24], [])


def test_packed_weights_are_unpacked_whole() -> None:
    packed = spec((16, 3, 3, 3), "int4")
    assert asked("CONV_2D", [(1, 8, 8, 3), packed], (1, 8, 8, 16))[1] == [16 * 27]
    assert asked("FULLY_CONNECTED", [(1, 8), spec((4, 8), "int4")], (1, 4))[1] == [32]
    assert asked("FULLY_CONNECTED", [(1, 8), spec((4, 8), "int4")], (1, 4), dtype="float32")[1] == []


@pytest.mark.parametrize(
    ("dtype", "scales", "persistent"),
    [
        ("int8", 0, []),
        ("int8", 1, []),
        ("int8", 4, [16, 16]),
        ("int16", 4, [16, 16]),
        ("float32", 4, []),
        ("uint8", 4, []),
    ],
)
def test_a_dense_layer_keeps_numbers_of_integers_with_several_scales(
    dtype: str, scales: int, persistent: list[int]
) -> None:
    weights = spec((4, 8), "int8", scales)
    assert asked("FULLY_CONNECTED", [(1, 8), weights], (1, 4), dtype=dtype) == (persistent, [])


@pytest.mark.parametrize(
    ("kind", "inputs", "made", "dtype", "persistent", "scratch"),
    [
        ("SOFTMAX", [(1, 9)], (1, 9), "int16", [1026, 1026], []),
        ("SOFTMAX", [(1, 9)], (1, 9), "int8", [], []),
        ("MEAN", [(1, 4, 4, 5), (2,)], (1, 5), "int16", [], [20]),
        ("MEAN", [(1, 4, 4, 5), (2,)], (1, 5), "float32", [], []),
        ("SUM", [(1, 4, 4, 5), (2,)], (), "uint8", [], [4]),
        ("REDUCE_MAX", [(1, 4, 4, 5), (2,)], (1, 5), "float32", [], [16, 8]),
        ("REDUCE_MIN", [(), None], (), "int8", [], [4, 4]),
        ("SVDF", [(3, 8), (16, 8)], (3, 4), "int8", [], [192, 48]),
        ("SVDF", [(3, 8), (16, 8)], (3, 4), "float32", [], [192]),
        ("SVDF", [(-1, 8), None], (1, 4), "int8", [], [4, 16]),
        ("CONCATENATION", [(1, 2), (1, 2), (1, 2)], (1, 6), "int8", [12, 12], []),
        ("CONCATENATION", [(1, 2), (1, 2), (1, 2)], (1, 6), "float32", [], []),
        ("MIRROR_PAD", [(1, 4, 4, 2), (4, 2)], (1, 6, 6, 2), "int8", [], [16, 16]),
        ("ASSIGN_VARIABLE", [(1,), (1, 10)], (), "float32", [40], []),
        ("ASSIGN_VARIABLE", [(1,), None], (), "float32", [], []),
        ("RESHAPE", [(1, 8)], (8,), "int8", [], []),
    ],
)
def test_a_kernel_asks_for_these_buffers(
    kind: str, inputs: Any, made: tuple[int, ...], dtype: str, persistent: list[int], scratch: list[int]
) -> None:
    assert asked(kind, inputs, made, dtype=dtype) == (persistent, scratch)


def test_a_recurrent_cell_has_four_gates_of_its_state_else_of_its_result() -> None:
    without, state = [(1, 5, 8)], [(1, 5, 8), *[None] * 17, (2, 6)]
    assert asked("UNIDIRECTIONAL_SEQUENCE_LSTM", without, (1, 5, 6))[1] == [60] * 4
    assert asked("UNIDIRECTIONAL_SEQUENCE_LSTM", state, (1, 5, 6))[1] == [24] * 4
    assert asked("UNIDIRECTIONAL_SEQUENCE_LSTM", state, (1, 5, 6), dtype="float32")[1] == [48] * 4


@pytest.mark.parametrize(
    ("flags", "copied"),
    [
        ({}, [(1, 3, 4)]),
        ({"adj_y": True}, []),
        ({"adj_x": True}, [(1, 2, 3), (1, 3, 4)]),
        ({"adj_x": True, "adj_y": True}, [(1, 2, 3)]),
    ],
)
def test_a_matrix_product_copies_what_does_not_come_turned(
    flags: dict[str, bool], copied: list[tuple[int, ...]]
) -> None:
    persistent, _ = asked("BATCH_MATMUL", [(1, 2, 3), (1, 3, 4)], (1, 2, 4), dtype="float32", **flags)
    assert persistent[2::3] == [spec(shape, "float32").size_bytes for shape in copied]
    assert persistent[1::3] == [16] * len(copied), "a length and three axes"
    quantized, _ = asked("BATCH_MATMUL", [(1, 2, 3), (1, 3, 4)], (1, 2, 4), **flags)
    assert quantized[0] == 32
    assert len(quantized) == len(persistent) + 1


@pytest.mark.parametrize("pointer_bytes", [4, 8])
def test_pointers_of_an_added_list_are_as_wide_as_the_build_s(pointer_bytes: int) -> None:
    build = Build(pointer_bytes=pointer_bytes)
    assert asked("ADD_N", [(1, 4)] * 3, (1, 4), build=build) == ([], [3 * pointer_bytes])


# --- CMSIS-NN --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "words", "plain", "mve"),
    [
        ((16, 3, 3, 3), {}, 4 * 28, 4 * 32),
        ((16, 1, 1, 3), {"stride_h": 1, "stride_w": 1}, 0, 0),
        ((16, 1, 1, 3), {"stride_h": 2, "stride_w": 1}, 4 * 4, 4 * 16),
        ((16, 1, 1, 3), {"stride_h": 2, "stride_w": 2}, 4 * 4, 4 * 16),
        ((16, 5, 1, 4), {"stride_h": 1, "stride_w": 1}, 4 * 20, 4 * 32),
        ((16, 27), {}, 4 * 4, 4 * 16),
    ],
)
def test_a_convolution_s_columns_are_padded_to_lanes(kernel: Any, words: Any, plain: int, mve: int) -> None:
    for build, size in ((PLAIN, plain), (DSP, plain), (MVE, mve)):
        found = cmsis.beside(operands("CONV_2D", [(1, 8, 8, 3), kernel], (1, 8, 8, 16), build=build, **words))
        assert found == (4, [], [size] if size else [])


@pytest.mark.parametrize(
    ("side", "dtype", "sizes"),
    [
        (3, "int8", (0, 0, 4 * 124 * 9)),
        (5, "int8", (0, 2 * 6 * 25, 4 * 124 * 25)),
        (3, "int16", (108, 108, 8 * 124 * 9)),
        (3, "float32", (0, 0, 0)),
    ],
)
def test_a_depthwise_filter_is_unpacked_by_what_the_core_can(side: int, dtype: str, sizes: tuple[int, ...]) -> None:
    inputs = [(1, 8, 8, 6), (1, side, side, 6)]
    for build, size in zip((PLAIN, DSP, MVE), sizes, strict=True):
        found = cmsis.beside(operands("DEPTHWISE_CONV_2D", inputs, (1, 8, 8, 6), dtype=dtype, build=build))
        assert sum(found.scratch) == size


@pytest.mark.parametrize(
    ("kind", "inputs", "made", "sizes"),
    [
        ("AVERAGE_POOL_2D", [(1, 8, 8, 6)], (1, 4, 4, 6), (0, 24, 24)),
        ("MAX_POOL_2D", [(1, 8, 8, 6)], (1, 4, 4, 6), (0, 0, 0)),
        ("FULLY_CONNECTED", [(1, 8), (5, 8)], (1, 5), (0, 0, 20)),
        ("TRANSPOSE_CONV", [(4,), (5, 3, 3, 2), (1, 4, 4, 2)], (1, 8, 8, 5), (128, 128, 128)),
    ],
)
def test_other_kernels_scratch_depends_on_the_core(kind: str, inputs: Any, made: Any, sizes: tuple[int, ...]) -> None:
    found = [cmsis.beside(operands(kind, inputs, made, build=build)) for build in (PLAIN, DSP, MVE)]
    assert tuple(sum(one.scratch) for one in found) == sizes
    assert {one.data for one in found} == {cmsis.GROWN[kind]}


def test_only_mve_keeps_sums_of_a_filter_s_rows() -> None:
    inputs = [(1, 8), (16, 8)]
    kept = [cmsis.beside(operands("SVDF", inputs, (1, 4), build=build)).persistent for build in (PLAIN, DSP, MVE)]
    assert kept == [[], [], [64]]


def test_operators_without_a_fast_kernel_take_nothing_beside() -> None:
    assert cmsis.beside(operands("RESHAPE", [(1, 8)], (8,), build=MVE)) == (0, [], [])
    with_reference = kernels.needs(operands("RESHAPE", [(1, 8)], (8,)))
    assert kernels.needs(operands("RESHAPE", [(1, 8)], (8,), build=MVE)) == with_reference


# --- structs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "build", "size"),
    [
        ("b", Build(), (1, 1)),
        ("bi", Build(), (8, 4)),
        ("ib", Build(), (8, 4)),
        ("3bi", Build(), (8, 4)),
        ("bhb", Build(), (6, 2)),
        ("lb", Build(), (16, 8)),
        ("eb", Build(enum_bytes=1), (2, 1)),
        ("eb", Build(enum_bytes=4), (8, 4)),
        ("ip", Build(pointer_bytes=8), (16, 8)),
        ("12p", Build(pointer_bytes=8), (96, 8)),
        ("", Build(), (0, 1)),
    ],
)
def test_a_struct_is_laid_out_as_c_does(layout: str, build: Build, size: tuple[int, int]) -> None:
    assert structs.measure(layout, build) == size


@settings(max_examples=60, deadline=None, derandomize=True)
@given(fields=st.lists(st.sampled_from("bhilep"), min_size=1, max_size=12), more=st.sampled_from("bhilep"))
def test_a_struct_is_aligned_and_one_more_field_never_shrinks_it(fields: list[str], more: str) -> None:
    layout = "".join(fields)
    for build in (Build(), structs.CORTEX_M, structs.WHEEL):
        size, alignment = structs.measure(layout, build)
        grown, wider = structs.measure(layout + more, build)
        assert size % alignment == 0
        assert grown % wider == 0
        assert grown >= size
        assert wider >= alignment


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1 << 40])
def test_the_next_multiple_is_the_nearest_from_above(size: int) -> None:
    found = structs.aligned(size, 16)
    assert found % 16 == 0
    assert size <= found < size + 16


# --- borders ---------------------------------------------------------------------------------


def chain(*dtypes: str, kinds: str = "") -> ModelGraph:
    """Operators in a row; tensor n has the n-th data type."""
    names = kinds.split() or ["RELU"] * (len(dtypes) - 1)
    tensors = tuple(dataclasses.replace(spec((1, 5), dtype), index=index) for index, dtype in enumerate(dtypes))
    operators = tuple(
        Operator(index=number, type=kind, version=1, inputs=(number,), outputs=(number + 1,))
        for number, kind in enumerate(names)
    )
    nothing: dict[str, Any] = dict.fromkeys(("size_bytes", "parameters", "weight_bytes", "macs"), 0)
    last = (len(dtypes) - 1,)
    return ModelGraph(
        format="tflite", path="made", sha256="", inputs=(0,), outputs=last, tensors=tensors, operators=operators,
        peak_activation_bytes=0, **nothing,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("dtypes", "drawn"),
    [
        (("int8", "int8", "float32", "int8"), "RELU DEQUANTIZE RELU QUANTIZE RELU"),
        (("int8", "int8", "float32"), "RELU DEQUANTIZE RELU QUANTIZE"),
        (("float32", "float32", "int16"), "DEQUANTIZE RELU QUANTIZE RELU"),
        (("int8", "int8", "int8"), "RELU RELU"),
        (("float32", "float32"), "RELU"),
        (("int32", "int8", "float32"), "RELU DEQUANTIZE RELU QUANTIZE"),
    ],
)
def test_every_change_of_kind_gets_one_operator(dtypes: tuple[str, ...], drawn: str) -> None:
    found = with_borders(chain(*dtypes))
    kinds = [operator.type for operator in found.operators]
    assert " ".join(kinds) == drawn
    assert len({operator.index for operator in found.operators}) == len(kinds)
    assert [tensor.index for tensor in found.tensors] == list(range(len(found.tensors)))


def test_a_graph_that_converts_by_itself_is_left_alone() -> None:
    graph = chain("int8", "int8", "float32", kinds="RELU DEQUANTIZE")
    assert with_borders(graph) is graph


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(["int8", "int16", "float32"]), min_size=2, max_size=8))
def test_behind_its_borders_no_operator_mixes_kinds(dtypes: list[str]) -> None:
    assume(len({dtype == "float32" for dtype in dtypes[1:]}) == 2)
    found = with_borders(chain(*dtypes))
    for operator in found.operators:
        read, made = (found.tensors[index].dtype == "float32" for index in (*operator.inputs, *operator.outputs))
        assert (read == made) == (operator.type == "RELU")
    assert all(found.tensors[index].dtype != "float32" for index in (*found.inputs, *found.outputs))
    assert with_borders(found) is found


def test_scratch_is_alive_only_while_its_operator_runs() -> None:
    graph = chain("int8", "int8", "int8")
    lives = head.lifetimes(graph, {1: [100, 7]}, ())[3:]
    assert [(life.tensor, life.first == life.last, life.size_bytes) for life in lives] == [(3, True, 100), (4, True, 7)]
    assert head.head_bytes(graph, {}, ()) == 32
    assert head.head_bytes(graph, {1: [100]}, ()) == 112 + 32
    assert head.head_bytes(graph, {}, (0, 1, 2)) == 0
