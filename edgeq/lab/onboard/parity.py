"""Golden vectors on the device against the host's outputs."""

from . import events
from .session import groups

MAX_STEPS = 1e300
"""As many as the host takes; a quotient beyond it could be infinite, which JSON has not."""


def check(session, inputs, golden, ports, tolerance_steps):
    """{exact, max_steps, vectors, ok, not_finite} over all golden vectors.

    Integer outputs count in quantization steps, float ones in 1/255ths of the golden values' range.
    """
    ranges = [_step(array, port) for array, port in zip(golden, ports)]
    worst, exact, broken = 0.0, True, 0
    count = groups(session, inputs)
    for number in range(count):
        events.progress("parity", number + 1, count)
        found = session.run(inputs, number)
        for have, whole, step in zip(found, golden, ranges):
            size = len(whole) // count
            steps, same, bad = compare(have, whole[number * size : (number + 1) * size], step)
            worst, exact, broken = max(worst, steps), exact and same, broken + bad
    ok = not broken and worst <= tolerance_steps
    return {
        "exact": exact,
        "max_steps": worst,
        "vectors": count * session.batch,
        "ok": ok,
        "not_finite": broken,
        "tolerance_steps": tolerance_steps,
    }


def _step(golden, port):
    """What one step is: 1 for stored integers, a 255th of the golden range for floats."""
    import numpy as np

    if not port["dtype"].startswith("float"):
        return 1.0
    finite = golden[np.isfinite(golden)].astype(np.float64)
    if not finite.size:
        return 1.0 / 255.0
    spread = float(finite.max()) / 255.0 - float(finite.min()) / 255.0  # the whole range of a float64 is infinite
    return spread or float(np.abs(finite).max()) / 255.0 or 1.0 / 255.0


def compare(have, want, step):
    """(steps, bit-equal, values that are no number) of one output; another shape or dtype is no number at all."""
    import numpy as np

    if have.shape != want.shape or have.dtype != want.dtype:
        return 0.0, False, max(1, int(have.size))
    if have.tobytes() == want.tobytes() and (want.dtype.kind != "f" or np.isfinite(want).all()):
        return 0.0, True, 0
    wide = np.float64 if want.dtype.kind in "fu" or want.dtype == np.int64 else np.int64
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(have.astype(wide) - want.astype(wide)).astype(np.float64)
    bad = ~np.isfinite(difference) | (have.astype(wide) != have.astype(wide))
    largest = float(difference[~bad].max()) if (~bad).any() else 0.0
    return min(largest / step, MAX_STEPS), False, int(bad.sum())
