"""What every converter owes its callers, whatever the format and the scheme."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from edgeq import backends, converters, datasets, models, planning, runtimes, store, targets
from edgeq.errors import ConvertError, EdgeqError, OutputError
from edgeq.planning.schemes import KNOWN
from edgeq.testing import models as tiny
from edgeq.testing.bundles import RUNTIMES
from edgeq.testing.tflite import write_tflite
from edgeq.types import Dataset, ModelGraph, Plan, QuantizedModel

LEAST = {"weight_only_wi4": 0.5}
"""Share of samples whose class must stay, where it is not 0.9. The classifiers' weights are random, which 4 bits hurt
most: both converters, independent of one another, keep half of the classes of the convolutional one."""
TARGETS = ("generic-linux-x86_64", "raspberry-pi-4")


def unsigned_conv(folder: Path) -> Path:
    """The convolutional classifier without a signature, as many converters leave files."""
    return write_tflite(folder / "plain.tflite", tiny.conv_graph(), signature=False)


MODELS: dict[str, tuple[Callable[[Path], Path], tuple[int, ...]]] = {
    "conv.tflite": (tiny.conv_tflite, tiny.CONV_SHAPE),
    "mlp.tflite": (tiny.mlp_tflite, tiny.MLP_SHAPE),
    "plain.tflite": (unsigned_conv, tiny.CONV_SHAPE),
    "conv.onnx": (tiny.conv_onnx, tiny.CONV_SHAPE),
    "external.onnx": (tiny.external_data_onnx, tiny.CONV_SHAPE),
}


class Job(NamedTuple):
    """A model with its samples, and every plan that the planner offers for it."""

    graph: ModelGraph
    dataset: Dataset
    plans: tuple[Plan, ...]


@pytest.fixture(scope="module", params=MODELS)
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Job:
    make, shape = MODELS[request.param]
    folder = tmp_path_factory.mktemp("model")
    graph = models.read(make(folder))
    description = tiny.tiny_dataset(folder, shape, channels_first=graph.format == "onnx")
    return Job(graph, datasets.bind(datasets.load(description), graph), tuple(offered(graph)))


def offered(graph: ModelGraph) -> Iterator[Plan]:
    """One plan of each scheme's integer types and range method, on targets that want different ones.

    Schemes that are offered only by name are asked for by name.
    """
    seen = set()
    for name in TARGETS:
        target = targets.load(name)
        tables = targets.load_tables(target)
        for scheme in (None, *KNOWN):
            for plan in planning.candidates(graph, target, tables, scheme=scheme):
                key = planning.label(plan.scheme), plan.scheme.default
                if (plan.ok or plan.scheme.name in ("float32", "as_is")) and key not in seen:
                    seen.add(key)
                    yield plan


def convert(job: Job, plan: Plan, out: Path, **words: object) -> QuantizedModel:
    module = backends.find("converters", job.graph.format)
    return module.convert(job.graph, plan, job.dataset, out, **words)  # type: ignore[no-any-return]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Done(NamedTuple):
    """A plan, the file that was made of it, the document of the file."""

    plan: Plan
    out: Path
    made: QuantizedModel


@pytest.fixture(scope="module")
def done(job: Job, tmp_path_factory: pytest.TempPathFactory) -> list[Done]:
    """Every plan's conversion, each in a folder of its own."""
    outs = [tmp_path_factory.mktemp("out") / f"model.{job.graph.format}" for _ in job.plans]
    return [Done(plan, out, convert(job, plan, out)) for plan, out in zip(job.plans, outs, strict=True)]


def opened(path: Path, model_format: str) -> runtimes.Session:
    return backends.find("runtimes", RUNTIMES[f".{model_format}"]).open(path)  # type: ignore[no-any-return]


def static(job: Job) -> Plan:
    return next(plan for plan in job.plans if plan.scheme.is_static)


def answers(path: Path, job: Job, count: int = 16) -> np.ndarray:
    session = opened(path, job.graph.format)
    samples = datasets.samples(job.dataset, job.graph, job.dataset.evaluation[:count])
    return np.concatenate([runtimes.infer(session, sample)[0] for sample in samples])


def test_the_planner_offers_every_kind_of_scheme(job: Job) -> None:
    names = {plan.scheme.name for plan in job.plans}
    assert {"static_wi8_ai8", "weight_only_wf16", "dynamic_wi8_af32", "float32", "as_is"} <= names
    assert {"weight_only_wi8", "weight_only_wi4"} <= names
    assert "static_wi8_ai16" in names or job.graph.format == "onnx"
    assert names <= set(KNOWN)
    methods = {plan.scheme.ranges for plan in job.plans if plan.scheme.is_static}
    assert methods == {"min-max", "percentile", "mean-squared-error"}


def test_every_offered_scheme_converts_and_is_described_truly(job: Job, done: list[Done]) -> None:
    float_path = Path(job.graph.path)
    for plan, out, made in done:
        label = planning.label(plan.scheme)
        assert names_in(out.parent) == [out.name], label
        assert made.plan == plan
        assert made.artifact.path == out.name
        assert made.artifact.format == job.graph.format
        assert made.artifact.sha256 == store.sha256(out), label
        assert made.artifact.size_bytes == out.stat().st_size, label
        assert made.artifact.float_size_bytes == job.graph.size_bytes
        assert (made.float_path, made.float_sha256) == (job.graph.path, store.sha256(float_path))
        session = opened(out, job.graph.format)
        assert tuple(dataclasses.replace(port, preprocessing={}) for port in made.inputs) == session.inputs, label
        assert made.outputs == session.outputs, label
        assert made.seconds is not None
        assert made.peak_rss_bytes is not None
        assert made.peak_rss_bytes > 10 << 20


def test_every_offered_scheme_classifies_like_the_float_model(job: Job, done: list[Done]) -> None:
    wanted = answers(Path(job.graph.path), job).argmax(axis=1)
    assert len(set(wanted)) == tiny.CLASSES
    for plan, out, _ in done:
        agreeing = float((answers(out, job).argmax(axis=1) == wanted).mean())
        # on a CPU without VNNI int8 kernels of onnxruntime saturate; those plans are for another CPU
        if job.graph.format == "tflite" or plan.scheme.default.activations != "int8":
            assert agreeing >= LEAST.get(plan.scheme.name, 0.9), planning.label(plan.scheme)


def test_a_second_conversion_gives_the_same_bytes_and_leaves_the_model_and_the_terminal_alone(
    job: Job, done: list[Done], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = Path(job.graph.path).parent
    before = {path.name: (store.sha256(path), path.stat().st_mtime_ns) for path in folder.iterdir()}
    capfd.readouterr()
    for plan, first, made in done:
        second = tmp_path / first.name
        again = convert(job, plan, second)
        assert first.read_bytes() == second.read_bytes(), planning.label(plan.scheme)
        assert made.artifact.sha256 == again.artifact.sha256
        assert made.notes == again.notes
    captured = capfd.readouterr()
    assert captured.out == ""
    assert [line for line in captured.err.splitlines() if not line.startswith("INFO:")] == []
    assert before == {path.name: (store.sha256(path), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_another_process_gives_the_same_bytes(job: Job, tmp_path: Path) -> None:
    """Hashes of names must not decide the order of anything."""
    plan = static(job)
    store.write(tmp_path / "plan.json", plan)
    store.write(tmp_path / "dataset.json", job.dataset)
    out = tmp_path / f"ours.{job.graph.format}"
    convert(job, plan, out)
    other = tmp_path / f"theirs.{job.graph.format}"
    program = (
        "import sys; from pathlib import Path; from edgeq import backends, models, store\n"
        "from edgeq.types import Dataset, Plan\n"
        "folder, model, out = map(Path, sys.argv[1:]); graph = models.read(model)\n"
        "plan, dataset = store.read(folder / 'plan.json', Plan), store.read(folder / 'dataset.json', Dataset)\n"
        "backends.find('converters', graph.format).convert(graph, plan, dataset, out)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path, job.graph.path, other],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-500:]
    assert out.read_bytes() == other.read_bytes()


def test_the_document_survives_the_store(done: list[Done], tmp_path: Path) -> None:
    for plan, _, made in done:
        store.write(tmp_path / "quantized.json", made)
        assert store.read(tmp_path / "quantized.json", QuantizedModel) == made, planning.label(plan.scheme)


def test_progress_counts_every_sample_of_a_static_scheme_once(job: Job, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    convert(job, static(job), tmp_path / "model", progress=lambda *words: seen.append(words))
    count = len(job.dataset.calibration)
    assert [(done, total) for step, done, total in seen if step == "calibrate"] == [
        (n, count) for n in range(count + 1)
    ]
    assert all((step, total, total) in seen for step, _, total in seen)


@pytest.mark.parametrize("after", [0, 1, 8])
def test_ctrl_c_leaves_nothing_and_no_older_file_is_lost(job: Job, tmp_path: Path, scratch: Path, after: int) -> None:
    out = tmp_path / f"model.{job.graph.format}"
    out.write_bytes(b"an older result")

    def stop(step: str, done: int, total: int) -> None:
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(job, static(job), out, progress=stop)
    assert names_in(tmp_path) == [out.name]
    assert out.read_bytes() == b"an older result"
    assert list(scratch.iterdir()) == []
    convert(job, static(job), out)
    assert out.stat().st_size > 1000


def test_an_older_file_is_replaced_whole(job: Job, tmp_path: Path) -> None:
    out = tmp_path / f"model.{job.graph.format}"
    out.write_bytes(b"x" * 1_000_000)
    with out.open("rb") as reader:
        convert(job, static(job), out)
        assert reader.read() == b"x" * 1_000_000, "who has it open goes on reading the old one"
    assert out.stat().st_size < 1_000_000


def test_a_link_in_the_way_is_replaced_and_what_it_names_is_kept(job: Job, tmp_path: Path) -> None:
    treasure = tmp_path / "treasure"
    treasure.write_bytes(b"not to be written")
    out = tmp_path / "here" / f"model.{job.graph.format}"
    out.parent.mkdir()
    out.symlink_to(treasure)
    convert(job, static(job), out)
    assert treasure.read_bytes() == b"not to be written"
    assert not out.is_symlink()
    assert opened(out, job.graph.format).inputs


def test_a_static_scheme_without_samples_is_refused_and_leaves_nothing(job: Job, tmp_path: Path) -> None:
    module = backends.find("converters", job.graph.format)
    empty = dataclasses.replace(job.dataset, calibration=())
    for dataset in (None, empty):
        with pytest.raises(ConvertError) as caught:
            module.convert(job.graph, static(job), dataset, tmp_path / "model")
        assert "samples" in caught.value.message
        assert caught.value.hint
    assert names_in(tmp_path) == []


def test_other_schemes_need_no_samples(job: Job, tmp_path: Path) -> None:
    module = backends.find("converters", job.graph.format)
    for plan in job.plans:
        if not plan.scheme.is_static:
            made = module.convert(job.graph, plan, None, tmp_path / f"model.{job.graph.format}")
            assert all(port.preprocessing == {} for port in made.inputs)


def test_the_other_format_and_unknown_schemes_are_refused(job: Job, tmp_path: Path) -> None:
    other = {"tflite": "onnx", "onnx": "tflite"}[job.graph.format]
    with pytest.raises(ConvertError, match=job.graph.format):
        backends.find("converters", other).convert(job.graph, static(job), job.dataset, tmp_path / "model")
    strange = dataclasses.replace(static(job).scheme, name="int3")
    with pytest.raises(ConvertError, match="int3"):
        convert(job, dataclasses.replace(static(job), scheme=strange), tmp_path / "model")
    assert names_in(tmp_path) == []


def test_a_target_that_cannot_be_written_is_an_output_error(job: Job, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError) as caught:
        convert(job, static(job), tmp_path / "file" / "model")
    assert "\n" not in caught.value.message
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_model_that_is_gone_or_another_since_it_was_read(job: Job, tmp_path: Path) -> None:
    for content in (None, b"", b"not a model at all", Path(job.graph.path).read_bytes()[:200]):
        path = tmp_path / f"changed.{job.graph.format}"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        graph = dataclasses.replace(job.graph, path=str(path))
        with pytest.raises(EdgeqError) as caught:
            convert(job._replace(graph=graph), static(job), tmp_path / "out" / "model")
        assert "\n" not in caught.value.message
        assert not (tmp_path / "out" / "model").exists()


def test_a_quantized_model_is_taken_as_it_is_and_never_quantized_again(job: Job, tmp_path: Path) -> None:
    out = tmp_path / f"model.{job.graph.format}"
    convert(job, static(job), out)
    graph = models.read(out)
    assert graph.state == "quantized"
    target = targets.load(TARGETS[0])
    plan = planning.choose(graph, target, targets.load_tables(target))
    assert plan.scheme.name == "as_is"
    made = convert(job._replace(graph=graph), plan, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == out.read_bytes()
    assert made.artifact.sha256 == made.float_sha256 == graph.sha256
    with pytest.raises(ConvertError, match="quantized already"):
        convert(job._replace(graph=graph), static(job), tmp_path / "twice")
    assert not (tmp_path / "twice").exists()


@pytest.mark.parametrize("name", ["conv.tflite", "conv.onnx"])
def test_memory_does_not_grow_with_the_calibration_samples(tmp_path: Path, name: str) -> None:
    """Four thousand samples of 1.7 KB and 10 KB of activations each: kept, they would take 45 MB."""
    make, shape = MODELS[name]
    graph = models.read(make(tmp_path))
    description = tiny.tiny_dataset(tmp_path, shape, count=4096, channels_first=graph.format == "onnx")
    dataset = datasets.bind(datasets.load(description), graph)
    (plan, *_) = [one for one in offered(graph) if one.scheme.is_static and one.scheme.ranges == "percentile"]
    few, many = (dataclasses.replace(dataset, calibration=tuple(range(n))) for n in (64, 4096))
    convert(Job(graph, few, ()), plan, tmp_path / "few")
    before = converters.peak_rss_bytes()
    made = convert(Job(graph, many, ()), plan, tmp_path / "many")
    assert made.peak_rss_bytes is not None
    assert made.peak_rss_bytes - before < 20 << 20


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_samples_are_enough(job: Job, tmp_path: Path, count: int) -> None:
    few = dataclasses.replace(job.dataset, calibration=job.dataset.calibration[:count])
    made = convert(job._replace(dataset=few), static(job), tmp_path / f"model.{job.graph.format}")
    assert made.artifact.size_bytes > 1000


def test_a_constant_calibration_set_does_no_harm(job: Job, tmp_path: Path) -> None:
    """The same sample again and again, and all zeros: ranges of no width."""
    shape = MODELS[Path(job.graph.path).name][1]
    for value in (0.0, 0.25):
        folder = tmp_path / str(value)
        folder.mkdir()
        description = tiny.tiny_dataset(folder, shape, channels_first=job.graph.format == "onnx")
        samples = np.full((64, *shape), value, np.float32)
        np.savez(folder / "samples.npz", x=samples, y=np.zeros(64, np.int64))
        dataset = datasets.bind(datasets.load(description), job.graph)
        out = folder / f"model.{job.graph.format}"
        convert(job._replace(dataset=dataset), static(job), out)
        assert np.isfinite(answers(out, job, 4)).all()


def test_a_kept_state_changes_nothing_and_serves_the_next_conversion(job: Job, tmp_path: Path) -> None:
    plan, state = static(job), tmp_path / "state"
    made = [convert(job, plan, tmp_path / name, state=state).artifact.sha256 for name in ("a", "b")]
    assert made == [convert(job, plan, tmp_path / "c").artifact.sha256] * 2
    assert len(names_in(state)) == 1
    seen: list[int] = []
    convert(
        job, plan, tmp_path / "d", state=state, progress=lambda step, done, _: step == "calibrate" and seen.append(done)
    )
    assert set(seen) == {len(job.dataset.calibration)}


def test_a_hostile_state_is_not_believed(job: Job, tmp_path: Path) -> None:
    plan, state = static(job), tmp_path / "state"
    first = convert(job, plan, tmp_path / "a", state=state).artifact.sha256
    (path,) = state.iterdir()
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert convert(job, plan, tmp_path / "b", state=state).artifact.sha256 == first
