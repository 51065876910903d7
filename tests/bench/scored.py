"""A scorer of its own: samples by dataset.yaml's steps, plain runtimes, metrics by their definitions; no edgeq.

`python scored.py MODEL DATASET OUT.npy` writes the first output for every evaluation sample, real float32 values, and
prints what it saw of the file as JSON. `--plain` runs ONNX without graph optimisation: float arithmetic of a QDQ file.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from census import float_operators

Array = np.ndarray
THREADS = min(os.cpu_count() or 1, 8)


# --- samples ---------------------------------------------------------------------------------


class Samples:
    """The samples of a dataset.yaml, each read when it is asked for."""

    def __init__(self, path: Path) -> None:
        from ruamel.yaml import YAML

        self.folder = path.parent
        self.settings: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text())
        self.sources = [self._source(one) for one in self.settings["inputs"]]
        self.count = min(len(source) for source, _ in self.sources)

    def part(self, name: str) -> list[int]:
        """Numbers of the samples of `calibration` or `evaluation`."""
        words = str(self.settings[name])
        if words == "all":
            return list(range(self.count))
        return list(range(self.count))[slice(*(int(word) if word else None for word in words.split(":")))]

    def one(self, index: int) -> list[Array]:
        """One sample as the model takes it, with a batch axis; whole numbers without steps stay so."""
        return [_prepared(read(source[index]), spec) for (source, read), spec in self._pairs()]

    def _pairs(self) -> Iterator[tuple[tuple[Any, Callable[[Any], Array]], Any]]:
        return zip(self.sources, self.settings["inputs"], strict=True)

    def _source(self, spec: Any) -> tuple[Any, Callable[[Any], Array]]:
        if "npz" in spec:
            return np.load(self.folder / spec["npz"])[spec["array"]], np.asarray
        table, _, column = spec["list"].partition("#")
        with (self.folder / table).open(newline="") as stream:
            names = [row[column] for row in csv.DictReader(stream)]
        return names, lambda name: _picture(self.folder / spec["images"] / name, spec)

    def truth(self, indices: Sequence[int]) -> Array | None:
        """Labels of those samples, of their pairs where the metric is one of pairs."""
        spec = self.settings.get("labels")
        if spec is None:
            return None
        if "csv" in spec:
            with (self.folder / spec["csv"]).open(newline="") as stream:
                values = np.array([int(row[spec["column"]]) for row in csv.DictReader(stream)])
        else:
            values = np.load(self.folder / spec["npz"])[spec["array"]]
        if self.settings["metric"] == "pair_spearman":
            indices = [index // 2 for index in indices[::2]]
        return values[list(indices)] * spec["scale"] if "scale" in spec else values[list(indices)]


def _picture(path: Path, spec: Any) -> Array:
    from PIL import Image

    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return pixels[:, :, ::-1] if spec.get("color") == "bgr" else pixels


def _prepared(raw: Array, spec: Any) -> Array:
    if raw.dtype == np.int64 and not {"scale", "mean", "std"} & spec.keys():
        return raw[np.newaxis]
    values = raw.astype(np.float32) * np.float32(spec.get("scale", 1))
    values = (values - np.asarray(spec.get("mean", 0), np.float32)) / np.asarray(spec.get("std", 1), np.float32)
    return np.ascontiguousarray(values.transpose(spec["transpose"]) if "transpose" in spec else values)[np.newaxis]


# --- answers ---------------------------------------------------------------------------------


def answers(model: Path, samples: Samples, *, plain: bool = False) -> Array:
    """The first output for every evaluation sample: (samples, ...), real values."""
    run = _onnx(model, plain=plain) if model.suffix == ".onnx" else _tflite(model)
    return np.stack([run(samples.one(index)) for index in samples.part("evaluation")])


def _onnx(model: Path, *, plain: bool) -> Callable[[list[Array]], Array]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = THREADS, 3
    if plain:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    first = session.get_outputs()[0].name
    return lambda sample: np.asarray(session.run([first], dict(zip(names, sample, strict=True)))[0][0], np.float32)


def _tflite(model: Path) -> Callable[[list[Array]], Array]:
    from ai_edge_litert.interpreter import Interpreter

    session = Interpreter(str(model), num_threads=THREADS)
    session.allocate_tensors()
    inputs, first = session.get_input_details(), session.get_output_details()[0]

    def run(sample: list[Array]) -> Array:
        for port, value in zip(inputs, sample, strict=True):
            session.set_tensor(port["index"], _stored(value.reshape(port["shape"]), port))
        session.reset_all_variables()
        session.invoke()
        return _real(session.get_tensor(first["index"]), first)[0]

    return run


def _stored(values: Array, port: Any) -> Array:
    scale, zero = port["quantization"]
    if not scale:
        return values.astype(port["dtype"])
    limits = np.iinfo(port["dtype"])
    return np.clip(np.rint(values / scale) + zero, limits.min, limits.max).astype(port["dtype"])


def _real(values: Array, port: Any) -> Array:
    scale, zero = port["quantization"]
    return np.asarray((values.astype(np.float32) - zero) * scale if scale else values, np.float32)


def main() -> None:
    """Answer for one model file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--plain", action="store_true")
    asked = parser.parse_args()
    np.save(asked.out, answers(asked.model, Samples(asked.dataset), plain=asked.plain))
    sys.stdout.write(json.dumps(float_operators(asked.model)) + "\n")


if __name__ == "__main__":
    main()
