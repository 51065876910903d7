"""`make bench`: what edgeq costs beside the libraries under it.

Prints one Markdown table, writes build/bench.json, and ends with 1 when a bar is missed. Wall times mean
something only on a quiet host: what else runs strikes the side with more threads harder. Rows about real models need
those of ../shared (or EDGEQ_SHARED) and are left out, and said to be, where they are absent; rows about operator tables
need external tools, and say `not run` and the command that installs the tool where it is missing.
"""

from __future__ import annotations

import json
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import calibrating
import fleet
import latency
import latency_rows
import predicted
import tables
from measuring import EDGEQ, ROOT, SHARED, Ran, Row, in_turn, median_seconds, peak_bytes, run

HERE = Path(__file__).resolve().parent
MOBILENET = SHARED / "imagenet_mobilenetv2"
TARGET = f"generic-linux-{platform.machine()}"
GIGABYTE = 1e9
SLICES = {"32": "::16", "100": "::5", "500": "all"}


def main() -> int:
    """Run every comparison."""
    with tempfile.TemporaryDirectory(prefix="edgeq-bench-") as scratch:
        rows = list(_rows(Path(scratch)))
    lines = _table(rows)
    sys.stdout.write("\n".join(lines) + "\n")
    out = ROOT / "build" / "bench.json"
    out.parent.mkdir(exist_ok=True)
    document = {"schema_version": 1, "rows": [{**row._asdict(), "ratio": row.ratio} for row in rows]}
    out.write_text(json.dumps(document, indent=2) + "\n")
    return 0 if all(row.holds for row in rows) else 1


def _rows(scratch: Path) -> Iterator[Row]:
    comparisons: list[Callable[[Path], Iterator[Row]]] = [_help, _deploy, _latency, latency_rows.rows]
    if MOBILENET.is_dir():
        comparisons += [_plan, _quantize, _percentile, _memory, calibrating.rows, _predicted]
    else:
        sys.stderr.write(f"left out: planning and quantization of mobilenet_v2, because {MOBILENET} is absent\n")
    comparisons += [_tables, fleet.rows]
    for compare in comparisons:
        for row in compare(scratch):
            sys.stderr.write(f"{row.what}: {_ours(row)}, {_beside(row)}\n")
            yield row


def _help(_scratch: Path) -> Iterator[Row]:
    click = (sys.executable, "-c", "import click")
    run([*EDGEQ, "--help"]), run(click)  # bytecode and disk caches
    ours, theirs = in_turn(lambda: run([*EDGEQ, "--help"]), lambda: run(click), 15)
    yield _ratio_row("edgeq --help", median_seconds(ours), median_seconds(theirs), "s", 3, "python -c 'import click'")


def _plan(_scratch: Path) -> Iterator[Row]:
    """Planning alone: the model is read, tables are loaded."""
    from edgeq import models, planning, targets

    graph = models.read(MOBILENET / "mobilenet_v2_float.onnx")
    shelf = [(target, targets.load_tables(target)) for target in targets.load_all()]
    mine = next((target, tables) for target, tables in shelf if target.name == TARGET)
    one = 1000 * min(_seconds(lambda: planning.plan(graph, *mine)) for _ in range(10))
    yield Row("planning mobilenet_v2 for one target", one, None, "ms", "< 50 ms", one < 50)
    every = min(_seconds(lambda: [planning.plan(graph, *each) for each in shelf]) for _ in range(3))
    yield Row(f"planning it for all {len(shelf)} targets", every, None, "s", "< 1 s", every < 1)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _quantize(scratch: Path) -> Iterator[Row]:
    """The stock range method: both sides see the same 100 samples and score the same 500, float and INT8."""
    ours, theirs = in_turn(
        lambda: _edgeq_quantize(scratch, "100"), lambda: _by_hand(scratch, SLICES["100"], "MinMax"), 3
    )
    told = "onnxruntime's own calls, MinMax"
    yield _ratio_row("quantize mobilenet_v2, 100 samples", median_seconds(ours), median_seconds(theirs), "s", 1.5, told)
    yield _memory_row("100", peak_bytes(ours), peak_bytes(theirs), told)


def _percentile(scratch: Path) -> Iterator[Row]:
    """edgeq's first range method; onnxruntime's grows by 63 MB a sample, so that 32 must do."""
    ours, theirs = in_turn(
        lambda: _edgeq_quantize(scratch, "32"), lambda: _by_hand(scratch, SLICES["32"], "Percentile"), 1
    )
    told = "onnxruntime's own calls, Percentile"
    yield _ratio_row("quantize mobilenet_v2, 32 samples", median_seconds(ours), median_seconds(theirs), "s", 1.5, told)
    yield _memory_row("32", peak_bytes(ours), peak_bytes(theirs), told)


def _memory(scratch: Path) -> Iterator[Row]:
    yield _memory_row("500", _edgeq_quantize(scratch, "500").peak_rss_bytes, None, "")


def _memory_row(samples: str, ours: float, theirs: float | None, told: str) -> Row:
    return Row(f"peak memory, {samples} samples", ours, theirs, "bytes", "< 1 GB", ours < GIGABYTE, told)


def _edgeq_quantize(scratch: Path, samples: str) -> Ran:
    data, out = _dataset(scratch, samples), scratch / f"edgeq-{samples}"
    shutil.rmtree(out, ignore_errors=True)
    model = MOBILENET / "mobilenet_v2_float.onnx"
    ran = run([*EDGEQ, "quantize", model, "-t", TARGET, "--data", data, "-o", out, "--json", "-q"])
    found = json.loads(ran.out)
    method = found["plan"]["ranges"]
    scores = found["accuracy"]
    sys.stderr.write(
        f"  edgeq, {samples} samples, {method}: {scores['float']} float, {scores['quantized']} quantized, "
        f"{_cost(ran)}\n"
    )
    return ran


def _cost(ran: Ran) -> str:
    return f"{ran.seconds:.1f} s ({ran.cpu_seconds:.1f} s of processors), {ran.peak_rss_bytes / 1e6:.0f} MB"


def _by_hand(scratch: Path, calibration: str, method: str) -> Ran:
    ran = run([sys.executable, HERE / "quantize_by_hand.py", MOBILENET, scratch / "by-hand", calibration, method])
    sys.stderr.write(f"  by hand, {calibration}, {method}: {ran.out.strip().splitlines()[-1]}, {_cost(ran)}\n")
    return ran


def _dataset(scratch: Path, samples: str) -> Path:
    """The model's dataset with other calibration samples, beside a copy of its pictures: they must be in its folder."""
    folder = scratch / "mobilenet"
    if not folder.is_dir():
        shutil.copytree(MOBILENET / "images", folder / "images")
        shutil.copy(MOBILENET / "labels.csv", folder)
    text = (MOBILENET / "dataset.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("calibration:")]
    path = folder / f"{samples}.yaml"
    path.write_text("\n".join([*lines, f'calibration: "{SLICES[samples]}"']) + "\n")
    return path


def _deploy(scratch: Path) -> Iterator[Row]:
    example = ROOT / "examples" / "digits"
    (scratch / "home").mkdir(exist_ok=True)  # or the bundle would go to the working folder
    home = {"HOME": str(scratch / "home")}
    out = scratch / "digits"
    data = ("-t", TARGET, "--data", example / "dataset.yaml", "-o", out, "-q")
    run([*EDGEQ, "build", example / "digits_float.tflite", *data], home)
    deploy = [*EDGEQ, "deploy", out / "bundle", "-d", "local:", "--json", "-q"]
    first, second = (json.loads(run(deploy, home).out)["sent_bytes"] for _ in range(2))
    yield Row("second deploy of a bundle", second, first, "bytes", "0 bytes", second == 0, "the first deploy")


def _latency(_scratch: Path) -> Iterator[Row]:
    model = SHARED / "vww_mobilenetv1" / "vww_float.tflite"
    model = model if model.is_file() else ROOT / "examples" / "digits" / "digits_float.tflite"
    pairs = latency.pairs(model, 5)
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    holds = 0.9 <= ours / theirs <= 1.1
    yield Row(f"p50 of {model.stem}", ours, theirs, "ms", "within 10 %", holds, "a loop written by hand")


def _predicted(_scratch: Path) -> Iterator[Row]:
    return predicted.rows()


def _tables(_scratch: Path) -> Iterator[Row]:
    return tables.rows()


def _ratio_row(what: str, ours: float, theirs: float, unit: str, most: float, told: str) -> Row:
    return Row(what, ours, theirs, unit, f"<= {most:g} x", ours / theirs <= most, told)


def _table(rows: list[Row]) -> list[str]:
    lines = ["| what | edgeq | beside | ratio | bar | |", "|---|---|---|---|---|---|"]
    for row in rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        told = "-" if row.edgeq is None or row.bar == "-" else "holds" if row.holds else "MISSED"
        lines.append(f"| {row.what} | {_ours(row)} | {_beside(row)} | {ratio} | {row.bar} | {told} |")
    return lines


def _ours(row: Row) -> str:
    return f"not run: {row.other_name}" if row.edgeq is None else _figure(row.edgeq, row.unit)


def _beside(row: Row) -> str:
    return "-" if row.other is None else f"{_figure(row.other, row.unit)} ({row.other_name})"


def _figure(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value / 1e6:.0f} MB" if value >= 1e6 else f"{value:.0f} bytes"
    return f"{value:.3g} {unit}"


if __name__ == "__main__":
    sys.exit(main())
