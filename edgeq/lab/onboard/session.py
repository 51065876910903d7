"""The bundle's model in the device's interpreter, with the bundle's order of ports."""

import time

from . import bundle as bundles
from . import interpreters
from .events import Failure


class Session:
    """A loaded model; `load_ns` is the time from the file to an allocated interpreter.

    `options` are the interpreter's own.
    """

    def __init__(self, bundle, name, threads, **options):
        self.name = name
        self.threads = threads
        self.batch = bundles.batch(bundle.inputs)
        start_ns = time.perf_counter_ns()
        self.model = guard("loading the model", lambda: interpreters.build(name, bundle.model, threads, **options))
        self.load_ns = time.perf_counter_ns() - start_ns
        inputs, outputs = self.model.ports()
        self._inputs = _order(bundle.inputs, inputs)
        self._outputs = _order(bundle.outputs, outputs)
        self.invoke = self.model.invoke

    def feed(self, arrays, number):
        """Make vector group `number` of stored arrays the next inputs."""
        start = number * self.batch
        chosen = [None] * len(arrays)
        for array, place in zip(arrays, self._inputs):
            chosen[place] = array[start : start + self.batch]
        guard("setting the inputs", lambda: self.model.feed(chosen))

    def run(self, arrays, number):
        """Outputs of one vector group, in the contract's order."""
        self.feed(arrays, number)
        guard("running the model", self.invoke)
        found = self.model.fetch()
        return [found[place] for place in self._outputs]

    def about(self):
        """Name, version and threads as strings."""
        version = interpreters.version(self.name)
        return {"name": self.name, "version": str(version or "unknown"), "threads": str(self.threads)}


def guard(doing, action):
    """What `action` returns; whatever the interpreter raises becomes a Failure."""
    try:
        return action()
    except Failure:
        raise  # the runner's time was up in the middle of it
    except Exception as error:  # interpreters raise anything from ValueError to their own bases
        raise interpreters.model_failure(error, doing) from None


def _order(contract, ports):
    """Place of each port of the contract in the interpreter's order: by name where all are known, else as they come."""
    names = [name for name, _dtype in ports]
    wanted = [port["name"] for port in contract]
    if len(wanted) != len(names):
        raise Failure("model-failed", "the model has %d ports where io.json has %d" % (len(names), len(wanted)))
    places = match(wanted, names)
    for port, place in zip(contract, places):
        if ports[place][1] != port["dtype"]:
            raise Failure(
                "model-failed", "port %s is %s, io.json says %s" % (port["name"], ports[place][1], port["dtype"])
            )
    return places


def match(wanted, names):
    """Place of each wanted port among the interpreter's: by name where all are known, else as they come."""
    by_name = len(set(names)) == len(names) and set(names) == set(wanted)
    return [names.index(name) for name in wanted] if by_name else list(range(len(names)))


def groups(session, arrays):
    """How many vector groups the arrays hold; raises Failure when they do not come out even."""
    counts = {len(array) for array in arrays}
    if len(counts) != 1 or min(counts) % session.batch:
        raise Failure("bad-vectors", "the arrays do not have one number of vectors, in groups of %d" % session.batch)
    return counts.pop() // session.batch
