"""The stages on a device that is this host: run, profile, validate, report, doctor."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import devices, store, workflow
from edgeq.errors import BuildError, DeviceError, EdgeqError, Unreachable
from edgeq.report import json as documents
from edgeq.testing import models
from edgeq.types import Budgets, Measurement, Report, RunSettings, Validation
from edgeq.workflow import Refused, Wish
from edgeq.workflow.validate import _differing

TARGET = "generic-linux-x86_64"
QUICK = RunSettings(runs=3, seconds=0.0, warmup_seconds=0.0)


def _run(desk: Path, device: str, **words: Any) -> Report | Refused:
    words = {"output": desk / "out", "settings": QUICK, **words}
    return workflow.run(desk / "mlp.tflite", TARGET, device, str(desk / "flat" / "dataset.yaml"), **words)


# --- before the work begins -----------------------------------------------------------------------


@pytest.mark.parametrize("device", ["ssh://nobody@127.0.0.1:1", "nosuch"])
def test_a_device_that_cannot_be_had_costs_no_work(desk: Path, device: str) -> None:
    steps: list[str] = []
    started = time.monotonic()
    with pytest.raises(DeviceError) as caught:
        _run(desk, device, progress=lambda step, *_: steps.append(step))
    assert isinstance(caught.value, Unreachable) == (device != "nosuch")
    assert steps == []
    assert not (desk / "out").exists()
    assert time.monotonic() - started < 15


def test_a_bundle_is_looked_at_before_the_device(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for verb in (workflow.deploy, workflow.profile):
        with pytest.raises(BuildError, match="no bundle"):
            verb(tmp_path / "empty", "nosuch")
    with pytest.raises(BuildError, match="no bundle"):
        workflow.validate(tmp_path / "empty", "nosuch", "nosuch.yaml")


def test_run_refuses_before_converting(desk: Path, here: str) -> None:
    models.custom_op_tflite(desk)
    (desk / "mlp.tflite").write_bytes((desk / "custom.tflite").read_bytes())
    found = _run(desk, here)
    assert isinstance(found, Refused)
    assert [path.name for path in (desk / "out").iterdir()] == ["plan.json"]


def test_run_stops_where_the_accuracy_does_not_hold(desk: Path, here: str) -> None:
    path = desk / "flat" / "dataset.yaml"
    path.write_text(path.read_text().replace("top1", "cosine"))
    wish = Wish(scheme="static_wi8_ai8", budgets=Budgets(max_drop=0.0))
    found = _run(desk, here, wish=wish)
    assert isinstance(found, Report)
    assert not found.verdict.ok
    assert [check.rule for check in found.verdict.checks if not check.ok] == ["accuracy"]
    assert found.measurement is None
    assert found.bundle is None
    assert not (desk / "out" / "measurement.json").exists()


# --- the road, once -------------------------------------------------------------------------------


def test_the_road_on_this_host(desk: Path, here: str) -> None:
    """One run, then everything that can be asked of its folder: one test, since the road takes seconds."""
    found = _run(desk, here)
    assert isinstance(found, Report)
    assert found.verdict.ok
    assert found.model == found.bundle.name  # type: ignore[union-attr]
    assert found.measurement is not None
    assert found.measurement.settings == QUICK
    assert found.measurement.device["name"] == "here"
    assert json.loads((desk / "out" / "report.json").read_text()) == _plain(found)
    assert isinstance(store.read(desk / "out" / "report.json", Report), Report)
    _resumes(desk, here, found.measurement)
    _profiles(desk, here)
    _validates(desk, here)
    _reports(desk, found)
    _predicts(desk, here, found)


def _plain(value: object) -> object:
    """As JSON has it: tuples are lists, 2 is 2.0."""
    return json.loads(store.to_json(value))


def _predicts(desk: Path, here: str, first: Report) -> None:
    """Measured with usual settings, the next plan has a latency, and its report the error of it."""
    assert first.quantized is not None
    assert first.quantized.plan.predicted.latency_ms is None
    assert "nothing was measured" in first.quantized.plan.unavailable["latency_ms"]
    again = _run(desk, here)
    assert isinstance(again, Report)
    assert again.quantized is not None
    predicted = again.quantized.plan.predicted
    assert predicted.source is not None
    assert "of this target" in predicted.source
    latency = documents.report(again)["prediction"]["latency_ms"]
    assert latency["predicted"] == predicted.latency_ms
    assert latency["measured"] > 0
    assert latency["error"] == pytest.approx(latency["predicted"] / latency["measured"] - 1)


def _resumes(desk: Path, here: str, first: Measurement) -> None:
    """The same settings on the same device are not measured twice; other ones are."""
    again = _run(desk, here, resume=True)
    assert isinstance(again, Report)
    assert _plain(again.measurement) == _plain(first)
    other = _run(desk, here, resume=True, settings=dataclasses.replace(QUICK, runs=4))
    assert isinstance(other, Report)
    assert other.measurement is not None
    assert other.measurement.settings.runs == 4
    devices.add("there", "local:", python=devices.load(here).python, folder=devices.load(here).folder)
    moved = _run(desk, "there", resume=True, settings=dataclasses.replace(QUICK, runs=4))
    assert isinstance(moved, Report)
    assert moved.measurement is not None
    assert moved.measurement.device["name"] == "there"


def _profiles(desk: Path, here: str) -> None:
    """Elsewhere, within a budget that cannot hold."""
    bundle, output = desk / "out" / "bundle", desk / "elsewhere" / "deep"
    tight = Budgets(max_latency_ms=1e-9, max_ram_bytes=1)
    found = workflow.profile(bundle, here, settings=QUICK, budgets=tight, output=output)
    assert not found.verdict.ok
    over = {check.subject: check for check in found.verdict.checks if not check.ok}
    assert set(over) == {"latency p50", "peak RSS"}
    assert over["peak RSS"].available == 1
    assert sorted(path.name for path in output.iterdir()) == ["measurement.json", "report.json"]
    alone = workflow.report(output)
    assert alone.quantized is None
    assert alone.bundle is None
    assert alone.model == "deep"
    assert alone.verdict.ok
    assert not workflow.report(output, budgets=tight).verdict.ok


def _validates(desk: Path, here: str) -> None:
    found = workflow.validate(desk / "out" / "bundle", here, str(desk / "flat" / "dataset.yaml"))
    assert found.ok
    assert (found.samples, found.differing_samples) == (48, 0)
    assert found.host_score == found.device_score
    assert store.read(desk / "out" / "validation.json", Validation) == found


def _reports(desk: Path, first: Report) -> None:
    """A report over what there is, whatever is taken away."""
    full = workflow.report(desk / "out")
    assert full.validation is not None
    assert full.quantized == first.quantized
    (desk / "out" / "measurement.json").unlink()
    assert workflow.report(desk / "out").measurement is None
    (desk / "out" / "validation.json").write_text("[]")
    with pytest.raises(EdgeqError) as caught:
        workflow.report(desk / "out")
    assert "validation.json" in str(caught.value.where)
    (desk / "out" / "validation.json").unlink()
    (desk / "out" / "bundle" / "manifest.json").unlink()
    last = workflow.report(desk / "out")
    assert last.bundle is None
    assert last.verdict.ok
    assert last.model == "mlp_quantized.tflite"


# --- small parts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [(), ("plan.json",), ("report.json",), ("bundle/manifest.json",)])
def test_a_report_needs_a_stage(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    with pytest.raises(EdgeqError, match="no stage files") as caught:
        workflow.report(tmp_path)
    assert caught.value.where == str(tmp_path)
    assert str(caught.value.hint).startswith("edgeq run")


@pytest.mark.parametrize(
    ("here", "there", "count"),
    [
        ([[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [3.0, 4.0]], 0),
        ([[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.5], [3.0, 4.0]], 1),
        ([[1.0, 2.0], [3.0, 4.0]], [[9.0, 9.0], [9.0, 9.0]], 2),
        ([[0.0]], [[float("nan")]], 1),
    ],
)
def test_differing_counts_samples_not_values(here: list[list[float]], there: list[list[float]], count: int) -> None:
    assert _differing((np.array(here),), (np.array(there),)) == count


def test_differing_looks_at_every_output() -> None:
    first, second = np.zeros((3, 2)), np.zeros((3, 4, 5), np.int8)
    other = second.copy()
    other[1, 2, 3] = 1
    assert _differing((first, second), (first + np.array([[1.0], [0], [0]]), other)) == 2
    assert _differing((first, second), (first, other)) == 1


def test_doctor_names_what_is_needed_and_what_mends_it() -> None:
    checks = {check.subject: check for check in workflow.doctor()}
    assert {"Python", "onnxruntime", "paramiko", "tensorflow", "SSH keys", "free disk here", "devices.yaml"} <= set(
        checks
    )
    assert {check.rule for check in checks.values()} == {"needed", "optional"}
    for subject in ("Python", "ai-edge-litert", "onnx", "onnxruntime", "paramiko", "pillow"):
        assert checks[subject].ok, subject
        assert checks[subject].hint is None
        assert checks[subject].available
    assert not checks["SSH keys"].ok
    assert checks["SSH keys"].hint == "ssh-keygen -t ed25519"


def test_doctor_sees_keys_agents_and_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, here: str) -> None:
    (Path.home() / ".ssh").mkdir(mode=0o700)
    (Path.home() / ".ssh" / "id_ed25519.pub").write_text("ssh-ed25519 AAAA")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    checks = {check.subject: check for check in workflow.doctor()}
    assert checks["SSH keys"].available == "id_ed25519, agent"
    assert checks["devices.yaml"].available == "1 devices"
    (tmp_path / "devices.yaml").write_text("schema: 1\ndevices:\n  pi: {address: 'gopher//x'}\n")
    broken = {check.subject: check for check in workflow.doctor()}["devices.yaml"]
    assert not broken.ok
    assert "devices.yaml" in broken.why
    assert json.dumps(dataclasses.asdict(broken))


def test_a_state_folder_that_cannot_be_written_costs_no_result(
    desk: Path, here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the history nor what plans learn from is worth a measurement."""
    workflow.build(desk / "conv.tflite", TARGET, str(desk / "dataset.yaml"), output=desk / "out")
    (desk / "state").write_text("a file in the way")
    monkeypatch.setenv("EDGEQ_STATE", str(desk / "state"))
    told: list[str] = []
    settings = RunSettings(runs=3, seconds=0.1, warmup_seconds=0, compare_float=False)
    report = workflow.profile(desk / "out/bundle", here, settings=settings, warn=told.append)
    assert report.measurement is not None
    assert json.loads((desk / "out/report.json").read_text()) == _plain(report)
    assert [text.split(":")[0] for text in told] == [
        "plans will not predict from this run",
        "the run is not in the history",
    ]
