"""One model, one runtime, one scheme: what the planner says, and what the real converter and runtime do.

A plan that says yes is converted and run with the planned arithmetic of every operator. A plan that says no is made
nevertheless: the converter must refuse it, or the runtime must not compute as asked. Signatures that a plan denied to
single operators are handed on as cases for the table's prover.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from edgeq import backends, datasets, models, planning, runtimes, targets, tools
from edgeq.errors import BuildError, CompilerRefused, ConvertError, ModelError
from edgeq.planning import arriving, placement
from edgeq.planning import view as views
from edgeq.testing import fused, planned
from edgeq.types import (
    Case,
    Constraint,
    Dataset,
    ModelGraph,
    Operator,
    OperatorTable,
    Plan,
    Port,
    RuntimeSpec,
    Signature,
    Target,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

SAMPLES = 2
"""Few calibrate: ranges do not decide where an operator runs."""
ARENA_BYTES = 64 << 20
"""For tflite-micro here: what memory a model needs is another question."""
SECONDS = 300.0
"""What an outside tool may take for one model."""
DENIED = ("falls-back-to-float", "falls-back-to-cpu", "constraint-violated", "operator-unknown", "version-too-new")
"""Rules by which an operator does not get what the scheme wants of it; `refused` is another."""
NOT_RUN = "not run: "
"""What the reality of a row begins with that nothing was asked about."""
_PRODUCTS = ("MatMul", "BATCH_MATMUL", "FULLY_CONNECTED")
"""Operators that may have two activations instead of weights."""
_OF_MEMORY = ("fits-ram", "fits-model-budget", "fits-flash")


class Seat(NamedTuple):
    """A target with the one of its runtimes that is asked, and what runs models here in its place.

    `operators` is an operator table to take instead of the target's; `tool` is the outside tool that has to be there.
    """

    target: str
    runtime: str
    engine: str
    operators: str | None = None
    tool: str | None = None

    @property
    def label(self) -> str:
        """Short words for a table of results."""
        return f"{self.runtime} on {self.target}" if self.operators is None else f"{self.engine} on {self.target}"


class Row(NamedTuple):
    """What was planned and what is; `denied` are still to be put to the prover of `table`."""

    model: str
    runtime: str
    scheme: str
    plan: str
    reality: str
    wrong: tuple[str, ...] = ()
    denied: tuple[Case, ...] = ()
    table: str = ""

    @property
    def is_run(self) -> bool:
        """Whether the real thing was asked at all."""
        return not self.reality.startswith(NOT_RUN)

    @property
    def agrees(self) -> bool:
        """Whether nothing is otherwise than planned."""
        return not self.wrong


class Job(NamedTuple):
    """A model file, its dataset, one scheme by name, and the seats that read the model."""

    model: Path
    dataset: Path
    scheme: str
    seats: tuple[Seat, ...]


class Scene(NamedTuple):
    """A model with few samples, and the files that were made of it by scheme."""

    graph: ModelGraph
    dataset: Dataset
    samples: list[tuple[Array, ...]]
    folder: Path
    made: dict[str, Path | str]


def examine(job: Job) -> list[Row]:
    """The rows of a job; files are made in a folder that is gone afterwards."""
    graph = models.read(job.model)
    dataset = datasets.bind(datasets.load(job.dataset), graph)
    dataset = dataclasses.replace(dataset, calibration=dataset.calibration[:SAMPLES])
    samples = list(datasets.samples(dataset, graph, dataset.calibration))
    with tempfile.TemporaryDirectory(prefix="edgeq-agreement-") as folder:
        scene = Scene(graph, dataset, samples, Path(folder), {})
        return [row for seat in job.seats for row in _of_seat(scene, job, seat)]


def seated(seat: Seat) -> tuple[Target, dict[str, OperatorTable]]:
    """The target with the seat's runtime alone, and its tables."""
    target = targets.load(seat.target)
    spec = next(one for one in target.runtimes if one.name == seat.runtime)
    spec = dataclasses.replace(spec, operators=seat.operators or spec.operators)
    alone = dataclasses.replace(target, runtimes=(spec,))
    tables = {name: targets.load_table(name) for name in (spec.operators, spec.fallback) if name}
    return alone, tables


def reads(seat: Seat, suffix: str) -> bool:
    """Whether a seat's runtime reads files of a suffix; what reads others is refused before any scheme."""
    spec: RuntimeSpec = seated(seat)[0].runtimes[0]
    return f".{spec.format}" == suffix


def _of_seat(scene: Scene, job: Job, seat: Seat) -> Iterator[Row]:
    target, tables = seated(seat)
    plans = planning.candidates(scene.graph, target, tables, scheme=job.scheme)
    for plan in _one_of_each(plans):
        table = tables[target.runtimes[0].operators]
        denied = tuple(dict.fromkeys(_denials(scene.graph, plan, table)))
        reality, wrong = _said_yes(scene, seat, plan) if plan.ok else _said_no(scene, seat, plan, denied)
        yield Row(
            model=job.model.name,
            runtime=seat.label,
            scheme=_label(plan),
            plan="yes" if plan.ok else f"no: {_why(plan)}",
            reality=reality,
            wrong=tuple(wrong),
            denied=denied,
            table=table.name,
        )


def _one_of_each(plans: Sequence[Plan]) -> list[Plan]:
    """One plan for each choice of data types, by the quickest way to choose ranges."""
    order = sorted(plans, key=lambda plan: plan.scheme.ranges != "min-max")
    return list({(plan.scheme.default, plan.scheme.reduce_range): plan for plan in reversed(order)}.values())


def _label(plan: Plan) -> str:
    default = plan.scheme.default
    if not plan.scheme.is_static or plan.scheme.name == "as_is":
        return plan.scheme.name
    return f"{plan.scheme.name} {default.activations}/{default.weights}{' 7 bits' if plan.scheme.reduce_range else ''}"


def _why(plan: Plan) -> str:
    return next(check.why for check in plan.checks if not check.ok)


# --- plans that say yes ------------------------------------------------------------------------


def _said_yes(scene: Scene, seat: Seat, plan: Plan) -> tuple[str, list[str]]:
    off = [one for one in plan.operators if one.placement != "npu"]
    if seat.engine == "qnn" and off:
        return f"{NOT_RUN}{len(off)} operators are planned on the CPU, which the emulation is told to refuse", []
    found = _converted(scene, plan)
    if isinstance(found, str):
        return f"the converter refuses it: {found}", ["a plan that says yes is not converted"]
    made = models.read(found)
    wrong = list(planned.disagreements(scene.graph, plan, made))
    try:
        ran = _ENGINES[seat.engine](Trial(scene, seat, plan, found, made))
    except ModelError as error:
        return error.message, [*wrong, "a plan that says yes does not run"]
    wrong += ran.wrong
    return f"converted and run; {ran.checked} operators as planned", wrong


def _converted(scene: Scene, plan: Plan) -> Path | str:
    """The file of a plan, made once for all runtimes; the converter's words where it refuses."""
    key = f"{plan.scheme!r}"
    if key not in scene.made:
        out = scene.folder / f"{len(scene.made)}.{scene.graph.format}"
        try:
            backends.find("converters", scene.graph.format).convert(scene.graph, plan, scene.dataset, out)
            scene.made[key] = out
        except ConvertError as error:
            scene.made[key] = error.message
    return scene.made[key]


# --- plans that say no -------------------------------------------------------------------------


def _said_no(scene: Scene, seat: Seat, plan: Plan, denied: Sequence[Case]) -> tuple[str, list[str]]:
    """Make what was refused: the converter refuses it, the runtime does, or nothing is computed as asked.

    Operators that were refused by their signatures are left to the prover.
    """
    if {check.rule for check in plan.checks if not check.ok} <= set(_OF_MEMORY):
        return f"{NOT_RUN}it is about memory, not about operators", []
    found = _converted(scene, plan)
    if isinstance(found, str):
        return f"the converter refuses it: {found}", []
    try:
        ran = _ENGINES[seat.engine](Trial(scene, seat, plan, found, models.read(found)))
    except ModelError as error:
        return f"the runtime refuses it: {error.message}", []
    return _not_as_asked(plan, ran, denied)


def _not_as_asked(plan: Plan, ran: Ran, denied: Sequence[Case]) -> tuple[str, list[str]]:
    if ran.quantized == 0:
        return "nothing of it is computed as asked", []
    if plan.scheme.name == "as_is" and ran.quantized < ran.layers:
        return f"{ran.quantized} of {ran.layers} layers are quantized", []
    if denied and any(one.placement == "refused" for one in plan.operators):
        return "its refused operators are put to the runtime alone", []
    return "it is converted and runs", [f"a plan that says no has {ran.quantized} operators as asked"]


def _denials(graph: ModelGraph, plan: Plan, table: OperatorTable) -> Iterator[Case]:
    """What the plan denied to single operators, each as a model of one operator; in float nothing is denied."""
    look = views.view(graph)
    for operator, one in zip(graph.operators, plan.operators, strict=True):
        if one.rule not in DENIED and one.placement != "refused":
            continue
        wanted = _wanted(look, operator, plan)
        if _is_quantized(wanted) or one.placement == "refused":
            for variant in _variants(operator, one.rule, wanted, graph.format, table):
                yield Case(operator=operator.type, signature=wanted, claimed=False, variant=variant)


def _wanted(look: views.View, operator: Operator, plan: Plan) -> Signature:
    """What the scheme wanted of an operator, with the output that TFLite's quantization fixes for some."""
    if plan.scheme.name == "as_is":
        return arriving.read(look, operator)
    wanted = placement.wanted_of(look, operator, plan.scheme.default)
    if look.graph.format == "onnx":
        return wanted
    from edgeq.conformance.tflite.recipes import RECIPES

    recipe = RECIPES.get(operator.type)
    return dataclasses.replace(wanted, output=recipe.fixed.get(wanted.activations)) if recipe else wanted


def _is_quantized(wanted: Signature) -> bool:
    return wanted.activations in planned.INTEGERS or wanted.weights in planned.STORED


def _variants(operator: Operator, rule: str, wanted: Signature, form: str, table: OperatorTable) -> Iterator[str]:
    """What sets the denied case apart beside its data types."""
    row = table.operators.get(operator.type)
    if rule == "version-too-new":
        yield f"{'version' if form == 'tflite' else 'opset'} {operator.version}"
    elif rule == "constraint-violated" and row is not None:
        yield from _beyond(operator.type, (*row.constraints, *table.constraints), form)
    else:
        yield "two activations" if operator.type in _PRODUCTS and wanted.weights is None else ""


def _beyond(kind: str, constraints: Sequence[Constraint], form: str) -> Iterator[str]:
    """Variants that break a constraint of the row, as the prover names them."""
    if form == "onnx":
        from edgeq.conformance.onnx.recipes import RECIPES
        from edgeq.conformance.onnx.universe import holds

        recipe = RECIPES.get(kind)
        for variant in recipe.variants if recipe else ():
            if recipe and not all(holds(one, recipe.varied(variant)) for one in constraints):
                yield variant
    else:
        yield from (f"outside of {one.rule} of {one.of}" for one in constraints)


# --- what runs models here ---------------------------------------------------------------------


class Ran(NamedTuple):
    """How many operators were held against the plan, what was wrong, and how many operators compute as quantized.

    `layers` is how many operators with weights there are.
    """

    checked: int
    wrong: list[str]
    quantized: int
    layers: int = 0


class Trial(NamedTuple):
    """A converted file to run on a seat."""

    scene: Scene
    seat: Seat
    plan: Plan
    path: Path
    made: ModelGraph


def _onnxruntime(trial: Trial) -> Ran:
    scene, plan = trial.scene, trial.plan
    ran = fused.run(trial.path, trial.made, scene.samples, scene.folder)
    wrong = list(fused.otherwise(scene.graph, plan, trial.made, ran.kernels)) if plan.ok else []
    stored = 0 if plan.scheme.name in ("as_is", "float32") or plan.scheme.is_static else _stored_onnx(trial.made)
    return Ran(_checked(plan), [*wrong, *_unfit(ran.outputs)], fused.in_integers(ran.kernels) or stored)


def _stored_onnx(made: ModelGraph) -> int:
    return sum(operator.type in ("DequantizeLinear", "Cast") for operator in made.operators)


def _litert(trial: Trial) -> Ran:
    return _litert_with(trial, "optimised")


def _litert_reference(trial: Trial) -> Ran:
    return _litert_with(trial, "reference")


def _litert_with(trial: Trial, kernels: Literal["optimised", "reference"]) -> Ran:
    from edgeq.runtimes import litert

    session = litert.open(trial.path, kernels=kernels)
    outputs = [runtimes.infer(session, sample) for sample in trial.scene.samples]
    layers = sum(one.type in planned.TFLITE_LAYERS for one in trial.made.operators)
    return Ran(_checked(trial.plan), _unfit(outputs), _quantized_tflite(trial.made), layers)


def _tflite_micro(trial: Trial) -> Ran:
    """tflite-micro's own Python package, in its environment."""
    from edgeq.conformance import tflite_micro

    session = backends.find("runtimes", "litert").open(trial.path)
    stored = [_encoded(session.inputs, sample) for sample in trial.scene.samples]
    feeds = [{str(place): values for place, values in enumerate(sample)} for sample in stored]
    outputs = _outside(trial, "tflm", tflite_micro.ENGINE, feeds, {"arena_bytes": ARENA_BYTES})
    return Ran(_checked(trial.plan), _unfit(outputs), _quantized_tflite(trial.made))


def _qnn(trial: Trial) -> Ran:
    """onnxruntime-qnn's emulation of the target's own processor; the CPU's fallback is forbidden."""
    from edgeq.conformance import qnn

    accelerator = targets.load(trial.seat.target).accelerator
    session = backends.find("runtimes", "onnxruntime").open(trial.path)
    names = [port.name for port in session.inputs]
    feeds = [dict(zip(names, sample, strict=True)) for sample in trial.scene.samples]
    settings = {"soc_model": str(accelerator.soc_id if accelerator else ""), "offload_graph_io_quantization": "0"}
    outputs = _outside(trial, "qnn", qnn.ENGINE, feeds, settings)
    return Ran(_checked(trial.plan), _unfit(outputs), len(trial.made.operators))


def _outside(
    trial: Trial, name: str, engine: Path, feeds: Sequence[Mapping[str, Array]], settings: Mapping[str, Any]
) -> list[list[Array]]:
    """Outputs of a model that an outside tool runs; raises ModelError with its words."""
    from edgeq.conformance import outside

    jobs = [outside.Job(trial.path.read_bytes(), one, len(trial.made.outputs)) for one in feeds]
    answers = outside.run(tools.find(name), engine, jobs, settings=settings, item_seconds=SECONDS)
    refused = next((answer for answer in answers if answer.outputs is None), None)
    if refused is not None:
        raise ModelError(tools.last_line(refused.chatter) or refused.raised)
    return [answer.outputs for answer in answers if answer.outputs is not None]


def _vela(trial: Trial) -> Ran:
    """Vela's own account of what it places on the NPU: more on the CPU than planned is refused."""
    accelerator = targets.load(trial.seat.target).accelerator
    if accelerator is None:
        raise ModelError(f"{trial.seat.target} has no accelerator")
    builder = backends.find("builders", "ethosu")
    try:
        _, split, _ = builder.compile_model(tools.find("vela"), trial.path, accelerator, trial.plan)
    except (BuildError, CompilerRefused) as error:
        raise ModelError(error.message) from error
    return Ran(_checked(trial.plan), [], split.npu)


def _encoded(ports: Sequence[Port], sample: Sequence[Array]) -> list[Array]:
    return [runtimes.encode(port, real) for port, real in zip(ports, sample, strict=True)]


def _quantized_tflite(made: ModelGraph) -> int:
    """Operators that compute in integers, or on integer weights that are not expanded before."""
    tensors = planned.numbered(made)
    found = 0
    for operator in made.operators:
        if operator.type in ("QUANTIZE", "DEQUANTIZE"):
            continue
        ports = [tensors[index] for index in (*operator.inputs[:2], *operator.outputs) if index in tensors]
        found += any(port.dtype in planned.STORED and port.dtype != "float16" for port in ports)
    return found


def _checked(plan: Plan) -> int:
    return sum(bool(planned.arithmetic(one)) for one in plan.operators)


def _unfit(outputs: Sequence[Sequence[Array]]) -> list[str]:
    """Outputs that are no finite numbers."""
    import numpy as np

    bad = any(values.dtype.kind == "f" and not np.isfinite(values).all() for sample in outputs for values in sample)
    return ["an output is not finite"] if bad else []


_ENGINES: Mapping[str, Callable[[Trial], Ran]] = {
    "litert": _litert,
    "litert_reference": _litert_reference,
    "onnxruntime": _onnxruntime,
    "tflite_micro": _tflite_micro,
    "qnn": _qnn,
    "vela": _vela,
}
