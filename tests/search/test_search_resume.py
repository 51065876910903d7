"""A search that was cut short goes on where it was; damaged remains are made anew; several processes answer alike."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq import search, store
from edgeq.search import kept
from edgeq.search.trying import Job
from edgeq.types import Plan, QuantizedModel

NAMES = ("static_wi8_ai8", "static_wi8_ai8_mixed", "dynamic_wi8_af32", "weight_only_wf16")


def found(sine: Any, out: Path, **words: Any) -> QuantizedModel:
    plans = words.pop("plans", None) or sine.only(*NAMES)
    return search.search(sine.graph, plans, sine.dataset, out, max_drop=words.pop("max_drop", 0.001), **words)


def lasting(model: QuantizedModel) -> QuantizedModel:
    """A result without what a stopwatch says."""
    trials = tuple(dataclasses.replace(one, seconds=0.0) for one in model.plan.trials)
    plan = dataclasses.replace(model.plan, trials=trials)
    return dataclasses.replace(model, plan=plan, seconds=None, peak_rss_bytes=None)


def steps_of(call: Any) -> list[str]:
    steps: list[str] = []
    call(lambda step, *_: steps.append(step))
    return list(dict.fromkeys(steps))


def cut_short(sine: Any, folder: Path, step: str) -> None:
    def stop(name: str, done: int, total: int) -> None:
        if name.startswith(step):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found(sine, folder / "q.tflite", keep=folder / "kept", progress=stop)


def test_what_was_finished_is_not_done_again(sine: Any, tmp_path: Path) -> None:
    cut_short(sine, tmp_path, "scoring dynamic")
    again = tmp_path / "q.tflite"
    assert not again.exists()
    steps = steps_of(lambda progress: found(sine, again, keep=tmp_path / "kept", progress=progress))
    assert not [step for step in steps if "static" in step or step == "calibrate"], steps
    assert "scoring dynamic_wi8_af32" in steps
    other = found(sine, tmp_path / "fresh" / "q.tflite")
    resumed = found(sine, again, keep=tmp_path / "kept")
    assert lasting(resumed) == lasting(other)
    assert store.sha256(again) == other.artifact.sha256


def test_a_finished_search_answers_at_once(sine: Any, tmp_path: Path) -> None:
    first = found(sine, tmp_path / "q.tflite", keep=tmp_path / "kept")
    steps = steps_of(lambda progress: found(sine, tmp_path / "q.tflite", keep=tmp_path / "kept", progress=progress))
    assert steps == ["scoring float"]
    assert found(sine, tmp_path / "q.tflite", keep=tmp_path / "kept") == first


def entries(folder: Path) -> list[Path]:
    return sorted((folder / "kept").glob("*.json"))


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"quantized": 3}', '{"why": "", "seconds": 0.0}', '{"nobody": 1}', "\x00" * 50]
)
def test_damaged_remains_are_made_anew(sine: Any, tmp_path: Path, content: str) -> None:
    plans = sine.only("dynamic_wi8_af32")
    first = found(sine, tmp_path / "q.tflite", keep=tmp_path / "kept", plans=plans)
    (entry,) = entries(tmp_path)
    entry.write_text(content)
    again = found(sine, tmp_path / "q.tflite", keep=tmp_path / "kept", plans=plans)
    assert lasting(again) == lasting(first)
    assert json.loads(entry.read_text())["quantized"]["artifact"]["sha256"] == first.artifact.sha256


def test_a_model_that_was_changed_or_lost_is_made_anew(sine: Any, tmp_path: Path) -> None:
    plans = sine.only("dynamic_wi8_af32")
    first = found(sine, tmp_path / "q.tflite", keep=tmp_path / "kept", plans=plans)
    (file,) = (tmp_path / "kept").glob("*.tflite")
    for damage in (lambda: file.write_bytes(b"another"), file.unlink):
        damage()
        again = found(sine, tmp_path / "q.tflite", keep=tmp_path / "kept", plans=plans)
        assert store.sha256(tmp_path / "q.tflite") == again.artifact.sha256 == first.artifact.sha256


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200))
def test_no_remains_end_in_a_traceback(dense: Any, tmp_path: Path, content: bytes) -> None:
    job = Job(graph=dense.graph, dataset=dense.dataset, folder=tmp_path)
    file = kept.file_of(job, dense.plans[0])
    file.with_suffix(".json").write_bytes(content)
    assert kept.load(job, dense.plans[0]) is None


def test_each_plan_has_a_file_of_its_own(sine: Any, tmp_path: Path) -> None:
    job = Job(graph=sine.graph, dataset=sine.dataset, folder=tmp_path)
    names = {kept.file_of(job, plan).name for plan in sine.plans}
    assert len(names) == len(sine.plans)
    island = dataclasses.replace(sine.plans[0].scheme, islands=(1,))
    assert kept.file_of(job, dataclasses.replace(sine.plans[0], scheme=island)).name not in names


def test_only_folders_of_searches_are_removed(tmp_path: Path) -> None:
    mine, other = kept.folder_of(tmp_path, "a" * 64), kept.folder_of(tmp_path, "b" * 64)
    outside = tmp_path / "outside"
    for folder in (mine, other, outside):
        folder.mkdir()
        (folder / "x.json").write_text("{}")
    (tmp_path / ".search-link").symlink_to(outside)
    (tmp_path / ".search-file").write_text("a file of somebody else")
    kept.forget(tmp_path, but=mine)
    assert mine.is_dir()
    assert not other.exists()
    kept.forget(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".search-file", ".search-link", "outside"]
    assert (outside / "x.json").exists()


def test_several_processes_find_the_same(sine: Any, tmp_path: Path) -> None:
    """And what they tried beyond the one that holds does not show."""
    plans: tuple[Plan, ...] = sine.only("static_wi8_ai8", "dynamic_wi8_af32", "weight_only_wf16", "weight_only_wi8")
    alone = found(sine, tmp_path / "one" / "q.tflite", plans=plans)
    steps: list[tuple[str, int, int]] = []
    many = found(
        sine, tmp_path / "two" / "q.tflite", plans=plans, processes=2, progress=lambda *step: steps.append(step)
    )
    assert lasting(many) == lasting(alone)
    assert many.plan.scheme.name == "weight_only_wf16"
    told = [(done, total) for step, done, total in steps if step == "trying schemes"]
    assert told[0] == (1, 4)
    assert told == sorted(told)


def test_processes_take_up_what_was_cut_short(sine: Any, tmp_path: Path) -> None:
    cut_short(sine, tmp_path, "scoring static_wi8_ai8_mixed")
    before = {path.name: path.stat().st_mtime_ns for path in entries(tmp_path)}
    assert len(before) == 1
    found(sine, tmp_path / "q.tflite", keep=tmp_path / "kept", processes=2)
    after = {path.name: path.stat().st_mtime_ns for path in entries(tmp_path)}
    assert before.items() <= after.items()
    assert len(after) == len(NAMES)
