"""How far kernels lie apart, and where a score on this host says nothing for the target."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeq import datasets, models, planning, targets
from edgeq.converters import kernel_gaps, onnx, tflite
from edgeq.converters.onnx.kernels import host_features
from edgeq.errors import ModelError
from edgeq.planning.schemes import signedness
from edgeq.testing import models as made
from edgeq.types import Cpu, Port, Scheme, Signature

VNNI, PLAIN = frozenset({"avx2", "avx512_vnni"}), frozenset({"avx2"})
INT8 = Scheme(name="static_wi8_ai8", default=Signature(activations="uint8", weights="int8"))
ON_X86 = platform.machine() in ("x86_64", "AMD64")
x86_only = pytest.mark.skipif(not ON_X86, reason="the host's own architecture plays a part")


class Fixed:
    """A session that answers what it is told to."""

    def __init__(self, *answers: float) -> None:
        self.inputs: tuple[Port, ...] = (Port(name="x", shape=(1,), dtype="float32"),)
        self.outputs: tuple[Port, ...] = (Port(name="y", shape=(1,), dtype="float32"),)
        self._answers = list(answers)

    def run(self, _inputs: Sequence[NDArray[np.generic]]) -> list[NDArray[np.generic]]:
        """The next answer."""
        return [np.array([self._answers.pop(0)], np.float32)]


SAMPLES = [(np.zeros(1, np.float32),)] * 2


def test_the_gap_is_the_ratio_of_squares_over_all_samples() -> None:
    assert kernel_gaps.gap_db(Fixed(3.5, 4), Fixed(3, 4), SAMPLES) == pytest.approx(20)
    assert kernel_gaps.gap_db(Fixed(0, 0), Fixed(3, 4), SAMPLES) == pytest.approx(0)


def test_equal_answers_have_no_gap() -> None:
    assert kernel_gaps.gap_db(Fixed(3, 4), Fixed(3, 4), SAMPLES) is None
    assert kernel_gaps.gap_db(Fixed(), Fixed(), []) is None


def test_an_answer_where_there_should_be_none_is_all_gap() -> None:
    found = kernel_gaps.gap_db(Fixed(1, 1), Fixed(0, 0), SAMPLES)
    assert found is not None
    assert found < -1000


def test_litert_is_near_its_reference_kernels(tmp_path: Path) -> None:
    graph = models.read(made.conv_tflite(tmp_path))
    dataset = datasets.bind(datasets.load(str(made.tiny_dataset(tmp_path))), graph)
    target = targets.load("generic-linux-x86_64")
    plan = planning.plan(graph, target, targets.load_tables(target)).chosen
    tflite.convert(graph, plan, dataset, tmp_path / "q.tflite")
    gap = tflite.kernel_gap(tmp_path / "q.tflite", datasets.samples(dataset, graph, range(4)))
    assert gap is None or gap > 20


def test_a_float_file_has_no_gap_worth_the_name(tmp_path: Path) -> None:
    path = made.mlp_tflite(tmp_path)
    graph = models.read(path)
    dataset = datasets.bind(datasets.load(str(made.tiny_dataset(tmp_path, made.MLP_SHAPE))), graph)
    gap = tflite.kernel_gap(path, datasets.samples(dataset, graph, range(4)))
    assert gap is None or gap > 100


def test_a_file_that_is_gone_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        tflite.kernel_gap(tmp_path / "gone.tflite", [])


@x86_only
@pytest.mark.parametrize(
    ("cpu", "here", "says"),
    [
        (Cpu(arch="x86_64", core="haswell"), VNNI, "is not known to have VNNI"),
        (Cpu(arch="x86_64", core="haswell", features=("avx2",)), VNNI, "the score does not show it"),
        (Cpu(arch="x86_64", core="icelake", features=("avx512_vnni",)), VNNI, None),
        (Cpu(arch="x86_64", core="alder", features=("avx_vnni",)), VNNI, None),
        (Cpu(arch="aarch64", core="cortex-a76"), VNNI, None),
        (Cpu(arch="x86_64", core="haswell"), PLAIN, None),
        (Cpu(arch="x86_64", core="icelake", features=("avx512_vnni",)), PLAIN, "may be too low"),
        (Cpu(arch="aarch64", core="cortex-a53"), PLAIN, "may be too low"),
    ],
)
def test_hosts_and_targets_that_add_alike_need_no_word(cpu: Cpu, here: frozenset[str], says: str | None) -> None:
    dynamic = Scheme(name="dynamic_wi8_af32", default=Signature(activations="float32", weights="int8"))
    for scheme in (INT8, dynamic):
        found = onnx.host_differs(cpu, scheme, here)
        assert (found is None) == (says is None)
        assert (says or "") in (found or "")


@pytest.mark.parametrize("features", [VNNI, PLAIN])
@pytest.mark.parametrize(
    "scheme",
    [
        Scheme(name="static_wi8_ai8", default=Signature(activations="uint8", weights="uint8")),
        Scheme(name="static_wi8_ai8", default=INT8.default, reduce_range=True),
        Scheme(name="static_wi8_ai16", default=Signature(activations="int16", weights="int8")),
        Scheme(name="weight_only_wi8", default=Signature(activations="float32", weights="int8")),
        Scheme(name="float32", default=Signature(activations="float32", weights="float32")),
    ],
)
def test_what_cannot_saturate_is_the_same_everywhere(scheme: Scheme, features: frozenset[str]) -> None:
    for cpu in (Cpu(arch="x86_64", core="any"), Cpu(arch="aarch64", core="any")):
        assert onnx.host_differs(cpu, scheme, features) is None


@pytest.mark.parametrize("arch", ["x86_64", "aarch64", "armv7"])
@pytest.mark.parametrize("features", [(), ("avx512_vnni",), ("avx_vnni",)])
def test_what_the_planner_chooses_for_a_cpu_never_saturates_there(arch: str, features: tuple[str, ...]) -> None:
    cpu = Cpu(arch=arch, core="any", features=features)
    for choice in signedness("onnx", cpu):
        scheme = Scheme(
            name="static_wi8_ai8",
            default=Signature(activations=choice.activations, weights=choice.weights),
            reduce_range=choice.reduce_range,
        )
        assert "the score does not show it" not in (onnx.host_differs(cpu, scheme, VNNI) or "")


def test_this_hosts_features_are_words() -> None:
    assert all(word and word == word.strip() for word in host_features())
    assert host_features() or not Path("/proc/cpuinfo").exists()


@x86_only
def test_without_features_given_it_is_this_host_that_is_looked_at() -> None:
    cpu = Cpu(arch=platform.machine(), core="this", features=tuple(host_features()))
    assert onnx.host_differs(cpu, INT8) is None
