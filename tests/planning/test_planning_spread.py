"""Channels that lie far apart: read from the file, told as a risk, weighed against one scale for a layer."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeq import models, planning, workflow
from edgeq.types import OperatorRow, Plan, RuntimeSpec

WIDE = {0: 180.0, 1: 2.0, 3: 90.0}
"""By operator of `conv_net`: two convolutions and, after a reshape, the dense layer."""


def risk_of(plan: Plan) -> str | None:
    return next((risk.why for risk in plan.risks if risk.rule == "wide-channels"), None)


def rejection(plan: Plan, scheme: str) -> str:
    return next(one.why for one in plan.rejected if one.scheme == scheme)


def planned(tiny: Any, *, spread: Any, scheme: str | None = None, **rows: Any) -> Plan:
    graph = tiny.conv_net().done("x", "y")
    return planning.plan(graph, tiny.target(), tiny.tables(**rows), scheme=scheme, spread=spread).chosen


def per_tensor(tiny: Any) -> OperatorRow:
    return OperatorRow(signatures=(tiny.per_tensor,))


# --- what the user reads ---------------------------------------------------------------------


def test_a_shared_scale_names_the_widest_operator(tiny: Any) -> None:
    why = risk_of(planned(tiny, spread=WIDE, scheme="static_wi8_ai8_per_tensor"))
    assert why is not None
    assert "The widest channel of operator 0 CONV_2D is 180 times its median one." in why


def test_only_operators_with_one_scale_are_named(tiny: Any) -> None:
    why = risk_of(planned(tiny, spread=WIDE, scheme="static_wi8_ai8", FULLY_CONNECTED=per_tensor(tiny)))
    assert why is not None
    assert "operator 3 FULLY_CONNECTED is 90 times" in why


@pytest.mark.parametrize("spread", [{}, {0: 1.0}, {0: 15.9, 3: 2.0}])
def test_narrow_or_unknown_channels_are_no_risk(tiny: Any, spread: dict[int, float]) -> None:
    plan = planned(tiny, spread=spread, scheme="static_wi8_ai8_per_tensor")
    assert risk_of(plan) is None


def test_the_scheme_that_was_not_planned_is_told_with_the_evidence(tiny: Any) -> None:
    told = rejection(planned(tiny, spread=WIDE), "static_wi8_ai8_per_tensor")
    assert told.startswith("The runtime takes per-channel weights, which lose less accuracy. ")
    assert told.endswith("operator 0 CONV_2D is 180 times its median one.")
    assert "times" not in rejection(planned(tiny, spread={}), "static_wi8_ai8_per_tensor")


def test_float_and_per_channel_plans_have_no_such_risk(tiny: Any) -> None:
    for scheme in ("static_wi8_ai8", "dynamic_wi8_af32", "float32"):
        assert risk_of(planned(tiny, spread=WIDE, scheme=scheme)) is None


# --- what it decides -------------------------------------------------------------------------


@pytest.mark.parametrize(("spread", "first"), [(WIDE, "fine"), ({}, "coarse")])
def test_the_runtime_with_a_scale_per_channel_comes_first(tiny: Any, spread: Any, first: str) -> None:
    """Two runtimes that differ in one operator's granularity: evidence decides, else the profile's order."""
    tables = {
        "coarse": tiny.table(tiny.rows(FULLY_CONNECTED=per_tensor(tiny)), "coarse"),
        "fine": tiny.table(tiny.rows(), "fine"),
    }
    runtimes = tuple(RuntimeSpec(name=name, format="tflite", operators=name) for name in tables)
    graph = tiny.conv_net().done("x", "y")
    found = planning.plan(graph, tiny.target(runtimes=runtimes), tables, prefer="accuracy", spread=spread)
    static = [plan.runtime for plan in found.candidates if plan.scheme.name == "static_wi8_ai8"]
    assert static[0] == first


def test_one_scale_per_channel_comes_before_one_for_all(tiny: Any) -> None:
    tables = {
        "coarse": tiny.table(
            tiny.rows(CONV_2D=per_tensor(tiny), FULLY_CONNECTED=per_tensor(tiny)), "coarse", fallback="float"
        ),
        "fine": tiny.table(tiny.rows(), "fine"),
    }
    runtimes = tuple(RuntimeSpec(name=name, format="tflite", operators=name) for name in tables)
    graph = tiny.conv_net().done("x", "y")
    for prefer in ("latency", "accuracy"):
        found = planning.plan(graph, tiny.target(runtimes=runtimes), tables, prefer=prefer, spread=WIDE)  # type: ignore[arg-type]
        names = [plan.scheme.name for plan in found.candidates]
        assert names.index("static_wi8_ai8") < names.index("static_wi8_ai8_per_tensor")


# --- read from the file ----------------------------------------------------------------------


def layers(path: Path) -> Path:
    """A convolution, a depthwise one and a Gemm, each with another axis or layout, all with one wide channel."""
    random = np.random.default_rng(5)
    conv = random.uniform(0.9, 1.0, (8, 3, 3, 3)).astype(np.float32)
    depthwise = random.uniform(0.9, 1.0, (8, 1, 3, 3)).astype(np.float32)
    dense = random.uniform(0.9, 1.0, (8, 6)).astype(np.float32)
    conv[3] *= 100
    depthwise[:, 0, 1, 1] *= 300  # in every channel: none is wide
    dense[:, 2] *= 40
    nodes = [
        helper.make_node("Conv", ["x", "conv"], ["a"]),
        helper.make_node("Conv", ["a", "depthwise"], ["b"], group=8),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "dense"], ["y"]),
    ]
    named = {"conv": conv, "depthwise": depthwise, "dense": dense}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 16, 16))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 6))],
        [numpy_helper.from_array(values, name) for name, values in named.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_each_layer_is_read_along_its_own_channels(tmp_path: Path) -> None:
    spread = planning.spreads.of_weights(models.read(layers(tmp_path / "m.onnx")))
    assert spread.keys() == {0, 1, 4}
    assert spread[0] == pytest.approx(100, rel=0.1)
    assert spread[1] == pytest.approx(1, rel=0.1)
    assert spread[4] == pytest.approx(40, rel=0.1)


def test_a_model_that_came_quantized_is_not_read(shared: Path) -> None:
    graph = models.read(shared / "kws_dscnn/kws_reference_int8.tflite")
    assert planning.spreads.of_weights(graph) == {}


def test_the_plan_of_a_file_tells_it(tmp_path: Path) -> None:
    wish = workflow.Wish(scheme="static_wi8_ai8_per_tensor")
    plan = workflow.plan(layers(tmp_path / "m.onnx"), "generic-linux-aarch64", output=tmp_path / "out", wish=wish)
    why = risk_of(plan)
    assert why is not None
    assert "operator 0 Conv is 100 times" in why
    assert why in json.dumps(json.loads((tmp_path / "out/plan.json").read_text()))
    checked = workflow.check(tmp_path / "out/plan.json")
    assert checked.findings == ()


def test_reading_the_spread_adds_little_to_a_plan(shared: Path) -> None:
    """All of mobilenet_v2's 53 layers, beside the reading of the model itself."""
    graph = models.read(shared / "imagenet_mobilenetv2/mobilenet_v2_float.onnx")
    times = []
    for _ in range(5):
        started = time.process_time()
        assert len(planning.spreads.of_weights(graph)) == 53
        times.append(time.process_time() - started)
    assert min(times) < 0.25
