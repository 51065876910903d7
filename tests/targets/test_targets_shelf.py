"""The shelf: every profile and table loads, every fact has a source, every operator of the real models has a row."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from edgeq import models, planning, targets
from edgeq.types import Target

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "digits"
NAMES = targets.names()
TABLES = ("tflite-litert-cpu", "onnx-ort-cpu")
PHONES = ("pixel-8", "galaxy-s23", "galaxy-s24", "generic-android-arm64")
BOARDS = (
    "raspberry-pi-zero-2w",
    "raspberry-pi-3b-plus",
    "raspberry-pi-4",
    "raspberry-pi-5",
    "jetson-orin-nano",
    "generic-linux-x86_64",
    "generic-linux-aarch64",
)
MICROCONTROLLERS = (
    "rp2040",
    "rp2350",
    "nano-33-ble-sense",
    "stm32l4r5",
    "stm32f746-discovery",
    "stm32h743",
    "stm32u575",
    "esp32-s3",
    "esp32-c3",
    "corstone-300",
)
NPUS = (
    "ethos-u55-128",
    "ethos-u65-256",
    "ethos-u85-256",
    "imx93",
    "rk3588",
    "rk3566",
    "snapdragon-8-gen2",
    "snapdragon-8-gen3",
    "coral-edgetpu",
    "imx500",
)
FIRST_SHELF = {*PHONES, *BOARDS, *MICROCONTROLLERS, *NPUS}
WITHOUT_SOURCE = {"name", "title", "kind", "schema", "sources", "roofline"}


def test_first_shelf_is_there() -> None:
    assert len(FIRST_SHELF) == 31
    assert set(NAMES) >= FIRST_SHELF
    assert [target.name for target in targets.load_all()] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_fact_has_a_source(name: str) -> None:
    """Over the fields of a profile, so that one that is added tomorrow needs a source too."""
    target = targets.load(name)
    stated = {source.fact for source in target.sources}
    groups = {item.name for item in fields(Target)} - WITHOUT_SOURCE
    assert {group for group in groups if getattr(target, group)} <= stated
    assert {fact.split(".")[0] for fact in stated} <= {group for group in groups if getattr(target, group)}
    assert all(len(source.where) > 20 for source in target.sources)
    assert target.roofline is None or len(target.roofline.source) > 20


@pytest.mark.parametrize("name", NAMES)
def test_what_has_features_says_where_they_were_read(name: str) -> None:
    target = targets.load(name)
    where = " ".join(source.where for source in target.sources if source.fact in ("cpu", "cpu.features"))
    words = ("cpuinfo", "lscpu", "GCC", "-march=", "edgeq's own choice", "DSP", "FPU", "Cortex-M4F")
    assert not target.cpu.features or any(word in where for word in words)


@pytest.mark.parametrize("name", NAMES)
def test_own_choices_are_called_so(name: str) -> None:
    """Budgets and reserves stand in no data sheet."""
    target = targets.load(name)
    memory = next(source.where for source in target.sources if source.fact == "memory")
    own = target.memory.model_budget_bytes or target.memory.reserved_ram_bytes or target.memory.reserved_flash_bytes
    assert not own or "edgeq's own choice" in memory


@pytest.mark.parametrize("name", NAMES)
def test_profile_is_plausible(name: str) -> None:
    target = targets.load(name)
    memory = target.memory
    if target.kind == "mcu":
        assert memory.flash_bytes is not None
        assert 100 * 1024 <= memory.ram_bytes <= 8 * 1024**2
        assert memory.reserved_ram_bytes <= memory.ram_bytes // 2
        assert memory.reserved_flash_bytes <= memory.flash_bytes // 4
        assert target.toolchain is not None
        assert target.cpu.clock_hz is None or target.cpu.clock_hz <= 600_000_000
    else:
        assert memory.ram_bytes >= 512 * 1024**2
        assert memory.model_budget_bytes is not None
        assert memory.model_budget_bytes <= memory.ram_bytes // 4 + 1
        assert target.power or name == "imx93"
        assert target.cpu.clock_hz is None or target.cpu.clock_hz >= 10**9


@pytest.mark.parametrize(("names", "kinds"), [(PHONES, {"android"}), (BOARDS, {"linux"}), (MICROCONTROLLERS, {"mcu"})])
def test_targets_without_an_accelerator(names: tuple[str, ...], kinds: set[str]) -> None:
    for name in names:
        target = targets.load(name)
        assert target.kind in kinds
        assert target.accelerator is None


COMPILERS = {
    "ethos-u55": ("vela", "ethos-u55"),
    "ethos-u65": ("vela", "ethos-u55"),
    "ethos-u85": ("vela", "ethos-u85"),
    "hexagon": ("qnn", "qualcomm-htp"),
    "rknpu2": ("rknn", "rockchip-rknn"),
    "edgetpu": ("edgetpu", "edgetpu"),
    "imx500": ("imx500", "imx500"),
}


@pytest.mark.parametrize("name", NPUS)
def test_accelerators_come_first_with_their_compiler(name: str) -> None:
    target = targets.load(name)
    assert target.accelerator is not None
    first = target.runtimes[0]
    assert (first.name, first.operators) == COMPILERS[target.accelerator.name]
    cpu = {"linux": ["litert", "onnxruntime"], "mcu": [], "android": []}[target.kind]
    assert [spec.name for spec in target.runtimes[1:]] == cpu
    if first.fallback is not None:
        assert targets.load_table(first.fallback).placement == "cpu"
    assert targets.load_table(first.operators).placement == "npu"


def test_features_follow_the_core() -> None:
    for target in targets.load_all():
        features, core = set(target.cpu.features), target.cpu.core
        assert ("asimddp" in features) == (core.startswith(("cortex-a76", "cortex-a55", "cortex-a78", "cortex-x")))
        assert ("i8mm" in features) == (core.startswith("cortex-x"))
        assert ("mve" in features) == (core in ("cortex-m55", "cortex-m85"))
        assert ("dsp" in features) == (core in ("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "cortex-m85"))


MACHINES = {
    "cortex-m0plus": "mps2-an385",
    "cortex-m4": "mps2-an386",
    "cortex-m7": "mps2-an500",
    "cortex-m33": "mps2-an505",
    "cortex-m55": "mps3-an547",
    "rv32imc": "virt",
}


@pytest.mark.parametrize("name", MICROCONTROLLERS)
def test_microcontrollers_have_the_emulator_of_their_core(name: str) -> None:
    target = targets.load(name)
    machine = (target.emulator or {}).get("machine")
    assert machine == MACHINES.get(target.cpu.core)


@pytest.mark.parametrize("name", [*MICROCONTROLLERS, *NPUS[:3]])
def test_the_compiler_takes_the_flags(name: str) -> None:
    toolchain = targets.load(name).toolchain or {}
    if shutil.which(toolchain["gcc"]) is None:
        pytest.skip(f"{toolchain['gcc']} is not installed")
    command = [toolchain["gcc"], *toolchain["flags"].split(), "-E", "-x", "c", os.devnull]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("file", ["digits_float.tflite", "digits_float.onnx"])
def test_the_digits_example_gets_a_plan_or_a_reason(name: str, file: str) -> None:
    target = targets.load(name)
    absent = {spec.operators for spec in target.runtimes} - set(targets.table_names())
    if absent:
        pytest.skip(f"operator tables are not there yet: {', '.join(sorted(absent))}")
    plan = planning.choose(models.read(EXAMPLE / file), target, targets.load_tables(target))
    assert plan.target == name
    if file.removeprefix("digits_float.") in {spec.format for spec in target.runtimes}:
        assert plan.ok, [check.why for check in plan.checks if not check.ok]
        assert plan.operators
    else:
        assert not plan.ok
        assert any(check.why for check in plan.checks if not check.ok)


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
        found = row.signatures or ()
        assert len(set(found)) == len(found), f"{operator} repeats a signature"


def test_tflite_weights_say_how_they_are_scaled() -> None:
    for operator, row in targets.load_table("tflite-litert-cpu").operators.items():
        for signature in row.signatures or ():
            if signature.weights in ("int8", "uint8"):
                assert signature.granularity, f"{operator} does not say how its weights are scaled"
                assert signature.symmetric, f"{operator} does not say what is symmetric"


@pytest.mark.parametrize("name", TABLES)
def test_every_operator_runs_in_float_or_is_of_integers(name: str) -> None:
    integers = {"int8", "uint8", "int16", "uint16", "int32", "int64", "bool"}
    for operator, row in targets.load_table(name).operators.items():
        kinds = {signature.activations for signature in row.signatures or ()}
        assert row.signatures is None or "float32" in kinds or kinds <= integers, operator


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


def test_the_board_of_the_documentation_loads_and_plans(tmp_path: Path) -> None:
    """`docs/adding.md` works on a board that is not on the shelf."""
    page = (EXAMPLE.parents[1] / "docs" / "adding.md").read_text()
    profile = page.split("```yaml\n")[1].split("```")[0]
    path = tmp_path / "beagleplay.yaml"
    path.write_text(profile)
    target = targets.load(path)
    assert target.name == "beagleplay"
    assert target.name not in NAMES
    assert target.memory.ram_bytes == 2 * 1024**3
    plan = planning.choose(models.read(EXAMPLE / "digits_float.tflite"), target, targets.load_tables(target, path))
    assert plan.ok
