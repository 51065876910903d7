"""Which schemes there are, in which order they are tried, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from edgeq.errors import PlanError
from edgeq.planning import risks
from edgeq.types import FLOAT32, Cpu, OperatorTable, Plan, RangeMethod, Scheme, Signature

Prefer = Literal["latency", "memory", "accuracy"]
Format = Literal["tflite", "onnx"]

KNOWN = (
    "static_wi8_ai8",
    "static_wi8_ai8_per_tensor",
    "static_wi8_ai8_mixed",
    "static_wi8_ai16",
    "dynamic_wi8_af32",
    "weight_only_wf16",
    "weight_only_wi8",
    "weight_only_wi4",
    "float32",
    "as_is",
)


MIXED = "static_wi8_ai8_mixed"
ISLAND = "of the operators measured it loses among the most"


class Step(NamedTuple):
    """One rung of the ladder; `signedness` counts the choices that the CPU's table gives.

    `on` restricts it to runtimes whose int16 kernels are fast, or to those whose are slow.
    """

    name: str
    ranges: RangeMethod = "min-max"
    signedness: int = 0
    on: Literal["any", "fast-int16", "slow-int16"] = "any"
    corrected: bool = False


class Rung(NamedTuple):
    """A scheme with its place in the ladder and a sentence on its integer types."""

    scheme: Scheme
    place: int
    why: str


_LADDER = (
    Step("static_wi8_ai8", "percentile"),
    Step("static_wi8_ai8", "mean-squared-error"),
    Step("static_wi8_ai8", "min-max"),
    Step("static_wi8_ai8", "percentile", corrected=True),
    Step("static_wi8_ai8", "mean-squared-error", corrected=True),
    Step("static_wi8_ai8", "percentile", 1),
    Step("static_wi8_ai8", "percentile", 1, corrected=True),
    Step("static_wi8_ai8_per_tensor", "percentile"),
    Step("static_wi8_ai8_per_tensor", "mean-squared-error"),
    Step("static_wi8_ai8_per_tensor", "min-max"),
    Step("static_wi8_ai8_per_tensor", "percentile", corrected=True),
    Step("static_wi8_ai16", on="fast-int16"),
    Step("static_wi8_ai8_mixed", "percentile"),
    Step("static_wi8_ai8_mixed", "mean-squared-error"),
    Step("dynamic_wi8_af32"),
    Step("weight_only_wf16"),
    Step("weight_only_wi8"),
    Step("weight_only_wi4"),
    Step("static_wi8_ai16", on="slow-int16"),
    Step("float32"),
)
"""Fastest first: integer arithmetic throughout, then in parts, then float arithmetic on smaller weights.

int16 activations come before float arithmetic where kernels for them are optimized: on microcontrollers (CMSIS-NN has
them) and NPUs (Ethos-U runs them at half the rate of int8). LiteRT's CPU kernels for them are the reference ones: eight
convolutions took 273 ms on an x86-64, 9 ms in float, 2.5 ms in int8. So there they come last.

Corrected weights run as fast as others; making them takes longer, so ranges are tried first.

Ranges by percentile first: it lost least on most models measured (docs/decisions/0005-ranges.md)."""

_RISK = (
    "as_is",
    "float32",
    "weight_only_wf16",
    "weight_only_wi8",
    "static_wi8_ai16",
    "dynamic_wi8_af32",
    "static_wi8_ai8_mixed",
    "static_wi8_ai8",
    "static_wi8_ai8_per_tensor",
    "weight_only_wi4",
)
"""Least accuracy at risk first."""

_FLOATING = {
    "dynamic_wi8_af32": Signature(
        activations="float32", weights="int8", granularity="per-channel", symmetric="weights"
    ),
    "weight_only_wf16": Signature(activations="float32", weights="float16"),
    "weight_only_wi8": Signature(activations="float32", weights="int8", granularity="per-channel", symmetric="weights"),
    "weight_only_wi4": Signature(activations="float32", weights="int4", granularity="per-channel", symmetric="weights"),
    "float32": FLOAT32,
}
_AI16 = Signature(activations="int16", weights="int8", bias="int64", granularity="per-channel", symmetric="both")
_WIDE = ("int16", "uint16")
_WHY_AI16 = (
    "16-bit activations and int8 weights: fine steps where 8 bits lose too much, for twice the activations' memory."
)


class Signedness(NamedTuple):
    """Integer types of a static scheme, with the reason."""

    activations: str
    weights: str
    why: str
    reduce_range: bool = False


_NO_VNNI = "this x86 CPU is not known to have VNNI, and without it onnxruntime's kernels saturate on int8 weights."
_INT8 = Signedness("int8", "int8", "int8 activations and int8 weights, as the kernels of this CPU expect.")
_UINT8_FIRST = (
    Signedness("uint8", "uint8", f"uint8 activations and uint8 weights: {_NO_VNNI}"),
    Signedness("uint8", "int8", f"int8 weights kept to 7 bits: {_NO_VNNI}", reduce_range=True),
)
_UINT8_ACTIVATIONS = Signedness(
    "uint8",
    "int8",
    "uint8 activations and int8 weights: onnxruntime fuses them best on x86, and VNNI does not saturate.",
)
_X86 = ("x86_64", "amd64", "i386", "i686")
_VNNI = ("avx512_vnni", "avx_vnni")


def signedness(model_format: Format, cpu: Cpu, table: OperatorTable | None = None) -> tuple[Signedness, ...]:
    """Integer types to try, best first: an accelerator's are those that most of its table's signatures have.

    On AVX2 without VNNI onnxruntime scores kws_dscnn 0.09 in int8/int8, 0.900 in uint8/uint8, 0.898 in uint8/int8 with
    7-bit weights, and mobilenet_v2 0.752, 0.792, 0.794 (design/facts.md). With VNNI int8 activations leave residual
    branches of resnet8 and mobilenet_v2 in float, at twice the time of uint8 activations.
    """
    if model_format != "onnx":
        return (_INT8,)
    if table is not None and table.placement != "cpu":
        return (_of_accelerator(table),)
    if cpu.arch not in _X86:
        return (_INT8,)
    return (_UINT8_ACTIVATIONS,) if set(_VNNI).intersection(cpu.features) else _UINT8_FIRST


def _of_accelerator(table: OperatorTable) -> Signedness:
    activations = _most(table, ("int8", "uint8"))
    pairs = [one for row in table.operators.values() for one in row.signatures or () if one.activations == activations]
    weights = "int8" if any(one.weights == "int8" for one in pairs) else activations
    why = f"{activations} activations and {weights} weights, which {table.name} takes for most operators."
    return Signedness(activations, weights, why)


def _most(table: OperatorTable, kinds: tuple[str, str]) -> str:
    """The kind of activations that more signatures of a table have; the first of two equals."""
    rows = [one.activations for row in table.operators.values() for one in row.signatures or ()]
    return max(kinds, key=rows.count)


def demand_known(name: str | None) -> None:
    """Raise PlanError for a scheme's name that does not exist."""
    if name is not None and name not in KNOWN:
        raise PlanError(f"unknown scheme {name!r}", hint=f"use one of {', '.join(KNOWN)}")


def ladder(
    model_format: Format, cpu: Cpu, table: OperatorTable | None = None, *, fast_int16: bool = False
) -> Iterator[Rung]:
    """Every scheme for a float model, fastest first."""
    choices = signedness(model_format, cpu, table)
    wide = _wide(model_format, table)
    speed = "fast-int16" if fast_int16 else "slow-int16"
    for place, step in enumerate(_LADDER):
        if step.signedness < len(choices) and step.on in ("any", speed):
            yield _rung(step, place, choices[step.signedness], wide)


def _wide(model_format: Format, table: OperatorTable | None) -> Signature:
    """The 16-bit signature of a format, unsigned where an accelerator's table has more of it."""
    if model_format != "onnx" or table is None or table.placement == "cpu" or _most(table, _WIDE) == "int16":
        return _AI16
    return dataclasses.replace(_AI16, activations="uint16", bias="int32", symmetric="weights")


def _rung(step: Step, place: int, choice: Signedness, wide: Signature) -> Rung:
    if step.name == "static_wi8_ai16":
        return Rung(Scheme(name=step.name, default=wide, ranges=step.ranges), place, _WHY_AI16)
    default = _FLOATING.get(step.name) or _static(choice, step.name)
    reduced = choice.reduce_range and step.name not in _FLOATING
    scheme = Scheme(name=step.name, default=default, ranges=step.ranges, reduce_range=reduced, corrected=step.corrected)
    return Rung(scheme, place, choice.why)


def _static(choice: Signedness, name: str) -> Signature:
    return Signature(
        activations=choice.activations,
        weights=choice.weights,
        bias="int32",
        granularity="per-tensor" if name.endswith("_per_tensor") else "per-channel",
        symmetric="weights" if choice.weights == "int8" else "none",
    )


def order(prefer: Prefer) -> Callable[[Plan, int], tuple[float, ...]]:
    """Sort key of a plan at a place in the ladder: smaller is tried earlier. Raises PlanError."""
    orders: dict[str, Callable[[Plan, int], tuple[float, ...]]] = {
        "latency": lambda _, place: (place,),
        "memory": lambda plan, place: (plan.memory.ram_bytes, place),
        "accuracy": lambda plan, place: (
            risk_of(plan.scheme.name),
            risks.total(plan.risks),
            not plan.scheme.corrected,
            place,
        ),
    }
    if prefer not in orders:
        raise PlanError(f"unknown preference {prefer!r}", hint=f"use one of {', '.join(orders)}")
    return orders[prefer]


def risk_of(name: str) -> int:
    """Place of a scheme in the order of accuracy at risk, the least first."""
    return _RISK.index(name)


def bare(scheme: Scheme) -> Scheme:
    """The scheme of the ladder that one with overrides and islands was made of."""
    name = scheme.name
    if scheme.islands and name == MIXED:
        name = "static_wi8_ai8_per_tensor" if scheme.default.granularity == "per-tensor" else "static_wi8_ai8"
    return dataclasses.replace(scheme, name=name, overrides={}, islands=())


def label(scheme: Scheme) -> str:
    """Name of a scheme with what sets it apart from others of that name."""
    if not scheme.is_static:
        return scheme.name
    bits = " in 7 bits" if scheme.reduce_range else ""
    parts = [f"{scheme.default.activations}/{scheme.default.weights}{bits}", scheme.ranges]
    parts += ["corrected"] if scheme.corrected else []
    parts += [f"{len(scheme.islands)} in float"] if scheme.islands else []
    return f"{scheme.name} ({', '.join(parts)})"
