"""Generated C: the same bytes each time, nothing of a model's strings, one clear refusal for what has no kernel."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.codegen import generate, headers, network, reference, text
from edgeq.codegen.arena import arena_bytes
from edgeq.errors import BuildError, EdgeqError, ModelError
from edgeq.runtimes import litert
from edgeq.testing import c_models, models
from edgeq.testing.tflite import Graph, Node, Tensor, write_tflite

HOSTILE = (
    '*/ int main(void){return 1;} /* "',
    "a\nb\r\n#error broken",
    'quote" and \\ back\\\nslash',
    "??/ ??' trigraphs ??>",
    "\x1b[31m\x00\x7f",
    "名前 é \udcff",
    "{{ 7 * 7 }} {% raw %}",
    "x" * 5000,
)


def quantized(name: str, shape: tuple[int, ...], scale: float = 0.05, zero: int = 3, dtype: str = "int8") -> Tensor:
    return Tensor(name=name, shape=shape, dtype=dtype, scales=(scale,), zero_points=(zero,))


def dense(names: tuple[str, str] = ("in", "out"), version: int = 1, **changes: object) -> Graph:
    """One FULLY_CONNECTED; `changes` are of the input's tensor."""
    source = dataclasses.replace(quantized(names[0], (1, 8)), **changes)  # type: ignore[arg-type]
    weights = np.arange(-16, 16, dtype=np.int8).reshape(4, 8)
    tensors = (
        source,
        Tensor(name="w", shape=(4, 8), dtype="int8", data=weights, scales=(0.01,), zero_points=(0,)),
        quantized(names[1], (1, 4), 0.1, -5),
    )
    node = Node(
        type="FULLY_CONNECTED",
        inputs=(names[0], "w"),
        outputs=(names[1],),
        options_table="FullyConnectedOptions",
        version=version,
    )
    return Graph(tensors=tensors, nodes=(node,), inputs=(names[0],), outputs=(names[1],))


def one(type: str, output: Tensor, *inputs: Tensor, table: str = "", **options: object) -> Graph:
    fed = tuple(tensor.name for tensor in inputs if tensor.data is None)
    node = Node(
        type=type,
        inputs=tuple(tensor.name for tensor in inputs),
        outputs=(output.name,),
        options_table=table,
        options=options,
    )
    return Graph(tensors=(*inputs, output), nodes=(node,), inputs=fed, outputs=(output.name,))


def refused(tmp_path: Path, graph: Graph) -> EdgeqError:
    path = write_tflite(tmp_path / "model.tflite", graph)
    with pytest.raises(EdgeqError) as caught:
        generate.compile_model(path)
    assert caught.value.where == str(path)
    assert "\n" not in caught.value.message
    return caught.value


# --- text ------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(st.text(max_size=60))
def test_strings_are_plain_in_c(name: str) -> None:
    written = text.escaped(name)
    assert re.fullmatch(r"(?:[A-Za-z0-9_\-.:;, ()\[\]]|\\[0-7]{3})*", written)
    back = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), written).encode("latin-1")
    assert back == name.encode(errors="surrogatepass")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_reach_neither_the_code_nor_the_compiler(tmp_path: Path, name: str) -> None:
    plain = generate.compile_model(write_tflite(tmp_path / "plain.tflite", dense()))
    safe = name.encode(errors="replace").decode()
    hostile = generate.compile_model(write_tflite(tmp_path / "odd.tflite", dense((safe, safe + "2"))))
    code = hostile.source.splitlines()[4:]
    assert code == plain.source.splitlines()[4:]
    for line in hostile.header.splitlines():
        assert all(" " <= sign <= "~" for sign in line)
    c_models.Model(hostile, tmp_path)


@given(
    st.lists(
        st.one_of(st.integers(-(2**31), 2**31 - 1), st.sampled_from([-(2**31), 2**31 - 1])), min_size=1, max_size=40
    )
)
@settings(max_examples=50, deadline=None)
def test_tables_hold_what_they_are_given(values: list[int]) -> None:
    from edgeq.codegen.program import Table

    constants = text.Constants()
    name = constants.table(Table(np.array(values, np.int32)))
    body = constants.lines[0].split("{")[1].split("}")[0].replace("(-2147483647 - 1)", "-2147483648")
    assert [int(part) for part in body.split(",") if part.strip()] == values
    assert constants.table(Table(np.array(values, np.int32))) == name
    assert len(constants.lines) == 1


def test_a_value_that_its_type_cannot_hold_is_refused() -> None:
    from edgeq.codegen.program import Struct

    fields = dict.fromkeys(headers.structs()["eq_pool_params"], 1)
    with pytest.raises(BuildError, match="in_h is 70000; the kernels take 0 to 65535"):
        text.Constants().struct(Struct("eq_pool_params", {**fields, "in_h": 70000}))
    with pytest.raises(KeyError):
        text.Constants().struct(Struct("eq_pool_params", {"in_h": 1}))


# --- files -----------------------------------------------------------------------------------


def test_only_what_is_used_is_named() -> None:
    few, all_ = set(headers.files(["eq_softmax_s8"])), {path.name for path in (headers.folder() / "kernels").iterdir()}
    assert {"eq_softmax.c", "eq_kernels.h", "eq_common.h"} <= few < all_
    assert "eq_conv2d.c" not in few
    assert "eq_matrix.c" in headers.files(["eq_conv2d_s8"])
    assert not headers.is_kernel("eq_no_such_thing")


def test_every_kernel_file_compiles_on_its_own(tmp_path: Path) -> None:
    """What a bundle takes of the kernels links by itself."""
    path = write_tflite(tmp_path / "model.tflite", dense())
    compiled = generate.compile_model(path)
    sources = c_models.write(compiled, tmp_path)
    objects = [tmp_path / f"{source.stem}.o" for source in sources]
    for source, made in zip(sources, objects, strict=True):
        c_models.gcc([*c_models.WARNINGS, *c_models.includes(tmp_path), "-c", source, "-o", made])
    undefined = subprocess.run(["nm", "-u", *map(str, objects)], capture_output=True, text=True, check=True).stdout
    outside = {line.split()[-1] for line in undefined.splitlines() if " U " in line}
    assert {name for name in outside if not name.startswith("eq_")} <= {
        "memcpy",
        "memset",
        "memmove",
        "_GLOBAL_OFFSET_TABLE_",
    }


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    path = write_tflite(tmp_path / "model.tflite", dense())
    first, second = generate.compile_model(path), generate.compile_model(path)
    assert first == second
    assert str(tmp_path) not in first.source + first.header


def test_there_is_no_heap_no_recursion_and_no_floating_point(tmp_path: Path) -> None:
    """In the generated code, of a model with every kind of layer."""
    path = Path(write_tflite(tmp_path / "model.tflite", dense()))
    source = generate.compile_model(path).source
    for word in ("malloc", "printf", "float", "double", "#include <stdio.h>"):
        assert word not in source


# --- the arena -------------------------------------------------------------------------------


def test_the_plan_of_a_graph_is_the_arena_of_its_code(tmp_path: Path) -> None:
    path = write_tflite(tmp_path / "model.tflite", dense())
    assert generate.compile_model(path).arena_bytes == arena_bytes(network.read(path).graph)


def test_a_null_or_crooked_arena_is_refused(tmp_path: Path) -> None:
    model = c_models.Model(generate.compile_model(write_tflite(tmp_path / "model.tflite", dense())), tmp_path)
    library, place = model._library, model.arena.ctypes.data
    import ctypes

    for wrong in (None, ctypes.c_void_p(place + 1)):
        assert library.eq_model_invoke(wrong) == -1
        assert library.eq_model_reset(wrong) == -1
    assert library.eq_model_invoke(ctypes.c_void_p(place)) == 0


# --- refusals --------------------------------------------------------------------------------


def test_a_float_model_is_refused(tmp_path: Path) -> None:
    path = models.mlp_tflite(tmp_path)
    with pytest.raises(BuildError, match="float32: this model is not quantized") as caught:
        generate.compile_model(path)
    assert "edgeq quantize" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"", "this is none"), (b"ONNX" * 9, "this is none"), (b"\x10\0\0\0TFL3" + b"\xff" * 40, "whole")],
)
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises((ModelError, BuildError), match=what):
        generate.compile_model(path)
    with pytest.raises(ModelError, match="cannot be read"):
        generate.compile_model(tmp_path / "absent.tflite")


def test_an_open_batch_is_one_sample_and_other_open_axes_are_refused(tmp_path: Path) -> None:
    opened = generate.compile_model(write_tflite(tmp_path / "open.tflite", dense(shape=(-1, 8))))
    assert opened.inputs[0].shape == (1, 8)
    assert "dynamic shape [1, -1]" in refused(tmp_path, dense(shape=(1, -1))).message


def test_a_tensor_without_elements_is_refused(tmp_path: Path) -> None:
    assert "has no elements" in refused(tmp_path, dense(shape=(0, 8))).message


def test_sizes_beyond_32_bits_are_refused(tmp_path: Path) -> None:
    huge = quantized("huge", (1, 65536, 65536, 1))
    graph = one("RELU", dataclasses.replace(huge, name="out"), huge)
    assert "larger than 32 bits can address" in refused(tmp_path, graph).message


def test_sizes_beyond_16_bits_are_refused(tmp_path: Path) -> None:
    long = quantized("long", (1, 1, 70000, 1))
    options = {"padding": 1, "strideW": 1, "strideH": 1, "filterWidth": 1, "filterHeight": 1}
    graph = one("MAX_POOL_2D", dataclasses.replace(long, name="out"), long, table="Pool2DOptions", **options)
    path = write_tflite(tmp_path / "model.tflite", graph)
    with pytest.raises(BuildError, match="in_w is 70000"):
        generate.compile_model(path)


def test_an_operator_without_a_kernel_is_named(tmp_path: Path) -> None:
    graph = one("COS", quantized("out", (4,)), quantized("in", (4,)))
    assert refused(tmp_path, graph).message == "operator 0 (COS) has no kernel in C"
    custom = dataclasses.replace(graph.nodes[0], type="*/ evil", custom=True)
    message = refused(tmp_path, dataclasses.replace(graph, nodes=(custom,))).message
    assert "has no kernel in C" in message


def test_a_version_that_is_not_known_is_refused(tmp_path: Path) -> None:
    assert "has version 99; versions up to" in refused(tmp_path, dense(version=99)).message


def test_other_data_types_are_refused(tmp_path: Path) -> None:
    graph = one("SOFTMAX", quantized("out", (1, 4), 1 / 256, 0, "uint8"), quantized("in", (1, 4), 0.1, 0, "uint8"))
    assert "has kernels for int8 and int16, not for uint8" in refused(tmp_path, graph).message


def test_a_shape_that_does_not_follow_is_refused(tmp_path: Path) -> None:
    graph = one("ADD", quantized("out", (1, 5)), quantized("a", (1, 4)), quantized("b", (1, 4)), table="AddOptions")
    message = refused(tmp_path, graph).message
    assert "it follows to be [1, 4]" in message


def test_weights_with_a_zero_point_are_refused(tmp_path: Path) -> None:
    graph = dense()
    odd = dataclasses.replace(graph.tensors[1], zero_points=(3,))
    graph = dataclasses.replace(graph, tensors=(graph.tensors[0], odd, graph.tensors[2]))
    assert "weights with a zero point" in refused(tmp_path, graph).message


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> pytest.TempPathFactory:
    return tmp_path_factory


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_an_error_of_ours_or_still_a_model(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    path = write_tflite(folder / "model.tflite", dense())
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        compiled = generate.compile_model(path)
    except EdgeqError as error:
        assert error.message
    else:
        assert compiled.arena_bytes >= 0


# --- the real models -------------------------------------------------------------------------

REAL = (
    ("kws_dscnn/kws_reference_int8.tflite", 16_000),
    ("ic_resnet8/resnet8_reference_int8.tflite", 40_755),
    ("vww_mobilenetv1/vww_reference_int8.tflite", 73_728),
    ("ad_autoencoder/ad_reference_int8.tflite", 1_695),
    ("sine_hello_world/hello_world_reference_int8.tflite", 64),
)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "most_bytes"), REAL)
def test_real_models_give_the_references_bytes(shared: Path, tmp_path: Path, name: str, most_bytes: int) -> None:
    """0 differing bytes, in an arena of at most three quarters of tflite-micro's, or of the other compiler's bytes."""
    compiled = generate.compile_model(shared / name)
    assert compiled.arena_bytes <= most_bytes
    model = c_models.Model(compiled, tmp_path)
    oracle = reference.open(shared / name)
    random = np.random.default_rng(11)
    for _ in range(4):
        feed = [random.integers(-128, 128, port.shape).astype(np.int8) for port in compiled.inputs]
        assert c_models.differing_bytes(model.run(feed), oracle.run(feed)) == 0


def test_the_recurrent_model_keeps_its_state_until_reset(shared: Path, tmp_path: Path) -> None:
    """tflite-micro's bytes, LiteRT's within a step; a second inference goes on from the first one's states."""
    path = shared / "lstm_mnist/mnist_lstm_reference_int8.tflite"
    model = c_models.Model(generate.compile_model(path), tmp_path)
    oracle, host = reference.open(path), litert.open(path, kernels="reference")
    random = np.random.default_rng(8)
    for _ in range(3):
        feed = [random.integers(-128, 128, (1, 28, 28)).astype(np.int8)]
        first = model.run(feed)
        assert c_models.differing_bytes(first, oracle.run(feed)) == 0
        assert abs(first[0].astype(int) - host.run(feed)[0]).max() <= 2
        assert c_models.differing_bytes(model.run(feed), first) == 0


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"options": {"fusedActivationFunction": 1}}, "its kernel computes TANH"),
        ({"inputs": ("x", "w", "w", "w", "w", "w", "w", "w", "w", "w")}, "has peepholes"),
    ],
)
def test_other_recurrent_layers_are_refused(tmp_path: Path, change: dict[str, object], what: str) -> None:
    weights = Tensor(
        name="w", shape=(2, 2), dtype="int8", data=np.ones((2, 2), np.int8), scales=(0.01,), zero_points=(0,)
    )
    graph = one("UNIDIRECTIONAL_SEQUENCE_LSTM", quantized("y", (1, 3, 2)), quantized("x", (1, 3, 2)))
    node = dataclasses.replace(graph.nodes[0], options_table="UnidirectionalSequenceLSTMOptions", **change)  # type: ignore[arg-type]
    assert (
        what in refused(tmp_path, dataclasses.replace(graph, tensors=(*graph.tensors, weights), nodes=(node,))).message
    )
