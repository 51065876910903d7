"""What the search leaves on disk when it ends well, badly, or is interrupted; what it says of this host's kernels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import search
from edgeq.errors import DatasetError, OutputError
from edgeq.testing import models
from edgeq.types import Cpu


def _stop_at(step: str, place: int, error: BaseException) -> Callable[[str, int, int], None]:
    def progress(name: str, done: int, total: int) -> None:
        if name.startswith(step) and done >= place:
            raise error

    return progress


@pytest.mark.parametrize("error", [KeyboardInterrupt(), DatasetError("made here"), RuntimeError("a bug")])
@pytest.mark.parametrize(("step", "place"), [("scoring float", 3), ("scoring static", 0), ("scoring static", 5)])
def test_nothing_stays_behind(dense: Any, scratch: Path, step: str, place: int, error: BaseException) -> None:
    out = scratch.parent / "out" / "q.tflite"
    with pytest.raises(type(error)):
        search.search(dense.graph, dense.plans, dense.dataset, out, progress=_stop_at(step, place, error))
    assert list(scratch.iterdir()) == []
    assert not out.exists()
    assert not out.parent.exists() or list(out.parent.iterdir()) == []


def test_an_interrupted_search_leaves_the_old_file(dense: Any, scratch: Path) -> None:
    out = scratch.parent / "q.tflite"
    out.write_bytes(b"the one of yesterday")
    stop = _stop_at("scoring static", 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        search.search(dense.graph, dense.plans, dense.dataset, out, progress=stop)
    assert out.read_bytes() == b"the one of yesterday"
    search.search(dense.graph, dense.plans, dense.dataset, out)
    assert out.read_bytes()[4:8] == b"TFL3"
    assert list(scratch.iterdir()) == []


def test_the_file_appears_whole(dense: Any, scratch: Path) -> None:
    """Until the end nothing has the file's name, and no half-written one stays."""
    out = scratch.parent / "out" / "q.tflite"
    seen: list[bool] = []
    search.search(dense.graph, dense.plans, dense.dataset, out, progress=lambda *_: seen.append(out.exists()))
    assert seen
    assert not any(seen)
    assert [path.name for path in out.parent.iterdir()] == ["q.tflite"]


def test_a_place_that_cannot_be_written_is_an_output_error(dense: Any, scratch: Path) -> None:
    (scratch.parent / "file").write_text("")
    out = scratch.parent / "file" / "q.tflite"
    with pytest.raises(OutputError) as caught:
        search.search(dense.graph, dense.plans[:1], dense.dataset, out)
    assert str(out) in str(caught.value.where) or str(out.parent) in str(caught.value.where)
    assert list(scratch.iterdir()) == []


def test_the_float_model_is_never_touched(dense: Any, tmp_path: Path) -> None:
    before = Path(dense.graph.path).read_bytes()
    search.search(dense.graph, dense.plans, dense.dataset, tmp_path / "q.tflite")
    assert Path(dense.graph.path).read_bytes() == before


def test_honest_kernels_get_no_note(tmp_path: Path, make_job: Callable[..., Any]) -> None:
    job = make_job(models.conv_onnx(tmp_path), models.tiny_dataset(tmp_path, channels_first=True))
    found = search.search(job.graph, job.plans[:1], job.dataset, tmp_path / "q.onnx")
    assert found.plan.scheme.is_static
    assert found.notes
    assert not [note for note in found.notes if "integer kernels answer differently" in note]


def test_kernels_that_only_round_otherwise_get_no_note(dense: Any, tmp_path: Path) -> None:
    found = search.search(dense.graph, dense.only("static_wi8_ai8"), dense.dataset, tmp_path / "q.tflite")
    assert not [note for note in found.notes if "SQNR" in note]


def test_a_target_that_adds_otherwise_than_this_host_is_told_of(tmp_path: Path, make_job: Callable[..., Any]) -> None:
    """Signed weights on an x86 without VNNI and on an ARM: on one of the two this host's score does not hold."""
    job = make_job(models.conv_onnx(tmp_path), models.tiny_dataset(tmp_path, channels_first=True))
    plan = job.only("static_wi8_ai8")[0]
    default = dataclasses.replace(plan.scheme.default, weights="int8")
    plan = dataclasses.replace(plan, scheme=dataclasses.replace(plan.scheme, default=default))
    told = []
    for arch in ("x86_64", "aarch64"):
        cpu = Cpu(arch=arch, core="any", cores=1, clock_hz=1, features=())
        found = search.search(job.graph, [plan], job.dataset, tmp_path / f"{arch}.onnx", cpu=cpu)
        told.append([note for note in found.notes if "VNNI" in note])
    assert sorted(map(len, told)) == [0, 1]


@pytest.mark.parametrize("name", ["conv.tflite", "conv.onnx"])
def test_open_session_runs_a_model(tmp_path: Path, name: str) -> None:
    path = models.conv_tflite(tmp_path) if name.endswith("tflite") else models.conv_onnx(tmp_path)

    session = search.open_session(path.suffix.lstrip("."), path)
    shape = (1, 12, 12, 3) if name.endswith("tflite") else (1, 3, 12, 12)
    (answer,) = session.run([np.zeros(shape, np.float32)])
    assert answer.shape == (1, 4)
    assert answer.sum() == pytest.approx(1, abs=1e-5)
