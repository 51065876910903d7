"""Every bad input: one clear line, the right exit code, no traceback, no half-written file."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.testing import models
from edgeq.testing.altered import alter
from edgeq.testing.tflite import write_tflite

Edgeq = Callable[..., Any]
TARGET = "generic-linux-x86_64"


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A folder with a model and a data set that work."""
    models.conv_tflite(tmp_path)
    models.conv_onnx(tmp_path)
    models.tiny_dataset(tmp_path)
    return tmp_path


def _quantize(edgeq: Edgeq, model: Path, data: Path, *more: object) -> Any:
    return edgeq("quantize", model, "-t", TARGET, "--data", data, "-o", model.parent / "out", "-q", *more)


def _nothing_left(folder: Path) -> None:
    """No result and no temporary file that could be taken for one."""
    left = [path.name for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
    assert not [name for name in left if name != "plan.json"], left


def _flipped(content: bytes) -> bytes:
    broken = bytearray(content)
    for place in range(4, min(400, len(broken)), 3):
        broken[place] ^= 0xFF
    return bytes(broken)


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "a few bytes": lambda content: content[:10],
    "bit-flipped": _flipped,
    "text": lambda content: b"this is not a model\n" * 40,
    "zeros": lambda content: bytes(len(content)),
}


@pytest.mark.parametrize("name", ["conv.tflite", "conv.onnx"])
@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("verb", ["inspect", "quantize"])
def test_broken_model_files(edgeq: Edgeq, bench: Path, name: str, how: str, verb: str) -> None:
    model = bench / f"broken-{name}"
    model.write_bytes(BROKEN[how]((bench / name).read_bytes()))
    ran = edgeq("inspect", model) if verb == "inspect" else _quantize(edgeq, model, bench / "dataset.yaml")
    assert ran.code == 1
    assert ran.error
    assert model.name in ran.err
    _nothing_left(bench / "out")


@pytest.mark.parametrize(
    "argv",
    [
        ("inspect", "nosuch.tflite"),
        ("plan", "nosuch.onnx", "-t", TARGET),
        ("quantize", "nosuch.keras", "-t", TARGET, "--data", "d.yaml"),
        ("inspect", "folder"),
        ("deploy", "nosuch", "-d", "local:"),
        ("profile", "folder", "-d", "local:"),
        ("report", "folder"),
        ("targets", "show", "nosuch.yaml"),
    ],
)
def test_what_is_not_there(
    edgeq: Edgeq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    ran = edgeq(*argv)
    assert ran.code == 1
    name = next(word for word in argv if word.startswith(("nosuch", "folder")))
    assert ran.error
    assert name in ran.err
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize("verb", [("plan",), ("quantize", "--data", "dataset.yaml")])
def test_unknown_target(edgeq: Edgeq, bench: Path, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]) -> None:
    monkeypatch.chdir(bench)
    ran = edgeq(verb[0], "conv.tflite", "-t", "raspbery-pi-4", *verb[1:])
    assert ran.code == 1
    assert "raspbery-pi-4" in ran.error
    assert "raspberry-pi-4" in ran.err


@pytest.mark.parametrize(
    ("device", "code"), [("nosuch", 1), ("ssh://", 1), ("gopher://x", 1), ("ssh://user:secret@host", 1), ("", 1)]
)
def test_unknown_device(edgeq: Edgeq, bench: Path, device: str, code: int) -> None:
    ran = edgeq(
        "run", bench / "conv.tflite", "-t", TARGET, "-d", device, "--data", bench / "dataset.yaml", "-o", bench / "out"
    )
    assert ran.code == code
    assert ran.error
    assert "secret" not in ran.err
    _nothing_left(bench / "out")


def test_errors_are_documents_for_scripts(edgeq: Edgeq, bench: Path) -> None:
    ran = edgeq("plan", bench / "conv.tflite", "-t", "nosuch", "--json")
    assert ran.code == 1
    assert ran.document["error"]["kind"] == "TargetError"


@pytest.mark.parametrize(
    "argv",
    [
        ("plan", "m.tflite"),
        ("nosuch",),
        ("plan", "m.tflite", "-t", TARGET, "--prefer", "beauty"),
        ("plan", "m.tflite", "-t", TARGET, "--max-ram", "64 KB"),
        ("plan", "m.tflite", "-t", TARGET, "--max-drop", "-1"),
        ("run", "m.tflite", "-t", TARGET, "-d", "local:", "--data", "x", "--cpus", "a-b"),
        ("profile", "b", "-d", "local:", "--runs", "0"),
    ],
)
def test_usage(edgeq: Edgeq, argv: tuple[str, ...]) -> None:
    ran = edgeq(*argv)
    assert ran.code == 2
    assert "Traceback" not in ran.err


def _npz(**arrays: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        samples = dict(np.load(folder / "samples.npz"))
        np.savez(folder / "samples.npz", **{**samples, **arrays})  # type: ignore[arg-type]

    return write


def _yaml(old: str, new: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        path = folder / "dataset.yaml"
        text = path.read_text()
        assert old in text, text
        path.write_text(text.replace(old, new))

    return write


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(12)
)

DATASETS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "wrong shape": (_npz(x=np.zeros((64, 5, 7, 3), np.float32)), "shape|5x7x3|12x12x3"),
    "wrong rank": (_npz(x=np.zeros((64, 3), np.float32)), "shape|12x12x3"),
    "wrong dtype": (_npz(x=np.full((64, 12, 12, 3), "text")), "dtype|number|text|<U4"),
    "complex": (_npz(x=np.zeros((64, 12, 12, 3), np.complex64)), "dtype|complex|number"),
    "wrong count": (_npz(y=np.zeros(13, np.int64)), "13"),
    "NaN": (_npz(x=np.full((64, 12, 12, 3), np.nan, np.float32)), "NaN|finite"),
    "infinity": (_npz(x=np.full((64, 12, 12, 3), np.inf, np.float32)), "inf|finite"),
    "labels out of range": (_npz(y=np.full(64, 99, np.int64)), "99"),
    "pickles": (_npz(x=np.array([{"a": 1}] * 64, dtype=object)), "pickle|object"),
    "missing file": (lambda folder: (folder / "samples.npz").unlink(), "samples.npz"),
    "not an npz": (lambda folder: (folder / "samples.npz").write_bytes(b"PK\x03\x04 no"), "samples.npz"),
    "missing array": (_yaml("array: x", "array: nosuch"), "nosuch"),
    "unknown metric": (_yaml("top1", "beauty"), "beauty"),
    "unknown key": (_yaml("metric: top1", "metric: top1\ncolour: red"), "colour"),
    "wrong type": (_yaml("metric: top1", "metric: [1, 2]"), "metric"),
    "not YAML": (_yaml("metric: top1", "metric: [1, 2"), "YAML"),
    "a tag": (_yaml("metric: top1", "metric: !!python/object/apply:os.system [touch /tmp/pwned]"), "tag"),
    "anchors bomb": (lambda folder: (folder / "dataset.yaml").write_text(BOMB), "alias|anchor"),
    "path traversal": (_yaml("npz: samples.npz, array: x", "npz: ../../../etc/passwd, array: x"), "passwd"),
    "absolute path": (_yaml("npz: samples.npz, array: x", "npz: /etc/passwd, array: x"), "passwd"),
    "too many samples asked": (_yaml('"0:16"', '"900:"'), "calibration"),
    "not a slice": (_yaml('"0:16"', '"all of them"'), "calibration|slice"),
    "empty file": (lambda folder: (folder / "dataset.yaml").write_text(""), "dataset.yaml"),
    "binary": (lambda folder: (folder / "dataset.yaml").write_bytes(bytes(range(256))), "dataset.yaml"),
    "two inputs": (_yaml("labels:", "  - {npz: samples.npz, array: x}\nlabels:"), "input"),
}


@pytest.mark.parametrize("case", DATASETS)
def test_bad_datasets(edgeq: Edgeq, bench: Path, case: str) -> None:
    change, says = DATASETS[case]
    change(bench)
    ran = _quantize(edgeq, bench / "conv.tflite", bench / "dataset.yaml")
    assert ran.code == 1, ran.err
    assert re.search(says, ran.err, re.IGNORECASE), ran.err
    assert ran.error
    _nothing_left(bench / "out")
    assert not Path("/tmp/pwned").exists()


def test_a_missing_dataset(edgeq: Edgeq, bench: Path) -> None:
    ran = _quantize(edgeq, bench / "conv.tflite", bench / "nosuch.yaml")
    assert (ran.code, "nosuch.yaml" in ran.err) == (1, True)
    assert ran.error


@pytest.mark.parametrize("name", ["custom.tflite", "custom.onnx"])
def test_a_custom_operator_is_refused_by_name(edgeq: Edgeq, bench: Path, name: str) -> None:
    model = models.custom_op_tflite(bench) if name.endswith("tflite") else models.custom_op_onnx(bench)
    ran = edgeq("plan", model, "-t", TARGET, "-o", bench / "out", "--json")
    assert ran.code == 3, ran.err
    plan = ran.document
    assert not plan["ok"]
    refused = [operator for operator in plan["operators"] if operator["placement"] == "refused"]
    assert refused
    assert all(operator["why"] for operator in refused)
    ran = _quantize(edgeq, model, bench / "dataset.yaml")
    assert ran.code == 3, ran.err
    assert "Traceback" not in ran.err
    _nothing_left(bench / "out")


def test_a_model_quantized_in_a_way_that_the_target_cannot_run(edgeq: Edgeq, bench: Path) -> None:
    ran = _quantize(edgeq, bench / "conv.tflite", bench / "dataset.yaml")
    assert ran.code == 0, ran.err
    table = bench / "operators" / "float-only.yaml"
    table.parent.mkdir()
    rows = "\n".join(
        f"  {name}: {{signatures: [{{activations: float32, weights: float32}}]}}"
        for name in ("CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX")
    )
    table.write_text(
        "schema: 1\nname: float-only\nruntime: litert\nversion: '2.3'\nsource: made for this test\n"
        f"operators:\n{rows}\nfallback: none\n"
    )
    target = bench / "float-board.yaml"
    target.write_text(
        "schema: 1\nname: float-board\ntitle: A board without integer kernels\nkind: linux\n"
        "cpu: {arch: aarch64, core: cortex-a53}\nmemory: {ram: 512 MiB}\n"
        "runtimes:\n  - {name: litert, format: tflite, operators: float-only}\n"
        "sources:\n" + "".join(f"  - {{fact: {fact}, where: this test}}\n" for fact in ("cpu", "memory", "runtimes"))
    )
    quantized = next((bench / "out").glob("*.tflite"))
    ran = edgeq("plan", quantized, "-t", target, "-o", bench / "out2", "--json")
    assert ran.code == 3, ran.err
    refused = [operator for operator in ran.document["operators"] if operator["placement"] == "refused"]
    assert any("CONV_2D" in operator["type"] and "float32" in operator["why"] for operator in refused), refused


def test_a_drop_that_cannot_be_met(edgeq: Edgeq, bench: Path) -> None:
    labels = np.load(bench / "samples.npz")["y"]
    _npz(y=np.random.default_rng(0).permutation(labels))(bench)
    _yaml("metric: top1", "metric: cosine")(bench)
    ran = _quantize(edgeq, bench / "conv.tflite", bench / "dataset.yaml", "--max-drop", "0", "--json")
    assert ran.code == 3, ran.err
    found = ran.document
    assert not found["accuracy"]["ok"]
    assert found["accuracy"]["drop"] > 0
    assert found["tried"]


@pytest.mark.parametrize("place", ["file/out", "/sys/edgeq-test/out", "/proc/edgeq-test"])
def test_unwritable_output(edgeq: Edgeq, bench: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.chdir(bench)
    (bench / "file").write_text("")
    ran = edgeq("plan", "conv.tflite", "-t", TARGET, "-o", place)
    assert ran.code == 1
    assert "cannot write" in ran.error
    ran = edgeq("quantize", "conv.tflite", "-t", TARGET, "--data", "dataset.yaml", "-o", place)
    assert ran.code == 1
    assert "cannot write" in ran.error


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if subprocess.run(argv, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("verb", ["quantize", "build"])
def test_full_disk(edgeq: Edgeq, bench: Path, small_disk: Path, verb: str) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(4096 * 60))
    ran = edgeq(verb, bench / "conv.tflite", "-t", TARGET, "--data", bench / "dataset.yaml", "-o", small_disk / "out")
    assert ran.code == 1, ran.err
    assert "disk is full" in ran.error
    assert not (small_disk / "out" / "bundle").exists()
    assert not [path for path in small_disk.rglob("*") if path.name.endswith(".part")]
    filler.unlink()
    ran = edgeq(
        "quantize", bench / "conv.tflite", "-t", TARGET, "--data", bench / "dataset.yaml", "-o", small_disk / "out"
    )
    assert ran.code == 0, ran.err


def test_the_project_file_names_its_line(edgeq: Edgeq, bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench)
    (bench / "edgeq.yaml").write_text("target: generic-linux-x86_64\nmax-dropp: 0.1\n")
    ran = edgeq("plan", "conv.tflite")
    assert ran.code == 2
    assert "edgeq.yaml:2" in ran.err
    assert ran.error


def test_the_project_file_gives_defaults(edgeq: Edgeq, bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench)
    (bench / "edgeq.yaml").write_text("target: raspberry-pi-4\n")
    assert edgeq("plan", "conv.tflite", "--json").document["target"] == "raspberry-pi-4"
    monkeypatch.setenv("EDGEQ_TARGET", "raspberry-pi-5")
    assert edgeq("plan", "conv.tflite", "--json").document["target"] == "raspberry-pi-5"
    assert edgeq("plan", "conv.tflite", "-t", TARGET, "--json").document["target"] == TARGET


def _weight(name: str, value: float) -> Callable[[Path], None]:
    def write(model: Path) -> None:
        def change(values: Any) -> None:
            values.reshape(-1)[2] = value

        alter(model, name if model.suffix == ".tflite" else name.replace("/", "_"), change)

    return write


def _float_bench(folder: Path, model_format: str) -> Path:
    """A model of that format whose convolutions clip nothing, and its data."""
    if model_format == "onnx":
        models.tiny_dataset(folder, channels_first=True)
        return alter(models.conv_onnx(folder), "high", lambda values: values.fill(3e38))
    models.tiny_dataset(folder)
    graph = models.conv_graph()
    nodes = [
        replace(node, options={**node.options, "fusedActivationFunction": 1}) if "CONV" in node.type else node
        for node in graph.nodes
    ]
    return write_tflite(folder / "wide.tflite", replace(graph, nodes=tuple(nodes)))


both = pytest.mark.parametrize("model_format", ["tflite", "onnx"])


@both
@pytest.mark.parametrize(
    ("name", "value", "operator"), [("conv/w", np.nan, "operator 0"), ("dense/w", np.inf, "operator ")]
)
def test_weights_that_are_no_numbers(
    edgeq: Edgeq, tmp_path: Path, model_format: str, name: str, value: float, operator: str
) -> None:
    model = _float_bench(tmp_path, model_format)
    _weight(name, value)(model)
    ran = _quantize(edgeq, model, tmp_path / "dataset.yaml")
    assert ran.code == 1, ran.err
    assert name.replace("/", "_" if model_format == "onnx" else "/") in ran.error
    assert operator in ran.error
    assert ("NaN" if np.isnan(value) else "infinite") in ran.error
    assert model.name in ran.err
    _nothing_left(tmp_path / "out")
    ran = edgeq("doctor", model, "--data", tmp_path / "dataset.yaml", "--json")
    assert ran.code == 3
    assert [one["rule"] for one in ran.document["findings"]] == ["broken-weights"]


@both
@pytest.mark.parametrize(("number", "scored"), [(5, False), (40, True)])
def test_activations_that_overflow(edgeq: Edgeq, tmp_path: Path, model_format: str, number: int, scored: bool) -> None:
    model = _float_bench(tmp_path, model_format)
    samples = np.load(tmp_path / "samples.npz")["x"]
    samples[number] = np.sign(np.random.default_rng(0).normal(size=samples.shape[1:])) * np.float32(3e38)
    _npz(x=samples)(tmp_path)
    ran = _quantize(edgeq, model, tmp_path / "dataset.yaml")
    assert ran.code == 1, ran.err
    assert f"sample {number}" in ran.error
    assert re.search(r"NaN|infinite", ran.error)
    assert "'conv" in ran.error, ran.error
    assert "RuntimeWarning" not in ran.err
    assert f"edgeq doctor {model} --data {tmp_path / 'dataset.yaml'}" in ran.err
    _nothing_left(tmp_path / "out")
    ran = edgeq("doctor", model, "--data", tmp_path / "dataset.yaml", "--json")
    assert ran.code == 3
    rules = {one["rule"]: one["why"] for one in ran.document["findings"]}
    assert f"sample {number}" in rules["not-finite"]
    assert ("broken-answers" in rules) == scored
    assert ("outlying-samples" in rules) == (not scored)


@both
@pytest.mark.parametrize("metric", ["top1", "cosine"])
def test_a_model_that_always_answers_the_same(edgeq: Edgeq, tmp_path: Path, model_format: str, metric: str) -> None:
    model = _float_bench(tmp_path, model_format)
    alter(model, "dense/w" if model_format == "tflite" else "dense_w", lambda values: values.fill(0))
    _yaml("top1", metric)(tmp_path)
    ran = _quantize(edgeq, model, tmp_path / "dataset.yaml", "--json")
    assert ran.code == (3 if metric == "top1" else 0), ran.err
    if metric == "top1":
        assert "at chance" in ran.document["error"]["message"]
        _nothing_left(tmp_path / "out")
    else:
        assert "constant-answers" in [one["rule"] for one in ran.document["findings"]]
    ran = edgeq("doctor", model, "--data", tmp_path / "dataset.yaml", "--json")
    why = {one["rule"]: one["why"] for one in ran.document["findings"]}
    assert "'dense' is the first that never changes, behind 'mean'" in why["constant-activations"]


@both
def test_a_single_calibration_sample(edgeq: Edgeq, tmp_path: Path, model_format: str) -> None:
    model = _float_bench(tmp_path, model_format)
    _yaml('"0:16"', '"3:4"')(tmp_path)
    ran = _quantize(edgeq, model, tmp_path / "dataset.yaml", "--json")
    assert ran.code in (0, 3), ran.err
    rules = {one["rule"]: one for one in ran.document["findings"]}
    assert "calibrate on" in rules["one-sample"]["hint"]


@both
def test_labels_that_have_nothing_to_do_with_the_samples(edgeq: Edgeq, tmp_path: Path, model_format: str) -> None:
    model = _float_bench(tmp_path, model_format)
    labels = np.load(tmp_path / "samples.npz")["y"]
    _npz(y=np.random.default_rng(0).permutation(labels))(tmp_path)
    ran = _quantize(edgeq, model, tmp_path / "dataset.yaml")
    assert ran.code == 3, ran.err
    assert "at chance" in ran.error
    _nothing_left(tmp_path / "out")
