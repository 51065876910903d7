"""Under which circumstances two reports were measured, where those differ."""

from __future__ import annotations

from collections.abc import Iterator

from edgeq.types import Measurement, Mismatch, Report

CLOCK_DIFFERS = 0.05
WARMER_C = 15.0


def target(report: Report) -> str:
    """Name of the target that a report is for."""
    if report.bundle:
        return report.bundle.target
    return report.quantized.plan.target if report.quantized else ""


def mismatches(before: Report, after: Report) -> Iterator[Mismatch]:
    """Circumstances that differ; other hardware or another target sets two measurements apart."""
    sides = before.measurement, after.measurement
    if sides[0] is not None and sides[1] is not None:
        yield from _differing(sides[0], sides[1])
        yield from _strained(sides[0], sides[1])
    yield from _named("target", target(before), target(after), apart=True)
    if before.quantized and after.quantized:
        plans = before.quantized.plan, after.quantized.plan
        yield from _named("scheme", plans[0].scheme.name, plans[1].scheme.name)
        yield from _named("float model", before.quantized.float_sha256[:12], after.quantized.float_sha256[:12])


def _named(what: str, before: object, after: object, *, apart: bool = False) -> Iterator[Mismatch]:
    if before != after:
        yield Mismatch(what=what, before=_words(before), after=_words(after), apart=apart)


def _words(value: object) -> str:
    return "-" if value in (None, "", ()) else ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _differing(before: Measurement, after: Measurement) -> Iterator[Mismatch]:
    devices = before.device, after.device
    for what, key, apart in (("board", "board", True), ("architecture", "machine", True), ("device", "name", False),
                             ("host name", "hostname", False), ("kernel", "kernel", False)):  # fmt: skip
        yield from _named(what, devices[0].get(key), devices[1].get(key), apart=apart)
    processors = [one if isinstance(one := device.get("cpu"), dict) else {} for device in devices]
    yield from _named("processor", processors[0].get("model"), processors[1].get("model"), apart=True)
    yield from _named("cores", processors[0].get("cores"), processors[1].get("cores"))
    for key in ("name", "version", "threads"):
        what = "runtime" if key == "name" else f"runtime {key}"
        yield from _named(what, before.runtime.get(key), after.runtime.get(key))
    yield from _named("pinned to", before.settings.cpus, after.settings.cpus)
    yield from _named("governor", before.conditions.before.governor, after.conditions.before.governor)


def _strained(before: Measurement, after: Measurement) -> Iterator[Mismatch]:
    """Clock, temperature and throttling; small differences are usual."""
    states = before.conditions, after.conditions
    clocks = [max((*one.before.frequency_hz, *one.after.frequency_hz), default=0) for one in states]
    if all(clocks) and abs(clocks[1] / clocks[0] - 1) > CLOCK_DIFFERS:
        yield from _named("clock", *(f"{clock / 1e6:.0f} MHz" for clock in clocks))
    warmth = [one.after.temperature_c for one in states]
    if warmth[0] is not None and warmth[1] is not None and abs(warmth[1] - warmth[0]) > WARMER_C:
        yield from _named("temperature", *(f"{one:.0f} °C" for one in warmth))
    yield from _busy(before, after)
    yield from _named("level moved", *("yes" if one.steadiness and one.steadiness.changes else "no"
                                       for one in (before, after)))  # fmt: skip
    if before.energy and after.energy:
        yield from _named("power from", before.energy.source, after.energy.source)
    yield from _named("throttled", *("yes" if one.throttled else "no" for one in states))


def _busy(before: Measurement, after: Measurement) -> Iterator[Mismatch]:
    """Other programs that wanted more than all cores, while one of the two was measured."""
    loads = [one.conditions.before.load_1min for one in (before, after)]
    cores = [cpu.get("cores") if isinstance(cpu := one.device.get("cpu"), dict) else None for one in (before, after)]
    full = [isinstance(core, int) and load is not None and load > core for load, core in zip(loads, cores, strict=True)]
    if any(full):
        yield from _named("load", *(f"{load:.1f}" if load is not None else "-" for load in loads))
