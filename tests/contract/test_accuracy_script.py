"""`make bench-accuracy`'s script: its own scorer, noise and verdicts, and one run on the shipped example."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeq import datasets, models
from edgeq.evaluation import scoring
from edgeq.evaluation.metrics import METRICS
from edgeq.runtimes import litert
from edgeq.testing import models as tiny
from edgeq.types import LabelSpec

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "tests" / "bench"
PARTS = ("accuracy_rows", "accuracy_tables", "census", "contenders", "metrics", "published", "scored", "verdicts")


@pytest.fixture(scope="module")
def bench() -> Iterator[dict[str, ModuleType]]:
    """The script's modules, which find one another beside themselves."""
    sys.path.insert(0, str(BENCH))
    try:
        yield {name: importlib.import_module(name) for name in PARTS}
    finally:
        sys.path.remove(str(BENCH))
        for name in (*PARTS, "measuring"):
            sys.modules.pop(name, None)


# --- the whole script ------------------------------------------------------------------------


@pytest.mark.slow
def test_the_shipped_example_is_measured(tmp_path: Path, examples: Path) -> None:
    """Its folder as a folder of cases, peers in the project's environment."""
    folder, out = tmp_path / "cases" / "digits", tmp_path / "accuracy.json"
    shutil.copytree(examples / "digits", folder)
    words = ["--models", folder.parent, "--format", "tflite", "--no-install", "--section", "models", "--output", out]
    argv = [sys.executable, BENCH / "accuracy.py", *words]
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=280, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode in (0, 1), done.stderr
    (entry,) = json.loads(out.read_text())["models"]
    rows = {row["tool"]: row for row in entry["rows"]}
    assert next(iter(rows)) == "float"
    assert {"litert_quantizer", "tf_ptq", "edgeq", "edgeq --prefer accuracy"} <= rows.keys()
    for name in ("edgeq", "edgeq --prefer accuracy"):
        assert rows[name]["sqnr_db"] > 25
        assert rows[name]["drop"] < 0.05
        assert rows[name]["seconds"] > 0
        assert rows[name]["peak_mb"] > 20
        assert rows[name]["in_float"] == {}
    assert all(row["problem"] or row["versions"] for tool, row in rows.items() if tool != "float")
    assert {one["mode"] for one in entry["verdicts"]} == {"edgeq", "edgeq --prefer accuracy"}
    text = out.with_suffix(".md").read_text()
    assert "| edgeq --prefer accuracy |" in text
    assert "## Bars" in text


def test_a_missing_folder_and_an_unknown_case_are_told(tmp_path: Path, examples: Path) -> None:
    for words in (("--models", tmp_path / "nowhere"), ("--models", examples, "--case", "nothing")):
        argv = [sys.executable, BENCH / "accuracy.py", "--output", tmp_path / "a.json", *words]
        done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr.startswith("error: ")) == (2, True), done.stderr
    assert not (tmp_path / "a.json").exists()


def test_the_scorer_imports_nothing_of_edgeq(bench: dict[str, ModuleType]) -> None:
    code = "import sys; import scored, metrics, census; print([n for n in sys.modules if n.startswith('edgeq')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=BENCH, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- samples and answers -----------------------------------------------------------------------


def test_it_answers_what_edgeq_answers(bench: dict[str, ModuleType], examples: Path) -> None:
    """Two programs that share no line agree on every sample."""
    path, description = examples / "digits" / "digits_float.tflite", examples / "digits" / "dataset.yaml"
    graph = models.read(path)
    dataset = datasets.bind(datasets.load(description), graph)
    wanted = scoring.collect(litert.open(path), dataset, graph, dataset.evaluation)[0]
    samples = bench["scored"].Samples(description)
    assert samples.part("evaluation") == list(dataset.evaluation)
    assert samples.part("calibration") == list(dataset.calibration)
    found = bench["scored"].answers(path, samples)
    np.testing.assert_allclose(found, wanted.reshape(found.shape), atol=1e-6)
    truth = samples.truth(samples.part("evaluation"))
    np.testing.assert_array_equal(truth, datasets.labels(dataset, dataset.evaluation))


def test_pictures_are_prepared_as_edgeq_does(bench: dict[str, ModuleType], tmp_path: Path) -> None:
    from PIL import Image

    random = np.random.default_rng(0)
    names = [f"{number}.png" for number in range(3)]
    for name in names:
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "list.csv").write_text("file\n" + "\n".join(names) + "\n")
    text = (
        "inputs:\n  - {images: ., list: list.csv#file, color: bgr, scale: 0.0039, mean: [0.4, 0.5, 0.6], "
        "std: [0.2, 0.3, 0.4], transpose: [2, 0, 1]}\nmetric: cosine\ncalibration: '0:2'\nevaluation: '1:3'\n"
    )
    (tmp_path / "dataset.yaml").write_text(text)
    model = picture_model(tmp_path)
    graph = models.read(model)
    dataset = datasets.bind(datasets.load(tmp_path / "dataset.yaml"), graph)
    samples = bench["scored"].Samples(tmp_path / "dataset.yaml")
    assert samples.part("evaluation") == [1, 2]
    for index, (wanted,) in zip([1, 2], datasets.samples(dataset, graph, [1, 2]), strict=True):
        (found,) = samples.one(index)
        np.testing.assert_allclose(found.reshape(wanted.shape), wanted, atol=1e-6)


def picture_model(folder: Path) -> Path:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ports[:1], ports[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "m.onnx")
    return folder / "m.onnx"


# --- metrics and noise -----------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["top1", "mse", "mae", "psnr", "miou", "cosine", "pair_spearman"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000))
def test_metrics_agree_with_edgeqs(bench: dict[str, ModuleType], metric: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    outputs, truth, spec = drawn(metric, random)
    rows = bench["metrics"].parts(metric, outputs, truth, spec)
    labels = LabelSpec(**{key: value for key, value in spec.items() if key in ("ignore", "border")})
    wanted = METRICS[metric].score(outputs.astype(np.float32), truth, labels)
    assert bench["metrics"].score(metric, rows) == pytest.approx(wanted, abs=1e-5)


def drawn(metric: str, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Outputs, labels and the labels' settings that a metric reads."""
    if metric == "top1":
        return random.normal(size=(40, 5)).astype(np.float32), random.integers(0, 5, 40), {}
    if metric == "psnr":
        return random.uniform(-0.1, 1.1, (6, 12, 12, 1)), random.uniform(0, 1, (6, 12, 12, 1)), {"border": 2}
    if metric == "miou":
        truth = random.choice([0, 1, 255], (5, 6, 6), p=[0.45, 0.45, 0.1]).astype(np.uint8)
        return random.normal(size=(5, 6, 6, 2)), truth, {"ignore": 255}
    if metric == "pair_spearman":
        return random.normal(size=(30, 8)), random.permutation(15).astype(np.float32), {}
    return random.normal(size=(20, 7)), random.normal(size=(20, 7)), {}


def test_noise_is_that_of_the_binomial_distribution(bench: dict[str, ModuleType]) -> None:
    rows = (np.arange(400) < 360).astype(float)
    found = bench["metrics"].noise(rows, lambda chosen: bench["metrics"].score("top1", chosen))
    assert found == pytest.approx(2 * np.sqrt(0.9 * 0.1 / 400), rel=0.15)


def test_the_same_answers_differ_by_nothing(bench: dict[str, ModuleType]) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 2))
    rows[:, 1] = rows[:, 0]
    assert bench["metrics"].noise(rows, lambda chosen: float(np.mean(chosen[:, 0] - chosen[:, 1]))) == 0


def test_drops_are_positive_where_it_is_worse(bench: dict[str, ModuleType]) -> None:
    assert bench["metrics"].drop("top1", 0.9, 0.8) == pytest.approx(0.1)
    assert bench["metrics"].drop("mse", 9.0, 10.0) == pytest.approx(1.0)


def test_sqnr_by_hand(bench: dict[str, ModuleType]) -> None:
    one = np.array([[3.0, 4.0], [0.0, 5.0]])
    rows = bench["metrics"].energies(one, one + np.array([[0.5, 0.0], [0.0, 0.0]]))
    assert bench["metrics"].sqnr_db(rows) == pytest.approx(10 * np.log10(50 / 0.25))
    assert bench["metrics"].sqnr_db(bench["metrics"].energies(one, one)) == 200


# --- operators in float ------------------------------------------------------------------------


def test_operators_in_float_are_counted(bench: dict[str, ModuleType], tmp_path: Path) -> None:
    count = bench["census"].float_operators
    assert count(tiny.conv_onnx(tmp_path))["Conv"] >= 1
    assert count(tiny.conv_tflite(tmp_path))["CONV_2D"] >= 1


def test_pairs_of_quantizers_count_as_integers(bench: dict[str, ModuleType], tmp_path: Path) -> None:
    scale, zero = numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.int8(0), "z")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Relu", ["d"], ["r"]),
        helper.make_node("Sigmoid", ["r"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [scale, zero])
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    assert bench["census"].float_operators(path) == {"Sigmoid": 1}


# --- peers.md --------------------------------------------------------------------------------


PEERS = """# title

## The metric (x)

| case | float | ort | nncf |
|---|---|---|---|
| one (top1) | 0.9 | 0.0900 (0.9025) |  |

## SQNR of the output to float

| case | ort | nncf |
|---|---|---|
| one | \N{MINUS SIGN}2.4 | 19.3 |

## Seconds

| case | ort |
|---|---|
| one | 1.0 / 2 |
"""


def test_published_figures_are_read(bench: dict[str, ModuleType], tmp_path: Path) -> None:
    path = tmp_path / "peers.md"
    path.write_text(PEERS)
    found = bench["published"].figures(path)
    assert found["one", "ort"] == {"score": 0.09, "plain": 0.9025, "sqnr_db": -2.4}
    assert found["one", "nncf"] == {"sqnr_db": 19.3}
    assert bench["published"].figures(tmp_path / "nowhere.md") == {}


# --- verdicts --------------------------------------------------------------------------------


class Noise:
    """A scorer whose noise is always the same."""

    def noise(self, _one: str, _other: str) -> float:
        return 0.02

    def chance(self) -> float:
        return 0.5


def made(bench: dict[str, ModuleType], tool: str, drop: float | None, sqnr_db: float = 20.0, **more: Any) -> Any:
    score = None if drop is None else 0.9 - drop
    return bench["accuracy_rows"].Row(
        section=more.pop("section", "models"), case="one", format="onnx", tool=tool, metric="top1", score=score,
        drop=drop, noise=0.03, sqnr_db=sqnr_db, share=more.pop("share", 0.3), **more,
    )  # fmt: skip


def document(bench: dict[str, ModuleType], rows: list[Any], case: str = "one") -> dict[str, Any]:
    from dataclasses import asdict

    found = bench["verdicts"].compared(rows, Noise())
    key = {"section": rows[0].section, "case": case, "format": "onnx", "chance": found.chance}
    verdicts = [one._asdict() for one in found.verdicts]
    return {"models": [{**key, "rows": [asdict(row) for row in found.rows], "verdicts": verdicts}]}


@pytest.mark.parametrize(("drop", "holds"), [(0.0, True), (0.02, True), (0.03, False)])
def test_behind_the_best_peer_within_noise(bench: dict[str, ModuleType], drop: float, holds: bool) -> None:
    peers = [made(bench, "ort", 0.0, 20.0), made(bench, "quark_a8w8", 0.5, 25.0)]
    rows = [made(bench, "float", 0.0), *peers, made(bench, "edgeq", drop, 24.0)]
    (verdict,) = bench["verdicts"].compared(rows, Noise()).verdicts
    assert (verdict.peer, verdict.holds) == ("ort", holds)
    assert (verdict.best_sqnr_peer, verdict.sqnr_holds) == ("quark_a8w8", False)


def test_figures_that_were_read_never_decide(bench: dict[str, ModuleType]) -> None:
    peer = made(bench, "nncf", None, problem="not run: no network", read={"score": 0.95, "sqnr_db": 30.0})
    rows = [made(bench, "float", 0.0), peer, made(bench, "edgeq", 0.0)]
    (verdict,) = bench["verdicts"].compared(rows, Noise()).verdicts
    assert verdict.is_read
    assert not verdict.holds
    bars = bench["verdicts"].bars(document(bench, rows))
    assert all(bar["holds"] is None for bar in bars if "read from peers.md" in bar["what"])


def test_a_peer_that_is_better_than_float_is_named_so(bench: dict[str, ModuleType]) -> None:
    rows = [made(bench, "float", 0.0), made(bench, "ort", -0.05), made(bench, "edgeq", 0.01)]
    (verdict,) = bench["verdicts"].compared(rows, Noise()).verdicts
    assert verdict.is_lucky
    bars = [bar for bar in bench["verdicts"].bars(document(bench, rows)) if bar["holds"] is False]
    assert any("better than float itself" in bar["told"] for bar in bars)


@pytest.mark.parametrize(("read", "holds"), [(0.90004, True), (0.9283, True), (0.9285, False)])
def test_figures_that_were_read_are_rounded(bench: dict[str, ModuleType], read: float, holds: bool) -> None:
    """Noise of 0.02 on either side, and half of the fourth digit."""
    peer = made(bench, "nncf", None, problem="not run", read={"score": read})
    rows = [made(bench, "float", 0.0), peer, made(bench, "edgeq", 0.0)]
    assert bench["verdicts"].compared(rows, Noise()).verdicts[0].holds is holds


def test_a_peer_that_failed_is_no_peer(bench: dict[str, ModuleType]) -> None:
    rows = [made(bench, "float", 0.0), made(bench, "ort", None, problem="fails: x"), made(bench, "edgeq", 0.0)]
    assert bench["verdicts"].compared(rows, Noise()).verdicts == []


@pytest.mark.parametrize(
    ("peer", "ours", "holds"), [(0.8, 0.004, True), (0.8, 0.006, False), (0.2, 0.0, None), (0.4, 0.004, True)]
)
def test_rescaled_channels(bench: dict[str, ModuleType], peer: float, ours: float, holds: bool | None) -> None:
    """A peer that keeps its score decides nothing; one at chance has lost all that it can."""
    rows = [made(bench, tool, drop, section="rescaled") for tool, drop in (("float", 0.0), ("ort", peer))]
    found = document(bench, [*rows, made(bench, "edgeq", ours, section="rescaled")])
    (bar,) = [bar for bar in bench["verdicts"].bars(found) if "rescaled" in bar["what"]]
    assert bar["holds"] is holds


def test_weights_are_judged_by_the_best_scheme(bench: dict[str, ModuleType]) -> None:
    rows = [made(bench, "float", 0.0, section="weights", share=1.0)]
    rows += [
        made(bench, "edgeq", 0.0, section="weights", share=0.6),
        made(bench, "edgeq dynamic_wi8_af32", 0.009, section="weights", share=0.29),
        made(bench, "edgeq weight_only_wi4", 0.02, section="weights", share=0.21),
    ]
    found = document(bench, rows, "text_minilm_l3")
    held = {
        bar["what"].split(",")[1].strip()[:5]: bar["holds"]
        for bar in bench["verdicts"].bars(found)
        if "wei" in bar["what"]
    }
    assert held == {"8-bit": True, "4-bit": False}


def test_tables_tell_what_was_not_run(bench: dict[str, ModuleType]) -> None:
    peer = made(bench, "nncf", None, problem="not run: no network", read={"score": 0.95, "plain": 0.9})
    rows = [made(bench, "float", 0.0), peer, made(bench, "edgeq", 0.0)]
    for row in rows:
        row.size_bytes, row.in_float = 1000, {"Softmax": 1}
    found = document(bench, rows)
    found["host"] = bench["accuracy_tables"].host()
    text = "\n".join(bench["accuracy_tables"].lines(found))
    assert "{0.95 (0.9)}" in text
    assert "not run: no network" in text


def test_a_peer_without_an_environment_says_why(
    bench: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    contenders = bench["contenders"]
    monkeypatch.setattr(contenders, "ENVIRONMENTS", tmp_path)
    contenders._seat.cache_clear()
    by_name = {peer.name: peer for peer in contenders.PEERS}
    absent = contenders.seat(by_name["quark_a8w8"], install=False)
    assert absent.python is None or "project" in absent.told
    assert "quark is not installed" in absent.told
    here = contenders.seat(by_name["ort"], install=False)
    assert here.python == sys.executable
    assert here.told.startswith("the project's environment, onnxruntime ")
    contenders._seat.cache_clear()


def test_every_peer_has_a_script_and_a_pinned_recipe(bench: dict[str, ModuleType]) -> None:
    for peer in bench["contenders"].PEERS:
        assert (BENCH / "peers" / peer.script).is_file()
        recipe = bench["contenders"].RECIPES[peer.environment]
        assert all("==" in package for _, packages in recipe.requirements for package in packages[:1])
