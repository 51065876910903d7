"""The process that imports TensorFlow: `source folder cpu_seconds` -> folder/model.tflite.

Ends with 0, or with 3 and folder/refusal.json. The file may be hostile: see `_keras_scan`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from edgeq.converters import _flatbuffer, _keras_scan
from edgeq.errors import ConvertError, EdgeqError, ModelError, ToolError
from edgeq.runtimes._child import limit_resources

MEMORY_BYTES = 32 << 30
_TOLERANCE = 1e-3
_DRAWS = 2
# TensorFlow and Keras have no error tree for bad files: anything of this comes out of load_model.
_ACCIDENTS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ImportError,
    RuntimeError,
    AssertionError,
    RecursionError,
    MemoryError,
)

Answer: TypeAlias = "Callable[..., Any]"


def main(arguments: Sequence[str]) -> int:
    """Convert, and leave the model or the refusal in the folder."""
    source, folder, cpu_seconds = Path(arguments[0]), Path(arguments[1]), int(arguments[2])
    limit_resources(memory_bytes=MEMORY_BYTES, cpu_seconds=cpu_seconds * 8)
    try:
        content = convert(source, folder / "model.tflite")
    except EdgeqError as error:
        said = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
        (folder / "refusal.json").write_text(json.dumps(said))
        return 3
    return 0 if content else 1


def convert(source: Path, out: Path) -> int:
    """Write the TFLite file and compare it with the original; its size in bytes."""
    answer, specs, owner = _load_saved_model(source) if source.is_dir() else _load_keras(source)
    _refuse_open_axes(specs)
    size = out.write_bytes(_in_order(_to_tflite(answer, specs, owner), [spec.name for spec in specs]))
    _compare(answer, specs, out)
    return size


def _load_keras(source: Path) -> tuple[Answer, list[Any], Any]:
    """Answer function, input specs with batch 1, and the object that owns the variables."""
    module = "keras" if _keras_scan.keras_major(source) >= 3 else "tf_keras"
    keras, tf = _imported(module), _imported("tensorflow")
    try:
        model = keras.models.load_model(source, compile=False, safe_mode=True)
        ports = [(port.name, port.shape, port.dtype) for port in model.inputs or []]
    except (*_ACCIDENTS, tf.errors.OpError) as error:
        raise ModelError(f"Keras cannot load it: {_first_line(error)}") from error
    if not ports:
        raise ModelError("has no fixed inputs", hint="build the model with an Input layer before saving it")
    specs = [tf.TensorSpec([1, *list(shape)[1:]], dtype, _plain(name)) for name, shape, dtype in ports]

    def answer(*arrays: Any) -> Any:
        return model(list(arrays) if len(arrays) > 1 else arrays[0], training=False)

    owner = tf.Module()  # the converter does not find a Keras 3 model's variables by itself
    owner.kept = [
        getattr(variable, "value", variable) if module == "keras" else variable for variable in model.variables
    ]
    return answer, specs, owner


def _load_saved_model(source: Path) -> tuple[Answer, list[Any], Any]:
    tf = _imported("tensorflow")
    _keras_scan.refuse_outward(_operators(source))
    try:
        owner = tf.saved_model.load(str(source))
        signatures = dict(owner.signatures)
    except (*_ACCIDENTS, tf.errors.OpError) as error:
        raise ModelError(f"TensorFlow cannot load it: {_first_line(error)}") from error
    signature = signatures.get("serving_default") or next(iter(signatures.values()), None)
    if signature is None:
        raise ModelError("has no serving signature", hint="model.export('folder') writes one")
    given = signature.structured_input_signature[1]
    names = list(given)
    specs = [tf.TensorSpec(_batch_of_one(given[name].shape), given[name].dtype, name) for name in names]

    def answer(*arrays: Any) -> Any:
        return signature(**dict(zip(names, arrays, strict=True)))

    return answer, specs, owner


def _operators(source: Path) -> set[str]:
    """Operator types in all graphs of a SavedModel, read without loading it."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString((source / "saved_model.pb").read_bytes())
    except DecodeError as error:
        raise ModelError("its saved_model.pb is broken") from error
    graphs = [graph.graph_def for graph in model.meta_graphs]
    inner = [node.op for graph in graphs for function in graph.library.function for node in function.node_def]
    return {*inner, *(node.op for graph in graphs for node in graph.node)}


def _batch_of_one(shape: Any) -> list[int | None]:
    if shape.rank is None:
        raise ModelError("has an input of unknown rank", hint="export it with fixed shapes")
    sizes: list[int | None] = shape.as_list()
    return [1, *sizes[1:]] if sizes and sizes[0] is None else sizes


def _refuse_open_axes(specs: list[Any]) -> None:
    for spec in specs:
        if any(size is None for size in spec.shape.as_list()):
            shape = ", ".join("?" if size is None else str(size) for size in spec.shape.as_list())
            raise ModelError(f"input {spec.name!r} has an open axis: [{shape}]", hint="save it with fixed shapes")


def _to_tflite(answer: Answer, specs: list[Any], owner: Any) -> bytes:
    tf = _imported("tensorflow")
    try:
        concrete = tf.function(answer, input_signature=specs).get_concrete_function()
        content: bytes = tf.lite.TFLiteConverter.from_concrete_functions([concrete], owner).convert()
    except (*_ACCIDENTS, tf.errors.OpError) as error:
        raise ConvertError(f"TensorFlow's converter fails: {_cause(error)}") from error
    except Exception as error:  # ConverterError derives from Exception alone
        if type(error).__name__ != "ConverterError":
            raise
        raise ConvertError(f"TensorFlow's converter fails: {_cause(error)}") from error
    return content


def _in_order(content: bytes, names: list[str]) -> bytes:
    """Ports in the original's order, inputs under its names: the converter sorts them by name.

    The converter calls inputs `serving_default_<name>:0` and outputs `<call>:<place>`.
    """
    model = _flatbuffer.parse(content)
    graph = model.subgraphs[0]
    known = {graph.tensors[index].name.decode(): int(index) for index in graph.inputs}
    found = {name: index for name in names for port, index in known.items() if port == f"serving_default_{name}:0"}
    if len(found) == len(names) == len(known):
        graph.inputs = [found[name] for name in names]
        for name, index in found.items():
            graph.tensors[index].name = name.encode()
    graph.outputs = sorted(map(int, graph.outputs), key=lambda index: _place(graph.tensors[index].name))
    return _flatbuffer.dump(model)


def _place(name: bytes) -> int:
    last = name.rpartition(b":")[2]
    return int(last) if last.isdigit() else 0


def _compare(answer: Answer, specs: list[Any], path: Path) -> None:
    """Raise ConvertError unless both models answer alike to random input."""
    import numpy as np

    from edgeq.runtimes import litert

    tf = _imported("tensorflow")
    session = litert.open(path)
    random = np.random.default_rng(0)
    for _ in range(_DRAWS):
        arrays = [_draw(random, spec) for spec in specs]
        wanted = [np.asarray(value) for value in tf.nest.flatten(answer(*map(tf.constant, arrays)))]
        given = session.run(arrays)
        if [one.shape for one in wanted] != [other.shape for other in given]:
            raise ConvertError("the converted model has other outputs than the original")
        for one, other in zip(wanted, given, strict=True):
            _compare_output(one, other)


def _compare_output(wanted: Any, given: Any) -> None:
    import numpy as np

    error = float(np.max(np.abs(np.subtract(wanted, given, dtype=np.float64)), initial=0.0))
    limit = _TOLERANCE * max(1e-2, float(np.max(np.abs(wanted), initial=0.0)))
    if not error <= limit:  # NaN too
        raise ConvertError(f"the converted model answers differently: off by {error:.3g}, allowed {limit:.3g}")


def _draw(random: Any, spec: Any) -> Any:
    dtype = spec.dtype.as_numpy_dtype
    if spec.dtype.is_integer or spec.dtype.is_bool:
        return random.integers(0, 2, spec.shape.as_list()).astype(dtype)
    return random.normal(0, 1, spec.shape.as_list()).astype(dtype)


def _imported(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ToolError(f"{name} is needed for this file: {error}", hint="pip install 'edgeq[tensorflow]'") from error


def _plain(name: str) -> str:
    return name.split(":", maxsplit=1)[0].replace("/", "_")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def _cause(error: BaseException) -> str:
    """The converter's line that names the operators it cannot convert, else its first one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("Flex ops:", "TF Select ops:", "Custom ops:"))]
    return "; ".join(told)[:300] or _first_line(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
