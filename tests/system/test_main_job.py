"""The main job over a real sshd: one command from a float model to numbers measured there."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeq.testing import models
from edgeq.testing.sshd import Server, running_with

Edgeq = Callable[..., Any]
TARGET = "generic-linux-x86_64" if platform.machine() == "x86_64" else "generic-linux-aarch64"
QUICK = ("--runs", "5", "--seconds", "0.1", "--warmup-seconds", "0")

PLAN_KEYS = {"target", "runtime", "scheme", "ok", "operators", "memory", "predicted", "checks", "rejected"}
RUN_KEYS = {
    "plan": PLAN_KEYS,
    "artifact": {"path", "format", "sha256", "size_bytes", "float_size_bytes"},
    "accuracy": {"metric", "samples", "float", "quantized", "drop"},
    "fidelity": {"outputs"},
    "latency_ms": {"p50", "p90", "p99", "mean", "std", "min", "max", "runs", "first", "load"},
    "memory_bytes": {"peak_rss", "arena"},
    "parity": {"exact", "max_steps", "vectors"},
    "conditions": {"before", "after", "throttled"},
    "verdict": {"ok", "checks"},
}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A folder with both tiny models and their samples."""
    models.conv_tflite(tmp_path)
    models.conv_onnx(tmp_path)
    models.tiny_dataset(tmp_path)
    (tmp_path / "first").mkdir()
    models.tiny_dataset(tmp_path / "first", channels_first=True)
    return tmp_path


def _data(job: Path, name: str) -> Path:
    return job / ("first" if name.endswith("onnx") else "") / "dataset.yaml"


@pytest.fixture
def board(edgeq: Edgeq, sshd: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The sshd, registered under a name."""
    monkeypatch.setenv("EDGEQ_DEVICES", str(tmp_path / "devices.yaml"))
    ran = edgeq(
        "devices", "add", "board", sshd.url, "--identity", sshd.key, "--python", sys.executable,
        "--folder", sshd.folder / "device",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    return "board"


def _check_keys(document: dict[str, Any]) -> None:
    assert document["schema_version"] == 1
    for key, wanted in RUN_KEYS.items():
        assert wanted <= set(document[key]), key
    assert {"seconds", "peak_rss_bytes", "device", "energy_mj", "unavailable"} <= set(document)


@pytest.mark.parametrize("name", ["conv.tflite", "conv.onnx"])
def test_run_over_ssh(edgeq: Edgeq, job: Path, board: str, name: str) -> None:
    ran = edgeq(
        "run", job / name, "-t", TARGET, "-d", board, "--data", _data(job, name), "-o", job / "out", "--json", *QUICK
    )
    assert ran.code == 0, ran.err
    found = ran.document
    _check_keys(found)
    assert found["plan"]["scheme"] == "static_wi8_ai8"
    assert found["parity"]["exact"]
    assert found["parity"]["vectors"] >= 16
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99"] <= found["latency_ms"]["max"]
    assert found["energy_mj"] is not None or found["unavailable"]["energy_mj"]
    assert found["memory_bytes"]["peak_rss"] > 1 << 20
    for stage in ("plan", "quantized", "measurement", "report"):
        assert (job / "out" / f"{stage}.json").is_file(), stage
    shown = edgeq("report", job / "out")
    assert shown.code == 0, shown.err
    assert "everything holds" in shown.out
    again = edgeq("report", job / "out", "--json").document
    assert {key: again[key] for key in RUN_KEYS} == {key: found[key] for key in RUN_KEYS}


def test_the_verbs_one_by_one(edgeq: Edgeq, job: Path, board: str) -> None:
    ran = edgeq(
        "build", job / "conv.tflite", "-t", TARGET, "--data", _data(job, "conv.tflite"), "-o", job / "out", "--json"
    )
    assert ran.code == 0, ran.err
    bundle = job / "out" / "bundle"
    assert Path(ran.document["bundle"]["path"]) == bundle
    first = edgeq("deploy", bundle, "-d", board, "--json")
    assert first.code == 0, first.err
    assert "model.tflite" in first.document["sent"]
    second = edgeq("deploy", bundle, "-d", board, "--json").document
    assert (second["sent"], second["sent_bytes"]) == ([], 0)
    ran = edgeq("profile", bundle, "-d", board, "--json", *QUICK)
    assert ran.code == 0, ran.err
    _check_keys(ran.document)
    ran = edgeq("validate", bundle, "-d", board, "--data", _data(job, "conv.tflite"), "--json")
    assert ran.code == 0, ran.err
    found = ran.document
    assert found["host"] == found["device"]
    assert (found["differing_samples"], found["samples"]) == (0, 48)
    assert edgeq("report", job / "out", "--json").document["validation"]["device"] == found["device"]


def test_a_file_altered_on_the_device_is_sent_again(edgeq: Edgeq, job: Path, board: str, sshd: Server) -> None:
    data = _data(job, "conv.tflite")
    assert edgeq("build", job / "conv.tflite", "-t", TARGET, "--data", data, "-o", job / "out", "-q").code == 0
    bundle = job / "out" / "bundle"
    folder = Path(edgeq("deploy", bundle, "-d", board, "--json").document["folder"])
    there = folder if folder.is_absolute() else Path.home() / folder
    content = bytearray((there / "model.tflite").read_bytes())
    content[-10] ^= 1
    (there / "model.tflite").write_bytes(content)
    assert edgeq("deploy", bundle, "-d", board, "--json").document["sent"] == ["model.tflite"]
    assert edgeq("profile", bundle, "-d", board, "--json", *QUICK).code == 0


def test_a_bundle_changed_on_this_host_is_refused(edgeq: Edgeq, job: Path, board: str) -> None:
    data = _data(job, "conv.tflite")
    assert edgeq("build", job / "conv.tflite", "-t", TARGET, "--data", data, "-o", job / "out", "-q").code == 0
    (job / "out" / "bundle" / "golden.npz").write_bytes(b"other")
    ran = edgeq("profile", job / "out" / "bundle", "-d", board)
    assert ran.code == 1
    assert "golden.npz" in ran.err
    assert ran.error


def test_resume_keeps_finished_stages(edgeq: Edgeq, job: Path, board: str) -> None:
    argv = (
        "run",
        job / "conv.tflite",
        "-t",
        TARGET,
        "-d",
        board,
        "--data",
        _data(job, "conv.tflite"),
        "-o",
        job / "out",
    )
    assert edgeq(*argv, *QUICK).code == 0
    stamps = {path: path.stat().st_mtime_ns for path in (job / "out").rglob("*") if path.is_file()}
    ran = edgeq(*argv, *QUICK, "--resume", "--json")
    assert ran.code == 0, ran.err
    _check_keys(ran.document)
    kept = ("quantized.json", "measurement.json", "golden.npz", "conv_quantized.tflite")
    for path, stamp in stamps.items():
        if path.name in kept and path.parent.name in ("out", "bundle"):
            assert path.stat().st_mtime_ns == stamp, path
    ran = edgeq(*argv, "--runs", "6", *QUICK[2:], "--resume", "--json")
    assert ran.document["settings"]["runs"] == 6
    (job / "out" / "conv_quantized.tflite").write_bytes(b"broken")
    assert edgeq(*argv, *QUICK, "--resume").code == 0
    assert (job / "out" / "conv_quantized.tflite").stat().st_size > 1000


def test_a_quantized_model_is_taken_as_it_stands(edgeq: Edgeq, job: Path, board: str) -> None:
    for name in ("conv.tflite", "conv.onnx"):
        data = _data(job, name)
        out = job / f"out-{name}"
        assert edgeq("quantize", job / name, "-t", TARGET, "--data", data, "-o", out, "-q").code == 0
        model = next(path for path in out.iterdir() if path.suffix in (".tflite", ".onnx"))
        argv = ("run", model, "-t", TARGET, "-d", board, "--data", data, "-o", job / f"as-is-{name}", "--json", *QUICK)
        ran = edgeq(*argv)
        assert ran.code == 0, ran.err
        found = ran.document
        assert found["plan"]["scheme"] == "as_is"
        source = json.loads((out / "quantized.json").read_text())
        assert found["artifact"]["sha256"] == source["artifact"]["sha256"]
        assert found["accuracy"]["float"] is None
        assert found["accuracy"]["quantized"] == source["accuracy"]["quantized_score"]


def test_a_plain_address(edgeq: Edgeq, job: Path, sshd: Server) -> None:
    """Keys and known hosts from ~/.ssh; where the far python3 has no interpreter, one that has is found."""
    folder = Path.home() / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "id_ed25519").write_bytes(sshd.key.read_bytes())
    (folder / "id_ed25519").chmod(0o600)
    (folder / "known_hosts").write_bytes(sshd.known_hosts.read_bytes())
    data = _data(job, "conv.tflite")
    argv = ("-t", TARGET, "-d", sshd.url, "--data", data, "-o", job / "out", "--json", *QUICK)
    ran = edgeq("run", job / "conv.tflite", *argv)
    assert ran.code == 0, ran.err
    assert ran.document["parity"]["exact"]


def test_a_python_that_was_named_is_never_replaced(edgeq: Edgeq, job: Path, sshd: Server, board: str) -> None:
    venv.create(job / "bare", with_pip=False)
    assert edgeq("devices", "remove", board).code == 0
    bare = job / "bare" / "bin" / "python"
    add = ("devices", "add", board, sshd.url, "--identity", sshd.key, "--folder", sshd.folder / "device")
    assert edgeq(*add, "--python", bare).code == 0
    data = _data(job, "conv.tflite")
    ran = edgeq(
        "run", job / "conv.tflite", "-t", TARGET, "-d", board, "--data", data, "-o", job / "out", "--json", *QUICK
    )
    assert ran.code == 1
    assert ran.document["error"]["kind"] == "RuntimeMissing"
    assert f"{bare} -m pip install" in ran.document["error"]["hint"]
    assert "ai-edge-litert" in ran.document["error"]["hint"]


def test_trust(edgeq: Edgeq, sshd: Server, board: str, job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_KNOWN_HOSTS", str(job / "known_hosts"))
    ran = edgeq("devices", "probe", board)
    assert ran.code == 4
    assert "edgeq devices trust" in ran.err
    assert ran.error
    shown = edgeq("devices", "trust", board, "--fingerprint", "SHA256:wrong")
    assert shown.code == 4
    assert not (job / "known_hosts").exists()
    ran = edgeq("devices", "trust", board, "--yes", "--json")
    assert ran.code == 0, ran.err
    key = subprocess.run(
        ["ssh-keygen", "-lf", f"{sshd.folder}/host_key.pub"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert ran.document["fingerprint"] == key
    ran = edgeq("devices", "probe", board, "--json")
    assert ran.code == 0, ran.err
    assert ran.document["runtimes"]


@pytest.mark.parametrize("moment", ["calibrate", "upload", "runs"])
def test_ctrl_c(job: Path, board: str, sshd: Server, edgeq: Edgeq, moment: str) -> None:
    marker = str(job / "out")
    argv = ["run", job / "conv.tflite", "-t", TARGET, "-d", board, "--data", _data(job, "conv.tflite"), "-o", marker]
    long = [*map(str, argv), "--runs", "100000", "--seconds", "60"]
    with subprocess.Popen(
        [sys.executable, "-m", "edgeq", *long], stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stderr is not None
        seen = ""
        for line in process.stderr:
            seen += line
            if line.startswith(moment):
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(timeout=30) == 130, seen + rest
    assert "Traceback" not in rest
    give_up = time.monotonic() + 20
    while (left := running_with(str(sshd.folder / "device"))) and time.monotonic() < give_up:
        time.sleep(0.2)
    assert not left
    assert not [path for path in (job / "out").rglob("*") if ".part" in path.name]
    ran = edgeq(*argv, *QUICK)
    assert ran.code == 0, ran.err


def test_the_keyword_spotter(edgeq: Edgeq, shared: Path, job: Path, board: str) -> None:
    folder = shared / "kws_dscnn"
    argv = ("-t", TARGET, "-d", board, "--data", folder / "dataset.yaml", "-o", job / "out", "--json")
    ran = edgeq("run", folder / "kws_float.tflite", *argv)
    assert ran.code == 0, ran.err
    found = ran.document
    _check_keys(found)
    assert found["accuracy"]["quantized"] >= 0.895
    assert found["artifact"]["size_bytes"] <= 60_000
    assert found["parity"]["exact"]
    assert found["energy_mj"] is not None or found["unavailable"]["energy_mj"]
