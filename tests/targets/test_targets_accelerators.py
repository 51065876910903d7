"""Accelerators, toolchains and emulators of a profile: what does not belong together is refused at its line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq import targets
from edgeq.errors import EdgeqError, TargetError
from edgeq.types import Target

PROFILE = """\
schema: 1
name: board
title: A board
kind: mcu
cpu: {arch: armv8.1-m.main, core: cortex-m55, features: [dsp, mve]}
memory: {flash: 32 MiB, ram: 2 MiB, reserved_flash: 64 KiB}
accelerator: {name: ethos-u65, config: ethos-u65-256, system_config: Ethos_U65_Embedded, memory_mode: Shared_Sram}
runtimes:
  - {name: vela, format: tflite, operators: ethos-u55, fallback: tflite-micro}
toolchain: {gcc: arm-none-eabi-gcc, flags: "-mcpu=cortex-m55 -mthumb"}
emulator: {machine: mps3-an547, memory: {flash: 0x10000000, ram: 0x31000000}}
sources:
  - {fact: cpu, where: data sheet}
  - {fact: memory, where: data sheet}
  - {fact: accelerator, where: data sheet}
  - {fact: runtimes, where: ran}
  - {fact: toolchain, where: ran}
  - {fact: emulator, where: ran}
"""
OTHER = {
    "hexagon": ("{name: hexagon, soc_id: 43, arch: v73}", "qnn"),
    "rknpu2": ("{name: rknpu2, platform: rk3588}", "rknn"),
    "edgetpu": ("{name: edgetpu}", "edgetpu"),
    "imx500": ("{name: imx500}", "imx500"),
}


def with_accelerator(written: str, runtime: str) -> str:
    text = re.sub(r"accelerator: \{name: ethos.*\}", f"accelerator: {written}", PROFILE)
    return text.replace("name: vela", f"name: {runtime}")


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Target]:
    """Loads a text as `board.yaml`."""

    def from_text(text: str) -> Target:
        (tmp_path / "board.yaml").write_text(text)
        return targets.load(tmp_path / "board.yaml")

    return from_text


def test_the_profile_loads(load: Callable[[str], Target]) -> None:
    target = load(PROFILE)
    assert target.accelerator is not None
    assert target.accelerator.config == "ethos-u65-256"
    assert target.emulator == {"machine": "mps3-an547", "memory": {"flash": 0x10000000, "ram": 0x31000000}}


@pytest.mark.parametrize(("written", "runtime"), OTHER.values(), ids=OTHER)
def test_other_accelerators_load(load: Callable[[str], Target], written: str, runtime: str) -> None:
    target = load(with_accelerator(written, runtime))
    assert target.accelerator is not None
    assert target.runtimes[0].name == runtime


BAD = [
    ("name: ethos-u65,", "name: ethos-u56,", "accelerator.name: 'ethos-u56' is not known; did you mean 'ethos-u", 7),
    ("name: ethos-u65,", "name: tpu9000,", "accelerator.name: 'tpu9000' is not known", 7),
    (
        "config: ethos-u65-256,",
        "config: ethos-u55-128,",
        "accelerator.config: 'ethos-u55-128' is not one of ethos-u65",
        7,
    ),
    ("config: ethos-u65-256,", "config: ethos-u65-128,", "is not one of ethos-u65-256, ethos-u65-512", 7),
    (", config: ethos-u65-256,", ",", "accelerator: ethos-u65 needs config", 7),
    ("Ethos_U65_Embedded", "Ethos_U55_Deep_Embedded", "'Ethos_U55_Deep_Embedded' is not for ethos-u65", 7),
    ("Ethos_U65_Embedded", "Ethos_U65_Embeded", "did you mean 'Ethos_U65_Embedded'?", 7),
    (
        "Shared_Sram",
        "Shared_SRAM",
        "accelerator.memory_mode: 'Shared_SRAM' is not known; did you mean 'Shared_Sram'?",
        7,
    ),
    (
        "Shared_Sram",
        "Dedicated_Sram_384KB",
        "Dedicated_Sram_384KB keeps the arena in DRAM, Ethos_U65_Embedded has flash",
        7,
    ),
    (", memory_mode: Shared_Sram", "", "accelerator: system_config and memory_mode belong together", 7),
    ("system_config: Ethos_U65_Embedded, ", "", "accelerator: system_config and memory_mode belong together", 7),
    (
        "config: ethos-u65-256,",
        "config: ethos-u65-256, soc_id: 43,",
        "accelerator.soc_id: does not apply to ethos-u65",
        7,
    ),
    ("config: ethos-u65-256,", "config: ethos-u65-256, platform: rk3588,", "accelerator.platform: does not apply", 7),
    ("config: ethos-u65-256,", "config: ethos-u65-256, macs: 4,", "accelerator.macs: unknown key", 7),
    ("name: vela", "name: qnn", "runtimes[0].name: qnn compiles for an accelerator that is not here: ethos-u65", 9),
    ("name: vela", "name: tflite-micro", "accelerator: no runtime uses it: add one called vela", 7),
    ("fallback: tflite-micro", "fallback: ../x", "runtimes[0].fallback: '../x' is not a table's name", 9),
    ("fallback: tflite-micro", "fallback: ethos-u55", "runtimes[0].fallback: should be another table", 9),
    ("  - {fact: accelerator, where: data sheet}\n", "", "sources: no source for accelerator", 12),
    ("  - {fact: emulator, where: ran}\n", "", "sources: no source for emulator", 12),
    ("{fact: emulator, where: ran}", "{fact: emulator.speed, where: ran}", "sources: no source for emulator", 12),
    (
        "  - {fact: runtimes",
        "  - {fact: cpu.cache, where: x}\n  - {fact: runtimes",
        "there is no cpu.cache in this",
        16,
    ),
    (
        "  - {fact: runtimes",
        "  - {fact: power, where: x}\n  - {fact: runtimes",
        "there is no power in this profile",
        16,
    ),
    (
        "  - {fact: runtimes",
        "  - {fact: cpu, where: ' '}\n  - {fact: runtimes",
        "should say where the fact was read",
        16,
    ),
    ("flash: 32 MiB, ", "", "memory: a microcontroller needs flash", 6),
    ("ram: 2 MiB", "ram: 2 MB", "memory.ram: MB is ambiguous; write '2 MiB'", 6),
    (
        "core: cortex-m55,",
        "core: cortex-m55, clock_hz: 25 MHz,",
        "should be a whole number of Hz, got '25 MHz'; write 25000000",
        5,
    ),
    ("core: cortex-m55,", "core: cortex-m55, clock_hz: fast,", "should be a whole number of Hz, got 'fast'", 5),
    (
        "core: cortex-m55,",
        "core: cortex-m55, clock_mhz: 25,",
        "cpu.clock_mhz: unknown key; did you mean 'clock_hz'?",
        5,
    ),
    ("armv8.1-m.main", "armv8.1m.main", "cpu.arch: 'armv8.1m.main' is not known; did you mean 'armv8.1-m.main'?", 5),
    ("armv8.1-m.main", "aarch64", "cpu.arch: 'aarch64' goes with kind linux or android, not mcu", 5),
    ("armv8.1-m.main", "arm64", "cpu.arch: 'arm64' is not known; it is written 'aarch64'", 5),
    ("[dsp, mve]", "[dsp, dsp]", "cpu.features[1]: 'dsp' appears twice", 5),
    ("[dsp, mve]", "[DSP]", "cpu.features[0]: 'DSP' is not a feature's name", 5),
    ("gcc: arm-none-eabi-gcc", "gcc: /tmp/gcc", "toolchain: gcc should be a compiler's name", 10),
    ("gcc: arm-none-eabi-gcc", "gcc: rm", "toolchain: gcc should be a compiler's name", 10),
    ("gcc: arm-none-eabi-gcc, ", "", "toolchain: gcc should be a compiler's name", 10),
    ("{gcc: arm", "{cc: x, gcc: arm", "toolchain.cc: unknown key; did you mean 'gcc'?", 10),
    ("-mthumb", "-fplugin=/tmp/x.so", "toolchain.flags: '-fplugin=/tmp/x.so' is not a machine option", 10),
    ("-mthumb", "@/tmp/flags", "toolchain.flags: '@/tmp/flags' is not a machine option", 10),
    ("-mthumb", "-wrapper", "toolchain.flags: '-wrapper' is not a machine option", 10),
    ("-mcpu=cortex-m55", "-mcpu=cortex-m7", "toolchain.flags: -mcpu=cortex-m7 is not for the core cortex-m55", 10),
    ("machine: mps3-an547, ", "", "emulator: should name a machine or a cpu", 11),
    ("machine: mps3-an547", "machine: 'x; rm'", "emulator.machine: should be a name that qemu knows", 11),
    ("machine: mps3-an547", "machine: [x]", "emulator.machine: should be a name that qemu knows", 11),
    ("machine: mps3-an547", "machine: mps3-an547, kernel: x", "emulator.kernel: unknown key", 11),
    ("flash: 0x10000000", "flash: -1", "emulator.memory.flash: should be an address", 11),
    ("flash: 0x10000000", "flash: 0x100000000", "emulator.memory.flash: should be an address", 11),
    ("flash: 0x10000000", "rom: 0", "emulator.memory.rom: unknown key", 11),
    ("{flash: 0x10000000, ram: 0x31000000}", "5", "emulator.memory: should be a mapping", 11),
]


@pytest.mark.parametrize(("old", "new", "message", "line"), BAD, ids=range(len(BAD)))
def test_what_does_not_belong_together_is_refused(
    load: Callable[[str], Target], tmp_path: Path, old: str, new: str, message: str, line: int
) -> None:
    assert old in PROFILE
    with pytest.raises(TargetError) as caught:
        load(PROFILE.replace(old, new, 1))
    assert message in caught.value.message
    assert caught.value.where == f"{tmp_path / 'board.yaml'}:{line}"


BAD_OTHER = [
    ("{name: hexagon, soc_id: 43, arch: v75}", "qnn", "accelerator.arch: SoC 43 has v73, got 'v75'"),
    ("{name: hexagon, soc_id: 57, arch: v73}", "qnn", "accelerator.arch: SoC 57 has v75, got 'v73'"),
    ("{name: hexagon, soc_id: 69, arch: v75}", "qnn", "accelerator.arch: SoC 69 has v79, got 'v75'"),
    ("{name: hexagon, soc_id: 44, arch: v73}", "qnn", "accelerator.soc_id: 44 is not known; known are 43 (v73)"),
    ("{name: hexagon, arch: v73}", "qnn", "accelerator: hexagon needs soc_id"),
    ("{name: hexagon, soc_id: 43}", "qnn", "accelerator: hexagon needs arch"),
    ("{name: hexagon, soc_id: '43', arch: v73}", "qnn", "accelerator.soc_id: should be a whole number"),
    ("{name: rknpu2, platform: rk3599}", "rknn", "accelerator.platform: 'rk3599' is not known; did you mean"),
    ("{name: rknpu2}", "rknn", "accelerator: rknpu2 needs platform"),
    ("{name: edgetpu, config: x}", "edgetpu", "accelerator.config: does not apply to edgetpu"),
    ("{name: ethos-u55, config: ethos-u55-128, system_config: Ethos_U55_High_End_Embedded, "
     "memory_mode: Dedicated_Sram}", "vela", "Dedicated_Sram is not for ethos-u55"),
    ("{name: ethos-u85, config: ethos-u85-256, system_config: Ethos_U85_SYS_Flash_High, "
     "memory_mode: Dedicated_Sram_384KB}", "vela", "Ethos_U85_SYS_Flash_High has flash there"),
    ("[ethos-u55]", "vela", "accelerator: should be a mapping"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "runtime", "message"), BAD_OTHER, ids=range(len(BAD_OTHER)))
def test_impossible_settings_are_refused(
    load: Callable[[str], Target], tmp_path: Path, written: str, runtime: str, message: str
) -> None:
    with pytest.raises(TargetError) as caught:
        load(with_accelerator(written, runtime))
    assert message in caught.value.message
    assert caught.value.where == f"{tmp_path / 'board.yaml'}:7"


GOOD_PAIRS = [
    ("ethos-u85", "ethos-u85-2048", "Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB"),
    ("ethos-u85", "ethos-u85-128", "Ethos_U85_SYS_DRAM_Mid", "Shared_Sram"),
    ("ethos-u65", "ethos-u65-512", "Ethos_U65_High_End", "Dedicated_Sram"),
    ("ethos-u55", "ethos-u55-32", "Ethos_U55_Deep_Embedded", "Sram_Only"),
]


@pytest.mark.parametrize(("name", "config", "system", "mode"), GOOD_PAIRS)
def test_pairs_that_vela_takes_load(
    load: Callable[[str], Target], name: str, config: str, system: str, mode: str
) -> None:
    written = f"{{name: {name}, config: {config}, system_config: {system}, memory_mode: {mode}}}"
    assert load(with_accelerator(written, "vela")).accelerator is not None


def test_a_configuration_alone_is_enough(load: Callable[[str], Target]) -> None:
    accelerator = load(with_accelerator("{name: ethos-u65, config: ethos-u65-256}", "vela")).accelerator
    assert accelerator is not None
    assert accelerator.memory_mode is None


def test_the_same_runtime_twice_is_refused(load: Callable[[str], Target]) -> None:
    line = "  - {name: vela, format: tflite, operators: ethos-u55, fallback: tflite-micro}\n"
    with pytest.raises(TargetError, match=r"runtimes\[1\].name: 'vela' appears twice"):
        load(PROFILE.replace(line, line + line))


@pytest.mark.parametrize("key", ["operators", "fallback"])
def test_a_missing_table_is_named_with_its_line(load: Callable[[str], Target], tmp_path: Path, key: str) -> None:
    was = {"operators": "ethos-u55", "fallback": "tflite-micro"}[key]
    target = load(PROFILE.replace(f"{key}: {was}", f"{key}: {was}s"))
    with pytest.raises(TargetError) as caught:
        targets.load_tables(target, tmp_path / "board.yaml")
    assert caught.value.message == f"runtimes[0].{key}: no operator table is called '{was}s'"
    assert caught.value.where == f"{tmp_path / 'board.yaml'}:9"
    assert was in (caught.value.hint or "")


HOSTILE = [
    "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "a: &a {b: *a}\n",
    "name: &n board\ntitle: *n\n",
    "x: " + "[" * 5000 + "]" * 5000 + "\n",
    "x: " + "{y: " * 200 + "1" + "}" * 200 + "\n",
    "<<: {schema: 1}\n",
    "!!python/object/apply:os.system ['true']\n",
    "schema: 1\nschema: 1\n",
    "- schema: 1\n",
    "schema: 1\n---\nschema: 1\n",
    "",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_yaml_is_one_line(load: Callable[[str], Target], text: str) -> None:
    with pytest.raises(TargetError) as caught:
        load(text)
    assert "\n" not in caught.value.message
    assert "board.yaml" in (caught.value.where or "")


VALUES = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.text(st.characters(codec="utf-8"), max_size=300).map(lambda text: f"{text!r}"),
    st.sampled_from(
        ["~", "true", "[]", "{}", "[{}]", ".nan", "1e999", "0x10", "rk3588", "v73", "Shared_Sram", "'-mthumb'"]
    ),
)
PLACES = ["ethos-u65,", "ethos-u65-256", "Ethos_U65_Embedded", "Shared_Sram", "arm-none-eabi-gcc", "mps3-an547",
          "0x10000000", "[dsp, mve]", "armv8.1-m.main", "32 MiB", "vela",
          '"-mcpu=cortex-m55 -mthumb"', "64 KiB"]  # fmt: skip


@settings(max_examples=400, deadline=5000, suppress_health_check=list(HealthCheck))
@given(value=VALUES, place=st.sampled_from(PLACES))
def test_any_value_loads_or_is_refused_in_one_line(
    value: str, place: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "board.yaml"
    path.write_bytes(PROFILE.replace(place, value, 1).encode("utf-8", "surrogatepass"))
    try:
        target = targets.load(path)
    except EdgeqError as error:
        assert isinstance(error, TargetError)
        assert "\n" not in error.message
        assert len(error.message) < 1000
        return
    assert target.toolchain is None or all(flag.startswith("-m") for flag in target.toolchain["flags"].split())


# --- the choice of those that fit -----------------------------------------------------------------


def chosen(**wanted: object) -> set[str]:
    return {target.name for target in targets.select(targets.load_all(), **wanted)}  # type: ignore[arg-type]


def test_selection_by_kind() -> None:
    kinds = {kind: chosen(kind=kind) for kind in ("linux", "android", "mcu")}
    assert set.union(*kinds.values()) == chosen() == set(targets.names())
    assert sum(map(len, kinds.values())) == len(chosen())
    npus = chosen(kind="npu")
    assert {"ethos-u55-128", "imx93", "snapdragon-8-gen2", "coral-edgetpu"} <= npus
    assert not npus & {"raspberry-pi-5", "corstone-300", "pixel-8"}


def test_selection_by_memory_and_runtime() -> None:
    assert chosen(kind="mcu", ram_at_least_bytes=512 * 1024) >= {"stm32h743", "stm32u575"}
    assert "rp2040" not in chosen(ram_at_least_bytes=512 * 1024)
    flash = chosen(flash_at_least_bytes=2 * 1024**2)
    assert {"stm32h743", "rp2040"} <= flash
    assert not flash & {"corstone-300", "raspberry-pi-5"}
    assert chosen(runtime="vela") == {"ethos-u55-128", "ethos-u65-256", "ethos-u85-256", "imx93"}
    assert chosen(runtime="vela", kind="linux") == {"imx93"}
    assert chosen(kind="android", flash_at_least_bytes=1) == set()
    with pytest.raises(TargetError, match="no target has a runtime 'velaa'; did you mean 'vela'"):
        chosen(runtime="velaa")
