"""int16 activations: random networks, and whole models through `edgeq build`, whose bundles prove themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq import workflow
from edgeq.codegen import generate, reference
from edgeq.testing import c_models
from edgeq.testing.kernel_cases import random_s16
from edgeq.testing.single_op import Grid, channels, constant, single, tensor
from edgeq.testing.tflite import Graph, Node, Tensor, write_tflite

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
UNDEFINED = ("-fsanitize=undefined", "-fno-sanitize-recover=all")
DSP = ("-DEQ_EMULATE_DSP",)


class Network:
    """A graph of int16 that grows by one operator at a time."""

    def __init__(self, seed: int, shape: tuple[int, ...]) -> None:
        self.random = np.random.default_rng(seed)
        self.tensors: list[Tensor] = [tensor("x", shape, Grid(0.001), "int16")]
        self.nodes: list[Node] = []

    @property
    def last(self) -> Tensor:
        return [one for one in self.tensors if one.data is None][-1]

    def add(
        self,
        operator: str,
        shape: tuple[int, ...],
        scale: float,
        table: str = "",
        *settings: Tensor,
        before: int = 0,
        **options: object,
    ) -> None:
        """An operator over the last activation, whose constants stand behind it, or `before` of them in front."""
        source, output = self.last, tensor(f"a{len(self.tensors)}", shape, Grid(scale), "int16")
        places = [*settings[:before], source, *settings[before:]]
        names = tuple(one.name for one in places)
        self.nodes.append(
            Node(type=operator, inputs=names, outputs=(output.name,), options_table=table, options=options)
        )
        known = {one.name for one in self.tensors}
        self.tensors += [one for one in (*settings, output) if one.name not in known]

    def weights(self, shape: tuple[int, ...], axis: int) -> tuple[Tensor, Tensor]:
        number, scale = len(self.tensors), self.last.scales[0]
        own = tuple(float(one) for one in np.float32(self.random.uniform(0.003, 0.02, shape[axis])))
        values = self.random.integers(-127, 128, shape).astype(np.int8)
        bias = self.random.integers(-(2**24), 2**24, shape[axis]).astype(np.int64)
        return channels(f"w{number}", values, own, axis), channels(f"b{number}", bias, [scale * one for one in own])

    def graph(self) -> Graph:
        return Graph(tensors=tuple(self.tensors), nodes=tuple(self.nodes), inputs=("x",), outputs=(self.last.name,))


def convolution(net: Network) -> None:
    batch, height, width, depth = net.last.shape
    out_c, kernel = int(net.random.integers(1, 10)), tuple(int(one) for one in net.random.integers(1, 4, 2))
    stride = int(net.random.integers(1, 3))
    settings = net.weights((out_c, *kernel, depth), 0)
    options = {"strideH": stride, "strideW": stride, "padding": 0, "fusedActivationFunction": 1}
    shape = (batch, -(-height // stride), -(-width // stride), out_c)
    net.add("CONV_2D", shape, net.last.scales[0] * depth**0.5, "Conv2DOptions", *settings, **options)


def depthwise(net: Network) -> None:
    settings = net.weights((1, 3, 2, net.last.shape[3]), 3)
    options = {"strideH": 1, "strideW": 1, "padding": 0, "depthMultiplier": 1}
    net.add(
        "DEPTHWISE_CONV_2D", net.last.shape, net.last.scales[0] * 1.1, "DepthwiseConv2DOptions", *settings, **options
    )


def pool(net: Network) -> None:
    batch, height, width, depth = net.last.shape
    options = {"strideH": 1, "strideW": 2, "padding": 0, "filterHeight": 2, "filterWidth": 3}
    operator = str(net.random.choice(["AVERAGE_POOL_2D", "MAX_POOL_2D"]))
    net.add(operator, (batch, height, -(-width // 2), depth), net.last.scales[0], "Pool2DOptions", **options)


def doubled(net: Network) -> None:
    """With itself, which ends here: the output may lie where the input does."""
    operator, table = [("ADD", "AddOptions"), ("MUL", "MulOptions")][net.random.integers(2)]
    scale = net.last.scales[0]
    scale = scale * 1.7 if operator == "ADD" else min(0.02, max(1e-4, scale * scale * 20000))
    net.add(operator, net.last.shape, scale, table, net.last)


def curve(net: Network) -> None:
    net.add(str(net.random.choice(["LOGISTIC", "TANH"])), net.last.shape, 2.0**-15)


def leaky(net: Network) -> None:
    net.add("LEAKY_RELU", net.last.shape, net.last.scales[0] * 0.8, "LeakyReluOptions", alpha=0.25)


def padded(net: Network) -> None:
    batch, height, width, depth = net.last.shape
    amounts = constant(f"p{len(net.tensors)}", np.array([[0, 0], [1, 0], [0, 2], [0, 0]], np.int32))
    net.add("PAD", (batch, height + 1, width + 2, depth), net.last.scales[0], "PadOptions", amounts)


def joined(net: Network) -> None:
    batch, height, width, depth = net.last.shape
    shape = (batch, height, width, 2 * depth)
    net.add("CONCATENATION", shape, net.last.scales[0], "ConcatenationOptions", net.last, axis=3)


def classify(net: Network) -> None:
    batch = net.last.shape[0]
    depth = int(np.prod(net.last.shape)) // batch
    net.add(
        "FULLY_CONNECTED",
        (batch, 5),
        min(0.004, 40 * net.last.scales[0]),
        "FullyConnectedOptions",
        *net.weights((5, depth), 0),
    )
    net.add("SOFTMAX", (batch, 5), 2.0**-15, "SoftmaxOptions", beta=1.0)


LAYERS = (convolution, convolution, depthwise, pool, doubled, curve, leaky, padded, joined)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**31), batch=st.integers(1, 2), ends=st.booleans(),
    layers=st.lists(st.sampled_from(LAYERS), min_size=2, max_size=6),
)  # fmt: skip
def test_random_networks_give_the_references_bytes(seed: int, batch: int, ends: bool, layers: list) -> None:
    net = Network(seed, (batch, 7, 6, 3))
    for layer in layers:
        if np.prod(net.last.shape) < 4000:
            layer(net)
    if ends:
        classify(net)
    with tempfile.TemporaryDirectory() as folder:
        path = write_tflite(Path(folder) / "model.tflite", net.graph())
        compiled, oracle = generate.compile_model(path), reference.open(path)
        model = c_models.Model(compiled, Path(folder), "-O1", *(UNDEFINED if seed % 2 else DSP))
        for number in range(4):
            feed = [random_s16(seed + number, port.shape) for port in compiled.inputs]
            assert c_models.differing_bytes(model.run(feed), oracle.run(feed)) == 0


PROGRAM = """
#include "model.h"
#include <stdio.h>
#include <stdlib.h>
int main(void) {
    uint8_t *arena = aligned_alloc(EQ_MODEL_ARENA_ALIGNMENT, EQ_MODEL_ARENA_BYTES);
    if (arena == NULL || eq_model_reset(arena) != EQ_MODEL_OK) {
        return 2;
    }
    if (fread(eq_model_input_0(arena), 1, EQ_MODEL_INPUT_0_BYTES, stdin) != EQ_MODEL_INPUT_0_BYTES) {
        return 3;
    }
    const int status = eq_model_invoke(arena);
    fwrite(eq_model_output_0(arena), 1, EQ_MODEL_OUTPUT_0_BYTES, stdout);
    free(arena);
    return status;
}
"""


@pytest.mark.parametrize("path", ["-DEQ_DEFAULT", *DSP])
def test_every_kind_of_layer_is_clean_under_sanitizers(tmp_path: Path, path: str) -> None:
    """ASan sees the tables' and the arena's ends, UBSan the arithmetic."""
    net = Network(11, (2, 9, 7, 3))
    for layer in (convolution, depthwise, pool, doubled, leaky, padded, curve, joined, convolution, classify):
        layer(net)
    file = write_tflite(tmp_path / "model.tflite", net.graph())
    compiled = generate.compile_model(file)
    (tmp_path / "main.c").write_text(PROGRAM)
    sources = c_models.write(compiled, tmp_path)
    flags = ["-O1", *c_models.WARNINGS, *c_models.SANITIZERS, path, *c_models.includes(tmp_path)]
    c_models.gcc([*flags, "-o", tmp_path / "program", tmp_path / "main.c", *sources])
    oracle = reference.open(file)
    for seed in range(4):
        feed = random_s16(seed, (2, 9, 7, 3))
        done = subprocess.run(
            [str(tmp_path / "program")], input=feed.tobytes(), capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr.decode()[-2000:]
        assert done.stdout == oracle.run([feed])[0].tobytes()


def prove(bundle: Path, *flags: str) -> str:
    """What `make check` says; the warnings are errors there."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed on this host: the bundle cannot be built")
    done = subprocess.run(
        ["make", "-s", "check", *flags], cwd=bundle, capture_output=True, text=True, timeout=120, check=False,
        env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def build(model: Path, data: Path, folder: Path) -> workflow.Bundle:
    wish = workflow.Wish(scheme="static_wi8_ai16")
    found, bundle = workflow.build(model, "stm32l4r5", str(data), output=folder / "out", wish=wish)
    assert not isinstance(found, workflow.Refused)
    assert bundle is not None
    assert found.plan.memory.compiled_bytes["arena"] == bundle.manifest.estimates["arena_bytes"]
    return bundle


def test_the_example_proves_itself(tmp_path: Path) -> None:
    bundle = build(EXAMPLE / "digits_float.tflite", EXAMPLE / "dataset.yaml", tmp_path)
    said = prove(Path(bundle.path))
    assert "eq-differing-bytes 0" in said
    assert "eq-vectors 32" in said
    assert "int16_t" in (Path(bundle.path) / "model.h").read_text()
    (Path(bundle.path) / "build" / "selftest").unlink()
    flags = f"CFLAGS={' '.join(c_models.SANITIZERS)} -DEQ_EMULATE_DSP"
    assert "eq-differing-bytes 0" in prove(Path(bundle.path), flags)


def test_keyword_spotting_proves_itself(shared: Path, tmp_path: Path) -> None:
    folder = shared / "kws_dscnn"
    bundle = build(folder / "kws_float.tflite", folder / "dataset.yaml", tmp_path)
    assert "eq-differing-bytes 0" in prove(Path(bundle.path))


def test_a_model_of_both_widths(tmp_path: Path) -> None:
    """From float32 to int16 to int8 and back, no floating point in the kernels."""
    tensors = [
        tensor("x", (1, 50), dtype="float32"), tensor("a", (1, 50), Grid(0.001), "int16"),
        tensor("b", (1, 50), Grid(0.001 * 2), "int16"), tensor("c", (1, 50), Grid(0.3, 7)),
        tensor("d", (1, 50), Grid(0.01), "int16"), tensor("y", (1, 50), dtype="float32"),
    ]  # fmt: skip
    options = {"QUANTIZE": "QuantizeOptions", "ADD": "AddOptions", "DEQUANTIZE": "DequantizeOptions"}
    made = [
        Node(type=kind, inputs=inputs, outputs=(output,), options_table=options[kind])
        for kind, inputs, output in (
            ("QUANTIZE", ("x",), "a"), ("ADD", ("a", "a"), "b"), ("QUANTIZE", ("b",), "c"), ("QUANTIZE", ("c",), "d"),
            ("DEQUANTIZE", ("d",), "y"),
        )
    ]  # fmt: skip
    graph = Graph(tensors=tuple(tensors), nodes=tuple(made), inputs=("x",), outputs=("y",))
    path = write_tflite(tmp_path / "model.tflite", graph)
    model, oracle = c_models.Model(generate.compile_model(path), tmp_path), reference.open(path)
    feed = [np.random.default_rng(1).uniform(-40, 40, (1, 50)).astype(np.float32)]
    assert c_models.differing_bytes(model.run(feed), oracle.run(feed)) == 0


def test_a_bias_at_the_end_of_64_bits_is_written_as_c_can_read_it(tmp_path: Path) -> None:
    bias = channels("b", np.array([-(2**63), 2**63 - 1, 0], np.int64), [1e-5])
    weights = channels("w", np.ones((3, 1, 1, 1), np.int8), [0.01])
    inputs = [tensor("x", (1, 2, 2, 1), Grid(0.001), "int16"), weights, bias]
    output = [tensor("y", (1, 2, 2, 3), Grid(1.0), "int16")]
    graph = single("CONV_2D", inputs, output, "Conv2DOptions", {"strideH": 1, "strideW": 1}, version=5)
    compiled = generate.compile_model(write_tflite(tmp_path / "model.tflite", graph))
    assert "(-9223372036854775807 - 1), 9223372036854775807, 0," in compiled.source
    c_models.Model(compiled, tmp_path, *UNDEFINED).run([np.ones((1, 2, 2, 1), np.int16)])
