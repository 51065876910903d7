"""Calibration alone, each in a process of its own: memory that does not grow, and time beside onnxruntime's own calls.

Both sides are given the same prepared mobilenet_v2 and read the same pictures from disk. Times leave out imports, which
cost both sides about a second. `python tests/bench/calibrating.py` prints the rows alone.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from measuring import SHARED, Row, run

HERE = Path(__file__).resolve().parent
MOBILENET = SHARED / "imagenet_mobilenetv2"
FEW, MANY, TIMED = 16, 500, 64
GROWTH = 1.1
RATIOS = {"min-max": 1.0, "percentile": 0.5, "entropy": None}
"""Most of onnxruntime's time that a method may take; its Entropy works on 128 bins and has no bar."""
REPEATS = 3


def rows(scratch: Path) -> Iterator[Row]:
    """Peak memory of every range method with few and with many samples, and wall times."""
    from edgeq.types import RangeMethod

    model = _prepared(scratch)
    for method in get_args(RangeMethod):
        few, many = (_once(model, "edgeq", method, count)["peak_rss_bytes"] for count in (FEW, MANY))
        what = f"peak memory of calibration, {method}, {MANY} samples"
        yield Row(what, many, few, "bytes", f"<= {GROWTH:g} x", many <= GROWTH * few, f"{FEW} samples")
    for method, most in RATIOS.items():
        yield _timed(model, method, most)


def _timed(model: Path, method: str, most: float | None) -> Row:
    pairs = [(_seconds(model, "edgeq", method), _seconds(model, "onnxruntime", method)) for _ in range(REPEATS)]
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    bar, holds = ("-", True) if most is None else (f"<= {most:g} x", ours <= most * theirs)
    return Row(f"calibration, {method}, {TIMED} samples", ours, theirs, "s", bar, holds, "onnxruntime's calibrator")


def _seconds(model: Path, side: str, method: str) -> float:
    return _once(model, side, method, TIMED)["seconds"]


def _once(model: Path, side: str, method: str, count: int) -> dict[str, float]:
    ran = run([sys.executable, HERE / "calibrate_once.py", MOBILENET, model, side, method, count])
    found: dict[str, float] = json.loads(ran.out.splitlines()[-1])
    cost = f"{found['seconds']:.2f} s, {found['peak_rss_bytes'] / 1e6:.0f} MB"
    sys.stderr.write(f"  {side}, {method}, {count} samples: {cost}, {found['ranges']} ranges\n")
    return found


def _prepared(scratch: Path) -> Path:
    """The model as both sides calibrate it: constants and batch normalization folded."""
    from edgeq.converters.onnx import prepare

    source, out = MOBILENET / "mobilenet_v2_float.onnx", scratch / "prepared.onnx"
    prepare.save(prepare.prepared(prepare.load(source), scratch, str(source)), out, str(source))
    return out


def main() -> int:
    """Print the rows; 1 when a bar is missed."""
    with tempfile.TemporaryDirectory(prefix="edgeq-bench-") as scratch:
        found = list(rows(Path(scratch)))
    for row in found:
        sys.stdout.write(f"{row.what}: {row.edgeq:.4g} {row.unit}, {row.other_name} {row.other:.4g}, {row.ratio:.3f}\n")
    return 0 if all(row.holds for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
