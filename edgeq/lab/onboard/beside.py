"""The `beside` verb: float and quantized model in one process, in turn, so that their ratio means something.

What slows the device for a while slows both. Each round runs one block of either, in an order drawn by lot; the first
sample of a block finds the other model's data in the caches and is not counted.
"""

import random
from statistics import median

from . import bundle as bundles
from . import events, files, interpreters, timing
from .events import Failure
from .session import Session, groups, guard, match

ROUNDS = 30
LEAST_ROUNDS = 6
MAX_ROUNDS = 400
MOST_SAMPLES = 500
_WARM_SHARE = 0.25
_ROOM_BYTES = 64 << 20
_ROOM_TIMES = 3
"""An interpreter unpacks weights beside the mapped file; with less free memory than this, it is not tried."""


class Float:
    """The float model behind the bundle's I/O contract: stored values become real ones before they are timed."""

    def __init__(self, bundle, path, name, threads):
        self.batch = bundles.batch(bundle.inputs)
        self.model = guard("loading the float model", lambda: interpreters.build(name, path, threads))
        ports, _outputs = self.model.ports()
        if len(ports) != len(bundle.inputs):
            raise Failure("model-failed", "the float model has other inputs than io.json")
        self._kinds = [kind for _name, kind in ports]
        self._places = match([port["name"] for port in bundle.inputs], [name for name, _kind in ports])
        self.invoke = self.model.invoke

    def reals(self, inputs, contract):
        """The stored inputs as the float model's own types take them."""
        return [
            real(array, port).astype(self._kinds[place]) for array, port, place in zip(inputs, contract, self._places)
        ]

    def feed(self, arrays, number):
        """Make vector group `number` of real values the next inputs."""
        start = number * self.batch
        chosen = [None] * len(arrays)
        for array, place in zip(arrays, self._places):
            chosen[place] = array[start : start + self.batch]
        guard("setting the float model's inputs", lambda: self.model.feed(chosen))


def real(array, port):
    """Real values of stored ones."""
    scale = port.get("scale")
    return array if not scale else (array.astype("float32") - (port.get("zero_point") or 0)) * scale


def run(folder, settings, roots, clock=timing.CLOCK):
    """Measure both models in turn and emit the rounds: [float ns, quantized ns], medians of their blocks."""
    bundle = bundles.Bundle(folder, settings.get("files"))
    path = bundle.float_model()
    if path is None:
        raise Failure("model-failed", "the bundle carries no float model")
    refuse_little_memory(path, roots)
    inputs = bundles.arrays(bundle.golden, "input", bundle.inputs)
    name, threads = settings["interpreter"], settings.get("threads") or 1
    other = Float(bundle, path, name, threads)
    pairs = [(other, other.reals(inputs, bundle.inputs)), (Session(bundle, name, threads), inputs)]
    guard("running the models", lambda: [timing.first_ns(session, arrays, clock) for session, arrays in pairs])
    begun_ns = clock()
    warm = settings.get("warmup_seconds", 0.5) * _WARM_SHARE
    batches = [timing.warm_up(session, arrays, warm, clock)[0] for session, arrays in pairs]
    rounds = interleave(pairs, batches, settings.get("seconds", 1.0), clock, random.Random(0))
    events.emit("result", rounds=rounds, batches=batches, seconds=(clock() - begun_ns) / 1e9)


def refuse_little_memory(path, roots):
    """Raises Failure where a second model may not find room beside the first."""
    free = files.kib_field(roots.proc / "meminfo", "MemAvailable")
    needed = _ROOM_TIMES * path.stat().st_size + _ROOM_BYTES
    if free is not None and free < needed:
        message = "%d MiB of memory are free, the float model may need %d MiB" % (free >> 20, needed >> 20)
        raise Failure("out-of-memory", message)


def interleave(pairs, batches, seconds, clock, lot):
    """Rounds of [float ns, quantized ns]: six at least, then until so many s have passed."""
    sizes = _sizes(pairs, batches, seconds, clock)
    rounds, begun_ns, spent = [], clock(), 0.0
    while len(rounds) < LEAST_ROUNDS or (spent < seconds and len(rounds) < MAX_ROUNDS):
        found = [0, 0]
        for side in lot.sample((0, 1), 2):
            found[side] = _block(*pairs[side], batches[side], sizes, len(rounds), clock)
        rounds.append(found)
        spent = (clock() - begun_ns) / 1e9
        events.progress("float beside INT8", int(1000 * min(spent / max(seconds, 1e-9), 0.999)) + 1, 1001)
    return rounds


def _sizes(pairs, batches, seconds, clock):
    """Samples of one block, so that some 30 rounds fill the time."""
    once_ns = sum(timing.timed_ns(session, batch, clock)[1] for (session, _inputs), batch in zip(pairs, batches))
    return max(1, min(MOST_SAMPLES, int(seconds * 1e9 / ROUNDS / max(1, once_ns))))


def _block(session, inputs, batch, size, number, clock):
    """Median ns of one inference over a block, its first sample left out."""
    count = groups(session, inputs)
    values = []
    for place in range(size + 1):
        session.feed(inputs, (number + place) % count)
        values.append(timing.timed_ns(session, batch, clock)[1] / float(batch))
    return max(1, int(median(values[1:])))
