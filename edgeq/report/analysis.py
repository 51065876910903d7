"""What `edgeq analyze` found: rows for the terminal and for HTML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from edgeq.report.terminal import table
from edgeq.types import Analysis, Blame, OperatorAnalysis

WORST = 5
"""Operators whose quantizers are shown where not all are."""
LENGTH = 40
QUANTIZERS = {
    "symmetric_per_tensor": "symmetric",
    "symmetric_per_channel": "symmetric /ch",
    "asymmetric_per_tensor": "asymmetric",
    "asymmetric_per_channel": "asymmetric /ch",
    "power_of_two": "power of 2",
    "logarithmic": "logarithmic",
    "k_means": "k-means",
    "k_means_4_bit": "k-means 4 bit",
}
COLUMNS = (
    "#",
    "operator",
    "accumulated",
    "alone",
    "possible",
    "kernels",
    "range",
    "used",
    "clipped",
    "spread",
    "result",
)
STEP_COLUMNS = ("step", "SQNR dB", "wrong", "what")


def terminal(found: Analysis, *, every_operator: bool = False) -> RenderableType:
    """Steps, operators, quantizers of the worst operators or of all, the verdict."""
    shown = found.operators if every_operator else worst(found)
    return Group(
        table(
            printable(f"{found.quantized} against {found.model}, {found.samples} samples"), STEP_COLUMNS, steps(found)
        ),
        table("\noperators (SQNR in dB)", COLUMNS, [_marked(row, cells(row)) for row in found.operators]),
        table("\nwhat each quantizer would reach (SQNR in dB, 8 bits)", quantizer_columns(), costs(shown)),
        *(Text(f"note: {printable(note)}") for note in found.notes),
        Text(""),
        *verdict(found),
    )


def steps(found: Analysis) -> list[Sequence[object]]:
    """One row for each step of the chain."""
    return [(step.step, decibels(step.sqnr_db), step.wrong_operators, step.what) for step in found.steps]


def cells(row: OperatorAnalysis) -> list[object]:
    """One operator in words and numbers."""
    if row.unavailable:
        return [_number(row), row.type, *["-"] * 8, short(f"{row.name}: {row.unavailable}", 2 * LENGTH)]
    spreads = [weight.channel_spread for weight in row.weights if weight.quantizers and weight.channel_spread]
    return [
        _number(row),
        row.type,
        decibels(row.accumulated_db),
        decibels(row.alone_db),
        decibels(row.expected_db),
        decibels(row.runtime_db),
        ends(row.range),
        ends(row.used),
        f"{row.clipped_share:.2%}",
        f"{max(spreads):.3g}" if spreads else "-",
        short(row.name),
    ]


def _number(row: OperatorAnalysis) -> object:
    return "in" if row.index < 0 else row.index


def _marked(row: OperatorAnalysis, values: list[object]) -> list[object]:
    return [Text(str(values[0]), "bold red"), *values[1:]] if row.why else values


def decibels(value: float | None) -> str:
    """One place behind the point; equal values say so."""
    if value is None:
        return "-"
    return "equal" if value >= 200 else f"{value:.1f}"


def ends(found: tuple[float, float] | None) -> str:
    """A range; `float` where nothing is quantized."""
    return "float" if found is None else f"{found[0]:.4g} .. {found[1]:.4g}"


def short(text: str, length: int = LENGTH) -> str:
    """The end of a long name, which tells more than its start."""
    return text if len(text) <= length else "..." + text[3 - length :]


def quantizer_columns() -> tuple[str, ...]:
    """Columns of the table of quantizers."""
    return ("#", "of", *QUANTIZERS.values())


def costs(rows: Iterable[OperatorAnalysis]) -> Iterator[Sequence[object]]:
    """One row for each operator's weights and one for its result."""
    for row in rows:
        for weight in row.weights:
            if weight.quantizers:
                what = f"operand {weight.operand} ({weight.dtype})"
                yield _number(row), what, *(decibels(weight.quantizers.get(name)) for name in QUANTIZERS)
        if row.quantizers:
            yield _number(row), f"result ({row.dtype})", *(decibels(row.quantizers.get(name)) for name in QUANTIZERS)


def worst(found: Analysis, count: int = WORST) -> list[OperatorAnalysis]:
    """Operators furthest beyond what they should cost, then those with the least SQNR, in order of execution."""
    measured = [row for row in found.operators if not row.unavailable and (row.weights or row.range)]
    ranked = sorted(measured, key=lambda row: (-_excess(row), row.alone_db if row.alone_db is not None else 999))
    kept = {row.index for row in ranked[:count]}
    return [row for row in found.operators if row.index in kept]


def _excess(row: OperatorAnalysis) -> float:
    return max(row.excess_db.values(), default=0.0) if row.why else 0.0


def verdict(found: Analysis) -> Iterator[Text]:
    """Who is to blame, in one or two sentences."""
    if found.guilty is None or found.first_wrong is None:
        yield Text("every operator costs what sound quantization costs there", "bold green")
        return
    first, guilty = found.first_wrong, found.guilty
    yield Text(f"first wrong: {sentence(first)}", "bold red")
    if (first.step, first.index) != (guilty.step, guilty.index):
        yield Text(f"most wrong:  {sentence(guilty)}", "bold red")


def sentence(one: Blame) -> str:
    """Which operator, which step, how much, why."""
    what = f"operator {one.index} {printable(one.type)}" if one.index >= 0 else "the model's input"
    why = "; ".join(printable(reason) for reason in one.why)
    return f"{what} ({printable(short(one.name))}) in step {one.step}, {one.excess_db:.1f} dB beyond what is due: {why}"


def printable(text: str) -> str:
    """Text of a model file without anything that could steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)
