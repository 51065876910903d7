"""First and steady-state latency with the monotonic clock.

Every function takes `clock`, which returns ns and never goes back; another one than the kernel's is for tests.
"""

import time

from . import events, warming
from .session import groups

SHORTEST_NS = 100000
MAX_SAMPLES = 20000
CLOCK = time.monotonic_ns
_WARMUP_RUNS = 3


def timed_ns(session, batch, clock=CLOCK):
    """(moment, ns) at which `batch` inferences of the inputs that were fed began, and how long they took."""
    start_ns = clock()
    for _ in range(batch):
        session.invoke()
    return start_ns, clock() - start_ns


def first_ns(session, inputs, clock=CLOCK):
    """ns of the very first inference, its inputs already in place."""
    session.feed(inputs, 0)
    return max(1, timed_ns(session, 1, clock)[1])


def warm_up(session, inputs, seconds, clock=CLOCK):
    """Run until the level is steady, for `seconds` at least and ten times that at most.

    Returns (inferences that one sample takes so that it lasts 100 µs or more, what the warm-up was like).
    """
    count, levels = groups(session, inputs), warming.Levels(seconds)
    begun_ns = clock()
    shortest_ns, runs, spent = None, 0, 0.0
    while runs < _WARMUP_RUNS or spent < seconds or not levels.over(spent):
        events.progress("warm-up", int(min(spent / max(seconds, 1e-9), 0.999) * 1000) + 1, 1002)
        session.feed(inputs, runs % count)
        start_ns, elapsed_ns = timed_ns(session, 1, clock)
        elapsed_ns = max(1, elapsed_ns)
        shortest_ns = min(shortest_ns or elapsed_ns, elapsed_ns)
        levels.add((start_ns - begun_ns) / 1e9, elapsed_ns)
        runs += 1
        spent = (clock() - begun_ns) / 1e9
    events.progress("warm-up", 1002, 1002)
    found = {"seconds": spent, "runs": runs, "steady": levels.steady, "wander": levels.wander}
    return max(1, -(-SHORTEST_NS // shortest_ns)), found


class Samples:
    """At most 20,000 samples spread evenly over the runs: when full, every second one goes.

    `starts_ns` is when each began, counted from the first.
    """

    def __init__(self, limit=MAX_SAMPLES):
        self.values_ns, self.starts_ns, self.stride, self.total = [], [], 1, 0
        self._limit = limit
        self._begun_ns = None

    def add(self, value_ns, start_ns=0):
        """Take a sample if it is this stride's turn."""
        if self._begun_ns is None:
            self._begun_ns = start_ns
        if self.total % self.stride == 0:
            self.values_ns.append(value_ns)
            self.starts_ns.append(start_ns - self._begun_ns)
        self.total += 1
        if len(self.values_ns) >= self._limit:
            self.values_ns, self.starts_ns = self.values_ns[::2], self.starts_ns[::2]
            self.stride *= 2


def steady(session, inputs, batch, runs, seconds, clock=CLOCK):
    """(samples in ns per inference, (start, end) in monotonic ns): at least `runs` samples and `seconds`.

    Golden vectors take turns; feeding them is not part of a sample.
    """
    count, samples = groups(session, inputs), Samples()
    begun_ns = now_ns = clock()
    end_ns = begun_ns + int(seconds * 1e9)
    while samples.total < runs or now_ns < end_ns:
        session.feed(inputs, samples.total % count)
        start_ns, elapsed_ns = timed_ns(session, batch, clock)
        samples.add(max(1, elapsed_ns // batch), start_ns)
        now_ns = clock()
        share = min(samples.total / max(1, runs), (now_ns - begun_ns) / max(1, end_ns - begun_ns))
        events.progress("runs", int(1000 * min(share, 0.999)) + 1, 1001)
    events.progress("runs", 1001, 1001)
    return samples, (begun_ns, now_ns)
