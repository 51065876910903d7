"""litert-quantizer as its own guide calls it: its recipe, its calibrator.

Two things that it needs and old files lack are filled in first: a signature, and `builtin_code` beside the old byte.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import feeds
import flatbuffers
from ai_edge_litert import schema_py_generated as schema
from litert_quantizer import quantizer, recipe

KEY = "serving_default"


def quantize(model: Path, samples: Path, out: Path) -> list[str]:
    """Static 8 bits for everything that it knows."""
    content, names = readable(model.read_bytes())
    made = quantizer.Quantizer(content, recipe.static_wi8_ai8())
    stream = [dict(zip(names[1], sample, strict=True)) for sample in feeds.batches(samples)]  # it is gone through twice
    found = made.calibrate({names[0]: stream})
    out.write_bytes(bytes(made.quantize(found).quantized_model))
    return []


def readable(content: bytes) -> tuple[bytes, tuple[str, list[str]]]:
    """The model as it can be read, its signature's key and the names of its inputs."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for code in model.operatorCodes:
        code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
    if not model.signatureDefs:
        model.signatureDefs = [_signature(model.subgraphs[0])]
    first = model.signatureDefs[0]
    key = first.signatureKey.decode() if isinstance(first.signatureKey, bytes) else first.signatureKey
    places = {item.tensorIndex: item.name for item in first.inputs}
    names = [places[index] for index in model.subgraphs[0].inputs]
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output()), (key, [name.decode() if isinstance(name, bytes) else name for name in names])


def _signature(graph: Any) -> Any:
    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = KEY, 0
    made.inputs = [_port(f"input_{place}", index) for place, index in enumerate(graph.inputs)]
    made.outputs = [_port(f"output_{place}", index) for place, index in enumerate(graph.outputs)]
    return made


def _port(name: str, index: int) -> Any:
    made = schema.TensorMapT()
    made.name, made.tensorIndex = name, index
    return made


if __name__ == "__main__":
    feeds.main(quantize, "litert-quantizer", "ai-edge-litert")
