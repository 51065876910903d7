"""One calibration of one prepared model, by edgeq or by onnxruntime's own calls.

`python calibrate_once.py FOLDER MODEL SIDE METHOD COUNT`: FOLDER holds images/ and labels.csv, MODEL is a float ONNX
file that both sides take as it is, SIDE is edgeq or onnxruntime. Prints the seconds that it took, imports left out, the
peak memory of the whole process and how many ranges came of it, as JSON.
"""

from __future__ import annotations

import csv
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

THEIRS = {"min-max": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}
Calibrate = Callable[[Path, Path, str, int], int]


def main(folder: Path, model: Path, side: str, method: str, count: int) -> None:
    """Calibrate once and say what it took."""
    calibrate = SIDES[side]()
    started = time.perf_counter()
    found = calibrate(folder, model, method, count)
    seconds = time.perf_counter() - started
    sys.stdout.write(json.dumps({"seconds": seconds, "peak_rss_bytes": _peak_bytes(), "ranges": found}) + "\n")


def _edgeq() -> Calibrate:
    import onnx

    from edgeq import datasets, models
    from edgeq.converters.observing import Shown
    from edgeq.converters.onnx import calibration, static
    from edgeq.types import silent

    def calibrate(folder: Path, path: Path, method: str, count: int) -> int:
        model, graph = onnx.load(str(path)), models.read(path)
        dataset = datasets.bind(datasets.load(str(folder / "dataset.yaml")), graph)
        names, numbers = static.float_activations(model, static.chosen(model, set())), _spread(dataset.count, count)
        given = Shown(datasets.samples(dataset, graph, numbers), numbers)
        with tempfile.TemporaryDirectory() as scratch:
            return len(calibration.ranges(model, names, given, method, Path(scratch), silent, str(path)))  # type: ignore[arg-type]

    return calibrate


def _onnxruntime() -> Calibrate:
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator
    from quantize_by_hand import Reader

    def calibrate(folder: Path, path: Path, method: str, count: int) -> int:
        with (folder / "labels.csv").open(newline="") as stream:
            paths = [folder / "images" / row["file"] for row in csv.DictReader(stream)]
        with tempfile.TemporaryDirectory() as scratch:
            kind, augmented = CalibrationMethod[THEIRS[method]], str(Path(scratch) / "augmented.onnx")
            one = create_calibrator(path, augmented_model_path=augmented, calibrate_method=kind)
            one.collect_data(Reader(INPUT, [paths[place] for place in _spread(len(paths), count)]))
            return len(list(one.compute_data().items()))

    return calibrate


def _peak_bytes() -> int:
    """The most memory that this process has held: seen from outside, twenty times a second, it may be missed."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(status["VmHWM"].split()[0])


def _spread(total: int, count: int) -> list[int]:
    return [place * total // count for place in range(count)]


INPUT = "input"
SIDES: dict[str, Callable[[], Calibrate]] = {"edgeq": _edgeq, "onnxruntime": _onnxruntime}

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]))
