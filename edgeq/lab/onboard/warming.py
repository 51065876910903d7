"""When is a warm-up over? When the level has stopped to move.

The warm-up is cut into windows. A window's level is its lower quartile, which what preempts some inferences leaves
alone. Three levels in a row within 5 % of one another are steady. A level that never settles ends the warm-up all the
same, after ten times as long as was asked for.
"""

WITHIN = 1.05
LONGEST = 10.0
"""How many times the warm-up asked for it may take."""
_WINDOWS = 4
_SHORTEST_SECONDS = 0.005
_LEAST_RUNS = 2
_SETTLED = 3


class Levels:
    """Levels of the windows so far; `steady` once they have settled, `wander` by how much the last ones differ."""

    def __init__(self, seconds):
        self.steady = False
        self.wander = None
        self._limit = seconds * LONGEST
        self._window = max(seconds / _WINDOWS, _SHORTEST_SECONDS)
        self._begun = 0.0
        self._values = []
        self._levels = []

    def add(self, moment, value):
        """Take one inference that began so many s after the first."""
        if moment - self._begun >= self._window and len(self._values) >= _LEAST_RUNS:
            self._close()
            self._begun = moment
        self._values.append(value)

    def _close(self):
        ordered = sorted(self._values)
        self._levels = [*self._levels, ordered[len(ordered) // 4]][-_SETTLED:]
        self._values = []
        if len(self._levels) == _SETTLED:
            self.wander = max(self._levels) / float(min(self._levels)) - 1.0
            self.steady = self.wander <= WITHIN - 1.0

    def over(self, spent):
        """Whether there is nothing more to wait for after so many s."""
        return self.steady or spent >= self._limit
