"""The shelf: every profile and table loads, every fact has a source, every operator of the real models has a row."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq import targets
from edgeq.types import Target

NAMES = targets.names()
TABLES = ("tflite-litert-cpu", "onnx-ort-cpu")
FIRST_SHELF = {
    "generic-linux-x86_64",
    "generic-linux-aarch64",
    "raspberry-pi-zero-2w",
    "raspberry-pi-3b-plus",
    "raspberry-pi-4",
    "raspberry-pi-5",
}


def test_first_shelf_is_there() -> None:
    assert set(NAMES) >= FIRST_SHELF
    assert [target.name for target in targets.load_all()] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_fact_has_a_source(name: str) -> None:
    target = targets.load(name)
    stated = {source.fact.split(".")[0] for source in target.sources}
    assert {"cpu", "memory", "runtimes"} <= stated
    assert "power" in stated or not target.power
    assert all(len(source.where) > 20 for source in target.sources)
    assert target.roofline is None or len(target.roofline.source) > 20


@pytest.mark.parametrize("name", NAMES)
def test_profile_is_plausible(name: str) -> None:
    target = targets.load(name)
    assert target.memory.ram_bytes >= 512 * 1024**2
    assert target.memory.model_budget_bytes is not None
    assert target.memory.model_budget_bytes <= target.memory.ram_bytes // 4 + 1
    assert [spec.name for spec in target.runtimes] == ["litert", "onnxruntime"]
    for spec in target.runtimes:
        assert targets.load_table(spec.operators).runtime == spec.name
    assert ("asimddp" in target.cpu.features) == (target.cpu.core == "cortex-a76")


def test_runtime_that_dies_on_arm_is_excluded() -> None:
    for name in NAMES:
        for spec in targets.load(name).runtimes:
            assert spec.name != "onnxruntime" or "!=1.21.0" in spec.versions


@pytest.mark.parametrize("name", TABLES)
def test_table_says_what_it_rests_on(name: str) -> None:
    table = targets.load_table(name)
    assert len(table.operators) >= 60
    assert table.source.startswith("Ran: ")
    assert table.fallback == "float"
    for operator, row in table.operators.items():
        for signature in row.signatures or ():
            if signature.weights in ("int8", "uint8"):
                assert signature.granularity, f"{operator} does not say how its weights are scaled"
                assert signature.symmetric, f"{operator} does not say what is symmetric"
            shown = [str(one) for one in row.signatures or ()]
            assert len(set(shown)) == len(shown), f"{operator} repeats a signature"


@pytest.mark.parametrize("name", TABLES)
def test_every_operator_runs_in_float(name: str) -> None:
    table = targets.load_table(name)
    for operator, row in table.operators.items():
        kinds = {signature.activations for signature in row.signatures or ()}
        assert row.signatures is None or "float32" in kinds, operator


def test_tables_of_a_target() -> None:
    target: Target = targets.load("raspberry-pi-5")
    tables = targets.load_tables(target)
    assert set(tables) == set(TABLES)
    conv = tables["tflite-litert-cpu"].operators["CONV_2D"]
    assert conv.signatures is not None
    assert {str(one) for one in conv.signatures} >= {
        "int8/int8/int32 per-channel",
        "float32/float16",
        "float32/float32",
    }
    assert tables["tflite-litert-cpu"].operators["RESHAPE"].signatures is None
    assert tables["tflite-litert-cpu"].operators["RESHAPE"].passes_quantization


def test_fixed_outputs_are_the_specification_s() -> None:
    table = targets.load_table("tflite-litert-cpu")
    outputs = {
        name: {
            one.output.dtype: (one.output.scale, one.output.zero_point) for one in row.signatures or () if one.output
        }
        for name, row in table.operators.items()
    }
    assert outputs["SOFTMAX"] == {"int8": (1 / 256, -128), "uint8": (1 / 256, 0), "int16": (2**-15, 0)}
    assert outputs["LOGISTIC"] == outputs["SOFTMAX"]
    assert outputs["TANH"] == {"int8": (1 / 128, 0), "uint8": (1 / 128, 128), "int16": (2**-15, 0)}
    assert outputs["LOG_SOFTMAX"] == {"int8": (16 / 256, 127), "uint8": (16 / 256, 255)}


def test_every_tflite_operator_of_the_real_models_has_a_row(shared: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema

    types = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    operators = targets.load_table("tflite-litert-cpu").operators
    files = sorted(shared.glob("*/*.tflite"))
    assert files
    for path in files:
        model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
        for code in model.operatorCodes:
            name = types[max(code.builtinCode, code.deprecatedBuiltinCode)]
            assert name in operators, f"{path.name}: {name}"
            newest = operators[name].max_version
            assert newest is None or code.version <= newest


def test_every_onnx_operator_of_the_real_models_has_a_row(shared: Path) -> None:
    import onnx

    operators = targets.load_table("onnx-ort-cpu").operators
    files = sorted(shared.glob("*/*.onnx"))
    assert files
    for path in files:
        model = onnx.load(path, load_external_data=False)
        missing = {node.op_type for node in model.graph.node} - set(operators)
        assert not missing, f"{path.name}: {missing}"
