"""Operator tables of delegates and NPUs that nothing here runs: what they say, and how real models plan with them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from edgeq import models, planning, targets
from edgeq.planning.measures import MEASURES
from edgeq.types import (
    Attribute,
    Cpu,
    Memory,
    ModelGraph,
    Operator,
    OperatorTable,
    Placement,
    Plan,
    Quantization,
    RuntimeSpec,
    Signature,
    Source,
    Target,
    TensorSpec,
)

TFLITE = ("tflite-gpu-delegate", "tflite-nnapi", "edgetpu")
ONNX = ("qualcomm-htp", "rockchip-rknn", "imx500")
NAMES = (*TFLITE, *ONNX)
ROOT = Path(__file__).parents[2]
FALLBACKS = {"tflite-litert-cpu": TFLITE, "onnx-ort-cpu": ("qualcomm-htp",)}
LAYERS = (
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED",
    "TRANSPOSE_CONV",
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
)
TEST = Source(fact="cpu", where="a test")
ARM = Cpu(arch="aarch64", core="cortex-a76", features=("asimddp",))
UNSIGNED = Cpu(arch="x86_64", core="x86-64-v3", features=("avx512_vnni",))
"""A processor for which the planner quantizes ONNX activations to uint8, which is what HTP documents."""


@cache
def table(name: str) -> OperatorTable:
    return targets.load_table(name)


def device(name: str, cpu: Cpu = ARM) -> Target:
    """A device with one runtime, whose rest runs on the CPU where the table says so, and room for everything."""
    rest = next((cpu_table for cpu_table, served in FALLBACKS.items() if name in served), None)
    model_format = "tflite" if name in TFLITE else "onnx"
    spec = RuntimeSpec(name=table(name).runtime, format=model_format, operators=name, fallback=rest)  # type: ignore[arg-type]
    memory = Memory(ram_bytes=1 << 32)
    return Target(name="device", title="D", kind="linux", cpu=cpu, memory=memory, runtimes=(spec,), sources=(TEST,))


def plan(graph: ModelGraph, name: str, cpu: Cpu = ARM, scheme: str | None = None) -> Plan:
    needed = {name: table(name)} | {rest: targets.load_table(rest) for rest in FALLBACKS}
    return planning.choose(graph, device(name, cpu), needed, scheme=scheme)


def stray(found: Plan, name: str) -> set[str]:
    """Operators that the accelerator does not take: those refused, and those on the CPU."""
    return {one.type for one in found.operators if is_stray(one, name)}


def is_stray(one: Placement, name: str) -> bool:
    """Whether an operator is refused or broke a basic rule; both hold whatever the planner calls the place."""
    missing = one.type not in table(name).operators
    return missing or one.placement == "refused" or one.rule == "falls-back-to-cpu"


# --- what they say ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_it_says_why_nothing_proves_it(name: str) -> None:
    found = table(name)
    assert found.source.startswith("Read, not run: ")
    if name == "qualcomm-htp":  # its prover needs an outside tool, so that no stamp stands beside it
        assert (found.prover, found.unproved) == ("qnn", None)
        assert not (ROOT / "targets" / "operators" / "proofs" / f"{name}.json").exists()
    else:
        assert found.prover is None
        assert found.unproved is not None
        assert found.unproved.startswith("read from documentation")
    assert found.placement == ("gpu" if "gpu" in name else "npu")
    assert found.fallback == ("none" if name in ("rockchip-rknn", "imx500") else "cpu")


@pytest.mark.parametrize("name", TFLITE)
def test_its_rows_are_operators_of_the_tflite_schema(name: str) -> None:
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    assert table(name).operators.keys() <= {key for key in vars(BuiltinOperator) if key.isupper()} - {"CUSTOM"}


@pytest.mark.parametrize("name", ONNX)
def test_its_rows_are_operators_of_onnx(name: str) -> None:
    from onnx import defs

    assert table(name).operators.keys() <= {one.name for one in defs.get_all_schemas() if not one.domain}


@pytest.mark.parametrize("name", NAMES)
def test_its_constraints_are_measured_and_say_something(name: str) -> None:
    found = table(name)
    for limit in (*found.constraints, *(limit for row in found.operators.values() for limit in row.constraints)):
        assert limit.rule in MEASURES
        assert limit.one_of or {limit.equals, limit.minimum, limit.maximum} != {None}, limit


@pytest.mark.parametrize("name", NAMES)
def test_no_claim_stands_twice_and_layers_say_how_weights_are_scaled(name: str) -> None:
    for operator, row in table(name).operators.items():
        claims = row.signatures or ()
        assert len(set(claims)) == len(claims), operator
        for claim in claims:
            if claim.weights in ("int4", "int8", "uint8"):
                assert claim.granularity, operator
                assert claim.symmetric, operator
        assert operator not in LAYERS or any(claim.weights for claim in claims), operator


@pytest.mark.parametrize("name", ["tflite-nnapi", "edgetpu", "tflite-gpu-delegate"])
def test_fixed_outputs_are_those_of_the_cpu(name: str) -> None:
    cpu = targets.load_table("tflite-litert-cpu").operators
    for operator in ("SOFTMAX", "LOGISTIC", "TANH"):
        fixed = {claim.output for claim in cpu[operator].signatures or () if claim.output}
        for claim in table(name).operators[operator].signatures or ():
            assert claim.output in fixed or claim.activations == "float32", operator


@pytest.mark.parametrize("name", ["edgetpu", "imx500"])
def test_what_computes_in_integers_only_claims_no_float_activations(name: str) -> None:
    for operator, row in table(name).operators.items():
        assert {claim.activations for claim in row.signatures or ()} <= {"int8", "uint8", "int16"}, operator


def test_a_phone_s_gpu_takes_float_wherever_it_takes_integers() -> None:
    for operator, row in table("tflite-gpu-delegate").operators.items():
        kinds = {claim.activations for claim in row.signatures or ()}
        assert not kinds & {"int8", "uint8"} or "float32" in kinds, operator


def test_htp_has_16_bit_activations_with_8_bit_weights() -> None:
    wide = Signature(activations="uint16", weights="int8", bias="int32", granularity="per-channel", symmetric="weights")
    assert wide in (table("qualcomm-htp").operators["Conv"].signatures or ())
    assert {claim.activations for claim in table("qualcomm-htp").operators["MatMul"].signatures or ()} >= {"uint16"}


def test_rknn_refuses_what_its_list_calls_not_supported() -> None:
    refused = {"Abs", "Ceil", "Neg", "GridSample", "Loop", "RNN", "Selu", "TopK", "NonMaxSuppression", "Reciprocal"}
    assert not refused & table("rockchip-rknn").operators.keys()
    assert all(row.max_version == 19 for row in table("rockchip-rknn").operators.values())


def test_imx500_keeps_biases_in_float() -> None:
    layers = [row for operator, row in table("imx500").operators.items() if operator in LAYERS]
    claims = [claim for row in layers for claim in row.signatures or ()]
    assert {(claim.bias, claim.symmetric, claim.granularity) for claim in claims} == {
        ("float32", "both", "per-channel")
    }


# --- one operator at a time ------------------------------------------------------------------


def one(
    operator: str,
    shape: tuple[int, ...],
    attributes: Mapping[str, Attribute] | None = None,
    *,
    dtype: str = "int8",
    version: int = 1,
    weights: tuple[int, ...] | None = None,
) -> ModelGraph:
    """A quantized TFLite model of one operator, or (float32) a float one; weights and biases are int8 and int32."""
    quantization = Quantization(scales=(1 / 256,), zero_points=(-128,)) if dtype != "float32" else None
    tensors = [TensorSpec(index=0, name="x", shape=shape, dtype=dtype, size_bytes=1, quantization=quantization)]
    if weights is not None:
        even = Quantization(scales=(0.1,), zero_points=(0,))
        shapes = ((weights, "int8"), (weights[:1], "int32"))
        tensors += [
            TensorSpec(
                index=1 + at, name=f"w{at}", shape=size, dtype=kind, size_bytes=1, is_constant=True, quantization=even
            )
            for at, (size, kind) in enumerate(shapes)
        ]
    last = len(tensors)
    tensors.append(TensorSpec(index=last, name="y", shape=shape, dtype=dtype, size_bytes=1, quantization=quantization))
    made = Operator(
        index=0,
        type=operator,
        version=version,
        inputs=tuple(range(last)),
        outputs=(last,),
        attributes=dict(attributes or {}),
    )
    return ModelGraph(
        format="tflite",
        path="one.tflite",
        sha256="0" * 64,
        size_bytes=1,
        inputs=(0,),
        outputs=(last,),
        tensors=tuple(tensors),
        operators=(made,),
        parameters=0,
        weight_bytes=0,
        macs=0,
        peak_activation_bytes=1,
        state="float" if dtype == "float32" else "quantized",
    )


CASES = [
    ("edgetpu", one("RELU6", (1, 8, 8, 4)), True),
    ("edgetpu", one("RELU6", (2, 8, 8, 4)), False),  # a batch
    ("edgetpu", one("RELU6", (8, 8, 4)), True),  # three axes may all be longer than 1
    ("edgetpu", one("HARD_SWISH", (1, 8, 8, 4)), False),
    ("edgetpu", one("LEAKY_RELU", (1, 8, 8, 4)), False),
    ("edgetpu", one("SOFTMAX", (1, 1000)), True),
    ("edgetpu", one("SOFTMAX", (1, 16001)), False),
    ("edgetpu", one("SOFTMAX", (1, 100, 10)), False),  # more than one axis
    ("edgetpu", one("ADD", (1, -1, 8, 4)), False),  # an open shape
    (
        "edgetpu",
        one("CONV_2D", (1, 8, 8, 4), {"dilation_h_factor": 2, "dilation_w_factor": 2}, weights=(4, 3, 3, 4)),
        True,
    ),
    (
        "edgetpu",
        one("CONV_2D", (1, 8, 8, 4), {"dilation_h_factor": 2, "dilation_w_factor": 1}, weights=(4, 3, 3, 4)),
        False,
    ),
    ("edgetpu", one("MAX_POOL_2D", (1, 8, 8, 4), {"fused_activation_function": "RELU"}), False),
    ("tflite-nnapi", one("HARD_SWISH", (1, 8, 8, 4)), True),
    ("tflite-nnapi", one("SOFTMAX", (1, 10), version=2), True),
    ("tflite-nnapi", one("SOFTMAX", (1, 10), version=3), False),
    ("tflite-nnapi", one("RELU6", (1, 1, 8, 8, 4), version=2), False),  # five axes
    ("tflite-nnapi", one("LOG_SOFTMAX", (1, 10), dtype="float32"), True),
    ("tflite-nnapi", one("GELU", (1, 10), dtype="float32"), False),
    ("tflite-nnapi", one("CONV_2D", (1, 8, 8, 4), weights=(4, 3, 3, 4)), True),
    ("tflite-gpu-delegate", one("HARD_SWISH", (1, 8, 8, 4)), True),
    ("tflite-gpu-delegate", one("SQUEEZE", (1, 8, 8, 4)), False),
    ("tflite-gpu-delegate", one("STRIDED_SLICE", (1, 8, 8, 4), {"shrink_axis_mask": 0, "new_axis_mask": 0}), True),
    ("tflite-gpu-delegate", one("STRIDED_SLICE", (1, 8, 8, 4), {"shrink_axis_mask": 1, "new_axis_mask": 0}), False),
    ("tflite-gpu-delegate", one("SLICE", (1, 8)), False),  # three or four axes only
    ("tflite-gpu-delegate", one("GELU", (1, 8, 8, 4), dtype="float32"), True),
    ("tflite-gpu-delegate", one("MIRROR_PAD", (1, 8, 8, 4), {"mode": "SYMMETRIC"}), False),
]


@pytest.mark.parametrize(
    ("name", "graph", "taken"), CASES, ids=[f"{case[0]}-{case[1].operators[0].type}" for case in CASES]
)
def test_one_operator_is_taken_as_documented(name: str, graph: ModelGraph, taken: bool) -> None:
    found = plan(graph, name, scheme="float32" if graph.state == "float" else None)
    assert (stray(found, name) == set()) == taken, found.operators


# --- real models -----------------------------------------------------------------------------

WHOLLY = ("vww_mobilenetv1/vww_reference_int8", "kws_dscnn/kws_reference_int8", "ic_resnet8/resnet8_reference_int8")


@pytest.mark.parametrize("model", WHOLLY)
@pytest.mark.parametrize("name", TFLITE)
def test_published_int8_networks_are_mapped_whole(shared: Path, name: str, model: str) -> None:
    found = plan(models.read(shared / f"{model}.tflite"), name)
    assert found.ok
    assert stray(found, name) == set()


@pytest.mark.parametrize(
    ("name", "model", "left"),
    [
        ("edgetpu", "sr_espcn/espcn_float", {"DEPTH_TO_SPACE"}),
        ("tflite-gpu-delegate", "lstm_mnist/mnist_lstm_reference_int8", {"UNIDIRECTIONAL_SEQUENCE_LSTM"}),
        ("edgetpu", "lstm_mnist/mnist_lstm_reference_int8", set()),
        ("tflite-nnapi", "seg_mobilenetv3/portrait_reference_uint8", set()),
        ("edgetpu", "seg_mobilenetv3/portrait_reference_uint8", set()),
    ],
)
def test_what_is_left_to_the_cpu(shared: Path, name: str, model: str, left: set[str]) -> None:
    assert stray(plan(models.read(shared / f"{model}.tflite"), name), name) == left


@pytest.mark.parametrize("name", ["tflite-gpu-delegate", "tflite-nnapi"])
def test_phones_take_float_networks_as_they_are(shared: Path, name: str) -> None:
    found = plan(models.read(shared / "vww_mobilenetv1/vww_float.tflite"), name, scheme="float32")
    assert found.ok
    assert stray(found, name) == set()


def test_edge_tpu_takes_no_float_network(shared: Path) -> None:
    found = plan(models.read(shared / "ad_autoencoder/ad_float.tflite"), "edgetpu", scheme="float32")
    assert not any(one.rule == "signature-supported" for one in found.operators)


@pytest.mark.parametrize(("name", "cpu"), [("qualcomm-htp", UNSIGNED), ("rockchip-rknn", ARM), ("imx500", ARM)])
def test_mobilenet_v2_is_taken_whole(shared: Path, name: str, cpu: Cpu) -> None:
    graph = models.read(shared / "imagenet_mobilenetv2/mobilenet_v2_float.onnx")
    found = plan(graph, name, cpu, scheme="static_wi8_ai8")
    assert found.ok
    assert stray(found, name) == set()
    assert sum(one.type == "Conv" and one.rule == "signature-supported" for one in found.operators) == 52


def test_open_shapes_stay_off_the_htp(shared: Path) -> None:
    graph = models.read(shared / "text_minilm_l3/minilm_l3_float.onnx")
    found = plan(graph, "qualcomm-htp", UNSIGNED, scheme="static_wi8_ai8")
    assert "MatMul" in stray(found, "qualcomm-htp")


def test_depth_to_space_is_not_for_the_imx500(shared: Path) -> None:
    graph = models.read(shared / "sr_espcn/espcn_float.onnx")
    found = plan(graph, "imx500", scheme="static_wi8_ai8")
    assert not found.ok
    assert "DepthToSpace" in stray(found, "imx500")
    assert plan(graph, "rockchip-rknn", scheme="static_wi8_ai8").ok
