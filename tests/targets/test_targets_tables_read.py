"""Operator tables that were read from documents and sources: that they load, name real things, and fit real models."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from edgeq import models, planning, targets
from edgeq.planning.measures import MEASURES
from edgeq.types import Cpu, Memory, ModelGraph, OperatorTable, Plan, RuntimeSpec, Source, Target

MICRO = "tflite-micro"
NPUS = ("ethos-u55", "ethos-u85")
NAMES = (MICRO, *NPUS)
WHOLLY_INTEGER = (
    "vww_mobilenetv1/vww_reference_int8",
    "kws_dscnn/kws_reference_int8",
    "ic_resnet8/resnet8_reference_int8",
    "ad_autoencoder/ad_reference_int8",
    "sine_hello_world/hello_world_reference_int8",
)
FLOATS = ("vww_mobilenetv1/vww_float", "kws_dscnn/kws_float", "ad_autoencoder/ad_float")
DTYPES_OF_NPUS = {"int8", "uint8", "int16", "int32", "bool"}


@cache
def table(name: str) -> OperatorTable:
    return targets.load_table(name)


def chip(name: str) -> Target:
    """A microcontroller with one runtime and room for everything."""
    return Target(
        name="chip",
        title="A chip",
        kind="mcu",
        cpu=Cpu(arch="armv8.1-m", core="cortex-m55"),
        memory=Memory(ram_bytes=1 << 30, flash_bytes=1 << 30),
        runtimes=(RuntimeSpec(name=table(name).runtime, format="tflite", operators=name),),
        sources=(Source(fact="cpu", where="a test"),),
    )


def plan(shared: Path, model: str, name: str) -> Plan:
    return planning.choose(read(shared, model), chip(name), {name: table(name)})


def read(shared: Path, model: str) -> ModelGraph:
    return models.read(shared / f"{model}.tflite")


def placements(found: Plan) -> dict[str, set[str]]:
    kinds: dict[str, set[str]] = {}
    for one in found.operators:
        kinds.setdefault(one.type, set()).add(one.placement)
    return kinds


# --- what they say ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_its_rows_are_operators_of_the_schema(name: str) -> None:
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    known = {key for key in vars(BuiltinOperator) if key.isupper()}
    assert table(name).operators.keys() <= known
    assert not {"CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"} & table(name).operators.keys()


@pytest.mark.parametrize("name", NAMES)
def test_its_constraints_are_measured(name: str) -> None:
    found = table(name)
    limits = [limit for row in found.operators.values() for limit in row.constraints]
    for limit in (*found.constraints, *limits):
        assert limit.rule in MEASURES
        assert limit.one_of or {limit.equals, limit.minimum, limit.maximum} != {None}, limit


@pytest.mark.parametrize("name", NAMES)
def test_it_says_that_nothing_was_run_and_who_will(name: str) -> None:
    found = table(name)
    assert found.source.startswith("Read, not run: ")
    assert found.prover
    assert found.unproved is None


@pytest.mark.parametrize("name", NAMES)
def test_no_claim_stands_twice(name: str) -> None:
    for operator, row in table(name).operators.items():
        assert len(set(row.signatures or ())) == len(row.signatures or ()), operator


@pytest.mark.parametrize("name", NPUS)
def test_an_npu_takes_integers_only(name: str) -> None:
    found = table(name)
    assert (found.placement, found.fallback) == ("npu", "cpu")
    for operator, row in found.operators.items():
        assert row.signatures, operator
        for claim in row.signatures:
            assert claim.activations in DTYPES_OF_NPUS, operator
            assert claim.weights in (None, "int8", "uint8", "int16"), operator


def test_the_larger_npu_takes_whatever_the_smaller_does() -> None:
    small, large = (table(name).operators for name in NPUS)
    assert small.keys() < large.keys()
    for operator, row in small.items():
        assert set(row.signatures or ()) <= set(large[operator].signatures or ()), operator


def test_microcontrollers_take_no_hybrid_layer_and_no_float16() -> None:
    for operator, row in table(MICRO).operators.items():
        for claim in row.signatures or ():
            assert "float16" not in (claim.activations, claim.weights), operator
            if claim.activations == "float32" and operator != "EMBEDDING_LOOKUP":
                assert claim.weights in (None, "float32"), operator


def test_microcontrollers_check_no_versions() -> None:
    assert all(row.max_version is None for row in table(MICRO).operators.values())


# --- real models -----------------------------------------------------------------------------


@pytest.mark.parametrize("model", WHOLLY_INTEGER)
@pytest.mark.parametrize("name", NAMES)
def test_published_integer_models_run_whole(shared: Path, name: str, model: str) -> None:
    found = plan(shared, model, name)
    assert found.ok, [check.why for check in found.checks if not check.ok]
    wanted = {table(name).placement}
    assert {place for places in placements(found).values() for place in places} == wanted


@pytest.mark.parametrize("model", FLOATS)
@pytest.mark.parametrize("name", NPUS)
def test_float_models_become_integers_for_an_npu(shared: Path, name: str, model: str) -> None:
    found = plan(shared, model, name)
    assert found.ok
    assert {place for places in placements(found).values() for place in places} == {"npu"}
    assert found.scheme.is_static


@pytest.mark.parametrize("name", NPUS)
def test_float_stays_off_an_npu(shared: Path, name: str) -> None:
    graph = read(shared, FLOATS[0])
    found = planning.choose(graph, chip(name), {name: table(name)}, scheme="float32")
    assert all(one.placement in ("cpu", "float", "refused") for one in found.operators)


@pytest.mark.parametrize("scheme", ["dynamic_wi8_af32", "weight_only_wf16"])
def test_microcontrollers_run_no_layer_with_float_activations_and_smaller_weights(shared: Path, scheme: str) -> None:
    found = planning.choose(read(shared, FLOATS[1]), chip(MICRO), {MICRO: table(MICRO)}, scheme=scheme)
    hybrid = [one for one in found.operators if {"int8", "float16"} & set(one.signature.split("/"))]
    assert not found.ok or not hybrid


def test_microcontrollers_run_float(shared: Path) -> None:
    found = planning.choose(read(shared, FLOATS[1]), chip(MICRO), {MICRO: table(MICRO)}, scheme="float32")
    assert found.ok


def test_the_first_conversion_of_a_uint8_model_stays_in_integers(shared: Path) -> None:
    found = plan(shared, "seg_mobilenetv3/portrait_reference_uint8", NPUS[0])
    kinds = placements(found)
    assert kinds["CONV_2D"] == kinds["DEPTHWISE_CONV_2D"] == kinds["QUANTIZE"] == kinds["ADD"] == {"npu"}
    assert kinds["RESIZE_BILINEAR"] == {"npu"}


@pytest.mark.parametrize("name", NPUS)
def test_what_an_npu_lacks_falls_to_the_cpu(shared: Path, name: str) -> None:
    found = plan(shared, "sr_espcn/espcn_float", name)
    kinds = placements(found)
    assert kinds["CONV_2D"] == {"npu"}
    assert "npu" not in kinds["DEPTH_TO_SPACE"]


@pytest.mark.parametrize("name", NPUS)
def test_what_an_npu_lacks_runs_on_the_microcontroller_as_integers(shared: Path, name: str) -> None:
    spec = RuntimeSpec(name="vela", format="tflite", operators=name, fallback=MICRO)
    target = replace(chip(name), runtimes=(spec,))
    graph = read(shared, "sr_espcn/espcn_float")
    found = planning.choose(graph, target, {name: table(name), MICRO: table(MICRO)}, scheme="static_wi8_ai8")
    assert found.ok, [check.why for check in found.checks if not check.ok]
    [moved] = [one for one in found.operators if one.type == "DEPTH_TO_SPACE"]
    assert (moved.placement, moved.signature) == ("cpu", "int8")
