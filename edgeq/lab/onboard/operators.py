"""The `operators` verb: what each operator takes, by the interpreter's own profiler, in a process of its own."""

import json
import shutil
import tempfile
from pathlib import Path

from . import bundle as bundles
from . import events
from .events import Failure
from .session import Session

RUNS = 30
_MOST_EVENTS = 200000
MAX_ROWS = 2000
_TEXT = 200
_TRACE_LIMIT_BYTES = 256 << 20
NONE = {
    "ai_edge_litert": "the Python interface of ai_edge_litert has no profiler",
    "tflite_runtime": "the Python interface of tflite_runtime has no profiler",
    "tensorflow": "the Python interface of tf.lite has no profiler",
}


def run(folder, settings):
    """Profile some runs and emit rows {operator, name, placement, count, ns}: ns is of one inference."""
    name = settings["interpreter"]
    if name in NONE:
        raise Failure("model-failed", NONE[name])
    bundle = bundles.Bundle(folder, settings.get("files"))
    inputs = bundles.arrays(bundle.golden, "input", bundle.inputs)
    scratch = tempfile.mkdtemp(prefix="edgeq-operators-")
    try:
        rows, runs = profiled(bundle, name, settings.get("threads") or 1, inputs, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    rows.sort(key=lambda row: -row["ns"])
    events.emit("result", operators=rows[:MAX_ROWS], runs=runs, left_out=max(0, len(rows) - MAX_ROWS))


def profiled(bundle, name, threads, inputs, scratch):
    """(rows, runs that they are means of)."""
    session = Session(bundle, name, threads, trace=str(Path(scratch) / "trace"))
    session.run(inputs, 0)
    for number in range(RUNS):
        session.feed(inputs, number % max(1, len(inputs[0]) // session.batch))
        session.invoke()
        events.progress("operators", number + 1, RUNS)
    path = Path(session.model.end_trace())
    if path.stat().st_size > _TRACE_LIMIT_BYTES:
        raise Failure("model-failed", "the profiler wrote %d MiB" % (path.stat().st_size >> 20))
    return rows_of(json.loads(path.read_text("utf-8")), RUNS + 1), RUNS + 1


def rows_of(trace, runs):
    """Sums of onnxruntime's kernel times by node, over `runs`; its durations are whole µs."""
    found = {}
    for event in trace[:_MOST_EVENTS]:
        if event.get("cat") != "Node" or not str(event.get("name", "")).endswith("_kernel_time"):
            continue
        details = event.get("args", {})
        key = (str(event["name"])[: -len("_kernel_time")][:_TEXT], str(details.get("op_name", "?"))[:_TEXT])
        row = found.setdefault(key, {"us": 0, "count": 0, "placement": str(details.get("provider", "?"))[:_TEXT]})
        row["us"] += int(event.get("dur", 0))
        row["count"] += 1
    return [
        {
            "operator": kind,
            "name": name,
            "placement": row["placement"],
            "count": max(1, round(row["count"] / float(runs))),
            "ns": int(row["us"] * 1000 / float(runs)),
        }
        for (name, kind), row in found.items()
    ]
