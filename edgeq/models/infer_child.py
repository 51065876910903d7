"""Shape inference of an ONNX model in a process of its own: run as a program.

Standard input: a ModelProto without large constants. Standard output: JSON, one object per graph (main
first, then subgraphs in order of appearance): name -> [element type, axes or null]; -1 is a dynamic axis.
Arguments: the parent's import path as JSON, seconds of processor time, bytes of memory.

The native inference does what the file says: a chain of Gather nodes doubles the rank at each step, and a
crash would take its process along. Here both end with this process.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

MAX_RANK = 32
MAX_OUTPUT_BYTES = 64 << 20


def main() -> int:
    sys.path[:] = json.loads(sys.argv[1])
    import onnx
    from onnx import shape_inference

    _limit(int(sys.argv[2]), int(sys.argv[3]))
    model = sys.stdin.buffer.read()
    try:
        inferred = shape_inference.infer_shapes(model, check_type=False, strict_mode=False, data_prop=True)
    except (shape_inference.InferenceError, RuntimeError, ValueError, MemoryError) as error:
        sys.stderr.write(str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__)
        return 1
    if isinstance(inferred, bytes):  # onnx up to 1.18 answers bytes with bytes
        inferred = onnx.ModelProto.FromString(inferred)
    text = json.dumps(list(graphs(inferred.graph)))
    if len(text) > MAX_OUTPUT_BYTES:
        sys.stderr.write("the shapes take more than 64 MiB")
        return 1
    sys.stdout.write(text)
    return 0


def _limit(cpu_seconds: int, memory_bytes: int) -> None:
    """Bounds on top of what the imports took."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 1 + cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    total = pages * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (total, total))


def graphs(graph: Any) -> Any:
    """Each graph's {name: [element type, axes]}, in the order in which the reader walks them."""
    yield {value.name: described(value.type) for value in (*graph.value_info, *graph.input, *graph.output)}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == attribute.GRAPH:
                yield from graphs(attribute.g)


def described(type: Any) -> list[Any]:
    """[element type, axes or None]; 0 for what is no tensor."""
    if type.WhichOneof("value") != "tensor_type":
        return [0, None]
    tensor = type.tensor_type
    if not tensor.HasField("shape") or len(tensor.shape.dim) > MAX_RANK:
        return [tensor.elem_type, None]
    return [tensor.elem_type, [axis.dim_value if axis.HasField("dim_value") else -1 for axis in tensor.shape.dim]]


if __name__ == "__main__":
    sys.exit(main())
