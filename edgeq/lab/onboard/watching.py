"""Clock, temperature, throttling and load while the runs go on: read a few times a second by the sampler's process."""

import time

from . import conditions, firmware

PERIOD_SECONDS = 0.25
FIRMWARE_SECONDS = 2.0
"""Asking the Raspberry Pi's firmware starts a process."""
MAX_ROWS = 2000


class Watch:
    """Rows [ns, fastest clock in Hz, °C, throttle bits, times throttled since boot, load]; None for what is not told.

    When there are 2,000, every second one goes and the period is doubled.
    """

    def __init__(self, roots):
        self.rows = []
        self.period = PERIOD_SECONDS
        self._roots = roots
        self._next = self._firmware_next = time.monotonic()
        self._bits = None

    def poll(self):
        """Take a row if it is time; returns the moment of the next one."""
        now = time.monotonic()
        if now >= self._next:
            self._take(now)
            self._next = max(self._next + self.period, time.monotonic())
        return self._next

    def _take(self, now):
        roots = self._roots
        if now >= self._firmware_next:
            self._bits = firmware.throttled_bits(roots.vcgencmd)
            # where nobody answers there is nobody to ask again
            self._firmware_next = now + FIRMWARE_SECONDS if self._bits is not None else float("inf")
        clock_hz = max(conditions.frequencies_hz(roots), default=None)
        row = [clock_hz, conditions.temperature_c(roots), self._bits, conditions.throttle_count(roots)]
        self.rows.append([time.monotonic_ns(), *row, conditions.load(roots)])
        if len(self.rows) >= MAX_ROWS:
            self.rows, self.period = self.rows[::2], self.period * 2
