"""LiteRT's CPU kernels, XNNPACK among them, proved by one-operator models."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from edgeq.runtimes import litert
from edgeq.types import Case, OperatorTable, Outcome, Progress, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

version = litert.version
RESOLVER = "BUILTIN"


def cases(table: OperatorTable) -> list[Case]:
    """Every claim of the table, and every denial among the schema's operators."""
    from edgeq.conformance.tflite import cases as tflite

    return tflite.cases(table, schema_operators())


def prove(cases: Sequence[Case], table: OperatorTable, *, progress: Progress = silent) -> Iterator[Outcome]:
    """Run each case in a child process; see `edgeq.conformance.tflite.trying`."""
    from edgeq.conformance.tflite import trying

    return trying.prove(cases, table, "litert", progress=progress)


def run(model: bytes, feeds: Sequence[NDArray[Any]], resolver: str = RESOLVER) -> list[NDArray[Any]]:
    """Load a model, run it once on its inputs in order, and return its outputs; raises what the interpreter raises."""
    from ai_edge_litert import interpreter as runtime

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the interpreter's own notes on itself
        made = runtime.Interpreter(
            model_content=model, num_threads=1, experimental_op_resolver_type=runtime.OpResolverType[resolver]
        )
    made.allocate_tensors()
    for detail, values in zip(made.get_input_details(), feeds, strict=True):
        made.set_tensor(detail["index"], values)
    made.reset_all_variables()
    made.invoke()
    return [made.get_tensor(detail["index"]) for detail in made.get_output_details()]


def schema_operators() -> list[str]:
    """Names of all operators of LiteRT's schema."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    return [name for name in vars(BuiltinOperator) if name.isupper()]
