"""The `bench` verb: one measurement from an idle device to the parity check."""

import os
import time

from . import bundle as bundles
from . import conditions, energy, events, interpreters, machine, memory, meters, parity, sampler, timing
from .events import Failure
from .session import Session

IDLE_SECONDS = 1.0
DEFAULTS = {"runs": 50, "seconds": 1.0, "warmup_seconds": 0.5, "threads": None, "cpus": [], "timeout_seconds": 600.0}


def run(folder, settings, roots):
    """Measure the bundle in `folder` and emit the result."""
    settings = dict(DEFAULTS, **settings)
    unavailable = {"arena": "the interpreter's Python interface does not tell its arena"}
    bundle = bundles.Bundle(folder, settings.get("files"))
    allowed = os.sched_getaffinity(0)
    pin(settings["cpus"])
    interpreter = interpreters.choose(bundle.format)  # first of all: NumPy comes with it
    inputs = bundles.arrays(bundle.golden, "input", bundle.inputs)
    golden = bundles.arrays(bundle.golden, "output", bundle.outputs)
    before = conditions.read(roots)
    sampling = start_sampling(roots, settings, allowed, unavailable)
    try:
        idle = idle_window() if sampling else None
        session = Session(bundle, interpreter, settings["threads"] or 1)
        latency, window = measure_latency(session, inputs, settings)
        trace = sampling.stop() if sampling else None
    finally:
        if sampling:
            sampling.close()
    used, reasons = memory.read(roots)
    unavailable.update(reasons)
    after = conditions.read(roots)
    events.emit(
        "result",
        device=machine.describe(roots),
        runtime=session.about(),
        latency=latency,
        memory=used,
        energy=take_energy(trace, idle, window, latency["inferences"], unavailable) if trace is not None else None,
        conditions={"before": before, "after": after},
        parity=parity.check(session, inputs, golden, bundle.outputs, settings.get("tolerance_steps", 1.0)),
        unavailable=unavailable,
    )


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
    """A sampler on the cores of `allowed` that the runs leave free, or None with the reason noted."""
    try:
        source = meters.find(settings.get("meter") or "auto", roots)
        free = sorted(allowed - set(settings["cpus"])) if settings["cpus"] else ()
        return sampler.Sampling(source.name, roots, free)
    except meters.Absent as absent:
        unavailable["energy_mj"] = str(absent)
        return None


def idle_window():
    """(start, end) in monotonic ns of a second in which this process does nothing."""
    start_ns = time.monotonic_ns()
    events.progress("idle power", 0, 1)
    time.sleep(IDLE_SECONDS)
    return start_ns, time.monotonic_ns()


def measure_latency(session, inputs, settings):
    """(plain latency values, window of the runs)."""
    first_ns = timing.first_ns(session, inputs)
    batch = timing.warm_up(session, inputs, settings["warmup_seconds"])
    samples, window = timing.steady(session, inputs, batch, settings["runs"], settings["seconds"])
    latency = {
        "load_ns": session.load_ns,
        "first_ns": first_ns,
        "samples_ns": samples.values_ns,
        "batch": batch,
        "inferences": samples.total * batch,
        "stride": samples.stride,
    }
    return latency, window


def take_energy(trace, idle, window, inferences, unavailable):
    """Energy per inference, or None with the reason noted."""
    try:
        return energy.per_inference(trace, idle, window, inferences)
    except energy.Unmeasured as reason:
        unavailable["energy_mj"] = str(reason)
        return None
