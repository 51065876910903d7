"""Energy of one inference: the integral over the runs, less what the device takes at idle, and how sure that is.

A trace is a dict: `readings` [[ns, value], …] in mW, or mJ of a growing counter if `counts`; `period_ns`, over which
the sensor averages and renews its value; `slack_ns`, by how much the times may be off besides; `resolution`, one step
of the sensor. Windows are (start, end) in ns of the trace's clock. The uncertainty is meant to hold always, not two
times out of three: hard bounds are added, spreads are taken `_SIGMAS` wide.
"""

import math

from . import spread

MIN_READINGS = 5
SETTLE_SECONDS = 0.3
"""Between the runs and the idle time after them: clocks and regulators come to rest."""
FULL_SCALE_STEPS = 4096.0
"""Steps of a 12-bit sensor, where nobody tells its resolution and the readings do not show it."""
MAX_UNSEEN = 0.05
"""Share of the runs that may pass without readings."""
_HOLE_GAPS = 6
_MOVING = 20
"""Readings of which half or more changed, before as many that did not: by chance once in a million."""


def idle_seconds(period_s, rate_hz):
    """How long idle is measured: a second, or what a slow sensor needs for a handful of values of its own."""
    return max(1.0, 6 * period_s + 2 * MIN_READINGS / rate_hz)


class Unmeasured(Exception):
    """Energy cannot be told from these readings; says why."""


def per_inference(trace, idle, load, inferences, idle_after=None):
    """Energy in mJ with its uncertainty, and what it consists of; raises Unmeasured.

    `load` is a window or a list of them, `idle` and `idle_after` one window each.
    """
    if not trace.get("readings"):
        raise Unmeasured("%s gave no reading" % trace.get("source", "the sampler"))
    loads = [load] if isinstance(load[0], (int, float)) else list(load)
    before = level(trace, idle)
    after = level(trace, idle_after) if idle_after else None
    runs = [integral(trace, window) for window in loads]
    seconds = sum(end - start for start, end in loads) / 1e9
    load_mw = sum(run["mj"] for run in runs) / seconds
    idle_mw, drift_mw = _idle_during(loads, before, after)
    sign = -1.0 if idle_mw < 0 and load_mw < 0 else 1.0  # a shunt that is mounted the other way round
    parts = {
        "resolution": _resolution(trace, loads, before, seconds),
        "sampling": math.sqrt(sum(run["sampling_mj"] ** 2 for run in runs)),
        "idle": max(found["sampling_mw"] for found in (before, after) if found) * seconds,
        "drift": drift_mw * seconds,
        "alignment": sum(run["alignment_mj"] for run in runs),
    }
    unsure_mj = _together(parts)
    _significant(trace, sign * load_mw, sign * idle_mw, unsure_mj / seconds)
    return {
        "per_inference_mj": sign * (load_mw - idle_mw) * seconds / inferences,
        "uncertainty_mj": unsure_mj / inferences,
        "uncertainty_parts_mj": {name: part / inferences for name, part in parts.items()},
        "idle_mw": sign * idle_mw,
        "idle_before_mw": sign * before["mw"],
        "idle_after_mw": sign * after["mw"] if after else None,
        "load_mw": sign * load_mw,
        "source": "%s (%s), idle subtracted" % (trace["source"], trace["what"]),
        "includes": trace.get("includes", ""),
        "samples": sum(run["count"] for run in runs),
    }


def _together(parts):
    """Spreads of independent readings add up as squares, what is systematic as it is."""
    random = math.sqrt(parts["sampling"] ** 2 + parts["idle"] ** 2)
    return random + parts["resolution"] + parts["drift"] + parts["alignment"]


def _significant(trace, load_mw, idle_mw, unsure_mw):
    rise = load_mw - idle_mw
    if rise > unsure_mw and rise > 1e-9 * abs(idle_mw):
        return
    told = (trace["what"], load_mw, idle_mw, unsure_mw)
    if rise < -unsure_mw:
        raise Unmeasured("%s shows less power under load (%.1f mW) than at idle (%.1f mW, ± %.1f)" % told)
    raise Unmeasured("%s shows no more power under load (%.1f mW) than at idle (%.1f mW, ± %.1f)" % told)


def _idle_during(loads, before, after):
    """(idle power during the runs, how far it may have wandered): on the line between both idle windows."""
    if after is None:
        return before["mw"], 0.0
    middle = sum((start + end) / 2.0 * (end - start) for start, end in loads) / sum(end - start for start, end in loads)
    share = (middle - before["middle_ns"]) / max(1.0, after["middle_ns"] - before["middle_ns"])
    share = min(1.0, max(0.0, share))
    step = after["mw"] - before["mw"]
    return before["mw"] + share * step, abs(step) * max(share, 1.0 - share)


def _resolution(trace, loads, idle, seconds):
    """mJ by which rounding to the sensor's steps may shift load against idle."""
    step = trace.get("resolution")
    if trace["counts"]:
        return (step or 0.0) * (len(loads) + seconds / idle["seconds"])
    if step is None:
        windows = [[value for _ns, value in _within(trace["readings"], *window)] for window in loads]
        step = max(spread.step(values) or max(map(abs, values), default=0.0) / FULL_SCALE_STEPS for values in windows)
    return step * seconds


def level(trace, window):
    """Mean power over a window whose edges do not matter: {mw, sampling_mw, seconds, middle_ns}."""
    period, slack = trace.get("period_ns", 0), trace.get("slack_ns", 0)
    inside = _enough(trace, _within(trace["readings"], window[0] + 2 * period + slack, window[1] - slack))
    seconds = (inside[-1][0] - inside[0][0]) / 1e9
    if seconds <= 0:
        raise Unmeasured("all readings of %s have one time" % trace["source"])
    mj = inside[-1][1] - inside[0][1] if trace["counts"] else spread.area(inside)
    powers = spread.powers(inside) if trace["counts"] else inside
    return {
        "mw": mj / seconds,
        "sampling_mw": spread.unsure(powers, period) / seconds,
        "seconds": seconds,
        "middle_ns": (inside[0][0] + inside[-1][0]) / 2.0 - period,
    }


def integral(trace, window):
    """Energy over exactly this window: {mj, count, sampling_mj, alignment_mj}."""
    return _counted(trace, window) if trace["counts"] else _integrated(trace, window)


def mean_mw(trace, window):
    """(mean power in mW over a window, readings in it)."""
    found = integral(trace, window)
    return found["mj"] / ((window[1] - window[0]) / 1e9), found["count"]


def _integrated(trace, window):
    period, slack = trace.get("period_ns", 0), trace.get("slack_ns", 0)
    # A value is the mean over the period that ended up to one period ago: on average it is one period old.
    readings = [(ns - period, value) for ns, value in trace["readings"]]
    inside = _enough(trace, _within(readings, *window))
    if inside[-1][0] <= inside[0][0]:
        raise Unmeasured("all readings of %s have one time" % trace["source"])
    _refuse_frozen(trace, inside)
    unseen = _unseen(trace, readings, window)
    points = _cut(readings, inside, window)
    reach = period + slack
    values = [value for _ns, value in points]
    return {
        "mj": spread.area(points),
        "count": len(inside),
        "sampling_mj": spread.unsure(inside, period),
        "alignment_mj": sum(_edge(readings, edge, reach) for edge in window) + unseen * (max(values) - min(values)),
    }


def _counted(trace, window):
    period, slack = trace.get("period_ns", 0), trace.get("slack_ns", 0)
    readings = [(ns - period / 2.0, value) for ns, value in trace["readings"]]
    inside = _enough(trace, _within(readings, *window))
    floor_mw = max(0.0, min((mw for _ns, mw in spread.powers(readings)), default=0.0))
    (start, below), (end, above) = [_count_at(trace, readings, edge, floor_mw) for edge in window]
    power = max(mw for _ns, mw in spread.powers(inside))
    return {
        "mj": end - start,
        "count": len(inside),
        "sampling_mj": 0.0,
        "alignment_mj": below + above + 2 * (period / 2.0 + slack) / 1e9 * power,
    }


def _count_at(trace, readings, edge, floor_mw):
    """(counter at a moment between two readings, how wrong that can be): at least the floor flowed all the time."""
    for (a_ns, a_mj), (b_ns, b_mj) in zip(readings, readings[1:]):
        if a_ns <= edge < b_ns:
            share = (edge - a_ns) / float(b_ns - a_ns)
            loose = max(0.0, b_mj - a_mj - floor_mw * (b_ns - a_ns) / 1e9)
            return a_mj + (b_mj - a_mj) * share, loose * max(share, 1.0 - share)
    raise Unmeasured("%s has no reading on both sides of the runs" % trace["source"])


def _within(readings, start, end):
    return [(ns, value) for ns, value in readings if start <= ns <= end]


def _enough(trace, inside):
    if len(inside) < MIN_READINGS:
        raise Unmeasured("only %d readings of %s fell into the runs; run longer" % (len(inside), trace["source"]))
    return inside


def _cut(readings, inside, window):
    """The readings inside of a window and the values at its edges; the nearest reading where there is none beyond."""
    edges = [_at(readings, edge) for edge in window]
    first = (window[0], edges[0] if edges[0] is not None else inside[0][1])
    last = (window[1], edges[1] if edges[1] is not None else inside[-1][1])
    return [first, *inside, last]


def _at(readings, edge_ns):
    """The value at a moment, on the line between the readings around it; None outside of them."""
    for (a_ns, a_value), (b_ns, b_value) in zip(readings, readings[1:]):
        if a_ns <= edge_ns < b_ns:
            return a_value + (b_value - a_value) * (edge_ns - a_ns) / (b_ns - a_ns)
    return None


def _edge(readings, edge, reach):
    """mJ that the window's edge may be wrong by: readings may be late by `reach`, and a step hides in a gap."""
    before = [reading for reading in readings if reading[0] < edge - reach][-1:]
    after = [reading for reading in readings if reading[0] > edge + reach][:1]
    near = before + _within(readings, edge - reach, edge + reach) + after
    if len(near) < 2:
        return 0.0
    gap = max(b[0] - a[0] for a, b in zip(near, near[1:]))
    values = [value for _ns, value in near]
    return (reach + gap / 2.0) / 1e9 * (max(values) - min(values))


def _unseen(trace, readings, window):
    """Seconds of the window in holes between readings; raises Unmeasured when that is too much of it."""
    gaps = sorted(b[0] - a[0] for a, b in zip(readings, readings[1:]))
    usual = max(_HOLE_GAPS * gaps[len(gaps) // 2], 2 * trace.get("period_ns", 0))
    moments = [window[0]] + [ns for ns, _value in _within(readings, *window)] + [window[1]]
    if readings[0][0] <= window[0]:
        moments[0] = max(ns for ns, _value in readings if ns <= window[0])
    if readings[-1][0] >= window[1]:
        moments[-1] = min(ns for ns, _value in readings if ns >= window[1])
    holes_ns = sum(b - a for a, b in zip(moments, moments[1:]) if b - a > usual)
    if holes_ns > MAX_UNSEEN * (window[1] - window[0]):
        told = (trace["source"], holes_ns / 1e9, (window[1] - window[0]) / 1e9)
        raise Unmeasured("%s gave no readings for %.2f s of the runs' %.2f s" % told)
    return holes_ns / 1e9


def _refuse_frozen(trace, inside):
    """A value that changed most of the time and then stands still is no reading any more."""
    values = [value for _ns, value in inside]
    longest, changes = spread.longest_run(values)
    others = len(values) - longest
    if others < _MOVING or changes < others / 2.0:
        return
    gap = (inside[-1][0] - inside[0][0]) / float(len(inside) - 1)
    if longest > _MOVING * max(1.0, trace.get("period_ns", 0) / gap):
        raise Unmeasured("%s stood still for %.2f s of the runs" % (trace["source"], longest * gap / 1e9))
