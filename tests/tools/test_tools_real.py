"""The real Vela and onnx2tf, on hosts where they are installed: what the issue's `Done when` 5 and 6 ask.

They skip where the tool is not there; `edgeq tools install vela` and `edgeq tools install onnx2tf` bring them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeq import models, targets, tools
from edgeq.tools import vela as reading

pytestmark = pytest.mark.slow
USERS_TOOLS = tools.folder()  # read when the module is collected: tests get a home of their own
Edgeq = Callable[..., Any]


def _needs(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setenv("EDGEQ_TOOLS", os.environ.get("EDGEQ_TEST_TOOLS", str(USERS_TOOLS)))
    for name in names:
        found = tools.status(name)
        if found.tool is None:
            pytest.skip(f"{found.why}: edgeq tools install {name}")


def _needs_target(name: str) -> None:
    if name not in {target.name for target in targets.load_all()}:
        pytest.skip(f"the shelf has no target {name} yet")


def test_vela_places_a_whole_int8_model_on_the_npu(
    tmp_path: Path, shared: Path, edgeq: Edgeq, monkeypatch: pytest.MonkeyPatch
) -> None:
    _needs(monkeypatch, "vela")
    _needs_target("ethos-u55-128")
    folder = shared / "vww_mobilenetv1"
    ran = edgeq(
        *("build", folder / "vww_float.tflite", "-t", "ethos-u55-128", "--data", folder / "dataset.yaml"),
        *("-o", tmp_path, "--json", "-q"),
    )
    assert ran.code == 0, ran.err
    bundle = ran.document["bundle"]
    assert bundle["placed"]["cpu"] == 0
    assert bundle["placed"]["npu"] > 20
    assert bundle["estimates"]["sram_bytes"] > 0
    assert bundle["estimates"]["cycles_total"] > 0
    compiled = models.read(Path(bundle["path"]) / bundle["model"])
    assert {operator.type for operator in compiled.operators} == {reading.COMMAND}


def test_a_float_model_is_refused_with_its_operators(
    tmp_path: Path, shared: Path, edgeq: Edgeq, monkeypatch: pytest.MonkeyPatch
) -> None:
    _needs(monkeypatch, "vela")
    _needs_target("ethos-u55-128")
    folder = shared / "vww_mobilenetv1"
    ran = edgeq(
        *("build", folder / "vww_float.tflite", "-t", "ethos-u55-128", "--data", folder / "dataset.yaml"),
        *("-o", tmp_path, "-q", "--scheme", "float32"),
    )
    assert ran.code == 3
    assert "CONV_2D" in ran.out + ran.err


def test_vela_itself_leaves_a_float_model_on_the_cpu(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with 0 all the same: the reason why its text is read."""
    _needs(monkeypatch, "vela")
    _needs_target("ethos-u55-128")
    accelerator = targets.load("ethos-u55-128").accelerator
    assert accelerator is not None
    model = shared / "kws_dscnn" / "kws_float.tflite"
    vela = tools.find("vela")
    argv = tools.program(vela, *reading.arguments(model, accelerator, tmp_path / "out"))
    done = tools.run(vela, argv, cwd=tmp_path, timeout_seconds=600)
    split = reading.read_split(done.stdout)
    assert (done.code, split.npu) == (0, 0)
    assert split.cpu == len(split.on_cpu) > 0


def test_onnx_goes_through_onnx2tf_and_vela(
    tmp_path: Path, shared: Path, edgeq: Edgeq, monkeypatch: pytest.MonkeyPatch
) -> None:
    _needs(monkeypatch, "onnx2tf", "vela")
    _needs_target("ethos-u65-256")
    folder = shared / "imagenet_mobilenetv2"
    ran = edgeq(
        *("build", folder / "mobilenet_v2_float.onnx", "-t", "ethos-u65-256", "--data", folder / "dataset.yaml"),
        *("-o", tmp_path, "--json", "-q", "--max-drop", "0.02"),
    )
    assert ran.code == 0, ran.err
    document = ran.document
    assert document["accuracy"]["drop"] <= 0.02
    assert document["inputs"][0]["layout"] == [0, 2, 3, 1]
    assert document["bundle"]["placed"]["cpu"] == 0
