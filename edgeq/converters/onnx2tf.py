"""ONNX models to float TFLite through onnx2tf, which runs in an environment of its own.

Only its float32 file is taken; quantization is edgeq's. onnx2tf turns NCHW into NHWC: which order of axes each port
got is not assumed but found by comparing answers with the original's, and a result that is not like it is refused.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgeq import documents, models, store, tools
from edgeq.converters import _flatbuffer
from edgeq.errors import ConvertError, EdgeqError, ModelError
from edgeq.types import ModelGraph, Port, Progress, silent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeq.runtimes import Array, Session

Order = tuple[int, ...]

MINIMUM_SQNR_DB = 90.0  # 114 dB or better on seven real models; two float32 runtimes differ by rounding only
SECONDS = 1800
MOST_TRIES = 64
_SCALES = (1.0, 0.1, 0.01)  # large values saturate a softmax, which then hides differences
_STEP = "importing ONNX"
# onnx2tf downloads this file to try its result on, unless one lies in the working folder.
_SAMPLE_FILE = "calibration_image_sample_data_20x128x128x3_float32.npy"
_SAMPLE_SHAPE = (20, 128, 128, 3)
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": "-1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import showed, kept beside the TFLite file: the orders of axes as ModelGraph has them."""

    onnx_sha256: str
    tflite_sha256: str
    version: str
    sqnr_db: float
    input_layouts: tuple[Order | None, ...]
    output_layouts: tuple[Order | None, ...]
    schema_version: int = 1


class Match(NamedTuple):
    """Which port of the import stands for each port of the original (place and order of axes), and how alike."""

    inputs: tuple[tuple[int, Order], ...]
    outputs: tuple[tuple[int, Order], ...]
    sqnr_db: float


def import_model(graph: ModelGraph, out: Path, *, progress: Progress = silent) -> ModelGraph:
    """The structure of the float TFLite model of an ONNX one, which is written to `out`, or was before.

    Raises ConvertError for a model that came quantized, and as `to_tflite` does.
    """
    if graph.state != "float":
        raise ConvertError(
            "came quantized; only float ONNX models become TFLite",
            where=graph.path,
            hint="give the float model that it was made from",
        )
    record = _kept(graph, out) or to_tflite(Path(graph.path), out, progress=progress)
    told = f"imported from ONNX with onnx2tf {record.version}, {record.sqnr_db:.0f} dB to the original"
    found = models.read(out)
    return replace(
        found,
        notes=(*found.notes, told, *_turns(found, record)),
        input_layouts=record.input_layouts,
        output_layouts=record.output_layouts,
    )


def _turns(graph: ModelGraph, record: Imported) -> Iterator[str]:
    ports = (*graph.inputs, *graph.outputs)
    for index, layout in zip(ports, (*record.input_layouts, *record.output_layouts), strict=True):
        if layout is not None:
            yield f"{graph.tensors[index].name!r} has the original's axes in the order {list(layout)}"


def _kept(graph: ModelGraph, out: Path) -> Imported | None:
    """The record of an earlier import of the same file, if its result is still whole."""
    path = _record_path(out)
    if not (path.is_file() and out.is_file()):
        return None
    try:
        found = documents.load_json(path, Imported)
    except EdgeqError:
        return None  # of another version of edgeq, or cut off: imported anew
    return found if (found.onnx_sha256, found.tflite_sha256) == (graph.sha256, store.sha256(out)) else None


def _record_path(out: Path) -> Path:
    return out.with_suffix(".import.json")


def to_tflite(
    onnx: Path, out: Path, *, samples: Iterable[Sequence[Array]] = (), progress: Progress = silent
) -> Imported:
    """Write the float TFLite model of an ONNX file to `out`, ports in its order and under its names.

    Answers are compared on random input and on `samples` (as the original takes them, batch axis 1). Raises
    ToolError without onnx2tf, ModelError for a file that does not run, ConvertError below `MINIMUM_SQNR_DB`.
    """
    from edgeq.runtimes import litert, onnxruntime, preflight

    tool = tools.find("onnx2tf")
    progress(_STEP, 0, 3)
    preflight.check(onnx, "onnx")
    original = onnxruntime.open(onnx)
    shapes = [_closed(port, onnx) for port in original.inputs]
    with tempfile.TemporaryDirectory(prefix="edgeq-onnx2tf-") as work:
        made = _convert(tool, onnx, Path(work), open_batch=any(-1 in port.shape for port in original.inputs))
        progress(_STEP, 1, 3)
        preflight.check(made, "tflite")
        match = compare(original, litert.open(made), shapes, samples)
        if match is None or match.sqnr_db < MINIMUM_SQNR_DB:
            raise ConvertError(_unlike(match), where=str(onnx))
        progress(_STEP, 2, 3)
        store.write_bytes(out, _in_order(made, match, original))
    record = Imported(
        onnx_sha256=store.sha256(onnx),
        tflite_sha256=store.sha256(out),
        version=tool.version,
        sqnr_db=round(match.sqnr_db, 2),
        input_layouts=tuple(_layout(order) for _, order in match.inputs),
        output_layouts=tuple(_layout(order) for _, order in match.outputs),
    )
    store.write(_record_path(out), record)
    progress(_STEP, 3, 3)
    return record


def _unlike(match: Match | None) -> str:
    if match is None:
        return "onnx2tf's model has other ports than the original"
    return f"onnx2tf's model is not like the original: {match.sqnr_db:.1f} dB, {MINIMUM_SQNR_DB:.0f} dB needed"


def _layout(order: Order) -> Order | None:
    return None if order == tuple(range(len(order))) else order


def _closed(port: Port, onnx: Path) -> tuple[int, ...]:
    """The shape of one sample with a batch of 1; raises ModelError for other open axes."""
    if -1 in port.shape[1:]:
        shape = ", ".join("?" if size < 0 else str(size) for size in port.shape)
        raise ModelError(
            f"input {port.name!r} has an open axis: [{shape}]", where=str(onnx), hint="export it with fixed shapes"
        )
    return tuple(1 if size < 0 else size for size in port.shape)


def arguments(onnx: Path, output: Path, *, open_batch: bool) -> list[str]:
    """onnx2tf's command line, without its name: float output only, an open batch becomes 1."""
    batch = ["--batch_size", "1"] if open_batch else []
    return ["-i", str(onnx), "-o", str(output), *batch, "--non_verbose"]


def _convert(tool: tools.Tool, onnx: Path, work: Path, *, open_batch: bool) -> Path:
    """Run onnx2tf; the float32 file that it made."""
    import numpy as np

    np.save(work / _SAMPLE_FILE, np.random.default_rng(0).random(_SAMPLE_SHAPE, np.float32))
    output = work / "out"
    argv = tools.program(tool, *arguments(onnx.absolute(), output, open_batch=open_batch))
    done = tools.run(tool, argv, cwd=work, timeout_seconds=SECONDS, extra=_QUIET)
    made = sorted(output.glob("*_float32.tflite"))
    if done.code != 0 or len(made) != 1:
        said = tools.last_line(done.stderr) or tools.last_line(done.stdout) or f"it ended with code {done.code}"
        raise ConvertError(f"onnx2tf {tool.version} fails: {said}", where=str(onnx))
    return made[0]


def compare(
    original: Session,
    imported: Session,
    shapes: Sequence[tuple[int, ...]],
    samples: Iterable[Sequence[Array]] = (),
) -> Match | None:
    """The way of matching ports in which answers are most alike; None where the ports' shapes do not allow any."""
    feeds = [*_draws(original.inputs, shapes), *(list(sample) for sample in samples)]
    answers = [original.run(feed) for feed in feeds]
    best: Match | None = None
    for way in itertools.islice(_ways(original.inputs, shapes, imported.inputs), MOST_TRIES):
        turned = [_fed(feed, way, imported.inputs) for feed in feeds]
        found = _match_outputs(original.outputs, answers, imported.outputs, [imported.run(feed) for feed in turned])
        if found is None:
            continue
        outputs, sqnr_db = found
        if best is None or sqnr_db > best.sqnr_db:
            best = Match(way, outputs, sqnr_db)
        if best.sqnr_db >= MINIMUM_SQNR_DB:
            break
    return best


def _draws(ports: Sequence[Port], shapes: Sequence[tuple[int, ...]]) -> list[list[Array]]:
    """Random input as the original takes it; whole numbers are 0 or 1, which any vocabulary has."""
    import numpy as np

    random = np.random.default_rng(0)

    def draw(port: Port, shape: tuple[int, ...], scale: float) -> Array:
        if np.dtype(port.dtype).kind == "f":
            return random.normal(0, scale, shape).astype(port.dtype)
        return random.integers(0, 2, shape).astype(port.dtype)

    return [[draw(port, shape, scale) for port, shape in zip(ports, shapes, strict=True)] for scale in _SCALES]


def _ways(
    ports: Sequence[Port], shapes: Sequence[tuple[int, ...]], others: Sequence[Port]
) -> Iterator[tuple[tuple[int, Order], ...]]:
    """Ways in which each input may be fed to one of the import's inputs, the likely ones first."""
    if len(ports) != len(others):
        return
    choices = [
        _choices(port.name, shape, [(other.name, other.shape) for other in others])
        for port, shape in zip(ports, shapes, strict=True)
    ]
    for way in itertools.product(*choices):
        if len({place for place, _ in way}) == len(way):
            yield way


def _choices(
    name: str, shape: tuple[int, ...], others: Sequence[tuple[str, tuple[int, ...]]]
) -> list[tuple[int, Order]]:
    """Places and orders of axes in which `shape` is one of the other shapes; the same name first."""
    fitting = [
        (place, order)
        for place, (_, other) in enumerate(others)
        for order in _orders(len(shape))
        if len(other) == len(shape) and all(b in (shape[axis], -1) for axis, b in zip(order, other, strict=True))
    ]
    return sorted(fitting, key=lambda choice: _plain(others[choice[0]][0]) != _plain(name))


def _orders(rank: int) -> Iterator[Order]:
    """Channels last as onnx2tf makes them, then unchanged, then the other orders that keep the batch in front."""
    likely = [(0, *range(2, rank), 1)] if rank > 2 else []
    plain = [tuple(range(rank))]
    rest = [(0, *order) for order in itertools.permutations(range(1, rank))] if 2 < rank <= 5 else []
    yield from dict.fromkeys([*likely, *plain, *rest])


def _plain(name: str) -> str:
    return name.removeprefix("serving_default_").partition(":")[0]


def _fed(feed: Sequence[Array], way: Sequence[tuple[int, Order]], ports: Sequence[Port]) -> list[Array]:
    """The original's input as the import takes it."""
    import numpy as np

    found: dict[int, Array] = {}
    for array, (place, order) in zip(feed, way, strict=True):
        found[place] = np.ascontiguousarray(array.transpose(order)).astype(ports[place].dtype)
    return [found[place] for place in range(len(ports))]


def _match_outputs(
    ports: Sequence[Port], answers: list[list[Array]], others: Sequence[Port], given: list[list[Array]]
) -> tuple[tuple[tuple[int, Order], ...], float] | None:
    """The import's output that is most like each of the original's, and the least likeness; None if shapes differ."""
    if len(ports) != len(others):
        return None
    chosen: list[tuple[int, Order]] = []
    least = float("inf")
    for index, port in enumerate(ports):
        free = [place for place in range(len(others)) if place not in {taken for taken, _ in chosen}]
        shapes = [(others[place].name, given[0][place].shape) for place in free]
        choices = [(free[at], order) for at, order in _choices(port.name, answers[0][index].shape, shapes)]
        scores = [_least_sqnr_db(index, place, order, answers, given) for place, order in choices]
        if not scores:
            return None
        best = scores.index(max(scores))
        chosen.append(choices[best])
        least = min(least, scores[best])
    return tuple(chosen), least


def _least_sqnr_db(index: int, place: int, order: Order, answers: list[list[Array]], given: list[list[Array]]) -> float:
    """The least likeness of one output over all feeds, dB; -inf where it is not defined."""
    from edgeq.evaluation.likeness import likeness

    found = [
        likeness(wanted[index].transpose(order), got[place]).sqnr_db for wanted, got in zip(answers, given, strict=True)
    ]
    return min(float("-inf") if value is None else value for value in found)


def _in_order(made: Path, match: Match, original: Any) -> bytes:
    """The file with its ports in the original's order and under its names, where no other tensor has them."""
    model = _flatbuffer.load(made)
    graph = model.subgraphs[0]
    for side, pairs, ports in (
        ("inputs", match.inputs, original.inputs),
        ("outputs", match.outputs, original.outputs),
    ):
        indices: NDArray[np.int32] = getattr(graph, side)
        ordered = [int(indices[place]) for place, _ in pairs]
        setattr(graph, side, ordered)
        for index, port in zip(ordered, ports, strict=True):
            taken = {tensor.name for number, tensor in enumerate(graph.tensors) if number != index}
            if port.name.encode() not in taken:
                graph.tensors[index].name = port.name.encode()
    return _flatbuffer.dump(model)
