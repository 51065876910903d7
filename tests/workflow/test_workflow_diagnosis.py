"""The doctor over whole datasets and models, and its glance before a conversion."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import store, workflow
from edgeq.errors import AtChance, DatasetError, ModelError
from edgeq.testing import models
from edgeq.testing.tflite import Graph, write_tflite
from edgeq.types import QuantizedModel

TARGET = "generic-linux-x86_64"
Samples = dict[str, Any]


def _change(folder: Path, spoil: Callable[[Samples], None]) -> Path:
    with np.load(folder / "samples.npz") as stored:
        changed = {name: stored[name] for name in stored.files}
    spoil(changed)
    np.savez(folder / "samples.npz", **changed)
    return folder / "dataset.yaml"


def _rules(desk: Path, spoil: Callable[[Samples], None] = lambda samples: None) -> list[str]:
    found = workflow.diagnose(desk / "conv.tflite", str(_change(desk, spoil)))
    return [one.rule for one in found.findings]


@pytest.fixture
def desk(desk: Path) -> Path:
    """The shared desk with enough samples that chance can be told from skill."""
    models.tiny_dataset(desk, count=160)
    return desk


def test_good_samples(desk: Path) -> None:
    told: list[tuple[str, int, int]] = []
    found = workflow.diagnose(
        desk / "conv.tflite",
        str(desk / "dataset.yaml"),
        progress=lambda step, done, total: told.append((step, done, total)),
    )
    assert found.findings == ()
    assert (found.calibration, found.scored) == (40, 120)
    steps = dict.fromkeys(step for step, _, _ in told)
    assert list(steps)[:2] == ["reading calibration samples", "reading scored samples"]
    assert {"asking the float model", "trying other preparations", "watching activations"} < set(steps)
    assert all(0 <= done <= total for _, done, total in told)
    assert {step for step, done, total in told if done == total} == set(steps)


def test_nothing_is_left_behind(desk: Path) -> None:
    before = sorted(desk.rglob("*"))
    _rules(desk)
    assert sorted(desk.rglob("*")) == before


def _divide(samples: Samples) -> None:
    samples["x"] = samples["x"] / 255


def _turn(samples: Samples) -> None:
    samples["x"] = np.ascontiguousarray(samples["x"].transpose(0, 2, 1, 3))


def _swap(samples: Samples) -> None:
    samples["x"] = np.ascontiguousarray(samples["x"][..., ::-1])


def _repeat(samples: Samples) -> None:
    samples["x"][:40] = samples["x"][np.arange(40) % 2]


def _off_by_one(samples: Samples) -> None:
    samples["y"] = (samples["y"] + 1) % 4


def _shuffle(samples: Samples) -> None:
    samples["y"] = np.random.default_rng(3).permutation(samples["y"])


FAULTS = [
    ("other-scaling", _divide),
    ("other-layout", _turn),
    ("other-colours", _swap),
    ("copied-samples", _repeat),
    ("labels-shifted", _off_by_one),
    ("at-chance", _shuffle),
]


@pytest.mark.parametrize(("rule", "spoil"), FAULTS)
def test_planted_faults(desk: Path, rule: str, spoil: Callable[[Samples], None]) -> None:
    assert rule in _rules(desk, spoil)


def test_an_onnx_model(tmp_path: Path) -> None:
    model, data = models.conv_onnx(tmp_path), models.tiny_dataset(tmp_path, count=160, channels_first=True)
    assert workflow.diagnose(model, str(data)).findings == ()
    _change(tmp_path, _swap)
    assert "other-colours" in [one.rule for one in workflow.diagnose(model, str(data)).findings]


def test_samples_without_labels(desk: Path) -> None:
    script = desk / "samples.py"
    script.write_text(
        "import numpy as np\n"
        "def samples():\n"
        "    random = np.random.default_rng(0)\n"
        "    for _ in range(12):\n"
        "        yield random.uniform(0, 1, (12, 12, 3)).astype(np.float32)\n"
    )
    found = workflow.diagnose(desk / "conv.tflite", f"{script}:samples")
    assert [one.rule for one in found.findings] == ["calibration-is-scored"]  # a script has one stream for both


def test_a_dataset_that_does_not_fit_is_refused_as_ever(desk: Path) -> None:
    with pytest.raises(DatasetError):
        workflow.diagnose(desk / "conv.tflite", str(desk / "flat" / "dataset.yaml"))


def _quantize(desk: Path) -> QuantizedModel:
    found = workflow.quantize(desk / "conv.tflite", TARGET, str(desk / "dataset.yaml"), output=desk / "out")
    assert isinstance(found, QuantizedModel)
    return found


def test_a_conversion_of_good_samples_has_no_findings(desk: Path) -> None:
    assert _quantize(desk).findings == ()


def test_findings_stay_with_the_conversion(desk: Path) -> None:
    _change(desk, _repeat)
    found = _quantize(desk)
    assert [one.rule for one in found.findings] == ["copied-samples"]
    assert store.read(desk / "out" / "quantized.json", QuantizedModel).findings == found.findings
    again = workflow.quantize(
        desk / "conv.tflite", TARGET, str(desk / "dataset.yaml"), output=desk / "out", resume=True
    )
    assert isinstance(again, QuantizedModel)
    assert again.findings == found.findings


def test_a_float_model_at_chance_is_not_converted(desk: Path) -> None:
    _change(desk, _shuffle)
    with pytest.raises(AtChance, match="score is at chance") as caught:
        _quantize(desk)
    assert caught.value.hint == f"edgeq doctor {desk / 'conv.tflite'} --data {desk / 'dataset.yaml'}"
    assert not [path.name for path in (desk / "out").iterdir() if path.name != "plan.json"]


def _broken(value: float) -> Graph:
    """The convolutional classifier with one weight that is no number."""
    graph = models.conv_graph()
    tensors = list(graph.tensors)
    place = next(number for number, tensor in enumerate(tensors) if tensor.name == "dense/w")
    weights = np.array(tensors[place].data, np.float32)
    weights.flat[0] = value
    tensors[place] = dataclasses.replace(tensors[place], data=weights)
    return dataclasses.replace(graph, tensors=tuple(tensors))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers(desk: Path, value: float) -> None:
    model = write_tflite(desk / "broken.tflite", _broken(value))
    found = workflow.diagnose(model, str(desk / "dataset.yaml"))
    (told,) = found.findings  # what follows from it is not told
    assert (told.rule, told.severity) == ("broken-weights", "stop")
    assert "'dense/w', which FULLY_CONNECTED (operator 4) reads" in told.why
    with pytest.raises(ModelError, match=r"'dense/w'.* among 32 values"):
        workflow.quantize(model, TARGET, str(desk / "dataset.yaml"), output=desk / "out")
    assert [path.name for path in (desk / "out").iterdir()] == ["plan.json"]


def test_answers_that_are_no_numbers_are_traced_to_the_tensor_and_the_sample(desk: Path) -> None:
    """A scored sample that overflows, in a model whose weights are sound."""
    graph = models.conv_graph()
    wide = tuple(
        dataclasses.replace(node, options={**node.options, "fusedActivationFunction": 0})
        if node.type in ("CONV_2D", "DEPTHWISE_CONV_2D")
        else node
        for node in graph.nodes
    )
    model = write_tflite(desk / "wide.tflite", dataclasses.replace(graph, nodes=wide))

    def spoil(samples: Samples) -> None:
        samples["x"][90] *= np.float32(1e38)

    data = _change(desk, spoil)
    with pytest.raises(ModelError, match="sample 90") as caught:
        workflow.quantize(model, TARGET, str(data), output=desk / "out")
    assert "Activations become NaN or infinite: 'pool' is the first" in caught.value.message
    rules = {one.rule: one for one in workflow.diagnose(model, str(data)).findings}
    assert "sample 90" in rules["broken-answers"].why
