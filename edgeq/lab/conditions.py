"""What the device said about its state, as Conditions with reasons for what it did not tell."""

from __future__ import annotations

from edgeq.lab.answers import State
from edgeq.lab.faults import clean
from edgeq.types import Conditions, ConditionsPair

NOW_BITS = 0xF
SINCE_BOOT_SHIFT = 16
_REASONS = {
    "governor": "the kernel has no cpufreq governor here",
    "frequency": "the kernel tells no clock frequency here",
    "temperature": "the kernel has no temperature sensor here",
    "load_1min": "the kernel tells no load average here",
    "memory_available_bytes": "the kernel tells no available memory here",
    "throttled": "neither vcgencmd nor the kernel tells about throttling here",
}


def conditions(state: State) -> Conditions:
    """State at one moment. `throttled` is the Raspberry Pi's answer for now: under-voltage, capped, throttled, hot."""
    return Conditions(
        governor=clean(state.governor, 100) if state.governor else None,
        frequency_hz=state.frequency_hz,
        temperature_c=state.temperature_c,
        load_1min=state.load_1min,
        memory_available_bytes=state.memory_available_bytes,
        throttled=None if state.throttled_bits is None else bool(state.throttled_bits & NOW_BITS),
    )


def pair(before: State, after: State) -> ConditionsPair:
    """Both moments, and whether the device was throttled at any time between them."""
    return ConditionsPair(
        before=conditions(before), after=conditions(after), throttled=throttled_between(before, after)
    )


def throttled_between(before: State, after: State) -> bool | None:
    """Throttled at either end, or newly marked since boot (bits 16-19), or an x86 counter rose."""
    told: list[bool] = []
    if before.throttled_bits is not None and after.throttled_bits is not None:
        fresh = (after.throttled_bits & ~before.throttled_bits) >> SINCE_BOOT_SHIFT
        told.append(bool((before.throttled_bits | after.throttled_bits | fresh) & NOW_BITS))
    if before.throttle_count is not None and after.throttle_count is not None:
        told.append(after.throttle_count > before.throttle_count)
    return any(told) if told else None


def unavailable(found: ConditionsPair) -> dict[str, str]:
    """A reason for every quantity that the device did not tell."""
    ends = (found.before, found.after)
    present = {
        "governor": all(end.governor is not None for end in ends),
        "frequency": all(end.frequency_hz for end in ends),
        "temperature": all(end.temperature_c is not None for end in ends),
        "load_1min": all(end.load_1min is not None for end in ends),
        "memory_available_bytes": all(end.memory_available_bytes is not None for end in ends),
        "throttled": found.throttled is not None,
    }
    return {name: _REASONS[name] for name, told in present.items() if not told}
