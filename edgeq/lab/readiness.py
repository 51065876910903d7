"""What may speak against measuring on a device as it is, each with how bad it is and the command that mends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval, Len

from edgeq.lab.answers import Bytes, Count, Interpreter, Machine, State, Text
from edgeq.lab.faults import clean
from edgeq.types import Check, Cpu
from edgeq.units import format_size

STEADY_GOVERNORS = ("performance",)
NEAR_C = 10.0
"""So near to the trip point a device will be throttled before the runs are over."""
WRONG_TIME_SECONDS = 120.0
INTERPRETER_BYTES = 96 << 20
"""Python, NumPy and an interpreter; about 40 MiB stay resident, more is touched while they load."""
BUSY_LOAD = 2.0
_BITS = {
    0x1: ("under-voltage", "use a power supply and cable that hold 5 V; on the device: vcgencmd get_throttled"),
    0x2: ("its clock is capped", "cool it or its supply; on the device: vcgencmd get_throttled"),
    0x4: ("throttled", "cool it or its supply; on the device: vcgencmd get_throttled"),
    0x8: ("at its soft temperature limit", "cool it; on the device: vcgencmd measure_temp"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Room for the bundle, and why nothing can be written there; `present_bytes` of it lie there already."""

    free_bytes: Bytes | None
    free_files: Bytes | None
    obstacle: Text | None
    present_bytes: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """A process that takes `share` of a core."""

    pid: Count
    name: Text
    share: Annotated[float, Interval(ge=0, le=1e4)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """A core whose clock is capped below its highest, and what can set clocks."""

    capped_hz: Annotated[int, Interval(ge=0, le=10**11)] | None
    max_hz: Annotated[int, Interval(ge=0, le=10**11)] | None
    governors: Annotated[tuple[Text, ...], Len(0, 20)]
    cpupower: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Answer of `preflight`; `runtimes` is empty when the bundle is `deployed`."""

    event: Text
    device: Machine
    deployed: bool
    runtimes: Annotated[dict[Text, Interpreter], Len(0, 20)]
    conditions: State
    disk: Disk
    memory_free_bytes: Bytes | None
    busy: Annotated[tuple[Busy, ...], Len(0, 20)]
    throttles_at_c: Annotated[float, Interval(ge=0, le=300)] | None
    clock: Clock
    time_s: Annotated[float, Interval(ge=-1e12, le=1e12)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the bundle needs, and when the device was asked: this host's time before and after, in s since 1970."""

    arch: str = ""
    target: str = ""
    features: tuple[str, ...] = ()
    begun_s: float = 0.0
    ended_s: float = 0.0
    planned_ram_bytes: int | None = None


def warnings(told: Ready, asked: Asked) -> tuple[Check, ...]:
    """Everything that spoils numbers and stops nothing."""
    rules = (_processor, _memory, _governor, _cap, _load, _temperature, _throttled, _time)
    return tuple(check for rule in rules for check in rule(told, asked))


def _warning(subject: str, why: str, command: str | None = None, *, advice: str | None = None) -> Check:
    """A finding with a command for the device, or with advice where none mends it."""
    hint = f"on the device: {command}" if command else advice
    return Check(rule="preflight", subject=subject, ok=False, why=clean(why), hint=hint)


def _processor(told: Ready, asked: Asked) -> Iterator[Check]:
    """The target that was planned for against the processor that is there."""
    if asked.arch and asked.arch != told.device.machine:
        yield _warning(
            "processor", f"the bundle was planned for {asked.target} ({asked.arch}); this is {told.device.machine}"
        )
        return
    lacking = lacks(Cpu(arch=asked.arch, core="", features=asked.features), told.device.cpu.features)
    if lacking:
        words = f"it lacks {', '.join(lacking)}, which {asked.target} has: INT8 may be slower here or round otherwise"
        yield _warning("processor", words)


def lacks(cpu: Cpu, there: tuple[str, ...]) -> tuple[str, ...]:
    """Features of a target's processor that a device does not have, where it tells any."""
    return tuple(name for name in cpu.features if name not in there) if there else ()


def _memory(told: Ready, asked: Asked) -> Iterator[Check]:
    """Room for the interpreter beside what was planned."""
    free, planned = told.memory_free_bytes, asked.planned_ram_bytes or 0
    if free is not None and free < planned + INTERPRETER_BYTES:
        needs = f"model {format_size(planned)}, interpreter some {format_size(INTERPRETER_BYTES)}"
        yield _warning("memory", f"{format_size(free)} of memory are free; {needs}", "ps aux --sort=-rss | head")


def _governor(told: Ready, _asked: Asked) -> Iterator[Check]:
    found = told.conditions.governor
    moving = [name for name in (found or "").split(",") if name and name not in STEADY_GOVERNORS]
    if not moving:
        return
    if told.clock.governors and "performance" not in told.clock.governors:
        mend = None
    elif told.clock.cpupower:
        mend = "sudo cpupower frequency-set -g performance"
    else:
        mend = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
    yield _warning("governor", f"the governor is {', '.join(moving)}: the clock follows the load", mend)


def _cap(told: Ready, _asked: Asked) -> Iterator[Check]:
    capped, most = told.clock.capped_hz, told.clock.max_hz
    if capped is not None and most:
        mend = f"echo {most // 1000} | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_max_freq"
        yield _warning("clock", f"the clock is capped at {capped / 1e6:.0f} of {most / 1e6:.0f} MHz", mend)


def _load(told: Ready, _asked: Asked) -> Iterator[Check]:
    for one in told.busy:
        words = f"{clean(one.name, 60)} (process {one.pid}) takes {one.share:.0%} of a core"
        yield _warning("load", words, f"kill {one.pid}, or wait until it ends")
    load, cores = told.conditions.load_1min, told.device.cpu.cores
    if not told.busy and load is not None and load >= max(BUSY_LOAD, cores / 2):
        yield _warning("load", f"the load of the last minute is {load:.1f} on {cores} cores", "top")


def _temperature(told: Ready, _asked: Asked) -> Iterator[Check]:
    now, trip = told.conditions.temperature_c, told.throttles_at_c
    if now is not None and trip is not None and now >= trip - NEAR_C:
        yield _warning(
            "temperature", f"{now:.0f} °C, and it throttles at {trip:.0f} °C", advice="let it cool, or give it a fan"
        )


def _throttled(told: Ready, _asked: Asked) -> Iterator[Check]:
    bits = told.conditions.throttled_bits or 0
    for bit, (what, mend) in _BITS.items():
        if bits & bit:
            yield _warning("throttling", f"now: {what}", advice=mend)


def _time(told: Ready, asked: Asked) -> Iterator[Check]:
    """How far its clock is from this host's, whenever within the call it was read."""
    if not asked.ended_s:
        return
    off = min((told.time_s - moment for moment in (asked.begun_s, asked.ended_s)), key=abs)
    if asked.begun_s <= told.time_s <= asked.ended_s or abs(off) < WRONG_TIME_SECONDS:
        return
    words = f"its clock is {_span(abs(off))} {'ahead of' if off > 0 else 'behind'} this host's"
    yield _warning("time", words, "sudo timedatectl set-ntp true")


def _span(seconds: float) -> str:
    for name, length in (("years", 31_557_600), ("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds:.0f} s"
