"""Walking, matching and pairing on small graphs that are written down by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.analysis import rows
from edgeq.analysis.matching import same_tensors
from edgeq.analysis.net import LARGEST_REGION, Net, parts, region
from edgeq.types import ModelGraph, Operator, Quantization, TensorSpec

SCALE = Quantization(scales=(0.5,), zero_points=(0,))


def net(
    text: str, *, model_format: Literal["tflite", "onnx"] = "tflite", fixed: str = "", dtypes: str = "", sub: str = ""
) -> Net:
    """A graph from lines as "a b = KIND c d": the first line names inputs, the last outputs; - is left out.

    `fixed` names constants; `dtypes` has a:int8 for what is not float32; `sub` operators of another subgraph.
    """
    first, *lines, last = [line.split() for line in text.strip().splitlines()]
    kinds = dict(pair.split(":") for pair in dtypes.split())
    names: list[str] = []
    for line in (first, *lines, fixed.split(), last):
        names += [word for word in line if word.islower() and word not in names]
    place = {"-": -1, **{name: number for number, name in enumerate(names)}}
    operators = []
    for number, line in enumerate(lines):
        cut = line.index("=")
        operators.append(
            Operator(
                index=number, type=line[cut + 1], version=1, subgraph=int(line[0] in sub.split()),
                inputs=tuple(place[name] for name in line[cut + 2 :]),
                outputs=tuple(place[name] for name in line[:cut]),
            )
        )  # fmt: skip
    tensors = tuple(
        TensorSpec(
            index=number, name=name, shape=(2,), dtype=kinds.get(name, "float32"), size_bytes=8,
            is_constant=name in fixed.split(), quantization=SCALE if kinds.get(name, "").endswith("8") else None,
        )
        for number, name in enumerate(names)
    )  # fmt: skip
    graph = ModelGraph(
        format=model_format, path="m", sha256="", size_bytes=0, inputs=tuple(place[name] for name in first),
        outputs=tuple(place[name] for name in last), tensors=tensors, operators=tuple(operators), parameters=0,
        weight_bytes=0, macs=0, peak_activation_bytes=0,
    )  # fmt: skip
    return Net(graph, None)


def number(of: Net, name: str) -> int:
    return next(tensor.index for tensor in of.graph.tensors if tensor.name == name)


def names(of: Net, tensors: Collection[int]) -> str:
    return " ".join(of.graph.tensors[tensor].name for tensor in tensors)


BRANCHES = """
x
a = CONV x w -
b = RELU a
c = TANH a
d = ADD b c
d
"""
ONE = "x\ny = RELU x\ny"


@pytest.mark.parametrize(
    ("goals", "ends", "operators", "met"),
    [
        ("d", "x", "a b c d", "x"),
        ("d", "a", "b c d", "a"),
        ("d", "b", "a c d", "b x"),
        ("d", "b c", "d", "b c"),
        ("a", "x", "a", "x"),
        ("a", "", "a", "x"),
        ("b c", "a", "b c", "a"),
        ("x", "x", "", "x"),
        ("a", "a", "", "a"),
        ("a d", "a", "b c d", "a"),
    ],
)
def test_a_region_holds_what_makes_its_goals(goals: str, ends: str, operators: str, met: str) -> None:
    of = net(BRANCHES, fixed="w")
    found = region(of, [number(of, name) for name in goals.split()], {number(of, name) for name in ends.split()})
    assert found is not None
    assert " ".join(names(of, one.outputs) for one in found.operators) == operators
    assert sorted(names(of, found.ends).split()) == sorted(met.split())
    assert names(of, found.goals) == goals


def test_what_is_computed_from_constants_belongs_to_the_region_and_is_no_end() -> None:
    of = net("x\nv = DEQUANTIZE w\ny = CONV x v\ny", fixed="w", dtypes="w:int8")
    found = region(of, of.graph.outputs, of.graph.inputs)
    assert found is not None
    assert [one.type for one in found.operators] == ["DEQUANTIZE", "CONV"]
    assert names(of, found.ends) == "x"
    assert names(of, sorted(of.fixed)) in ("v w", "w v")


@given(st.integers(1, LARGEST_REGION + 4))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_a_region_is_refused_just_beyond_its_limit(length: int) -> None:
    lines = [f"{word(n + 1)} = RELU {word(n)}" for n in range(length)]
    of = net("\n".join([word(0), *lines, word(length)]))
    found = region(of, of.graph.outputs, of.graph.inputs)
    assert (found is None) == (length > LARGEST_REGION)
    assert found is None or len(found.operators) == length


def word(place: int) -> str:
    return f"t{chr(97 + place // 26)}{chr(97 + place % 26)}"


@pytest.mark.parametrize(
    ("name", "activation"),
    [("x", True), ("v", False), ("w", False), ("s", False), ("y", True), ("z", True)],
)
def test_activations_are_inputs_and_what_follows_from_them(name: str, activation: bool) -> None:
    of = net("x\nv = NEG w\ny = LSTM x v s\nz = RELU y\nz", fixed="w")
    assert of.is_activation(number(of, name)) is activation
    assert not of.is_activation(-1)


def test_an_operator_reads_each_activation_once_and_no_gap() -> None:
    of = net("x\ny = MUL x - x w\ny", fixed="w")
    assert of.read(of.operators[0]) == (number(of, "x"),)
    assert [one.type for one in of.readers[number(of, "w")]] == ["MUL"]


def test_operators_of_other_subgraphs_are_left_alone() -> None:
    of = net("x\na = RELU x\nb = TANH a\na", sub="b")
    assert [one.type for one in of.operators] == ["RELU"]
    assert number(of, "b") not in of.makers


@pytest.mark.parametrize(
    ("dtype", "found", "scale", "zero"),
    [
        ("int8", Quantization(scales=(0.5,), zero_points=(3,)), 0.5, 3),
        ("int8", Quantization(scales=(0.5,), zero_points=()), 0.5, 0),
        ("uint16", Quantization(scales=(2.0,), zero_points=(0,)), 2.0, 0),
        ("int8", Quantization(scales=(0.5, 1.0), zero_points=(0, 0), axis=0), None, None),
        ("int8", Quantization(scales=(), zero_points=()), None, None),
        ("int8", Quantization(scales=(0.0,), zero_points=(0,)), None, None),
        ("int8", Quantization(scales=(-0.5,), zero_points=(0,)), None, None),
        ("int32", Quantization(scales=(0.5,), zero_points=(0,)), None, None),
        ("float32", Quantization(scales=(0.5,), zero_points=(0,)), None, None),
        ("int8", None, None, None),
    ],
)
def test_a_port_has_a_scale_only_where_integers_stand_for_reals(
    dtype: str, found: Quantization | None, scale: float | None, zero: int | None
) -> None:
    of = net(ONE)
    spec = dataclasses.replace(of.graph.tensors[0], dtype=dtype, quantization=found)
    made = Net(dataclasses.replace(of.graph, tensors=(spec, *of.graph.tensors[1:])), None)
    assert (made.port(0).scale, made.port(0).zero_point) == (scale, zero)
    assert made.is_stored(0) is (scale is not None)


WRAPPED = """
x
q = QuantizeLinear x
r = DequantizeLinear q
v = DequantizeLinear w
a = Conv r v
b = QuantizeLinear a
c = DequantizeLinear b
e = QuantizeLinear c
y = DequantizeLinear e
y
"""


def test_operators_of_onnx_are_taken_with_what_wraps_them() -> None:
    of = net(WRAPPED, model_format="onnx", fixed="w")
    made = [(one.operator.type, names(of, one.ends), names(of, one.goals)) for one in parts(of)]
    assert made == [("QuantizeLinear", "x", "q"), ("Conv", "q", "b"), ("QuantizeLinear", "b", "e")]


def test_operators_of_tflite_stand_alone_and_constants_are_none() -> None:
    of = net("x\nq = QUANTIZE x\nv = DEQUANTIZE w\na = CONV_2D q v\ny = DEQUANTIZE a\ny", fixed="w")
    made = [(one.operator.type, names(of, one.ends), names(of, one.goals)) for one in parts(of)]
    assert made == [("QUANTIZE", "x", "q"), ("CONV_2D", "q", "a"), ("DEQUANTIZE", "a", "y")]


def matched(later: Net, earlier: Net) -> dict[str, str]:
    same = same_tensors(later, earlier)
    return {later.graph.tensors[one].name: earlier.graph.tensors[other].name for one, other in same.items()}


@pytest.mark.parametrize(
    ("later", "earlier", "wanted"),
    [
        (ONE, ONE, {"x": "x", "y": "y"}),
        (ONE, "i\no = TANH i\no", {"x": "i", "y": "o"}),
        (ONE, "i\nm = RELU i\no = TANH m\no", {"x": "i", "y": "o"}),
        ("x\ny = RELU x\ny", "y\nx = RELU y\nx", {"x": "y", "y": "x"}),
        ("x\nq = QUANTIZE x\nr = RELU q\ny = DEQUANTIZE r\ny", "i\no = RELU i\no",
         {"x": "i", "q": "i", "r": "o", "y": "o"}),
        ("x\nk = RELU x\nl = TANH k\ny = ADD l k\ny", "i\nm = RELU i\nn = TANH m\no = ADD n m\no",
         {"x": "i", "k": "m", "l": "n", "y": "o"}),
        ("x\nk = RELU x\ny = ADD k x\ny", "i\nm = RELU i\nn = NEG m\no = ADD n i\no", {"x": "i", "k": "m", "y": "o"}),
        ("x\nk = RELU x\ny = ADD k x\ny", "i\nm = RELU i\nn = RELU i\no = ADD n m\no", {"x": "i", "y": "o"}),
        ("x\nk = ABS x\ny = ADD k x\ny", "i\nm = RELU i\no = ADD m i\no", {"x": "i", "y": "o"}),
        ("x\ny = RELU x\ny", "i j\no = ADD i j\no", {"y": "o"}),
    ],
)  # fmt: skip
def test_tensors_are_matched_by_name_then_place_then_order_then_reading(
    later: str, earlier: str, wanted: dict[str, str]
) -> None:
    assert matched(net(later), net(earlier)) == wanted


QUANTIZED = "x\nq = QUANTIZE x\na = CONV q w\ny = DEQUANTIZE a\ny"
STORED = "q:int8 a:int8 w:int8"
PLAIN = "x\ny = CONV x v\ny"


def test_a_quantized_operator_is_paired_with_its_float_one_and_its_weight() -> None:
    later, earlier = net(QUANTIZED, fixed="w", dtypes=STORED), net(PLAIN, fixed="v")
    first, conv, last = rows.quantized_rows(later, earlier)
    assert isinstance(first, rows.Row)
    assert isinstance(conv, rows.Row)
    assert isinstance(last, rows.Row)
    assert first.before is None
    assert conv.before is not None
    assert [one.type for one in conv.before.operators] == ["CONV"]
    assert conv.weights == (rows.Weight(1, number(later, "w"), number(earlier, "v")),)
    assert {names(earlier, [theirs]): names(later, [ours]) for theirs, ours in conv.ends.items()} == {"x": "q"}
    assert last.before is None
    assert last.weights == ()


@pytest.mark.parametrize(
    ("earlier", "fixed", "dtypes", "why"),
    [
        ("i j\nk = ADD i j\no = CONV k v\no p", "v", "", rows.NO_COUNTERPART),
        ("x\ny = CONV x v\ny", "v", "y:int64", rows.NOT_REAL),
        ("x\ny = CONV u v\ny", "u v", "", rows.TOO_FAR),
    ],
)
def test_an_operator_without_a_counterpart_says_why(earlier: str, fixed: str, dtypes: str, why: str) -> None:
    later = net(QUANTIZED.replace("x", "g").replace("y", "h"), fixed="w", dtypes=STORED)
    found = rows.quantized_rows(later, net(earlier, fixed=fixed, dtypes=dtypes))
    assert found[1].part.operator.type == "CONV"
    assert isinstance(found[1], rows.Missing)
    assert found[1].why == why


def test_a_half_float_weight_or_another_operator_gives_no_pair_of_weights() -> None:
    later = net(QUANTIZED, fixed="w", dtypes=STORED)
    for earlier in (net(PLAIN, fixed="v", dtypes="v:float16"), net("x\ny = DENSE x v\ny", fixed="v")):
        conv = rows.quantized_rows(later, earlier)[1]
        assert isinstance(conv, rows.Row)
        assert conv.weights == ()


def test_a_weight_behind_its_own_dequantize_is_the_stored_one() -> None:
    later = net("x\nv = DEQUANTIZE w\ny = CONV x v\ny", fixed="w", dtypes="w:int8")
    (conv,) = rows.quantized_rows(later, net("x\ny = CONV x u\ny", fixed="u"))
    assert isinstance(conv, rows.Row)
    assert [later.graph.tensors[one.stored].name for one in conv.weights] == ["w"]


def test_a_model_prepared_from_itself_has_a_piece_for_each_operator() -> None:
    of = net(BRANCHES, fixed="w")
    made = rows.prepared_rows(of, of)
    assert [one.part.operator.type for one in made] == ["CONV", "RELU", "TANH", "ADD"]
    assert all(one.before == one.after for one in made)
    assert [sorted(names(of, one.ends).split()) for one in made] == [["x"], ["a"], ["a"], ["b", "c"]]


def test_operators_that_preparing_merged_are_one_piece() -> None:
    earlier = net("x\na = CONV x w\nb = MUL a m\nc = RELU b\nc", fixed="w m")
    later = net("x\nb = CONV x w\nc = RELU b\nc", fixed="w")
    first, second = rows.prepared_rows(later, earlier)
    assert first.before is not None
    assert [one.type for one in first.before.operators] == ["CONV", "MUL"]
    assert [one.type for one in first.after.operators] == ["CONV"]
    assert second.before is not None
    assert [one.type for one in second.before.operators] == ["RELU"]


def test_a_result_that_is_no_float_is_no_piece() -> None:
    of = net("x\na = ARGMAX x\nb = RELU x\na b", dtypes="a:int64")
    assert [one.part.operator.type for one in rows.prepared_rows(of, of)] == ["RELU"]


def test_what_only_stores_a_tensor_otherwise_is_no_piece() -> None:
    later = net("x\nq = QUANTIZE x\ny = RELU q\ny", dtypes="q:float16")
    assert [one.part.operator.type for one in rows.prepared_rows(later, net(ONE))] == ["RELU"]
