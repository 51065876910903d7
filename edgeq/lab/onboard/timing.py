"""First and steady-state latency with the monotonic clock."""

import time

from . import events
from .session import groups

SHORTEST_NS = 100000
MAX_SAMPLES = 20000
_WARMUP_RUNS = 3


def timed_ns(session, batch):
    """ns of `batch` inferences of the inputs that were fed."""
    start_ns = time.perf_counter_ns()
    for _ in range(batch):
        session.invoke()
    return time.perf_counter_ns() - start_ns


def first_ns(session, inputs):
    """ns of the very first inference, its inputs already in place."""
    session.feed(inputs, 0)
    return timed_ns(session, 1)


def warm_up(session, inputs, seconds):
    """Run for a while; returns how many inferences one sample takes so that it lasts 100 µs or more."""
    count, start_ns = groups(session, inputs), time.perf_counter_ns()
    shortest_ns, runs, spent = None, 0, 0.0
    while spent < seconds or runs < _WARMUP_RUNS:
        events.progress("warm-up", int(min(spent, seconds) * 1000) + 1, int(seconds * 1000) + 2)
        session.feed(inputs, runs % count)
        elapsed_ns = max(1, timed_ns(session, 1))
        shortest_ns = min(shortest_ns or elapsed_ns, elapsed_ns)
        runs += 1
        spent = (time.perf_counter_ns() - start_ns) / 1e9
    return max(1, -(-SHORTEST_NS // shortest_ns))


class Samples:
    """At most 20,000 samples spread evenly over the runs: when full, every second one goes."""

    def __init__(self, limit=MAX_SAMPLES):
        self.values_ns, self.stride, self.total = [], 1, 0
        self._limit = limit

    def add(self, value_ns):
        """Take a sample if it is this stride's turn."""
        if self.total % self.stride == 0:
            self.values_ns.append(value_ns)
        self.total += 1
        if len(self.values_ns) >= self._limit:
            self.values_ns = self.values_ns[::2]
            self.stride *= 2


def steady(session, inputs, batch, runs, seconds):
    """(samples in ns per inference, (start, end) in monotonic ns): at least `runs` samples and `seconds`.

    Golden vectors take turns; feeding them is not part of a sample.
    """
    count, samples = groups(session, inputs), Samples()
    begun_ns = now_ns = time.monotonic_ns()
    end_ns = begun_ns + int(seconds * 1e9)
    while samples.total < runs or now_ns < end_ns:
        session.feed(inputs, samples.total % count)
        samples.add(max(1, timed_ns(session, batch) // batch))
        now_ns = time.monotonic_ns()
        share = min(samples.total / max(1, runs), (now_ns - begun_ns) / max(1, end_ns - begun_ns))
        events.progress("runs", int(1000 * min(share, 0.999)) + 1, 1001)
    events.progress("runs", 1001, 1001)
    return samples, (begun_ns, now_ns)
