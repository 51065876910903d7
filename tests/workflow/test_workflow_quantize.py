"""Quantize and build: what is written, what is resumed, what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeq import planning, store, workflow
from edgeq.errors import BuildError, DatasetError, EdgeqError, ModelError, OutputError, ToolError
from edgeq.testing import models
from edgeq.types import Budgets, Bundle, Plan, QuantizedModel, Rejected
from edgeq.workflow import Refused, Wish

TARGET = "generic-linux-x86_64"
OTHER_TARGET = "raspberry-pi-4"


def _quantize(desk: Path, *, target: str = TARGET, wish: Wish | None = None, resume: bool = False) -> QuantizedModel:
    found = workflow.quantize(
        desk / "mlp.tflite",
        target,
        str(desk / "flat" / "dataset.yaml"),
        output=desk / "out",
        wish=wish,
        resume=resume,
    )
    assert isinstance(found, QuantizedModel)
    return found


def _build(desk: Path, *, resume: bool = False, wish: Wish | None = None) -> tuple[QuantizedModel, Bundle | None]:
    found, bundle = workflow.build(
        desk / "mlp.tflite",
        TARGET,
        str(desk / "flat" / "dataset.yaml"),
        output=desk / "out",
        wish=wish,
        resume=resume,
    )
    assert isinstance(found, QuantizedModel)
    return found, bundle


def _stamps(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def _age(folder: Path) -> None:
    """Set every file's time back, so that one written anew shows."""
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, ns=(10**18, 10**18))


def _written_anew(folder: Path) -> set[str]:
    return {name for name, stamp in _stamps(folder).items() if stamp != 10**18}


def _plan_in(folder: Path) -> Plan:
    """The plan of a plan.json without the paths that only that file has."""
    found = store.read(folder / "plan.json", Plan)
    assert Path(found.model_path).is_file()
    assert found.target_ref == TARGET
    return dataclasses.replace(found, model_path="", target_ref="")


def test_quantize_writes_the_stage_files(desk: Path) -> None:
    found = _quantize(desk)
    assert set(_stamps(desk / "out")) == {"plan.json", "quantized.json", "mlp_quantized.tflite"}
    assert store.read(desk / "out" / "quantized.json", QuantizedModel) == found
    assert _plan_in(desk / "out") == found.plan
    assert store.sha256(desk / "out" / found.artifact.path) == found.artifact.sha256
    assert found.float_sha256 == store.sha256(desk / "mlp.tflite")
    assert found.seconds is not None
    assert 0 < found.seconds < 120
    assert found.peak_rss_bytes is not None
    assert found.peak_rss_bytes > 1 << 20
    assert len(found.request) == 64


def test_the_plan_that_won_keeps_what_was_rejected(desk: Path) -> None:
    """plan.json is that of the scheme in the file, with the planner's reasons, also when it is not the first."""
    wish = Wish(budgets=Budgets(max_drop=0.0))
    planned = workflow.plan(desk / "mlp.tflite", TARGET, output=desk / "planned", wish=wish)
    found = _quantize(desk, wish=wish)
    names = {entry.scheme for entry in planned.rejected}
    own = f"{found.plan.runtime} {planning.label(found.plan.scheme)}"
    first = f"{planned.runtime} {planning.label(planned.scheme)}"
    assert {entry.scheme for entry in found.plan.rejected} | {own} == names | {first}
    assert all(isinstance(entry, Rejected) and entry.why for entry in found.plan.rejected)
    tried = [entry for entry in found.plan.rejected if entry.rule == "tried"]
    assert len(tried) == len(found.tried) - any(entry.scheme in own for entry in found.tried)
    assert workflow.check(desk / "out" / "plan.json").findings == (), "the plan that won follows too"


def test_without_resume_all_is_done_again(desk: Path) -> None:
    _quantize(desk)
    _age(desk / "out")
    _quantize(desk)
    assert _written_anew(desk / "out") == {"plan.json", "quantized.json", "mlp_quantized.tflite"}


def test_resume_keeps_a_finished_conversion(desk: Path) -> None:
    first = _quantize(desk)
    _age(desk / "out")
    again = _quantize(desk, resume=True)
    assert again == first
    assert _written_anew(desk / "out") <= {"plan.json"}


def test_a_resumed_plan_is_still_the_one_of_the_file(desk: Path, shared: Path) -> None:
    """Where the winner was not the planner's first choice, resuming must not put the first choice into plan.json."""
    folder = shared / "sine_hello_world"
    words = {"output": desk / "out", "wish": Wish(budgets=Budgets(max_drop=0.005))}
    for resume in (False, True):
        found = workflow.quantize(
            folder / "hello_world_float.tflite",
            TARGET,
            str(folder / "dataset.yaml"),
            resume=resume,
            **words,  # type: ignore[arg-type]
        )
        assert isinstance(found, QuantizedModel)
        assert found.plan.scheme.corrected, "plain weights lose more"
        assert [trial.ok for trial in found.plan.trials] == [False, False, False, True]
        assert _plan_in(desk / "out") == found.plan


def _touch_samples(desk: Path) -> None:
    samples = dict(np.load(desk / "flat" / "samples.npz"))
    samples["x"][0] += 0.25
    np.savez(desk / "flat" / "samples.npz", **samples)


def _touch_labels(desk: Path) -> None:
    samples = dict(np.load(desk / "flat" / "samples.npz"))
    samples["y"][-1] = (samples["y"][-1] + 1) % 4
    np.savez(desk / "flat" / "samples.npz", **samples)


def _touch_split(desk: Path) -> None:
    path = desk / "flat" / "dataset.yaml"
    path.write_text(path.read_text().replace('"0:16"', '"0:12"'))


def _touch_model(desk: Path) -> None:
    content = bytearray((desk / "mlp.tflite").read_bytes())
    content += bytes(16)
    (desk / "mlp.tflite").write_bytes(content)


def _break_artifact(desk: Path) -> None:
    (desk / "out" / "mlp_quantized.tflite").write_bytes(b"half")


def _lose_artifact(desk: Path) -> None:
    (desk / "out" / "mlp_quantized.tflite").unlink()


CHANGES: dict[str, Callable[[Path], None]] = {
    "samples": _touch_samples,
    "labels": _touch_labels,
    "split": _touch_split,
    "model": _touch_model,
    "artifact broken": _break_artifact,
    "artifact lost": _lose_artifact,
}


@pytest.mark.parametrize("change", CHANGES)
def test_resume_notices_every_change(desk: Path, change: str) -> None:
    first = _quantize(desk)
    CHANGES[change](desk)
    _age(desk / "out")
    again = _quantize(desk, resume=True)
    assert "quantized.json" in _written_anew(desk / "out")
    assert (again.request == first.request) == change.startswith("artifact")
    assert store.sha256(desk / "out" / again.artifact.path) == again.artifact.sha256


@pytest.mark.parametrize(
    "wish",
    [
        Wish(prefer="accuracy"),
        Wish(scheme="dynamic_wi8_af32"),
        Wish(budgets=Budgets(max_drop=0.5)),
        Wish(budgets=Budgets(max_ram_bytes=1 << 30)),
    ],
)
def test_another_wish_is_another_request(desk: Path, wish: Wish) -> None:
    first = _quantize(desk)
    assert _quantize(desk, wish=wish, resume=True).request != first.request


def test_another_target_is_another_request(desk: Path) -> None:
    first = _quantize(desk)
    other = _quantize(desk, target=OTHER_TARGET, resume=True)
    assert other.request != first.request
    assert other.plan.target == OTHER_TARGET


def test_the_folder_is_no_part_of_the_request(desk: Path) -> None:
    first = _quantize(desk)
    (desk / "out").rename(desk / "elsewhere")
    assert _quantize(desk).request == first.request


def test_a_stage_file_that_is_broken_is_told_not_taken(desk: Path) -> None:
    _quantize(desk)
    (desk / "out" / "quantized.json").write_text('{"plan": 3}')
    with pytest.raises(EdgeqError) as caught:
        _quantize(desk, resume=True)
    assert "quantized.json" in str(caught.value.where)
    _quantize(desk)


def test_a_mistake_in_the_call_costs_no_earlier_result(desk: Path) -> None:
    first = _quantize(desk)
    with pytest.raises(DatasetError):
        workflow.quantize(desk / "mlp.tflite", TARGET, "nosuch.yaml", output=desk / "out")
    assert _quantize(desk, resume=True) == first


LATER = ("quantized.json", "bundle/manifest.json", "measurement.json", "validation.json", "report.json")


def _old_results(desk: Path) -> None:
    (desk / "out" / "bundle").mkdir(parents=True)
    for name in LATER:
        (desk / "out" / name).write_text("{}")


def test_nothing_old_can_be_taken_for_a_conversion_that_failed(desk: Path) -> None:
    _old_results(desk)

    def stop(step: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    data = str(desk / "flat" / "dataset.yaml")
    with pytest.raises(KeyboardInterrupt):
        workflow.quantize(desk / "mlp.tflite", TARGET, data, output=desk / "out", progress=stop)
    assert set(_stamps(desk / "out")) == {"plan.json"}


def test_nothing_old_can_be_taken_for_a_plan_that_says_no(desk: Path) -> None:
    _old_results(desk)
    data = str(desk / "flat" / "dataset.yaml")
    found = workflow.quantize(models.custom_op_tflite(desk), TARGET, data, output=desk / "out")
    assert isinstance(found, Refused)
    assert set(_stamps(desk / "out")) == {"plan.json"}
    with pytest.raises(EdgeqError, match="no stage files"):
        workflow.report(desk / "out")


def test_what_is_in_the_way_is_told(desk: Path) -> None:
    (desk / "out" / "measurement.json").mkdir(parents=True)
    with pytest.raises(OutputError) as caught:
        _quantize(desk)
    assert str(caught.value.where).endswith("measurement.json")


def test_an_interrupted_conversion_can_be_resumed(desk: Path) -> None:
    def stop(step: str, done: int, total: int) -> None:
        if step.startswith("scoring static"):
            raise KeyboardInterrupt

    data = str(desk / "flat" / "dataset.yaml")
    with pytest.raises(KeyboardInterrupt):
        workflow.quantize(desk / "mlp.tflite", TARGET, data, output=desk / "out", progress=stop)
    left = {name for name in _stamps(desk / "out") if not name.startswith(".search-")}
    assert left == {"plan.json"}, "attempts are kept aside, so that the search goes on where it was"
    assert _quantize(desk, resume=True).accuracy is not None
    assert not list((desk / "out").glob(".search-*"))


def test_refused_converts_nothing(desk: Path) -> None:
    models.custom_op_tflite(desk)
    data = str(desk / "flat" / "dataset.yaml")
    found, bundle = workflow.build(desk / "custom.tflite", TARGET, data, output=desk / "out")
    assert isinstance(found, Refused)
    assert bundle is None
    assert not found.plan.ok
    assert set(_stamps(desk / "out")) == {"plan.json"}


def test_refused_needs_no_samples(desk: Path) -> None:
    """The plan says no before a data set is read."""
    found = workflow.quantize(
        desk / "mlp.tflite",
        TARGET,
        "nosuch.yaml",
        output=desk / "out",
        wish=Wish(budgets=Budgets(max_flash_bytes=1)),
    )
    assert isinstance(found, Refused)


def test_a_model_that_crashes_the_runtime_is_told_before_the_search(desk: Path) -> None:
    """Operators whose shapes do not fit: the child that tries the model first says so."""
    from edgeq.testing.tflite import Graph, Node, Tensor, write_tflite

    tensors = (
        Tensor(name="input", shape=(1, 16)),
        Tensor(name="w", shape=(4, 15), data=np.ones((4, 15), np.float32)),
        Tensor(name="scores", shape=(1, 4)),
    )
    node = Node(
        type="FULLY_CONNECTED",
        inputs=("input", "w", ""),
        outputs=("scores",),
        options_table="FullyConnectedOptions",
    )
    graph = Graph(tensors=tensors, nodes=(node,), inputs=("input",), outputs=("scores",))
    model = write_tflite(desk / "odd.tflite", graph)
    with pytest.raises(ModelError) as caught:
        workflow.quantize(model, TARGET, str(desk / "flat" / "dataset.yaml"), output=desk / "out")
    assert "odd.tflite" in str(caught.value.where)
    assert not (desk / "out" / "quantized.json").exists()


# --- build -----------------------------------------------------------------------------------


def test_build_adds_the_bundle(desk: Path) -> None:
    found, bundle = _build(desk)
    assert bundle is not None
    assert Path(bundle.path) == desk / "out" / "bundle"
    assert bundle.manifest.golden_vectors == 32
    assert bundle.manifest.name == f"mlp-{found.artifact.sha256[:12]}"
    packed = store.read(desk / "out" / "bundle" / "quantized.json", QuantizedModel)
    assert packed.artifact == found.artifact
    for entry in bundle.manifest.files:
        assert store.sha256(desk / "out" / "bundle" / entry.path) == entry.sha256


def test_resume_keeps_the_bundle(desk: Path) -> None:
    first = _build(desk)
    _age(desk / "out")
    assert _build(desk, resume=True) == first
    assert _written_anew(desk / "out") <= {"plan.json"}


def test_a_bundle_of_another_request_is_built_anew(desk: Path) -> None:
    _, first = _build(desk)
    _touch_samples(desk)
    _, second = _build(desk, resume=True)
    assert first is not None
    assert second is not None
    golden = {entry.path: entry.sha256 for entry in first.manifest.files}["golden.npz"]
    assert {entry.path: entry.sha256 for entry in second.manifest.files}["golden.npz"] != golden


def test_no_bundle_when_the_accuracy_does_not_hold(desk: Path) -> None:
    _build(desk)
    path = desk / "flat" / "dataset.yaml"
    path.write_text(path.read_text().replace("top1", "cosine"))
    found, bundle = _build(desk, wish=Wish(scheme="static_wi8_ai8", budgets=Budgets(max_drop=0.0)))
    assert bundle is None
    assert not workflow.holds(found)
    assert found.tried
    assert not (desk / "out" / "bundle" / "manifest.json").exists()
    assert workflow.report(desk / "out").bundle is None
    assert json.loads((desk / "out" / "quantized.json").read_text())["accuracy"]["ok"] is False


def test_holds(desk: Path) -> None:
    import dataclasses

    found = _quantize(desk)
    assert workflow.holds(found)
    assert found.accuracy is not None
    assert not workflow.holds(dataclasses.replace(found, accuracy=dataclasses.replace(found.accuracy, ok=False)))
    assert workflow.holds(dataclasses.replace(found, accuracy=None))


def test_a_microcontroller_gets_c(desk: Path) -> None:
    """From the float model: C, the kernels that it needs and what builds them."""
    words = (desk / "conv.tflite", "stm32h743", str(desk / "dataset.yaml"))
    _, bundle = workflow.build(*words, output=desk / "out")
    assert bundle is not None
    assert bundle.manifest.runtime == "tflite-micro"
    kept = {entry.path for entry in bundle.manifest.files}
    assert {"model.c", "model.h", "io.h", "Makefile", "kernels/eq_conv2d.c", "golden.npz", "tflm/resolver.h"} <= kept


@pytest.mark.parametrize(("target", "what"), [("rk3588", "rknn"), ("rk3566", "rknn")])
def test_a_runtime_without_a_builder_is_told_before_the_work(desk: Path, target: str, what: str) -> None:
    """Its INT8 model can be had, its bundle cannot."""
    steps: list[str] = []
    samples = desk / "dataset.yaml"
    samples.write_text(samples.read_text().replace("array: x}", "array: x, transpose: [2, 0, 1]}"))
    words = (models.conv_onnx(desk), target, str(samples))
    with pytest.raises(BuildError, match=f"for {what}, but builds no bundle") as caught:
        workflow.build(*words, output=desk / "out", progress=lambda step, *_: steps.append(step))
    assert "edgeq quantize" in (caught.value.hint or "")
    assert steps == []
    assert not (desk / "out" / "quantized.json").exists()


def test_a_compiler_that_is_missing_is_told_before_the_work(desk: Path) -> None:
    words = (desk / "mlp.tflite", "ethos-u55-128", str(desk / "flat" / "dataset.yaml"))
    with pytest.raises(ToolError, match="vela is not installed") as caught:
        workflow.build(*words, output=desk / "out")
    assert caught.value.hint == "edgeq tools install vela"
    assert not (desk / "out" / "quantized.json").exists()
