"""A model as C: `compile_model` reads, lowers, plans and writes it. The same file gives the same bytes."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgeq.codegen import headers, lowering, network, text
from edgeq.codegen.arena import Arena, lay_out
from edgeq.codegen.network import Network
from edgeq.codegen.program import C_TYPES, Activation, Argument, Call, Scratch, Step, Struct, Table
from edgeq.models.liveness import ALIGNMENT_BYTES

if TYPE_CHECKING:
    import jinja2


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output: its name escaped for C, what it holds, where it lies in the arena."""

    name: str
    c_type: str
    shape: tuple[int, ...]
    count: int
    size_bytes: int
    offset: int
    scale: float | None
    zero_point: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """The C of one model. `kernels` are the files that it needs, `defines` the macros that they are compiled with."""

    source: str
    header: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    kernels: tuple[str, ...]
    defines: tuple[str, ...]
    operators: tuple[str, ...]
    arena_bytes: int
    constant_bytes: int


class _Text(NamedTuple):
    number: int
    type: str
    calls: list[str]


def compile_model(path: Path) -> Compiled:
    """The C of an INT8 `.tflite` file; raises ModelError for a broken file, BuildError for what has no kernel."""
    net = network.read(path)
    steps = [lowering.lower(net, operator) for operator in net.operators]
    arena = lay_out(net.graph, net.shapes)
    constants = text.Constants()
    written = [
        _Text(number, operator.type, [_call(call, number, arena, constants) for call in step.calls])
        for number, (operator, step) in enumerate(zip(net.operators, steps, strict=True))
    ]
    inputs, outputs = (_ports(net, ports, arena) for ports in (net.graph.inputs, net.graph.outputs))
    words = {
        "sha256": net.graph.sha256,
        "constants": constants.lines,
        "variables": _variables(net, arena),
        "steps": written,
        "arena_bytes": arena.size_bytes,
        "alignment": ALIGNMENT_BYTES,
        "constant_bytes": constants.size_bytes,
        "inputs": inputs,
        "outputs": outputs,
    }
    return Compiled(
        source=_render("model.c.j2", words),
        header=_render("model.h.j2", words),
        inputs=inputs,
        outputs=outputs,
        kernels=tuple(headers.files({call.function for step in steps for call in step.calls})),
        defines=_defines(steps),
        operators=tuple(operator.type for operator in net.operators),
        arena_bytes=arena.size_bytes,
        constant_bytes=constants.size_bytes,
    )


def _defines(steps: Sequence[Step]) -> tuple[str, ...]:
    return ("EQ_NARROW_ACCUMULATORS",) if all(step.is_narrow for step in steps) else ()


def _ports(net: Network, tensors: Sequence[int], arena: Arena) -> tuple[Port, ...]:
    return tuple(_port(net, tensor, arena) for tensor in tensors)


def _port(net: Network, tensor: int, arena: Arena) -> Port:
    spec, shape = net.tensor(tensor), net.shape(tensor)
    quantization = spec.quantization
    return Port(
        name=text.escaped(spec.name),
        c_type=C_TYPES[spec.dtype],
        shape=shape,
        count=math.prod(shape),
        size_bytes=net.size_bytes(tensor),
        offset=arena.tensors[tensor],
        scale=quantization.scales[0] if quantization else None,
        zero_point=quantization.zero_points[0] if quantization else 0,
    )


def _variables(net: Network, arena: Arena) -> list[dict[str, int]]:
    """What `eq_model_reset` writes: zero, that is the zero point of int8."""
    found = []
    for tensor in arena.variables:
        spec = net.tensor(tensor)
        zero = spec.quantization.zero_points[0] if spec.quantization and spec.dtype == "int8" else 0
        found.append({"offset": arena.tensors[tensor], "size_bytes": net.size_bytes(tensor), "value": zero & 0xFF})
    return found


def _call(call: Call, step: int, arena: Arena, constants: text.Constants) -> str:
    words = [_argument(argument, step, arena, constants) for argument in call.arguments]
    return f"{call.function}({', '.join(words)});"


def _argument(argument: Argument, step: int, arena: Arena, constants: text.Constants) -> str:
    if isinstance(argument, Struct):
        return f"&{constants.struct(argument)}"
    if isinstance(argument, Table):
        return constants.table(argument)
    if isinstance(argument, Activation):
        kind = f"const {argument.c_type}" if argument.is_const else argument.c_type
        return f"AT({kind}, {arena.tensors[argument.tensor] + argument.offset}u)"
    if isinstance(argument, Scratch):
        return f"AT(void, {arena.scratch[step]}u)" if step in arena.scratch else "NULL"
    return str(argument)


def _render(template: str, words: Mapping[str, object]) -> str:
    return environment().get_template(template).render(words)


@functools.cache
def environment() -> jinja2.Environment:
    """Where the templates are; a name that is not given is an error."""
    import jinja2

    return jinja2.Environment(  # noqa: S701 what is rendered is C, where names are octal-escaped
        loader=jinja2.PackageLoader("edgeq.codegen"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
