"""What constraints measure: on operators as converters write them, and on hostile ones."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.planning import constraints, view
from edgeq.planning.measures import MEASURES
from edgeq.types import Constraint, Operator, OperatorTable, Quantization, TensorSpec


def measured(rule: str, graph: Any, of: str | None = None) -> int | str | None:
    """What a rule measures on the last operator of a graph under construction."""
    done = graph.done("x", "y")
    return MEASURES[rule](view.view(done), done.operators[-1], of)


def window(
    tiny: Any, kind: str = "AVERAGE_POOL_2D", given: Any = (1, 8, 8, 4), made: Any = (1, 4, 4, 4), **words: Any
) -> Any:
    return tiny.Graph().tensor("x", given).tensor("y", made).operator(kind, "x", "y", **words)


def layer(tiny: Any, kernel: Any, given: Any = (1, 8, 8, 4), made: Any = (1, 8, 8, 4), **words: Any) -> Any:
    graph = tiny.Graph().tensor("x", given).tensor("w", kernel, constant=True).tensor("y", made)
    if words.pop("transposed", False):
        graph.tensor("shape", (4,), "int32", constant=True)
        return graph.operator("TRANSPOSE_CONV", "shape w x", "y", **words)
    return graph.operator(words.pop("kind", "CONV_2D"), "x w", "y", **words)


# --- operands --------------------------------------------------------------------------------


def test_operands_are_named_by_role_or_position(tiny: Any) -> None:
    graph = (
        tiny.Graph()
        .tensor("x", (1, 4, 6))
        .tensor("axes", (2,), "int32", constant=True)
        .tensor("y", (1, 4))
        .operator("MEAN", "x axes", "y")
    )
    assert measured("rank", graph) == measured("rank", graph, "input") == measured("rank", graph, "operand 0") == 3
    assert measured("rank", graph, "output") == 2
    assert measured("elements", graph, "operand 1") == 2
    assert measured("constant", graph, "operand 1") == 1
    assert measured("constant", graph, "operand 0") == 0
    assert measured("dtype", graph, "operand 1") == "int32"


@pytest.mark.parametrize("name", ["operand 2", "operand 99999999999999999999", "operand -1", "operand x", "operand ²"])
def test_an_operand_that_is_not_there_limits_nothing(tiny: Any, name: str) -> None:
    graph = window(tiny)
    assert measured("constant", graph, name) is None
    assert measured("present", graph, name) == 0
    assert measured("present", graph, "operand 0") == 1


def test_an_operand_left_out_is_not_present_and_not_counted(tiny: Any) -> None:
    graph = tiny.Graph().tensor("x", (1, 4)).tensor("w", (4, 4)).tensor("y", (1, 4)).operator("LSTM", "x none w", "y")
    assert [measured("present", graph, f"operand {position}") for position in range(4)] == [1, 0, 1, 0]
    assert measured("inputs", graph) == 2


def test_lengths_of_axes(tiny: Any) -> None:
    graph = window(tiny, given=(-1, 8, 6, 4))
    assert measured("batch", graph) == 1
    assert measured("depth", graph) == 4
    assert measured("height_times_width", graph) == 48
    flat = window(tiny, given=(3, 10))
    assert (measured("batch", flat), measured("height_times_width", flat)) == (3, 3)
    assert measured("height_times_width", window(tiny, given=(10,))) == 1
    assert measured("depth", window(tiny, given=(1, -1))) is None


@pytest.mark.parametrize(
    ("given", "made", "static"), [((-1, 8), (-1, 8), 1), ((1, -1), (1, 8), 0), ((1, 8), (1, -1), 0), ((), (), 1)]
)
def test_only_the_first_axis_may_be_open(tiny: Any, given: Any, made: Any, static: int) -> None:
    assert measured("static_shape", window(tiny, given=given, made=made)) == static


def test_quantization_is_the_same_or_unknown(tiny: Any) -> None:
    one, other = (Quantization(scales=(scale,), zero_points=(0,)) for scale in (0.1, 0.2))

    def maximum(first: Quantization | None, second: Quantization | None) -> Any:
        graph = tiny.Graph().tensor("x", (1, 4), "int8", quantization=first)
        graph.tensor("z", (1, 4), "int8", quantization=second).tensor("y", (1, 4), "int8", quantization=first)
        return graph.operator("MAXIMUM", "x z", "y")

    assert measured("same_quantization", maximum(None, None)) is None
    assert measured("same_quantization", maximum(one, one)) == 1
    assert measured("same_quantization", maximum(one, other)) == 0
    assert measured("same_quantization", maximum(one, None)) == 1


# --- windows ---------------------------------------------------------------------------------


def test_the_larger_stride_counts(tiny: Any) -> None:
    assert measured("stride", window(tiny, stride_h=1, stride_w=4)) == 4
    assert measured("stride", window(tiny)) == 1
    assert measured("stride", window(tiny, "Conv", strides=[2, 5])) == 5


def test_a_large_stride_is_free_only_without_padding_and_dilation(tiny: Any) -> None:
    rule = "stride_with_padding_or_dilation"
    assert measured(rule, window(tiny, stride_h=8, stride_w=8, padding="VALID")) is None
    assert measured(rule, window(tiny, stride_h=8, stride_w=8, padding="SAME")) == 8
    assert measured(rule, window(tiny, stride_h=8, stride_w=1, padding="VALID", dilation_h_factor=2)) == 8
    assert measured(rule, window(tiny, stride_h=8, stride_w=1, padding="VALID", dilation_h_factor=1)) is None


def test_a_pool_has_its_window_in_its_attributes_and_a_layer_in_its_weights(tiny: Any) -> None:
    pool = window(tiny, filter_height=25, filter_width=5, padding="SAME")
    assert measured("kernel_height", pool) == 25
    assert measured("kernel_product", pool) == 125
    assert measured("kernel_with_padding", pool) == 25
    assert measured("kernel_with_padding", window(tiny, filter_height=25, filter_width=5, padding="VALID")) is None
    conv = layer(tiny, (4, 3, 7, 4))
    assert (measured("kernel_height", conv), measured("kernel_product", conv)) == (3, 21)
    assert measured("kernel_height", window(tiny, "RELU")) is None


def test_weights_of_one_output_channel(tiny: Any) -> None:
    assert measured("weights_per_channel", layer(tiny, (16, 3, 3, 4))) == 36
    assert measured("weights_per_channel", layer(tiny, (1, 3, 3, 4), kind="DEPTHWISE_CONV_2D")) == 9
    assert measured("weights_per_channel", window(tiny)) is None


@pytest.mark.parametrize(
    ("given", "kernel", "strides", "size"),
    [
        ((1, 8, 8, 4), (4, 3, 3, 4), (2, 2), "2x2"),
        ((1, 8, 8, 4), (4, 3, 3, 4), (1, 2), "2x1"),
        ((1, 1, 8, 4), (4, 1, 3, 4), (1, 2), "2x2"),
        ((1, 8, 1, 4), (4, 3, 1, 4), (2, 1), "2x2"),
        ((1, 1, 8, 4), (4, 3, 3, 4), (1, 2), "2x1"),
        ((1, 8, 8, 4), (4, 3, 3, 4), (3, 3), "3x3"),
        ((1, 1, 1, 4), (4, 1, 1, 4), (1, 1), "1x1"),
    ],
)
def test_a_stride_along_an_axis_of_one_is_free(tiny: Any, given: Any, kernel: Any, strides: Any, size: str) -> None:
    graph = layer(tiny, kernel, given, transposed=True, stride_h=strides[0], stride_w=strides[1])
    assert measured("stride_size", graph, "input") == size


@pytest.mark.parametrize(
    ("padding", "made", "follows"),
    [
        ("SAME", (1, 16, 16, 4), 1),
        ("SAME", (1, 15, 16, 4), 0),
        ("VALID", (1, 17, 17, 4), 1),
        ("VALID", (1, 16, 17, 4), 0),
    ],
)
def test_a_transposed_convolution_grows_by_its_stride(tiny: Any, padding: str, made: Any, follows: int) -> None:
    graph = layer(tiny, (4, 3, 3, 4), made=made, transposed=True, stride_h=2, stride_w=2, padding=padding)
    assert measured("output_follows_stride", graph) == follows


def test_an_open_size_follows_nothing(tiny: Any) -> None:
    graph = layer(tiny, (4, 3, 3, 4), (1, -1, 8, 4), transposed=True, stride_h=2, stride_w=2, padding="SAME")
    assert measured("output_follows_stride", graph) is None


# --- changed sizes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "made", "corners", "factor"),
    [
        ((8, 8), (16, 16), False, 2),
        ((8, 8), (64, 64), False, 8),
        ((8, 8), (8, 8), False, 1),
        ((8, 8), (12, 12), False, 0),
        ((8, 8), (16, 32), False, 0),
        ((8, 8), (15, 15), True, 2),
        ((8, 8), (16, 16), True, 0),
        ((1, 8), (1, 16), False, 2),
        ((8, 1), (16, 1), False, 2),
        ((1, 1), (7, 9), False, None),
        ((8, 8), (4, 4), False, 0),
    ],
)
def test_upscaling(tiny: Any, given: Any, made: Any, corners: bool, factor: int | None) -> None:
    graph = window(tiny, "RESIZE_BILINEAR", (1, *given, 3), (1, *made, 3), align_corners=corners)
    assert measured("upscaling", graph) == factor
    assert measured("half_pixel_upscaling", graph) is None


def test_upscaling_of_one_side_and_by_half_pixels(tiny: Any) -> None:
    graph = window(tiny, "RESIZE_BILINEAR", (1, 8, 8, 3), (1, 16, 32, 3), half_pixel_centers=True)
    assert [measured("upscaling", graph, name) for name in (None, "height", "width")] == [0, 2, 4]
    assert measured("half_pixel_upscaling", graph, "height") == 2
    assert measured("align_corners_with_half_pixel_centers", graph) == 0
    both = window(tiny, "RESIZE_BILINEAR", align_corners=True, half_pixel_centers=True)
    assert measured("align_corners_with_half_pixel_centers", both) == 1


@pytest.mark.parametrize(
    ("given", "made", "axis"),
    [((1, 8, 6, 4), (1, 8, 6), -1), ((1, 8, 6, 4), (1, 6, 4), -3), ((1, 8, 6), (1, 8, 6), None), ((5,), (), -1)],
)
def test_the_removed_axis_is_counted_from_the_end(tiny: Any, given: Any, made: Any, axis: int | None) -> None:
    assert measured("removed_axis", window(tiny, "ARG_MAX", given, made)) == axis


@pytest.mark.parametrize(
    ("given", "made", "elements", "longest", "all_three"),
    [
        ((1, 7, 9, 16), (1, 16), 63, 9, 0),
        ((1, 7, 9, 16), (1, 1, 1, 16), 63, 9, 0),
        ((1, 7, 7, 7), (1, 7), 49, 7, 0),
        ((1, 7, 9, 16), (1, 7, 9, 1), 16, 16, 1),
        ((1, 128, 384), (1, 128, 1), 384, 384, 0),
        ((2, 128, 384), (2, 128, 1), 384, 384, 1),
        ((1, 7, 9, 16), (1, 7, 9, 16), 1, 1, 0),
        ((1, 7, 9, 16), (), 1008, 16, 1),
        ((1, 7), (3,), None, None, None),
    ],
)
def test_what_a_reduction_reduces(
    tiny: Any, given: Any, made: Any, elements: int | None, longest: int | None, all_three: int | None
) -> None:
    graph = window(tiny, "MEAN", given, made)
    assert measured("reduced_elements", graph) == elements
    assert measured("reduced_axis", graph) == longest
    assert measured("depth_reduced_with_height_and_width", graph) == all_three


@pytest.mark.parametrize(
    ("given", "length"),
    [((1, 70000, 3, 3), 70000), ((1, 4, 5, 6), 6), ((2, 4, 5, 6), 30), ((2, 3), 3), ((2, 3, 4, 5, 6), 120), ((), None)],
)
def test_the_axes_that_a_transposition_moves(tiny: Any, given: Any, length: int | None) -> None:
    assert measured("transposed_axis", window(tiny, "TRANSPOSE", given)) == length


def test_the_gathered_axis_behind_the_batch(tiny: Any) -> None:
    assert measured("axis_minus_batch_dims", window(tiny, "GATHER", axis=1, batch_dims=1)) == 0
    assert measured("axis_minus_batch_dims", window(tiny, "GATHER", axis=-1)) == 3
    assert measured("axis_minus_batch_dims", window(tiny, "GATHER")) == 0


# --- verdicts --------------------------------------------------------------------------------


def verdict(graph: Any, constraint: Constraint) -> str | None:
    done = graph.done("x", "y")
    table = OperatorTable(name="table", runtime="runtime", version="1", source="a test", operators={})
    return constraints.broken(view.view(done), done.operators[-1], table, constraint)


def test_the_user_reads_the_measure_its_value_and_the_limit(tiny: Any) -> None:
    pool = window(tiny, filter_height=25, filter_width=5, padding="SAME")
    limit = Constraint(rule="kernel_with_padding", maximum=8)
    assert verdict(pool, limit) == "kernel with padding is 25, allowed is at most 8"
    strided = layer(tiny, (4, 3, 3, 4), transposed=True, stride_h=3, stride_w=2)
    size = Constraint(rule="stride_size", one_of=("1x1", "2x2"))
    assert verdict(strided, size) == "stride size is 2x3, allowed is 1x1, 2x2"
    assert verdict(window(tiny), limit) is None


@pytest.mark.parametrize("rule", ["align_corners_with_half_pixel_centers", "dilation_with_stride"])
def test_what_must_not_be_there_needs_no_limit(tiny: Any, rule: str) -> None:
    words: dict[str, Any] = {"align_corners": True, "half_pixel_centers": True, "dilation_w_factor": 2, "stride_w": 2}
    assert verdict(window(tiny, **words), Constraint(rule=rule)) is not None
    assert verdict(window(tiny), Constraint(rule=rule)) is None


# --- hostile models --------------------------------------------------------------------------

LENGTHS = st.integers(-2, 5) | st.sampled_from([2**31 - 1, -(2**31)])
SHAPES = st.lists(LENGTHS, max_size=6).map(tuple)
ATTRIBUTE_NAMES = """padding stride_h stride_w strides filter_height filter_width dilation_w_factor axis batch_dims
align_corners half_pixel_centers fused_activation_function"""
ATTRIBUTES = st.dictionaries(
    st.sampled_from(ATTRIBUTE_NAMES.split()),
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=3)
    | st.lists(st.integers(-3, 3), max_size=3) | st.sampled_from(["VALID", "SAME"]),
)  # fmt: skip
KINDS = st.sampled_from(
    ["CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "MEAN", "ARG_MAX", "RESIZE_BILINEAR", "SPLIT"]
)
NAMES = st.none() | st.sampled_from(["input", "output", "weights", "bias", "height", "operand 0", "operand 7", "axis"])


@st.composite
def hostile(draw: st.DrawFn) -> tuple[view.View, Operator]:
    """An operator whose tensors, attributes and tensor numbers are whatever a broken file says."""
    tensors = {
        index: TensorSpec(
            index=index,
            name="t",
            shape=draw(SHAPES),
            dtype=draw(st.sampled_from(["float32", "int8", ""])),
            size_bytes=0,
            quantization=draw(st.none() | st.just(Quantization(scales=(), zero_points=()))),
        )
        for index in range(3)
    }
    numbers = st.lists(st.integers(-2, 5), max_size=5).map(tuple)
    operator = Operator(
        index=0, type=draw(KINDS), version=1, inputs=draw(numbers), outputs=draw(numbers), attributes=draw(ATTRIBUTES)
    )
    constants = frozenset(draw(st.lists(st.integers(0, 2))))
    graph = Holder()
    return view.View(graph, tensors, {}, {}, constants), operator  # type: ignore[arg-type]


class Holder:
    """As much of a graph as measures look at."""

    format = "tflite"


@given(hostile(), NAMES)
def test_no_measure_fails_on_a_hostile_operator(made: tuple[view.View, Operator], name: str | None) -> None:
    look, operator = made
    for rule, measure in MEASURES.items():
        assert isinstance(measure(look, operator, name), int | str | None), rule
