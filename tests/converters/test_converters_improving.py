"""Equalized channels and rounded weights, in files of both formats: real models, real runtimes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeq import backends, datasets, models, planning, targets
from edgeq.converters import _flatbuffer as flatbuffer
from edgeq.converters import improving
from edgeq.converters.onnx import layers as onnx_layers
from edgeq.converters.onnx import prepare
from edgeq.converters.tflite import layers as tflite_layers
from edgeq.evaluation import scoring
from edgeq.search import open_session
from edgeq.testing import models as tiny
from edgeq.testing.rescaled import rescaled
from edgeq.types import Dataset, ModelGraph, Plan, QuantizedModel, Scheme, Signature

Array = NDArray[Any]
DIGITS = Path(__file__).parents[2] / "examples" / "digits"
SUFFIXES = (".tflite", ".onnx")
SHARED = ("kws_dscnn/kws_float", "ic_resnet8/resnet8_float", "vww_mobilenetv1/vww_float")


def digits(suffix: str) -> Path:
    return DIGITS / f"digits_float{suffix}"


def bound(model: Path, description: Path = DIGITS / "dataset.yaml") -> tuple[ModelGraph, Dataset]:
    graph = models.read(model)
    return graph, datasets.bind(datasets.load(str(description)), graph)


def static_plan(graph: ModelGraph) -> Plan:
    found = targets.load("generic-linux-x86_64")
    plan = planning.choose(graph, found, targets.load_tables(found), scheme="static_wi8_ai8", prefer="accuracy")
    assert plan.scheme.corrected
    return plan


def plain(plan: Plan) -> Plan:
    return replace(plan, scheme=replace(plan.scheme, corrected=False))


def converted(graph: ModelGraph, dataset: Dataset, out: Path, plan: Plan | None = None) -> QuantizedModel:
    return backends.find("converters", graph.format).convert(graph, plan or static_plan(graph), dataset, out)


def answers(path: Path, graph: ModelGraph, dataset: Dataset, count: int = 100) -> Array:
    session = open_session(graph.format, path)
    return np.asarray(scoring.collect(session, dataset, graph, dataset.evaluation[:count])[0], np.float64)


def sqnr_db(wanted: Array, found: Array) -> float:
    return float(10 * np.log10((wanted**2).sum() / ((wanted - found) ** 2).sum()))


@pytest.fixture
def unimproved(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the quantizers alone would do."""
    monkeypatch.setattr(improving, "equalized", lambda known, _: (known, 0))
    monkeypatch.setattr(improving, "corrected", lambda *_, **__: None)


# --- the function stays ----------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rescaling_changes_channels_and_not_the_function(tmp_path: Path, suffix: str) -> None:
    """The test's own tool: without it the next tests would show nothing."""
    out = tmp_path / f"rescaled{suffix}"
    assert rescaled(digits(suffix), out) > 0
    graph, dataset = bound(digits(suffix))
    assert sqnr_db(answers(digits(suffix), graph, dataset), answers(out, graph, dataset)) > 80


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rescaled_channels_cost_nothing(tmp_path: Path, suffix: str, request: pytest.FixtureRequest) -> None:
    """Min-max ranges and weights per channel, what every tool does, lose these channels."""
    out = tmp_path / f"rescaled{suffix}"
    rescaled(digits(suffix), out, most=4096)
    graph, dataset = bound(out)
    found = converted(graph, dataset, tmp_path / f"q{suffix}")
    assert any("equalized at" in note for note in found.notes)
    request.getfixturevalue("unimproved")
    plan = static_plan(graph)
    plain = replace(plan, scheme=replace(plan.scheme, ranges="min-max"))
    converted(graph, dataset, tmp_path / f"plain{suffix}", plain)
    wanted = answers(out, graph, dataset)
    gains = [sqnr_db(wanted, answers(tmp_path / f"{name}{suffix}", graph, dataset)) for name in ("q", "plain")]
    assert gains[0] > 30
    assert gains[1] < 20


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", SHARED)
def test_real_networks_survive_rescaled_channels(shared: Path, tmp_path: Path, name: str, suffix: str) -> None:
    out = tmp_path / f"rescaled{suffix}"
    rescaled(shared / f"{name}{suffix}", out)
    graph, dataset = bound(out, shared / name.split("/", maxsplit=1)[0] / "dataset.yaml")
    converted(graph, dataset, tmp_path / f"q{suffix}")
    labels = datasets.labels(dataset, dataset.evaluation)
    count = len(dataset.evaluation)
    right = [
        (answers(path, graph, dataset, count).argmax(axis=1) == labels).mean()
        for path in (out, tmp_path / f"q{suffix}")
    ]
    assert right[0] - right[1] <= 0.01 + 1e-9  # 128 to 500 samples: one point is a sample or five


# --- rounding --------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rounding_is_nearer_to_float_and_no_larger(tmp_path: Path, suffix: str, request: pytest.FixtureRequest) -> None:
    graph, dataset = bound(digits(suffix))
    wanted = answers(digits(suffix), graph, dataset, 200)
    clever = converted(graph, dataset, tmp_path / f"clever{suffix}")
    request.getfixturevalue("unimproved")
    plain = converted(graph, dataset, tmp_path / f"plain{suffix}")
    gains = [
        sqnr_db(wanted, answers(tmp_path / f"{name}{suffix}", graph, dataset, 200)) for name in ("clever", "plain")
    ]
    assert gains[0] > gains[1]
    assert abs(clever.artifact.size_bytes - plain.artifact.size_bytes) < 64


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_input_gives_the_same_file(tmp_path: Path, suffix: str) -> None:
    graph, dataset = bound(digits(suffix))
    made = [converted(graph, dataset, tmp_path / f"{number}{suffix}").artifact.sha256 for number in (1, 2)]
    assert made[0] == made[1]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_steps_are_told(tmp_path: Path, suffix: str) -> None:
    graph, dataset = bound(digits(suffix))
    told: list[tuple[str, int, int]] = []
    converter = backends.find("converters", graph.format)
    converter.convert(
        graph, static_plan(graph), dataset, tmp_path / f"q{suffix}", progress=lambda *step: told.append(step)
    )
    for step in ("look at layers", "round weights"):
        done = [(number, count) for name, number, count in told if name == step]
        assert done[-1][0] == done[-1][1] > 0


@pytest.mark.parametrize("maker", [tiny.conv_tflite, tiny.conv_onnx])
def test_one_sample_is_enough_to_convert(tmp_path: Path, maker: Any) -> None:
    model = maker(tmp_path)
    is_onnx = model.suffix == ".onnx"
    graph, dataset = bound(model, tiny.tiny_dataset(tmp_path, channels_first=is_onnx))
    few = replace(dataset, calibration=dataset.calibration[:1])
    out = tmp_path / f"q{model.suffix}"
    converted(graph, few, out)
    assert np.isfinite(answers(out, graph, dataset)).all()


# --- a prepared model that answers otherwise is not used --------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_model_that_changed_is_put_back(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rescaled(digits(suffix), tmp_path / f"rescaled{suffix}")
    graph, dataset = bound(tmp_path / f"rescaled{suffix}")
    honest = converted(graph, dataset, tmp_path / f"honest{suffix}")
    monkeypatch.setattr(improving, "FAITHFUL_DB", 500.0)
    careful = converted(graph, dataset, tmp_path / f"careful{suffix}")
    assert any("taken as it was" in note for note in careful.notes)
    assert not any("taken as it was" in note for note in honest.notes)
    assert careful.artifact.sha256 != honest.artifact.sha256


def test_faithfulness_is_measured_over_all_answers() -> None:
    known = improving.Known({}, {}, [[np.ones(4, np.float32)], [np.zeros(4, np.float32)]])
    near, far = np.ones(4) + 0.001, np.ones(4) + 0.1
    assert improving.is_faithful(known, [[near], [np.zeros(4)]])
    assert improving.is_faithful(known, [[np.ones(4)], [np.zeros(4)]])
    assert not improving.is_faithful(known, [[far], [np.zeros(4)]])
    assert not improving.is_faithful(known, [[np.full(4, np.nan)], [np.zeros(4)]])


def test_mended_biases_stay_in_32_bits() -> None:
    held = np.array([2**31 - 2, -(2**31) + 1, 0], np.int32)
    found = improving.mended(held, np.array([1.0]), np.array([10.0, -10.0, 0.6]))
    np.testing.assert_array_equal(found, np.array([2**31 - 1, -(2**31), 1], np.int32))
    assert improving.mended(np.zeros(2, np.float32), None, np.array([0.5, 1.0])).tolist() == [0.5, 1.0]


def test_samples_that_are_looked_at_are_spread(tmp_path: Path) -> None:
    graph, dataset = bound(tiny.conv_tflite(tmp_path), tiny.tiny_dataset(tmp_path))
    many = replace(dataset, calibration=tuple(range(len(dataset.calibration))) * 50)
    take, count = improving.spread(many, graph, static_plan(graph))
    assert count == improving.SAMPLES
    assert len(list(take(5))) == 5
    first = [sample[0].tobytes() for sample in take(count)]
    assert len(set(first)) > 1


def test_few_samples_do_for_files_that_are_only_held_against_float(tmp_path: Path) -> None:
    graph, dataset = bound(tiny.conv_tflite(tmp_path), tiny.tiny_dataset(tmp_path))
    plan = static_plan(graph)
    for macs, count in ((improving.WORK_MACS, improving.FEWEST), (improving.WORK_MACS // 14, 14)):
        assert improving.spread(dataset, replace(graph, macs=macs), plan)[1] == count
    assert improving.spread(dataset, graph, plain(plan))[1] == improving.FEWEST
    wide = replace(plan.scheme, default=replace(plan.scheme.default, activations="int16"), corrected=False)
    assert improving.spread(dataset, graph, replace(plan, scheme=wide))[1] == 0


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_model_near_to_float_is_taken_as_the_quantizer_wrote_it(
    tmp_path: Path, suffix: str, request: pytest.FixtureRequest
) -> None:
    graph, dataset = bound(digits(suffix))
    plan = static_plan(graph)
    improved = converted(graph, dataset, tmp_path / f"improved{suffix}", plan)
    simple = converted(graph, dataset, tmp_path / f"plain{suffix}", plain(plan))
    request.getfixturevalue("unimproved")
    without = converted(graph, dataset, tmp_path / f"without{suffix}", plan)
    assert simple.artifact.sha256 == without.artifact.sha256 != improved.artifact.sha256


# --- ranges that most samples are better off with ---------------------------------------------


def with_one_wild_sample(folder: Path, count: int, suffix: str = ".onnx") -> tuple[ModelGraph, Dataset]:
    """One calibration sample reaches 300 times as far as the others, and is none of those that are looked at."""
    description = tiny.tiny_dataset(folder, count=4 * count, channels_first=suffix == ".onnx")
    held = dict(np.load(folder / "samples.npz"))
    held["x"][1] *= 300
    np.savez(folder / "samples.npz", **held)
    return bound((tiny.conv_onnx if suffix == ".onnx" else tiny.conv_tflite)(folder), description)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_sample_unlike_all_others_does_not_set_the_ranges(tmp_path: Path, suffix: str) -> None:
    graph, dataset = with_one_wild_sample(tmp_path, 64, suffix)
    plan = static_plan(graph)
    made = converted(graph, dataset, tmp_path / f"made{suffix}", plan)
    assert any(improving.RIVAL in note for note in made.notes)
    few = replace(dataset, calibration=dataset.calibration[: improving.MANY - 1])
    alone = converted(graph, few, tmp_path / f"alone{suffix}", plan)
    assert not any(improving.RIVAL in note for note in alone.notes)
    wanted = answers(Path(graph.path), graph, dataset)
    gains = [sqnr_db(wanted, answers(tmp_path / f"{name}{suffix}", graph, dataset)) for name in ("made", "alone")]
    assert gains[0] > gains[1] + 6


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_plain_scheme_takes_other_ranges_where_the_plans_answer_badly(tmp_path: Path, suffix: str) -> None:
    graph, dataset = with_one_wild_sample(tmp_path, 64, suffix)
    found = converted(graph, dataset, tmp_path / f"plain{suffix}", plain(static_plan(graph)))
    assert any(improving.RIVAL in note for note in found.notes)
    assert not any("equalized" in note for note in found.notes)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_far_from_float_is_mended_where_that_is_nearer(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights and biases take other integers; the file is the same besides."""
    graph, dataset = bound(digits(suffix))
    plan = plain(static_plan(graph))
    before = converted(graph, dataset, tmp_path / f"before{suffix}", plan)
    monkeypatch.setattr(improving, "ENOUGH_DB", 500.0)
    monkeypatch.setattr(improving, "LESS", 10.0)
    monkeypatch.setattr(improving, "VOTE", 0.0)
    monkeypatch.setattr(improving, "MANY", 10**9)
    after = converted(graph, dataset, tmp_path / f"after{suffix}", plan)
    assert improving.MENDED_NOTE in after.notes
    assert improving.MENDED_NOTE not in before.notes
    assert after.artifact.sha256 != before.artifact.sha256
    changed = np.frombuffer((tmp_path / f"after{suffix}").read_bytes(), np.uint8)
    held = np.frombuffer((tmp_path / f"before{suffix}").read_bytes(), np.uint8)
    assert len(changed) == len(held)
    assert np.count_nonzero(changed != held) > 0


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_second_method_reads_no_sample_again(tmp_path: Path, suffix: str) -> None:
    graph, dataset = with_one_wild_sample(tmp_path, 64, suffix)
    told: list[tuple[str, int, int]] = []
    converter = backends.find("converters", graph.format)
    out = tmp_path / f"q{suffix}"
    converter.convert(graph, static_plan(graph), dataset, out, progress=lambda *step: told.append(step))
    assert [done for name, done, _ in told if name == "calibrate"].count(1) == 1


def test_rounded_weights_are_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, dataset = with_one_wild_sample(tmp_path, 64)
    asked: list[str] = []
    honest = improving.rounding.rounded

    def listening(layer: Any, *rest: Any, **named: Any) -> Array:
        asked.append(layer.name)
        return honest(layer, *rest, **named)

    monkeypatch.setattr(improving.rounding, "rounded", listening)
    made = converted(graph, dataset, tmp_path / "q.onnx")
    assert any(improving.RIVAL in note for note in made.notes)
    assert len(asked) == len(set(asked)) > 0


@pytest.mark.parametrize(
    ("before", "after", "nearer"),
    [
        ([1, 1, 1, 1], [0.5, 0.5, 0.5, 0.5], True),
        ([1, 1, 1, 1], [0.5, 0.5, 0.5, 1.1], True),
        ([1, 1, 1, 1], [0.1, 0.1, 1.1, 1.1], False),  # half of the samples only
        ([1, 1, 1, 9], [0.9, 0.9, 0.9, 9.5], False),  # most of them, but not all together
        ([1, 1, 1, 1], [0.99, 0.99, 0.99, 0.99], False),  # not clearly
        ([1, 1, 1, 1], [0.5, 0.5, 0.5, np.nan], False),
    ],
)
def test_a_rival_must_be_nearer_in_all_and_for_most(before: list[float], after: list[float], nearer: bool) -> None:
    assert improving.is_nearer(np.array(before, float), np.array(after, float)) is nearer


def test_rivals_want_many_samples(tmp_path: Path) -> None:
    plan = static_plan(bound(tiny.conv_onnx(tmp_path), tiny.tiny_dataset(tmp_path, channels_first=True))[0])
    known, own = improving.Known({}, {}, [[np.zeros(3)]]), plan.scheme.ranges
    for one in (plan, plain(plan)):
        assert improving.methods(one, known, improving.MANY) == [own, improving.RIVAL]
        assert improving.methods(one, known, improving.MANY - 1) == [own]
        assert improving.methods(one, improving.Known({}, {}), improving.MANY) == [own]
    rival = replace(plan, scheme=replace(plan.scheme, ranges=improving.RIVAL))
    assert improving.methods(rival, known, 100) == [improving.RIVAL]


GAPS = {"percentile": 0.1, "mean-min-max": 0.01}


@pytest.mark.parametrize(
    ("corrected", "enough_db", "wanted", "steps"),
    [
        (False, 19.9, 0.1, ["percentile"]),
        (False, 25.9, 0.05, ["percentile", "mended 0.1"]),
        (False, 26.1, 0.005, ["percentile", "mended 0.1", "mean-min-max", "mended 0.01"]),
        (True, 19.9, 0.005, ["percentile", "mended 0.1", "mean-min-max", "mended 0.01"]),
    ],
)
def test_no_more_files_are_made_once_one_is_near_enough(
    corrected: bool, enough_db: float, wanted: float, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is a gap to float here."""
    monkeypatch.setattr(improving, "ENOUGH_DB", enough_db)
    taken: list[str] = []

    def make(method: str) -> float:
        taken.append(method)
        return GAPS[method]

    def mend(gap: float) -> float:
        taken.append(f"mended {gap}")
        return gap / 2

    known = improving.Known({}, {}, [[np.ones(4, np.float32)]] * 6)
    scheme = Scheme(name="static_wi8_ai8", default=Signature(activations="int8"), corrected=corrected)
    found, notes = improving.best(
        known, scheme, ["percentile", "mean-min-max"], make, mend, lambda gap: [[np.full(4, 1 + gap)]] * 6
    )
    assert found == wanted
    assert taken == steps
    assert (improving.RIVAL_NOTE in notes) == ("mean-min-max" in steps)
    assert (improving.MENDED_NOTE in notes) == (len(steps) > 1 and not corrected)


def test_a_file_that_is_no_nearer_is_not_taken_and_its_note_neither() -> None:
    known = improving.Known({}, {}, [[np.ones(4, np.float32)]] * 3)
    scheme = Scheme(name="static_wi8_ai8", default=Signature(activations="int8"))
    found, notes = improving.best(
        known,
        scheme,
        ["percentile", "min-max"],
        lambda method: method,
        lambda one: f"{one}, mended",
        lambda one: [[np.full(4, {"percentile": 2.0, "percentile, mended": 2.1}.get(one, np.nan))]] * 3,
    )
    assert found == "percentile"
    assert notes == ()


# --- what is read of the models ---------------------------------------------------------------


def of_file(model: Path, folder: Path) -> tuple[Any, dict[str, Any], list[Any]]:
    if model.suffix == ".tflite":
        content = flatbuffer.load(model)
        flatbuffer.number_names(content)
        layers = tflite_layers.layers(content)
        return content, layers, tflite_layers.channel_sites(content, layers)
    content = prepare.prepared(prepare.load(model), folder, str(model))
    layers = onnx_layers.layers(content)
    return content, layers, onnx_layers.channel_sites(content, layers)


@pytest.mark.parametrize("maker", [tiny.conv_tflite, tiny.conv_onnx])
def test_layers_and_places_of_the_tiny_network(tmp_path: Path, maker: Any) -> None:
    _, layers, places = of_file(maker(tmp_path), tmp_path)
    shapes = [(layer.weights.shape, layer.groups) for layer in layers.values()]
    assert shapes == [((8, 3, 9), 1), ((8, 1, 9), 8), ((4, 8, 1), 1)]
    assert {(site.channels, site.limit) for site in places} == {(8, 6.0)}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_both_formats_see_the_same_network(tmp_path: Path, suffix: str) -> None:
    _, layers, places = of_file(digits(suffix), tmp_path)
    _, others, other_places = of_file(digits(next(one for one in SUFFIXES if one != suffix)), tmp_path)
    assert [one.weights.shape for one in layers.values()] == [one.weights.shape for one in others.values()]
    assert [(len(one.makers), len(one.readers), one.channels) for one in places] == [
        (len(one.makers), len(one.readers), one.channels) for one in other_places
    ]
    pictures = [(one, other) for one, other in zip(layers.values(), others.values(), strict=True) if one.window]
    assert pictures  # what stands behind a flattened picture has its inputs in another order
    for one, other in pictures:
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-5)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_written_layers_are_read_again(tmp_path: Path, suffix: str) -> None:
    content, layers, _ = of_file(digits(suffix), tmp_path)
    changed = [replace(layer, weights=layer.weights * 2) for layer in layers.values()]
    if suffix == ".tflite":
        tflite_layers.write(content, changed)
        again = tflite_layers.layers(content)
    else:
        again = onnx_layers.layers(onnx_layers.written(content, changed))
    for name, layer in layers.items():
        np.testing.assert_array_equal(again[name].weights, layer.weights * 2)
