"""The main job on a microcontroller's board: one command line after the other, over a pseudo-terminal.

The board is the bundle's own firmware, built by the bundle's own Makefile for this host.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeq.errors import ToolError
from edgeq.lab.deploy import load_bundle
from edgeq.testing import firmware, models
from edgeq.testing.boards import PtyBoard

Edgeq = Callable[..., Any]
QUICK = ("--runs", "5", "--seconds", "0.1", "--warmup-seconds", "0")
MCU_KEYS = {"instructions", "text_bytes", "data_bytes", "bss_bytes", "arena_bytes", "stack_bytes"}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float model and its samples, built for an STM32, its firmware built for this host."""
    folder = tmp_path_factory.mktemp("serial")
    models.conv_tflite(folder)
    models.tiny_dataset(folder)
    words = [
        "build",
        folder / "conv.tflite",
        "-t",
        "stm32l4r5",
        "--data",
        folder / "dataset.yaml",
        "-o",
        folder / "out",
    ]
    subprocess.run([sys.executable, "-m", "edgeq", *map(str, words)], check=True, capture_output=True, timeout=120)
    try:
        shutil.copy(firmware.program(load_bundle(folder / "out" / "bundle")), folder / "flashed")
    except ToolError as error:
        pytest.skip(error.message)
    return folder


@pytest.fixture
def board(job: Path) -> Iterator[PtyBoard]:
    with PtyBoard([job / "flashed"]) as one:
        yield one


def test_profile(edgeq: Edgeq, job: Path, board: PtyBoard, tmp_path: Path) -> None:
    ran = edgeq("profile", job / "out" / "bundle", "-d", board.url, "-o", tmp_path, "--json", *QUICK)
    assert ran.code == 0, ran.err
    found = ran.document
    assert found["parity"]["exact"] is True
    assert found["parity"]["vectors"] == found["bundle"]["golden_vectors"]
    assert found["differing_bytes"] == 0
    assert found["latency_ms"]["p50"] > 0
    assert found["latency_ms"]["runs"] >= 5
    assert found["memory_bytes"]["arena"] == found["arena_bytes"] == found["bundle"]["estimates"]["arena_bytes"]
    assert set(found) >= MCU_KEYS
    for name in ("energy_mj", "peak_rss", *(key for key in MCU_KEYS if found[key] is None)):
        assert found["unavailable"][name], name
    assert found["energy_mj"] is None
    assert found["verdict"]["ok"] is True
    assert json.loads((tmp_path / "measurement.json").read_text())["device"]["port"] == board.port
    again = edgeq("report", tmp_path, "--json")
    assert again.code == 0, again.err
    assert again.document["parity"] == found["parity"]


def test_a_named_board_in_a_group(
    edgeq: Edgeq, job: Path, board: PtyBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQ_DEVICES", str(tmp_path / "devices.yaml"))
    assert edgeq("devices", "add", "nucleo", f"{board.url}?baud=57600", "--group", "desk").code == 0
    listed = edgeq("devices", "--json").document["devices"][0]
    assert (listed["transport"], listed["host"], listed["baud"]) == ("serial", board.port, 57600)
    ran = edgeq("profile", job / "out" / "bundle", "-d", "desk", "-o", tmp_path / "out", "--json", *QUICK)
    assert ran.code == 0, ran.err
    assert (tmp_path / "out" / "devices" / "nucleo" / "measurement.json").is_file()
    probed = edgeq("devices", "probe", "nucleo", "--json")
    assert probed.code == 0, probed.err
    assert probed.document["device"]["baud"] == 57600
    assert probed.document["firmware"]["output_bytes"] == models.CLASSES


def test_deploy_says_what_the_board_has(edgeq: Edgeq, job: Path, board: PtyBoard) -> None:
    ran = edgeq("deploy", job / "out" / "bundle", "-d", board.url, "--json")
    assert ran.code == 0, ran.err
    assert ran.document["sent"] == []
    assert "firmware" in ran.document["folder"]


def test_validate_gives_what_the_host_computes(edgeq: Edgeq, job: Path, board: PtyBoard, tmp_path: Path) -> None:
    words = ("-d", board.url, "--data", job / "dataset.yaml", "-o", tmp_path, "--json")
    ran = edgeq("validate", job / "out" / "bundle", *words)
    assert ran.code == 0, ran.err
    assert ran.document["differing_samples"] == 0
    assert ran.document["device"] == ran.document["host"]


def test_run_ends_in_the_report(edgeq: Edgeq, job: Path, board: PtyBoard, tmp_path: Path) -> None:
    """The board has the firmware already: what is built again is the same to the byte."""
    words = ("-t", "stm32l4r5", "-d", board.url, "--data", job / "dataset.yaml", "-o", tmp_path, "--json")
    ran = edgeq("run", job / "conv.tflite", *words, *QUICK)
    assert ran.code == 0, ran.err
    assert ran.document["parity"]["exact"] is True


def test_a_board_that_computes_otherwise(edgeq: Edgeq, job: Path, tmp_path: Path) -> None:
    """One wrong byte: the answer is no."""
    import re
    import zlib

    def change(match: re.Match[bytes]) -> bytes:
        text = match[1] + (b"00" if match[2] != b"00" else b"01") + match[3]
        return text + b"#%08x" % zlib.crc32(text)

    def down(data: bytes) -> bytes:
        return re.sub(rb"(m-eq-output-\[\d+,0,)(..)([0-9a-f]*\])#[0-9a-f]{8}", change, data)

    with PtyBoard([job / "flashed"], down=down) as one:
        ran = edgeq("profile", job / "out" / "bundle", "-d", one.url, "-o", tmp_path, "--json", *QUICK)
    assert ran.code == 3
    assert ran.document["parity"]["ok"] is False
    assert ran.document["differing_bytes"] == ran.document["parity"]["vectors"]
    parity = next(check for check in ran.document["verdict"]["checks"] if check["rule"] == "parity")
    assert (parity["ok"], parity["needed"]) == (False, 0)


def test_exit_codes(edgeq: Edgeq, job: Path, board: PtyBoard, tmp_path: Path) -> None:
    """One line each, and the code that cli.md promises."""
    bundle = job / "out" / "bundle"
    other = firmware.bundle(tmp_path / "other")
    with PtyBoard([]) as silent:
        cases = [
            (("profile", bundle, "-d", "serial:///dev/ttyACM99"), 4, "there is no /dev/ttyACM99"),
            (("profile", bundle, "-d", "serial:///etc/passwd"), 4, "no serial port"),
            (("profile", bundle, "-d", silent.url, "--timeout-seconds", "1"), 4, "silent"),
            (("deploy", other.path, "-d", board.url), 1, "another model"),
            (("profile", other.path, "-d", board.url, "-o", tmp_path), 1, "another model"),
            (("profile", bundle, "-d", board.url, "--threads", "2"), 2, "no threads"),
            (("profile", bundle, "-d", "serial:ttyACM0"), 1, "names a port"),
            (("profile", bundle, "-d", "serial:///dev/ttyACM0?baud=9"), 1, "baud=N"),
            (("profile", bundle, "-d", "local:"), 1, "firmware for stm32l4r5"),
            (("run", job / "conv.tflite", "-t", "stm32l4r5", "--data", job / "dataset.yaml",
              "-d", "serial:///dev/ttyACM99"), 4, "there is no"),
        ]  # fmt: skip
        for words, code, said in cases:
            ran = edgeq(*words)
            assert ran.code == code, (words, ran.err)
            assert said in ran.error, words


def test_a_port_that_somebody_else_has(edgeq: Edgeq, job: Path, board: PtyBoard) -> None:
    import serial

    with serial.Serial(board.port, exclusive=True):
        ran = edgeq("deploy", job / "out" / "bundle", "-d", board.url)
    assert ran.code == 4
    assert "in use by another program" in ran.error


def test_ctrl_c_leaves_the_port(job: Path, tmp_path: Path, board: PtyBoard, edgeq: Edgeq) -> None:
    words = [sys.executable, "-m", "edgeq", "profile", job / "out" / "bundle", "-d", board.url, "--seconds", "600"]
    words += ["-o", tmp_path, "--timeout-seconds", "900"]
    child = subprocess.Popen(list(map(str, words)), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stderr is not None
    try:
        assert any("runs" in line for line in child.stderr)
        time.sleep(0.5)
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
    finally:
        child.kill()
        child.communicate()
    assert not (tmp_path / "measurement.json").exists()
    assert os.path.exists(board.port)  # noqa: PTH110 a device file
    ran = edgeq("deploy", job / "out" / "bundle", "-d", board.url)
    assert ran.code == 0, ran.err
