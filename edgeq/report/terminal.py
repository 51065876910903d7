"""Tables for people, as rich renderables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgeq.report import measured
from edgeq.types import (
    Check,
    Energy,
    Finding,
    Measurement,
    ModelGraph,
    Port,
    QuantizedModel,
    Report,
    Validation,
)
from edgeq.units import format_ms, format_size

SEVERITY_STYLES = {"stop": "bold red", "warning": "yellow", "note": ""}


def table(title: str | None, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A plain table; cells are taken as text, never as markup."""
    result = Table(*columns, title=_title(title), title_justify="left", box=None, pad_edge=False)
    for row in rows:
        result.add_row(*(value if isinstance(value, Text) else Text(cell(value)) for value in row))
    return result


def _title(title: str | None) -> Text | None:
    """A title as text, never as markup: it may hold a path; line breaks before it set it apart."""
    if title is None:
        return None
    words = title.lstrip("\n")
    return Text("\n" * (len(title) - len(words)) + cell(words), "bold")


def cell(value: object) -> str:
    """A value as plain text for one cell of a table."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.5g}"
    # Names come from model files: control characters must not reach the terminal.
    return "".join(char if char.isprintable() else "?" for char in str(value))


def _mark(ok: bool) -> Text:
    return Text("ok", "green") if ok else Text("no", "bold red")


def inspect(graph: ModelGraph, *, every_operator: bool = False) -> RenderableType:
    """Totals, inputs and outputs, operators: counted by type, or each one."""
    totals = [
        ("format", f"{graph.format} ({graph.state})"),
        ("file", format_size(graph.size_bytes)),
        ("parameters", f"{graph.parameters:,}"),
        ("weights", format_size(graph.weight_bytes)),
        ("MACs", f"{graph.macs:,}"),
        ("peak activations", format_size(graph.peak_activation_bytes)),
        *(("note", note) for note in graph.notes),
    ]
    ends = [("input", index) for index in graph.inputs] + [("output", index) for index in graph.outputs]
    ports = [(end, graph.tensors[i].name, _shape(graph.tensors[i].shape), graph.tensors[i].dtype) for end, i in ends]
    macs: Counter[str] = Counter()
    for operator in graph.operators:
        macs[operator.type] += operator.macs
    counts = Counter(operator.type for operator in graph.operators)
    rows = [(kind, count, f"{macs[kind]:,}") for kind, count in counts.most_common()]
    operators = table("\noperators", ("operator", "count", "MACs"), rows)
    if every_operator:
        each = [(o.index, o.type, o.version, _shapes(graph, o.inputs), _shapes(graph, o.outputs), f"{o.macs:,}")
                for o in graph.operators]  # fmt: skip
        operators = table("\noperators", ("#", "operator", "version", "inputs", "outputs", "MACs"), each)
    return Group(
        table(graph.path, ("", ""), totals), table("\nports", ("", "name", "shape", "dtype"), ports), operators
    )


def _shapes(graph: ModelGraph, indices: Iterable[int]) -> str:
    return " ".join(_shape(graph.tensors[index].shape) for index in indices if index >= 0)


def _shape(shape: Sequence[int]) -> str:
    return "x".join("?" if size < 0 else str(size) for size in shape) or "scalar"


def checks(title: str | None, found: Iterable[Check]) -> RenderableType:
    """Checks with what was needed and had."""
    rows = [
        (_mark(check.ok), check.rule, check.subject, quantity(check.needed, check.unit),
         quantity(check.available, check.unit), check.why + (f" (try: {check.hint})" if check.hint else ""))
        for check in found
    ]  # fmt: skip
    return table(title, ("", "rule", "subject", "needed", "available", "why"), rows)


def quantity(value: float | str | None, unit: str) -> str:
    """A figure with its unit, sizes and times in the unit that suits them."""
    if isinstance(value, int | float) and unit in ("bytes", "B"):
        return format_size(value)
    if isinstance(value, int | float) and unit == "ms":
        return format_ms(value)
    return f"{cell(value)} {unit}" if value is not None and unit else cell(value)


def quantize(found: QuantizedModel) -> RenderableType:
    """Float beside INT8, fidelity per output, what was given up on the way."""
    artifact, accuracy = found.artifact, found.accuracy
    rows: list[Sequence[object]] = [
        ("scheme", "float32", found.plan.scheme.name),
        ("size", format_size(artifact.float_size_bytes), format_size(artifact.size_bytes)),
    ]
    if accuracy:
        rows.append((accuracy.metric, accuracy.float_score, accuracy.quantized_score))
        rows.append(("drop", "", f"{cell(accuracy.drop)} (accepted {accuracy.tolerance:.4g})"))
    parts: list[RenderableType] = [table(artifact.path, ("", "float", "quantized"), rows)]
    if found.fidelity:
        scores = [(f.name, f.cosine, f.sqnr_db, f.max_abs_error) for f in found.fidelity]
        parts.append(table("\nlikeness to float", ("output", "cosine", "SQNR dB", "max error"), scores))
    if found.tried:
        parts.append(table("\ntried, in this order", TRIAL_COLUMNS, trial_rows(found)))
    parts += [Text(f"note: {cell(note)}") for note in found.notes]
    parts += symptoms(found.findings)
    if accuracy and not accuracy.ok:
        parts.append(Text(f"does not hold: {cell(accuracy.why)}", "bold red"))
    return Group(*parts)


TRIAL_COLUMNS = ("", "scheme", "score", "drop", "SQNR dB", "size", "predicted", "why it was given up")


def trial_rows(found: QuantizedModel) -> list[Sequence[object]]:
    """Every candidate of a search with its scores; a star where none is better in drop, size and latency at once."""
    return [
        (
            "*" if one.on_front else "",
            one.scheme,
            one.score,
            one.drop,
            one.sqnr_db,
            format_size(one.size_bytes) if one.size_bytes else None,
            format_ms(one.latency_ms) if one.latency_ms else None,
            one.why,
        )
        for one in found.plan.trials
    ]


def symptoms(found: Iterable[Finding], *, evidence: bool = False) -> list[RenderableType]:
    """What the calibration doctor found, one after the other; with `evidence` its figures too."""
    parts: list[RenderableType] = []
    for one in found:
        hint = f" (try: {cell(one.hint)})" if one.hint else ""
        parts.append(Text.assemble((one.severity, SEVERITY_STYLES[one.severity]), f": {cell(one.why)}{hint}"))
        if evidence:
            parts.append(Text("  " + ", ".join(f"{name} {cell(value)}" for name, value in one.evidence.items())))
    return parts


def diagnosis(findings: Sequence[Finding], calibration: int, scored: int, *, evidence: bool = False) -> RenderableType:
    """What the calibration doctor found, or that it found nothing."""
    looked = f"{calibration} calibration samples, {scored} scored samples"
    if not findings:
        return Text(f"nothing speaks against these samples: {looked}", "bold green")
    return Group(Text(looked, "bold"), *symptoms(findings, evidence=evidence))


def ports(title: str, found: Sequence[Port]) -> RenderableType:
    """An I/O contract."""
    rows = [(port.name, _shape(port.shape), port.dtype, port.scale, port.zero_point) for port in found]
    return table(title, ("name", "shape", "dtype", "scale", "zero point"), rows)


def measurement(found: Measurement) -> RenderableType:
    """Latency, memory, energy, parity, conditions; what is missing says why."""
    memory = found.memory_bytes
    rows: list[Sequence[object]] = [("runtime", runtime(found.runtime)), *measured.overview(found)]
    rows += measured.memory(memory)
    if found.firmware:
        rows += measured.firmware(found.firmware)
    if found.energy:
        rows += _energy(found.energy)
    if found.parity:
        how = "exact" if found.parity.exact else f"within {found.parity.max_steps:.3g} steps"
        rows.append(("parity", f"{how} on {found.parity.vectors} golden vectors"))
    before, after = found.conditions.before, found.conditions.after
    for name, value in (
        ("governor", before.governor),
        ("temperature", _between(before.temperature_c, after.temperature_c)),
    ):
        if value:
            rows.append((name, value))
    rows += _missing(found.unavailable)
    told = table(f"measured on {cell(found.device.get('name', 'device'))}", ("", ""), rows)
    if not found.operators:
        return told
    each = table("\noperators by the interpreter's profiler", measured.OPERATOR_COLUMNS, measured.operators(found))
    return Group(told, each)


def _missing(reasons: Mapping[str, str]) -> list[Sequence[object]]:
    """What was not measured and why; quantities that share a reason share a row."""
    shared: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        shared.setdefault(reason, []).append(name)
    return [
        (f"no {first}", f"{reason} (nor {', '.join(others)})" if others else reason)
        for reason, (first, *others) in shared.items()
    ]


def _energy(found: Energy) -> list[Sequence[object]]:
    unsure = f" ± {found.uncertainty_mj:.2g}" if found.uncertainty_mj is not None else ""
    rows: list[Sequence[object]] = [("energy", f"{found.per_inference_mj:.4g}{unsure} mJ, from {found.source}")]
    return [*rows, ("", f"of {found.includes}")] if found.includes else rows


def runtime(found: Mapping[str, str]) -> str:
    """Name, version and threads."""
    threads = found.get("threads")
    return f"{found.get('name', '-')} {found.get('version', '')}" + (f", {threads} threads" if threads else "")


def _between(before: float | None, after: float | None) -> str | None:
    if before is None or after is None:
        return None
    return f"{before:.1f} °C before, {after:.1f} °C after"


def validation(found: Validation) -> RenderableType:
    """The metric by float, by the host and by the device."""
    row = (
        found.metric,
        found.samples,
        found.float_score,
        found.host_score,
        found.device_score,
        found.differing_samples,
    )
    return table("validated", ("metric", "samples", "float", "host", "device", "differing"), [row])


def report(found: Report) -> RenderableType:
    """All of it, ending in the verdict."""
    parts: list[RenderableType] = [Text(cell(found.model), "bold")]
    if found.quantized:
        parts += [quantize(found.quantized), Text("")]
    if found.measurement:
        parts += [measurement(found.measurement), *_prediction(found), Text("")]
    if found.validation:
        parts += [validation(found.validation), Text("")]
    parts.append(checks("verdict", found.verdict.checks))
    holds = found.verdict.ok
    parts.append(Text("everything holds" if holds else "not everything holds", "bold green" if holds else "bold red"))
    return Group(*parts)


def _prediction(found: Report) -> list[RenderableType]:
    """Predicted latency beside the measured one, where there are both."""
    predicted = found.quantized.plan.predicted if found.quantized else None
    measured = found.measurement.latency_ms if found.measurement else None
    if predicted is None or predicted.latency_ms is None or measured is None or not measured.p50:
        return []
    error = predicted.latency_ms / measured.p50 - 1
    words = f"predicted {format_ms(predicted.latency_ms)}, off by {error:+.0%} (from {cell(predicted.source)})"
    return [Text(words)]


def flat(found: Mapping[str, object], prefix: str = "") -> list[tuple[str, object]]:
    """Rows of a nested mapping: `cpu.model` and its value."""
    rows: list[tuple[str, object]] = []
    for key, value in found.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list) else value))
    return rows
