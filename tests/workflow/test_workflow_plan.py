"""Where stage files go, how a model is read, what a plan says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgeq import workflow
from edgeq.errors import ModelError, PlanError, TargetError
from edgeq.testing import models
from edgeq.types import Budgets, ModelGraph, Plan, QuantizedModel
from edgeq.workflow import Wish
from edgeq.workflow.plan import planned, safe_name

TARGET = "generic-linux-x86_64"


def tried(graph: ModelGraph, wish: Wish) -> list[Plan]:
    """The plans that a conversion tries, in order."""
    return [plan for plan in planned(graph, TARGET, wish).candidates if plan.ok]


@given(st.text(max_size=300))
@example("")
@example(".")
@example("..")
@example("../../etc/passwd")
@example("...")
@example("a/b\\c\x00d\n")
@example("-rf")
@example("x" * 99 + "." * 200)
def test_a_safe_name_is_one_plain_file_name(name: str) -> None:
    safe = safe_name(name)
    assert safe
    assert Path(safe).name == safe
    assert safe not in (".", "..")
    assert safe.isascii()
    assert safe.isprintable()
    assert " " not in safe
    assert len(safe) <= 100
    assert safe_name(safe) == safe


@given(st.text(alphabet=st.characters(exclude_characters="\x00"), max_size=80), st.text(max_size=80))
@example("..", "..")
@example("/", "/")
@example("m.tflite", "../../../x.yaml")
def test_the_default_output_stays_below_build(model: str, target: str) -> None:
    folder = workflow.default_output(Path(model), target)
    assert not folder.is_absolute()
    assert folder.parts[0] == "build"
    assert len(folder.parts) == 3
    assert ".." not in folder.parts


@pytest.mark.parametrize(
    ("model", "target", "folder"),
    [
        ("kws_float.tflite", "raspberry-pi-4", "build/kws_float/raspberry-pi-4"),
        ("/a/b/kws.v2.onnx", "boards/mine.yaml", "build/kws.v2/mine"),
        ("my model.h5", "x", "build/my_model/x"),
    ],
)
def test_default_output(model: str, target: str, folder: str) -> None:
    assert workflow.default_output(Path(model), target) == Path(folder)


def test_long_names_are_file_names_still(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    long = (desk / "conv.tflite").rename(desk / ("n" * 240 + ".tflite"))
    found = workflow.quantize(long, TARGET, str(desk / "dataset.yaml"))
    assert isinstance(found, QuantizedModel)
    assert (workflow.default_output(long, TARGET) / found.artifact.path).is_file()


def test_two_targets_do_not_share_a_folder() -> None:
    names = ("raspberry-pi-4", "raspberry-pi-5", "generic-linux-x86_64")
    assert len({workflow.default_output(Path("m.tflite"), name) for name in names}) == 3


def test_read_model_leaves_nothing_for_a_model_it_can_read(desk: Path, tmp_path: Path) -> None:
    graph = workflow.read_model(desk / "conv.tflite", tmp_path / "none")
    assert graph.path == str(desk / "conv.tflite")
    assert not (tmp_path / "none").exists()


def test_a_folder_without_a_saved_model_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "weights.txt").write_text("")
    with pytest.raises(ModelError) as caught:
        workflow.read_model(tmp_path / "folder", tmp_path / "out")
    assert "folder" in str(caught.value.where)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["nosuch.h5", "nosuch.keras", "nosuch.tflite", "nosuch"])
def test_a_model_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError) as caught:
        workflow.read_model(tmp_path / name, tmp_path / "out")
    assert name in str(caught.value.where)


@pytest.mark.slow
def test_a_keras_model_is_imported(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    steps: list[tuple[str, int, int]] = []
    source = shared / "ad_autoencoder" / "ad.h5"
    graph = workflow.read_model(source, tmp_path / "out", lambda *step: steps.append(step))
    assert graph.path == str(tmp_path / "out" / "ad_float.tflite")
    assert (graph.format, graph.state) == ("tflite", "float")
    assert steps == [("importing Keras", 0, 1), ("importing Keras", 1, 1)]
    twin = workflow.read_model(shared / "ad_autoencoder" / "ad_float.tflite", tmp_path)
    assert graph.macs == twin.macs
    found = workflow.plan(source, TARGET, output=tmp_path / "out")
    assert found.ok
    assert found.model_sha256 == graph.sha256


def test_plan_writes_what_it_returns(desk: Path) -> None:
    found = workflow.plan(desk / "conv.tflite", TARGET, output=desk / "out")
    stored = json.loads((desk / "out" / "plan.json").read_text())
    assert stored["scheme"]["name"] == found.scheme.name == "static_wi8_ai8"
    assert stored["model_sha256"] == found.model_sha256
    assert [path.name for path in (desk / "out").iterdir()] == ["plan.json"]


@pytest.mark.parametrize("scheme", ["dynamic_wi8_af32", "weight_only_wf16", "static_wi8_ai8"])
def test_a_wish_for_a_scheme(desk: Path, scheme: str) -> None:
    found = workflow.plan(desk / "conv.tflite", TARGET, output=desk / "out", wish=Wish(scheme=scheme))
    assert found.scheme.name == scheme
    graph = workflow.read_model(desk / "conv.tflite", desk)
    assert {plan.scheme.name for plan in tried(graph, Wish(scheme=scheme))} == {scheme}


def test_unknown_words_are_errors_and_leave_nothing(desk: Path) -> None:
    with pytest.raises(PlanError, match="beauty"):
        workflow.plan(desk / "conv.tflite", TARGET, output=desk / "out", wish=Wish(scheme="beauty"))
    with pytest.raises(TargetError, match="nosuch"):
        workflow.plan(desk / "conv.tflite", "nosuch", output=desk / "out")
    assert not (desk / "out").exists()


@pytest.mark.parametrize(
    ("budgets", "unit"),
    [(Budgets(max_flash_bytes=100), "flash"), (Budgets(max_ram_bytes=100), "ram")],
)
def test_a_budget_that_is_too_small_says_what_is_needed(desk: Path, budgets: Budgets, unit: str) -> None:
    found = workflow.plan(desk / "conv.tflite", TARGET, output=desk / "out", wish=Wish(budgets=budgets))
    assert not found.ok
    failed = [check for check in found.checks if not check.ok]
    assert failed
    for check in failed:
        assert unit in f"{check.rule} {check.subject}".lower()
        assert isinstance(check.needed, int | float)
        assert check.available == 100
        assert check.needed > 100
    graph = workflow.read_model(desk / "conv.tflite", desk)
    assert tried(graph, Wish(budgets=budgets)) == []


def test_the_plan_that_is_written_is_tried_first(desk: Path) -> None:
    graph = workflow.read_model(desk / "conv.tflite", desk)
    found = tried(graph, Wish())
    assert len(found) > 3
    assert found[0].scheme == workflow.plan(desk / "conv.tflite", TARGET, output=desk / "out").scheme


def test_accuracy_first_turns_the_ladder(desk: Path) -> None:
    graph = workflow.read_model(desk / "conv.tflite", desk)
    fast, careful = tried(graph, Wish()), tried(graph, Wish(prefer="accuracy"))
    assert fast[0].scheme.is_static
    assert not careful[0].scheme.is_static
    assert {plan.scheme.name for plan in fast} == {plan.scheme.name for plan in careful}


def test_a_custom_operator_is_refused_by_the_plan(tmp_path: Path) -> None:
    found = workflow.plan(models.custom_op_tflite(tmp_path), TARGET, output=tmp_path / "out")
    assert not found.ok
    assert [place.type for place in found.operators if place.placement == "refused"] == ["EdgeqMystery"]
