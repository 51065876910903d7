"""LiteRT's reference kernels, proved by one-operator models; their float ones are the twins of all TFLite provers."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from edgeq.conformance import litert
from edgeq.types import Case, OperatorTable, Outcome, Progress, silent

version, cases = litert.version, litert.cases
run = functools.partial(litert.run, resolver="BUILTIN_REF")


def prove(cases: Sequence[Case], table: OperatorTable, *, progress: Progress = silent) -> Iterator[Outcome]:
    """Run each case in a child process; see `edgeq.conformance.tflite.trying`."""
    from edgeq.conformance.tflite import trying

    return trying.prove(cases, table, "litert_reference", progress=progress)
