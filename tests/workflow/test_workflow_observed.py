"""Latencies that were measured are kept, and the next plan predicts from them."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from edgeq import store
from edgeq.errors import EdgeqError
from edgeq.testing.plans import plan_of
from edgeq.types import (
    FLOAT32,
    Artifact,
    Conditions,
    ConditionsPair,
    Latency,
    MeasuredMemory,
    Measurement,
    Predicted,
    QuantizedModel,
    RunSettings,
    Scheme,
)
from edgeq.workflow import observed

TARGET = "raspberry-pi-4"
WORK = {"int8 conv": 1e6, "operators": 3.0}


def quantized(sha256: str = "ab", target: str = TARGET, work: dict[str, float] | None = None) -> QuantizedModel:
    plan = plan_of(
        None,
        Scheme(name="float32", default=FLOAT32),
        target=target,
        predicted=Predicted(work=WORK if work is None else work),
    )
    artifact = Artifact(path="m.tflite", format="tflite", sha256=sha256, size_bytes=1, float_size_bytes=1)
    return QuantizedModel(
        plan=plan, artifact=artifact, float_path="m.tflite", float_sha256="cd", inputs=(), outputs=(), notes=()
    )


def measured(p50: float | None = 2.0, **changes: Any) -> Measurement:
    latency = None if p50 is None else Latency(**{**dict.fromkeys(_LATENCY, 1.0), "p50": p50, "runs": 50})
    content: dict[str, Any] = {
        "device": {"name": "pi", "machine": "aarch64"},
        "runtime": {"name": "litert"},
        "settings": RunSettings(),
        "latency_ms": latency,
        "latency_samples_ns": (),
        "batch": 1,
        "memory_bytes": MeasuredMemory(),
        "energy": None,
        "parity": None,
        "conditions": ConditionsPair(before=Conditions(), after=Conditions()),
        "manifest_sha256": "ef",
    }
    return Measurement(**{**content, **changes})


_LATENCY = [field.name for field in dataclasses.fields(Latency)]


def test_nothing_was_measured_at_first() -> None:
    assert observed.load(TARGET) == ()
    assert not observed.file(TARGET).exists()


def test_a_measurement_is_kept() -> None:
    assert observed.record(quantized(), measured()) is None
    (one,) = observed.load(TARGET)
    assert (one.runtime, one.artifact_sha256, one.device, one.latency_ms, one.work) == ("litert", "ab", "pi", 2.0, WORK)
    assert observed.load("raspberry-pi-5") == ()


def test_the_newer_measurement_of_a_file_on_a_device_replaces_the_older() -> None:
    for sha256, latency, device in (("ab", 2.0, "pi"), ("ab", 3.0, "pi"), ("ab", 4.0, "pi2"), ("cd", 5.0, "pi")):
        observed.record(quantized(sha256), measured(latency, device={"name": device, "machine": "aarch64"}))
    assert [one.latency_ms for one in observed.load(TARGET)] == [3.0, 4.0, 5.0]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"p50": None}, "no latency"),
        ({"settings": RunSettings(threads=1)}, "threads"),
        ({"settings": RunSettings(cpus=(1,))}, "threads or CPUs"),
        ({"conditions": ConditionsPair(before=Conditions(), after=Conditions(), throttled=True)}, "throttled"),
        ({"device": {"name": "desk", "machine": "x86_64"}}, "x86_64, raspberry-pi-4 is aarch64"),
    ],
)
def test_what_says_nothing_of_the_target_is_not_kept(changes: dict[str, Any], why: str) -> None:
    assert why in (observed.record(quantized(), measured(**changes)) or "")
    assert not observed.file(TARGET).exists()


def test_a_plan_without_work_is_not_kept() -> None:
    """Bundles of an older edgeq."""
    assert observed.record(quantized(work={}), measured()) is not None


def test_a_users_own_profile_is_learned_too() -> None:
    observed.record(quantized(target="my-board"), measured())
    assert len(observed.load("my-board")) == 1


def test_names_cannot_leave_the_folder() -> None:
    assert observed.file("../../etc/passwd").parent == store.state_folder() / "latency"


def test_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observed, "MOST", 3)
    for number in range(5):
        observed.record(quantized(f"{number}"), measured())
    assert [one.artifact_sha256 for one in observed.load(TARGET)] == ["2", "3", "4"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"target": 3}', '{"target": "raspberry-pi-4", "observations": [{}]}'])
def test_a_broken_file_is_named(text: str) -> None:
    path = observed.file(TARGET)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(EdgeqError, match="cannot be read") as caught:
        observed.load(TARGET)
    assert str(path) in f"{caught.value.where}"
    assert str(path) in (caught.value.hint or "")
    assert path.read_text() == text


def test_the_folder_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEQ_STATE", str(tmp_path / "mine"))
    observed.record(quantized(), measured())
    document = json.loads((tmp_path / "mine" / "latency" / f"{TARGET}.json").read_text())
    assert document["schema_version"] == 1
    assert document["target"] == TARGET
    monkeypatch.delenv("EDGEQ_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert store.state_folder() == tmp_path / "state" / "edgeq"


def _record_some(first: int) -> None:
    for number in range(first, first + 10):
        observed.record(quantized(f"{number}"), measured())


def test_two_at_once_lose_nothing(tmp_path: Path) -> None:
    os.environ["EDGEQ_STATE"] = str(tmp_path)
    try:
        context = multiprocessing.get_context("spawn")
        others = [context.Process(target=_record_some, args=(start,)) for start in (0, 100)]
        for other in others:
            other.start()
        for other in others:
            other.join(60)
        assert [other.exitcode for other in others] == [0, 0]
        assert len(observed.load(TARGET)) == 20
    finally:
        del os.environ["EDGEQ_STATE"]
