"""The tensor arena of TensorFlow Lite for Microcontrollers, predicted from its allocation rules.

The front of the arena holds activations and scratch buffers (`head.py`), its end what lives as long as the
interpreter: its own structs (`structs.py`) and what the kernels keep (`kernels.py`). The sum is what
`MicroInterpreter::arena_used_bytes()` returns. Source: tensorflow/tflite-micro, micro_allocator.cc and
micro_interpreter.cc. On a Cortex-M4F it is exact to the byte for the four models of MLPerf Tiny.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from edgeq.models.liveness import ALIGNMENT_BYTES
from edgeq.planning import view as views
from edgeq.planning.tflm import head, structs
from edgeq.planning.tflm.borders import with_borders
from edgeq.planning.tflm.kernels import Needs, needs
from edgeq.planning.tflm.operands import Operands
from edgeq.planning.tflm.structs import CORTEX_M, WHEEL, Build
from edgeq.types import ModelGraph, Target, TensorSpec

__all__ = ["CORTEX_M", "WHEEL", "Arena", "Build", "arena", "build_for", "parts"]


class Arena(NamedTuple):
    """Bytes of an arena by what they hold."""

    activations: int
    """Activations and scratch buffers; the rest is persistent."""
    interpreter: int
    """Allocators, a struct per tensor and operator, the inputs' and outputs' tensors."""
    operators: int
    """Parameters and data of the operators: multipliers and shifts above all."""
    variables: int
    """State that outlives an inference."""

    @property
    def persistent(self) -> int:
        return self.interpreter + self.operators + self.variables

    @property
    def total(self) -> int:
        return self.activations + self.persistent


def parts(graph: ModelGraph, target: Target) -> dict[str, int]:
    """What the runtime will report on a target for a file, or for a planned graph once it is converted, by part."""
    return arena(with_borders(graph), build_for(target))._asdict()


def build_for(target: Target) -> Build:
    """How TFLite Micro is compiled for a target: CMSIS-NN on Cortex-M, 8-byte pointers on 64-bit processors.

    Enumerations count as four bytes everywhere: that is never too little.
    """
    features = target.cpu.features
    if target.kind != "mcu":
        return WHEEL
    if not target.cpu.core.startswith("cortex-m"):
        return Build()
    return Build(cmsis="mve" if "mve" in features else "dsp" if "dsp" in features else "plain")


def arena(graph: ModelGraph, build: Build) -> Arena:
    """Bytes of the arena for a graph whose tensors have the data types that the runtime will see.

    Raises ModelError where the graph's subgraphs nest too deeply.
    """
    wanted = {one.index: needs(_operands(graph, number, build)) for number, one in enumerate(graph.operators)}
    variables = _variables(graph)
    tail = _Tail(build)
    _add_interpreter(tail, graph)
    _add_operators(tail, wanted.values())
    handles = sum(len(one.scratch) for one in wanted.values())
    tail.add_structs(structs.POINTER, handles, "interpreter")
    for tensor in variables.values():
        tail.add(tensor.size_bytes, ALIGNMENT_BYTES, "variables")
    for ports in (graph.inputs, graph.outputs):
        _add_ports(tail, graph, ports)
    scratch = {index: one.scratch for index, one in wanted.items()}
    return Arena(activations=head.head_bytes(graph, scratch, variables), **tail.bytes)


class _Tail:
    """The end of the arena, which grows downwards; what alignment costs counts with what asked for it."""

    def __init__(self, build: Build) -> None:
        self.build = build
        self.size = 0
        self.bytes = {"interpreter": 0, "operators": 0, "variables": 0}

    def add(self, size: int, alignment: int, part: str) -> None:
        grown = structs.aligned(self.size + size, alignment)
        self.bytes[part] += grown - self.size
        self.size = grown

    def add_structs(self, layout: str, count: int, part: str) -> None:
        size, alignment = structs.measure(layout, self.build)
        if count:
            self.add(size * count, alignment, part)


def _add_interpreter(tail: _Tail, graph: ModelGraph) -> None:
    """Allocators, then per subgraph a struct for each tensor, then one for each operator."""
    own = structs.HOST if tail.build.host else structs.STATIC
    for layout in own.allocators:
        tail.add_structs(layout, 1, "interpreter")
    operators = Counter(operator.subgraph for operator in graph.operators)
    tail.add_structs(structs.SUBGRAPH, max(operators, default=0) + 1, "interpreter")
    tail.add_structs(structs.EVAL_TENSOR, len(graph.tensors), "interpreter")
    tail.add_structs(own.node, len(graph.operators), "interpreter")


def _add_operators(tail: _Tail, wanted: Iterable[Needs]) -> None:
    """Every operator's parameters, then every operator's data, then what each keeps beside it."""
    wanted = list(wanted)
    for one in wanted:
        tail.add(*one.parameters, "operators")
    for size in (one.data for one in wanted if one.data):
        tail.add(size, ALIGNMENT_BYTES, "operators")
    for size in (size for one in wanted for size in one.persistent):
        tail.add(size, ALIGNMENT_BYTES, "operators")


def _add_ports(tail: _Tail, graph: ModelGraph, ports: tuple[int, ...]) -> None:
    """Pointers to the inputs or outputs, and for each a full tensor with its quantization."""
    own = structs.HOST if tail.build.host else structs.STATIC
    tail.add(tail.build.pointer_bytes * len(ports), ALIGNMENT_BYTES, "interpreter")
    for tensor in (graph.tensors[index] for index in ports):
        tail.add_structs(own.tensor, 1, "interpreter")
        scales = _scales(tensor)
        if scales:
            tail.add_structs(structs.AFFINE, 1, "interpreter")
            tail.add(4 * (1 + scales), 4, "interpreter")


def _scales(tensor: TensorSpec) -> int:
    """Scales of a tensor; one that is to be quantized has a single scale."""
    if tensor.quantization:
        return len(tensor.quantization.scales)
    return 1 if tensor.dtype in views.QUANTIZED else 0


def _operands(graph: ModelGraph, number: int, build: Build) -> Operands:
    operator = graph.operators[number]
    inputs = tuple(graph.tensors[index] if index >= 0 else None for index in operator.inputs)
    return Operands(operator, inputs, tuple(graph.tensors[index] for index in operator.outputs), build)


def _variables(graph: ModelGraph) -> dict[int, TensorSpec]:
    """State of the main graph: what its operators read, and neither a file nor an operator makes."""
    made = {index for operator in graph.operators for index in operator.outputs}
    read = {index for operator in graph.operators if not operator.subgraph for index in operator.inputs if index >= 0}
    lone = sorted(read - made - set(graph.inputs))
    return {index: graph.tensors[index] for index in lone if not graph.tensors[index].is_constant}
