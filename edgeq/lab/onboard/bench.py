"""The `bench` verb: one measurement from an idle device to the parity check."""

import os
import time

from . import bundle as bundles
from . import conditions, energy, events, interpreters, machine, meters, parity, parts, sampler, timing
from .events import Failure
from .session import Session

DEFAULTS = {"runs": 50, "seconds": 1.0, "warmup_seconds": 0.5, "threads": None, "cpus": [], "timeout_seconds": 600.0}
NO_MEMORY = dict.fromkeys(("peak_rss", "pss", "cgroup_peak", "floor_rss", "model_rss", "model_file"))
PARTS = {
    "memory": (tuple(NO_MEMORY), ("memory", "unavailable")),
    "beside": (("speedup",), ("rounds", "batches", "seconds")),
    "operators": (("operators",), ("operators", "runs", "left_out")),
}
"""Of each part: what is missing when it fails, and what it tells."""


def run(folder, settings, roots, clock=timing.CLOCK):
    """Measure the bundle in `folder` and emit the result."""
    settings = dict(DEFAULTS, **settings)
    unavailable = {"arena": "the interpreter's Python interface does not tell its arena"}
    bundle = bundles.Bundle(folder, settings.get("files"))
    allowed = os.sched_getaffinity(0)
    pin(settings["cpus"])
    sampling, metered = start_sampling(roots, settings, allowed, unavailable)
    try:
        interpreter = interpreters.choose(bundle.format)  # before NumPy is used: it comes with it
        inputs = bundles.arrays(bundle.golden, "input", bundle.inputs)
        golden = bundles.arrays(bundle.golden, "output", bundle.outputs)
        before = conditions.read(roots)
        sampling, metered = settled(sampling, metered, unavailable)
        idle = idle_window(metered) if metered else None
        session = Session(bundle, interpreter, settings["threads"] or 1)
        latency, window = measure_latency(session, inputs, settings, clock)
        idle_after = idle_window(metered, energy.SETTLE_SECONDS) if metered else None
        trace = sampling.stop() if sampling else {}
    finally:
        if sampling:
            sampling.close()
    after = conditions.read(roots)
    drawn = take_energy(trace, (idle, idle_after), window, latency["inferences"], unavailable) if metered else None
    checked = parity.check(session, inputs, golden, bundle.outputs, settings.get("tolerance_steps", 1.0))
    answer = {
        "device": machine.describe(roots),
        "runtime": session.about(),
        "latency": latency,
        "energy": drawn,
        "conditions": {"before": before, "after": after},
        "watched": watched(trace, window),
        "parity": checked,
    }
    del session  # the other processes have the device for themselves
    answer.update(take_parts(folder, dict(settings, interpreter=interpreter), roots, bundle, unavailable))
    events.emit("result", unavailable=unavailable, **answer)


def take_parts(folder, settings, roots, bundle, unavailable):
    """What is measured in processes of their own: memory, float beside INT8, operators."""
    wanted = ["memory"]
    if not settings.get("compare_float"):
        unavailable["speedup"] = "--no-float was asked for"
    elif not bundle.manifest.get("float_model"):
        unavailable["speedup"] = "the bundle carries no float model"
    else:
        wanted.append("beside")
    if settings.get("operators"):
        wanted.append("operators")
    found = {"memory": dict(NO_MEMORY)}
    for verb, told in parts.ask(wanted, folder, settings, roots).items():
        missing, names = PARTS[verb]
        if isinstance(told, Failure):
            unavailable.update(dict.fromkeys(missing, told.message[:500]))
        elif verb == "memory":
            found["memory"] = told["memory"]
            unavailable.update(told["unavailable"])
        else:
            found[verb] = {name: told[name] for name in names}
    return found


def watched(trace, window):
    """Rows of the device's state, their times counted in ns from the first run."""
    return [[row[0] - window[0], *row[1:]] for row in trace.get("watched", [])]


def pin(cpus):
    """Keep this process and its threads on the given cores; raises Failure `bad-settings`."""
    if not cpus:
        return
    try:
        os.sched_setaffinity(0, cpus)
    except (OSError, ValueError, OverflowError):
        known = ",".join(str(cpu) for cpu in sorted(os.sched_getaffinity(0)))
        message = "the device cannot run on cores %s; it has %s" % (",".join(map(str, cpus)), known)
        raise Failure("bad-settings", message) from None


def start_sampling(roots, settings, allowed, unavailable):
    """(a sampler that starts on the cores of `allowed` that the runs leave free, its power source or None)."""
    free = sorted(allowed - set(settings["cpus"])) if settings["cpus"] else ()
    try:
        source = meters.find(settings.get("meter") or "auto", roots)
    except meters.Absent as absent:
        unavailable["energy_mj"] = str(absent)
        source = None
    return sampler.Sampling(source.name if source else sampler.NO_SOURCE, roots, free, watched=True), source


def settled(sampling, source, unavailable):
    """The same pair once the sampler has started; without its source where that failed, None where nothing samples."""
    try:
        sampling.wait()
        return sampling, source
    except meters.Absent as absent:
        unavailable["energy_mj" if source else "watched"] = str(absent)
    return settled(sampling.again(sampler.NO_SOURCE), None, unavailable) if source else (None, None)


def idle_window(source, settle_seconds=0.0):
    """(start, end) in monotonic ns in which this process does nothing, long enough for the source."""
    events.progress("idle power", 0, 1)
    time.sleep(settle_seconds)
    start_ns = time.monotonic_ns()
    time.sleep(energy.idle_seconds(source.period_s, sampler.RATES_HZ[source.name]))
    return start_ns, time.monotonic_ns()


def measure_latency(session, inputs, settings, clock):
    """(plain latency values, window of the runs)."""
    first_ns = timing.first_ns(session, inputs, clock)
    batch, warmup = timing.warm_up(session, inputs, settings["warmup_seconds"], clock)
    seconds = max(settings["seconds"], 60.0 * (settings.get("sustained_minutes") or 0.0))
    samples, window = timing.steady(session, inputs, batch, settings["runs"], seconds, clock)
    latency = {
        "load_ns": session.load_ns,
        "first_ns": first_ns,
        "samples_ns": samples.values_ns,
        "starts_ns": samples.starts_ns,
        "batch": batch,
        "inferences": samples.total * batch,
        "stride": samples.stride,
        "warmup": warmup,
    }
    return latency, window


def take_energy(trace, idles, window, inferences, unavailable):
    """Energy per inference, or None with the reason noted; `idles` are the windows before and after."""
    try:
        return energy.per_inference(trace, idles[0], window, inferences, idles[1])
    except energy.Unmeasured as reason:
        unavailable["energy_mj"] = str(reason)
        return None
