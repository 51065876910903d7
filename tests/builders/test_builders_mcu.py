"""The microcontroller bundle: builds with the host's make and gcc, proves itself, and holds no text of the model's."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeq import models, store, targets, types
from edgeq.builders import mcu
from edgeq.builders.mcu import boards, files, machines
from edgeq.codegen import headers, reference
from edgeq.errors import BuildError
from edgeq.runtimes import encode
from edgeq.testing.plans import plan_of, quantized_of
from edgeq.testing.tflite import Graph, Node, Tensor, write_tflite

IMAGE = (1, 6, 6, 2)
TARGETS = [name for name in targets.names() if targets.load(name).kind == "mcu"]


def graph(source: str = "image", result: str = "scores") -> Graph:
    """CONV_2D, RESHAPE, FULLY_CONNECTED, SOFTMAX in INT8."""
    random = np.random.default_rng(5)
    kernel = random.integers(-127, 128, (4, 3, 3, 2)).astype(np.int8)
    bias = np.array([9, -900, 70, 0], np.int32)
    dense = random.integers(-127, 128, (3, 144)).astype(np.int8)
    tensors = (
        Tensor(name=source, shape=IMAGE, dtype="int8", scales=(0.5,), zero_points=(-3,)),
        Tensor(name="k", shape=kernel.shape, dtype="int8", data=kernel, scales=(0.01,) * 4, zero_points=(0,) * 4),
        Tensor(name="b", shape=(4,), dtype="int32", data=bias, scales=(0.005,) * 4, zero_points=(0,) * 4),
        Tensor(name="conv", shape=(1, 6, 6, 4), dtype="int8", scales=(0.7,), zero_points=(4,)),
        Tensor(name="shape", shape=(2,), dtype="int32", data=np.array([1, 144], np.int32)),
        Tensor(name="flat", shape=(1, 144), dtype="int8", scales=(0.7,), zero_points=(4,)),
        Tensor(name="d", shape=dense.shape, dtype="int8", data=dense, scales=(0.01,), zero_points=(0,)),
        Tensor(name="dense", shape=(1, 3), dtype="int8", scales=(5.0,), zero_points=(0,)),
        Tensor(name=result, shape=(1, 3), dtype="int8", scales=(1 / 256,), zero_points=(-128,)),
    )
    conv = {"strideH": 1, "strideW": 1, "padding": 0, "fusedActivationFunction": 1}
    nodes = (
        Node(type="CONV_2D", inputs=(source, "k", "b"), outputs=("conv",), options_table="Conv2DOptions", options=conv),
        Node(type="RESHAPE", inputs=("conv", "shape"), outputs=("flat",)),
        Node(type="FULLY_CONNECTED", inputs=("flat", "d"), outputs=("dense",), options_table="FullyConnectedOptions"),
        Node(
            type="SOFTMAX", inputs=("dense",), outputs=(result,), options_table="SoftmaxOptions", options={"beta": 1.0}
        ),
    )
    return Graph(tensors=tensors, nodes=nodes, inputs=(source,), outputs=(result,))


def quantized(folder: Path, target: str, made: Graph | None = None) -> types.QuantizedModel:
    path = write_tflite(folder / "converted.tflite", made or graph())
    read = models.read(path)
    session = reference.open(path)
    scheme = types.Scheme(name="as_is", default=types.Signature(activations="int8"))
    memory = types.PlannedMemory(flash_bytes=1, ram_bytes=2, arena_bytes=1234)
    plan = plan_of(read, scheme, target=target, runtime="tflite-micro", memory=memory)
    return quantized_of(read, plan, session, path)


def samples(count: int = 20) -> Iterator[tuple[np.ndarray, ...]]:
    random = np.random.default_rng(2)
    return ((random.uniform(-60, 60, IMAGE).astype(np.float32),) for _ in range(count))


def build(folder: Path, target: str = "stm32l4r5", made: Graph | None = None, name: str = "tiny") -> types.Bundle:
    profile = targets.load(target)
    return mcu.build(quantized(folder, target, made), folder, samples(), folder / "bundle", name, target=profile)


def make(folder: Path, *words: str, flags: str = "", given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run make in a bundle with nothing of this process's environment but the path."""
    if shutil.which("make") is None or shutil.which("gcc") is None:
        pytest.skip("make and gcc are not installed on this host: the bundle cannot be built")
    words = (*words, *([f"CFLAGS={flags}"] if flags else []))
    return subprocess.run(
        ["make", "-s", *words], cwd=folder, input=given, capture_output=True, timeout=120, check=False,
        env={"PATH": os.environ["PATH"]},
    )  # fmt: skip


def fields(text: bytes) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in text.decode().splitlines())


# --- what is in it ---------------------------------------------------------------------------


def test_every_file_is_listed_with_its_hash(tmp_path: Path) -> None:
    bundle = build(tmp_path)
    folder = Path(bundle.path)
    listed = {entry.path: entry for entry in bundle.manifest.files}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there - set(listed) == {"manifest.json"}
    for name, entry in listed.items():
        assert store.sha256(folder / name) == entry.sha256
    assert store.read(folder / "manifest.json", types.Manifest) == bundle.manifest
    assert bundle.manifest.estimates["arena_bytes"] > 0


def test_only_kernels_that_are_used(tmp_path: Path) -> None:
    kernels = {path.name for path in (Path(build(tmp_path).path) / "kernels").iterdir()}
    assert {"eq_conv2d.c", "eq_fully_connected.c", "eq_softmax.c", "eq_kernels.h"} <= kernels
    assert not {"eq_depthwise_conv2d.c", "eq_pool.c", "eq_add.c"} & kernels


def test_a_bundle_is_the_same_each_time(tmp_path: Path) -> None:
    first = {entry.path: entry.sha256 for entry in build(tmp_path).manifest.files}
    again = {entry.path: entry.sha256 for entry in build(tmp_path).manifest.files}
    different = {path for path in first if first[path] != again[path]}
    assert different <= {"golden.npz"}  # an archive has the time in it


@pytest.mark.parametrize("target", TARGETS)
def test_every_microcontroller_gets_one(tmp_path: Path, target: str) -> None:
    folder = Path(build(tmp_path, target).path)
    profile = targets.load(target)
    machine = machines.machine(profile)
    assert (folder / "linker.ld").exists() == bool(machine)
    if machine:
        assert f"-M {machine}" in (folder / "Makefile").read_text()
        assert (profile.toolchain or {})["gcc"] in (folder / "Makefile").read_text()
    assert target in (folder / "README.md").read_text()
    assert json.loads((folder / "sizes.json").read_text())["target"] == target


def test_every_profiles_machine_is_known() -> None:
    named = {str((targets.load(name).emulator or {}).get("machine", "")) for name in TARGETS}
    assert named - {""} <= set(machines.MACHINES)


def test_names_are_hostile(tmp_path: Path) -> None:
    odd = graph('*/ #error "\n??/', "{{ 7 * 7 }}\\\n")
    bundle = build(tmp_path, made=odd, name='x"; rm -rf $(HOME) `id` */\n# new heading')
    for path in Path(bundle.path).rglob("*"):
        if path.suffix in (".c", ".h", ".ld", ".md", ".cc") or path.name in ("Makefile", "CMakeLists.txt"):
            text = path.read_text()
            assert "#error" not in text
            assert "rm -rf $" not in text
            assert "49" not in text.split("output 0:")[-1][:12]
    assert make(Path(bundle.path), "check").returncode == 0


# --- what it does ----------------------------------------------------------------------------


def test_it_builds_and_proves_itself(tmp_path: Path) -> None:
    folder = Path(build(tmp_path).path)
    done = make(folder, "check")
    assert done.returncode == 0, done.stderr
    told = fields(done.stdout)
    assert told["eq-differing-bytes"] == "0"
    assert int(told["eq-vectors"]) == 20
    assert told["eq-done"] == "ok"
    assert int(told["eq-arena-used-bytes"]) <= int(told["eq-arena-bytes"])
    assert told["eq-model"] == store.sha256(folder / "model.tflite")


@pytest.mark.slow
def test_it_is_clean_under_sanitizers(tmp_path: Path) -> None:
    folder = Path(build(tmp_path).path)
    done = make(folder, "check", flags="-g -fsanitize=address,undefined -fno-sanitize-recover=all")
    assert done.returncode == 0, done.stderr
    assert fields(done.stdout)["eq-done"] == "ok"


def test_a_wrong_byte_is_found(tmp_path: Path) -> None:
    folder = Path(build(tmp_path).path)
    golden = (folder / "golden.c").read_text()
    head, _, bytes_of_outputs = golden.partition("const uint8_t eq_golden_output_bytes[] = {\n    ")
    first, _, rest = bytes_of_outputs.partition(",")
    (folder / "golden.c").write_text(
        f"{head}const uint8_t eq_golden_output_bytes[] = {{\n    {(int(first) + 1) % 256},{rest}"
    )
    done = make(folder, "check")
    assert done.returncode != 0
    assert fields(done.stdout)["eq-differing-bytes"] == "1"
    assert fields(done.stdout)["eq-done"] == "failed"


def test_a_kernel_that_writes_too_far_is_found(tmp_path: Path) -> None:
    folder = Path(build(tmp_path).path)
    source = (folder / "model.c").read_text()
    end = "    return EQ_MODEL_OK;\n}\n"
    assert source.endswith(end)
    (folder / "model.c").write_text(source[: -len(end)] + "    memory[EQ_MODEL_ARENA_BYTES + 3u] = 1u;\n" + end)
    done = make(folder, "check")
    assert done.returncode != 0
    assert int(fields(done.stdout)["eq-arena-used-bytes"]) > int(fields(done.stdout)["eq-arena-bytes"])


def test_a_profile_names_every_operator(tmp_path: Path) -> None:
    done = make(Path(build(tmp_path).path), "profile")
    names = [line.split()[0] for line in done.stdout.decode().splitlines() if line.startswith("eq-operator-")]
    assert names == [
        f"eq-operator-{n}-{type}" for n, type in enumerate(["CONV_2D", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX"])
    ]


def test_golden_vectors_are_what_a_microcontroller_computes(tmp_path: Path) -> None:
    folder = Path(build(tmp_path).path)
    with np.load(folder / "golden.npz") as golden:
        inputs, outputs = golden["input_0"], golden["output_0"]
    oracle = reference.open(folder / "model.tflite")
    for number in range(len(inputs)):
        assert np.array_equal(oracle.run([inputs[number : number + 1]])[0][0], outputs[number])


def test_vectors_that_do_not_fit_into_flash_stay_in_the_file(tmp_path: Path) -> None:
    port = files.GOLDEN_BYTES // 3
    from edgeq.codegen.generate import Compiled, Port

    side = Port(
        name="x", c_type="int8_t", shape=(port,), count=port, size_bytes=port, offset=0, scale=None, zero_point=0
    )
    empty = Compiled(
        source="", header="", inputs=(side,), outputs=(dataclasses.replace(side, shape=(1,), count=1, size_bytes=1),),
        kernels=(), defines=(), operators=(), arena_bytes=0, constant_bytes=0,
    )  # fmt: skip
    np.savez(tmp_path / "golden.npz", input_0=np.zeros((9, port), np.int8), output_0=np.zeros((9, 1), np.int8))
    assert files._golden(tmp_path / "golden.npz", empty)["vectors"] == 2


def test_real_values_through_io_h(tmp_path: Path) -> None:
    """Quantizing in C is quantizing on the host; what lies outside and what is no number has an answer."""
    folder = Path(build(tmp_path).path)
    program = r"""
#include "io.h"
#include <stdio.h>
int main(void)
{
    float real = 0.0f;
    while (scanf("%f", &real) == 1) {
        printf("%d\n", eq_quantize_input_0(real));
    }
    printf("%.9g\n", (double)eq_dequantize_output_0(127));
    return 0;
}
"""
    (folder / "io_test.c").write_text(program)
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed on this host")
    words = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-Wno-float-equal"]
    subprocess.run([*words, "-I.", "-o", "io_test", "io_test.c"], cwd=folder, check=True, timeout=60)
    real = np.concatenate([np.linspace(-80, 80, 641), [1e30, -1e30, np.inf, -np.inf, 0.25, 0.75]]).astype(np.float32)
    text = "\n".join(map(repr, map(float, real))) + "\nnan\n"
    done = subprocess.run(["./io_test"], cwd=folder, input=text, capture_output=True, text=True, timeout=60, check=True)
    *stored, back = done.stdout.split()
    session = reference.open(folder / "model.tflite")
    assert list(map(int, stored[:-1])) == encode(session.inputs[0], real).tolist()
    assert int(stored[-1]) == -3
    assert float(back) == pytest.approx(255 / 256)


# --- the line protocol -----------------------------------------------------------------------


def talk(folder: Path, text: bytes) -> list[str]:
    done = make(folder, "build/protocol")
    assert done.returncode == 0, done.stderr
    ran = subprocess.run([str(folder / "build/protocol")], input=text, capture_output=True, timeout=60, check=True)
    return ran.stdout.decode("ascii").split("\r\n")


def test_the_runners_conversation(tmp_path: Path) -> None:
    folder = Path(build(tmp_path).path)
    with np.load(folder / "golden.npz") as golden:
        inputs, outputs = golden["input_0"], golden["output_0"]
    feed = inputs[0].tobytes().hex().encode()
    loads = b"".join(b"db %s%%" % feed[at : at + 64] for at in range(0, len(feed), 64))
    told = talk(folder, b"name%\r\ntimestamp%db load 72%" + loads + b"infer 3 1%results%")
    assert told[:4] == ["m-init-done", "m-ready", "m-name-dut-[edgeq]", "m-ready"]
    assert "m-[Expecting 72 bytes]" in told
    assert "m-load-done" in told
    place = told.index("m-infer-start-3")
    assert told[place + 1].startswith("m-lap-us-")
    assert told[place + 2].startswith("m-lap-us-")
    assert told[place + 3] == "m-infer-done"
    expected = ",".join(f"{(int(value) + 128) * 1000 // 256 / 1000:.3f}" for value in outputs[0].ravel())
    assert told[place + 4] == f"m-results-[{expected}]"
    assert told[-2] == "m-ready"


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"nonsense%", "unknown command"),
        (b"db load 71%", "db load wants"),
        (b"db load 99999999999999999999%", "db load wants"),
        (b"db load 72%db 0g%", "pairs of hexadecimal"),
        (b"db load 72%db 012%", "pairs of hexadecimal"),
        (b"db 01%", "more bytes"),
        (b"infer%", "infer wants"),
        (b"infer 0%", "infer wants"),
        (b"infer 2 x%", "infer wants"),
        (b"x" * 1000 + b"%", "too long"),
        (b"\x00\xff\x80na\x01me%%", "unknown command"),
    ],
)
def test_noise_and_mistakes_are_answered(tmp_path_factory: pytest.TempPathFactory, said: bytes, error: str) -> None:
    """And the next command is understood."""
    folder = _built(tmp_path_factory)
    told = talk(folder, said + b"name%")
    assert sum(line.startswith("e-[") and error in line for line in told) == 1
    assert told[-3:-1] == ["m-name-dut-[edgeq]", "m-ready"]


_KEPT: dict[str, Path] = {}


def _built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if "bundle" not in _KEPT:
        _KEPT["bundle"] = Path(build(tmp_path_factory.mktemp("protocol")).path)
    return _KEPT["bundle"]


# --- refusals --------------------------------------------------------------------------------


def test_an_operator_without_a_kernel_leaves_nothing_behind(tmp_path: Path) -> None:
    cosine = Graph(
        tensors=(
            Tensor(name="x", shape=IMAGE, dtype="int8", scales=(0.1,), zero_points=(0,)),
            Tensor(name="y", shape=IMAGE, dtype="int8", scales=(0.1,), zero_points=(0,)),
        ),
        nodes=(Node(type="RELU_0_TO_1", inputs=("x",), outputs=("y",)),),
        inputs=("x",),
        outputs=("y",),
    )
    path = tmp_path / "out"
    good = quantized(tmp_path, "stm32l4r5")
    write_tflite(tmp_path / "converted.tflite", cosine)
    wrong = dataclasses.replace(
        good, artifact=dataclasses.replace(good.artifact, sha256=store.sha256(tmp_path / "converted.tflite"))
    )
    with pytest.raises(BuildError, match=r"operator 0 \(RELU_0_TO_1\) has no kernel in C"):
        mcu.build(wrong, tmp_path, samples(), path, "tiny", target=targets.load("stm32l4r5"))
    assert not path.exists()


def test_an_arena_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    target = targets.load("stm32l4r5")
    small = dataclasses.replace(target, memory=dataclasses.replace(target.memory, ram_bytes=200, reserved_ram_bytes=0))
    with pytest.raises(BuildError, match="stm32l4r5 has 200 for it"):
        mcu.build(quantized(tmp_path, "stm32l4r5"), tmp_path, samples(), tmp_path / "out", "tiny", target=small)


def test_another_format_is_refused(tmp_path: Path) -> None:
    good = quantized(tmp_path, "stm32l4r5")
    onnx = dataclasses.replace(good, artifact=dataclasses.replace(good.artifact, format="onnx"))
    with pytest.raises(BuildError, match="generated from TFLite"):
        mcu.build(onnx, tmp_path, samples(), tmp_path / "out", "tiny", target=targets.load("stm32l4r5"))


# --- for TFLM --------------------------------------------------------------------------------


def test_the_file_and_its_operators_for_tflm(tmp_path: Path) -> None:
    folder = Path(build(tmp_path).path)
    content = (folder / "tflm/model_data.cc").read_text().split("{\n")[1].split("};")[0]
    assert (
        bytes(int(part) for part in content.replace("\n", "").split(",") if part.strip())
        == (folder / "model.tflite").read_bytes()
    )
    resolver = (folder / "tflm/resolver.h").read_text()
    assert "MicroMutableOpResolver<4>" in resolver
    for method in ("AddConv2D", "AddReshape", "AddFullyConnected", "AddSoftmax"):
        assert f"resolver.{method}()" in resolver
    assert "kTensorArenaBytes = 1234" in (folder / "tflm/model_data.h").read_text()


# --- other builds ----------------------------------------------------------------------------


def test_cmake(tmp_path: Path) -> None:
    if shutil.which("cmake") is None or shutil.which("gcc") is None:
        pytest.skip("cmake is not installed on this host")
    folder = Path(build(tmp_path).path)
    for words in (
        ["cmake", "-S", ".", "-B", "build", "-DCMAKE_C_COMPILER=gcc"],
        ["cmake", "--build", "build"],
    ):
        subprocess.run(words, cwd=folder, capture_output=True, timeout=120, check=True)
    done = subprocess.run([str(folder / "build/selftest")], capture_output=True, timeout=60, check=True)
    assert fields(done.stdout)["eq-done"] == "ok"


def test_a_firmware_is_small_where_it_is_cold(tmp_path: Path) -> None:
    """Inner loops for speed, the rest for size; what make would run, for another compiler too."""
    folder = Path(build(tmp_path).path)
    done = make(folder, "-n", "firmware", "CROSS_CC=my-gcc")
    assert done.returncode == 0, done.stderr
    small, fast, link = (line for line in done.stdout.decode().splitlines() if "my-gcc" in line)
    assert " -Os " in small
    assert "model.c" in small
    assert " -O2 " in fast
    assert "kernels/eq_matrix.c" in fast
    assert "eq_matrix.c" not in small
    assert "-mcpu=cortex-m4" in link
    assert "-T linker.ld" in link
    slow = Path(build(tmp_path, "esp32-s3").path)
    assert make(slow, "firmware").returncode != 0


@pytest.mark.toolchain
def test_the_firmware_links(tmp_path: Path) -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed on this host: apt-get install gcc-arm-none-eabi")
    folder = Path(build(tmp_path).path)
    done = make(folder, "firmware", "size")
    assert done.returncode == 0, done.stderr


@pytest.mark.emulator
@pytest.mark.toolchain
def test_the_firmware_runs_in_the_emulator(tmp_path: Path) -> None:
    if shutil.which("arm-none-eabi-gcc") is None or shutil.which("qemu-system-arm") is None:
        pytest.skip("arm-none-eabi-gcc or qemu-system-arm is not installed on this host")
    done = make(Path(build(tmp_path).path), "emulate")
    assert done.returncode == 0, done.stderr
    assert b"eq-done ok" in done.stdout + done.stderr


# --- boards ----------------------------------------------------------------------------------

WITH_BOARD = [name for name in TARGETS if targets.load(name).board]


@pytest.mark.parametrize("target", WITH_BOARD)
def test_a_boards_folder_has_its_port_and_says_how_to_flash(tmp_path: Path, target: str) -> None:
    folder = Path(build(tmp_path, target).path)
    board = boards.board(targets.load(target))
    assert board is not None
    for path in boards.files(board):
        assert (folder / "ports" / path).read_bytes() == (headers.folder() / "ports" / path).read_bytes()
    assert f"#define EQ_BOARD_CLOCK_HZ {board.clock_hz}u" in (folder / "ports/board/eq_board.h").read_text()
    assert (folder / "tools/eq_uf2.c").exists() == bool(board.uf2_family)
    readme = (folder / "README.md").read_text()
    assert board.title in readme
    assert all(command in readme for command in (*board.flashing, board.again))
    assert "never on a real board" in readme


def test_make_board_says_what_it_would_run(tmp_path: Path) -> None:
    """Two programs; the port, the script and the flags of the board; UF2 where a boot ROM takes that."""
    folder = Path(build(tmp_path, "rp2040").path)
    done = make(folder, "-n", "board", "CROSS_CC=my-gcc")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    links = [line for line in lines if "-T board.ld" in line]
    assert [line.split(" -o ")[1].split()[0] for line in links] == [
        "build/board/selftest.elf",
        "build/board/protocol.elf",
    ]
    assert all("-mcpu=cortex-m0plus" in line and "-nostartfiles" in line for line in links)
    compiled = [line for line in lines if " -c " in line and "-Os" in line]
    assert "eq_selftest.c" in compiled[0]
    assert "eq_protocol_main.c" in compiled[1]
    for line in compiled:
        for part in ("eq_startup_cortex_m.c", "eq_port_board.c", "eq_uart_rp2.c", "eq_boot2_rp2040.c"):
            assert part in line
        assert "eq_port_cortex_m.c" not in line
        assert "-I../../../ports/board" in line
    assert sum("my-objcopy -O binary" in line for line in lines) == 2
    assert sum("0x10000000 0xe48bff56" in line for line in lines) == 2


def test_without_a_board_make_board_says_so(tmp_path: Path) -> None:
    done = make(Path(build(tmp_path, "corstone-300").path), "board")
    assert done.returncode != 0
    assert b"no board is known for corstone-300" in done.stderr


def test_a_board_that_is_not_known_leaves_nothing_behind(tmp_path: Path) -> None:
    target = dataclasses.replace(targets.load("stm32l4r5"), board="nucleo")
    with pytest.raises(BuildError, match="no board is called 'nucleo'"):
        mcu.build(quantized(tmp_path, "stm32l4r5"), tmp_path, samples(), tmp_path / "out", "tiny", target=target)
    assert not (tmp_path / "out").exists()


@pytest.mark.toolchain
@pytest.mark.parametrize("target", WITH_BOARD)
def test_images_of_boards(tmp_path: Path, target: str) -> None:
    """The vector table where the core or the boot stage looks for it: a stack in RAM, a start in flash."""
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed on this host: apt-get install gcc-arm-none-eabi")
    folder = Path(build(tmp_path, target).path)
    done = make(folder, "board")
    assert done.returncode == 0, done.stderr
    board = boards.board(targets.load(target))
    assert board is not None
    for program in ("selftest", "protocol"):
        image = (folder / f"build/board/{program}.bin").read_bytes()
        at = 256 if target == "rp2040" else 0
        stack, start = struct.unpack_from("<II", image, at)
        assert stack == sum(board.data)
        assert start & 1
        assert board.flash.origin <= start < board.flash.origin + len(image)
        assert len(image) <= board.flash.size_bytes
        assert (folder / f"build/board/{program}.hex").exists()


# --- Arduino ---------------------------------------------------------------------------------

ARDUINO_H = """
#include <cstdint>
#include <cstdio>
#include <cstring>
struct Monitor {
  void begin(unsigned long) {}
  explicit operator bool() const { return true; }
  void print(const char *text) { std::printf("%s", text); }
  void println(const char *text) { std::printf("%s\\n", text); }
  void println(unsigned long value) { std::printf("%lu\\n", value); }
  void println(unsigned int value) { std::printf("%u\\n", value); }
};
extern Monitor Serial;
unsigned long micros();
void setup();
void loop();
"""
ARDUINO_MAIN = """
Monitor Serial;
unsigned long micros() { static unsigned long now; return now += 7; }
int main() { setup(); loop(); return 0; }
"""


def build_sketch(library: Path, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """As Arduino does it: all of src/ as C with src/ as the only include path, then the sketch's folder as C++."""
    if shutil.which("gcc") is None or shutil.which("g++") is None:
        pytest.skip("gcc or g++ is not installed on this host")
    (folder / "Arduino.h").write_text(ARDUINO_H)
    (folder / "main.cpp").write_text(ARDUINO_MAIN)
    sketch = library / "examples/SelfTest"
    warnings = ["-Wall", "-Wextra", "-Werror", "-O1", f"-I{library / 'src'}", "-c"]
    c_files = [*sorted((library / "src").rglob("*.c")), sketch / "golden.c"]
    subprocess.run(["gcc", "-std=gnu11", *warnings, *map(str, c_files)], cwd=folder, check=True, timeout=120)
    cpp = ["g++", "-std=gnu++11", *warnings, f"-I{sketch}", "-include", "Arduino.h", "-I."]
    subprocess.run([*cpp, "main.cpp", "-x", "c++", str(sketch / "SelfTest.ino")], cwd=folder, check=True, timeout=120)
    objects = map(str, folder.glob("*.o"))
    subprocess.run(["g++", "-o", "sketch", *objects], cwd=folder, check=True, timeout=60)
    return subprocess.run([str(folder / "sketch")], capture_output=True, timeout=60, check=True)


def test_the_arduino_library_proves_itself(tmp_path: Path) -> None:
    folder = Path(build(tmp_path, "nano-33-ble-sense").path)
    place = tmp_path / "sketch"
    place.mkdir()
    told = fields(build_sketch(folder / "arduino", place).stdout)
    assert told["eq-vectors"] == "20"
    assert told["eq-differing-bytes"] == "0"
    assert told["eq-us-fewest"] == "7"
    assert told["eq-done"] == "ok"


def test_the_arduino_librarys_macros_are_the_makefiles(tmp_path: Path) -> None:
    """Arduino passes no macros of ours: each C file has them first."""
    folder = Path(build(tmp_path).path)
    macros = [word[2:] for word in (folder / "Makefile").read_text().split() if word.startswith("-DEQ_NARROW")]
    assert macros
    for path in (folder / "arduino/src").glob("*.c"):
        twin = folder / path.name if path.name == "model.c" else folder / "kernels" / path.name
        assert path.read_text() == "".join(f"#define {macro}\n" for macro in macros) + twin.read_text()


@pytest.mark.parametrize("name", ["tiny", "x\narchitectures=avr\n", "Ümläute", "=" * 200])
def test_the_arduino_librarys_properties(tmp_path: Path, name: str) -> None:
    folder = Path(build(tmp_path, name=name).path)
    lines = (folder / "arduino/library.properties").read_text().splitlines()
    properties = dict(line.split("=", 1) for line in lines)
    assert len(properties) == len(lines) == 9
    assert properties["architectures"] == "*"
    assert re.fullmatch(r"edgeq_[A-Za-z0-9_.-]{1,57}", properties["name"])
    assert (folder / "arduino/src" / properties["includes"]).exists()
