"""Energy of one inference: the integral over the runs, less what the device takes at idle."""

MIN_READINGS = 5
MIN_RISE = 1e-3
"""Least rise over idle, as a share of it: below that a 12-bit sensor, or rounding here, shows nothing."""


class Unmeasured(Exception):
    """Energy cannot be told from these readings; says why."""


def per_inference(trace, idle, load, inferences):
    """Energy in mJ from a trace and the (start, end) windows in ns; raises Unmeasured."""
    if not trace.get("readings"):
        raise Unmeasured("%s gave no reading" % trace.get("source", "the sampler"))
    idle_mw, _ = mean_mw(trace, idle)
    load_mw, count = mean_mw(trace, load)
    if idle_mw < 0 and load_mw < 0:
        idle_mw, load_mw = -idle_mw, -load_mw
    if load_mw - idle_mw <= MIN_RISE * abs(idle_mw):
        raise Unmeasured(
            "%s shows no more power under load (%.1f mW) than at idle (%.1f mW)" % (trace["what"], load_mw, idle_mw)
        )
    seconds = (load[1] - load[0]) / 1e9
    return {
        "per_inference_mj": (load_mw - idle_mw) * seconds / inferences,
        "idle_mw": idle_mw,
        "load_mw": load_mw,
        "source": "%s (%s), idle subtracted" % (trace["source"], trace["what"]),
        "samples": count,
    }


def mean_mw(trace, window):
    """(mean power in mW over a window, readings in it): trapezoids, or a counter's rise; both cut at the edges."""
    readings = trace["readings"]
    inside = [(ns, value) for ns, value in readings if window[0] <= ns <= window[1]]
    if len(inside) < MIN_READINGS:
        raise Unmeasured("only %d readings of %s fell into the runs; run longer" % (len(inside), trace["source"]))
    edges = [(edge, value) for edge, value in ((edge, _at(readings, edge)) for edge in window) if value is not None]
    points = sorted(set(inside + edges))
    seconds = (points[-1][0] - points[0][0]) / 1e9
    if seconds <= 0:
        raise Unmeasured("all readings of %s have one time" % trace["source"])
    if trace["counts"]:
        return (points[-1][1] - points[0][1]) / seconds, len(inside)
    pairs = zip(points, points[1:])
    area = sum((a_value + b_value) / 2.0 * (b_ns - a_ns) / 1e9 for (a_ns, a_value), (b_ns, b_value) in pairs)
    return area / seconds, len(inside)


def _at(readings, edge_ns):
    """The value at a moment, on the line between the readings around it; None outside of them."""
    for (a_ns, a_value), (b_ns, b_value) in zip(readings, readings[1:]):
        if a_ns <= edge_ns < b_ns:
            return a_value + (b_value - a_value) * (edge_ns - a_ns) / (b_ns - a_ns)
    return None
