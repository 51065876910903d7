"""Sums over readings [(ns, value), …] and how far they may be from the truth."""

import math

_SIGMAS = 4.0
_FEW = 6.0
_JUMPS = 6.0
"""A burst that was seen h times may have come h + 4.5·√h + 6 times: the Poisson law's limit at one in 10,000."""
_LEAST_BLOCKS = 12
_FINEST = 65536.0
"""Steps of the finest sensor; a smaller difference is one of arithmetic."""


def area(points):
    """Sum of the trapezoids in value·seconds."""
    return sum((a[1] + b[1]) / 2.0 * (b[0] - a[0]) / 1e9 for a, b in zip(points, points[1:]))


def powers(readings):
    """Mean power of every step of a counter, at the step's middle."""
    pairs = [(a, b) for a, b in zip(readings, readings[1:]) if b[0] > a[0]]
    return [((a[0] + b[0]) / 2.0, (b[1] - a[1]) / ((b[0] - a[0]) / 1e9)) for a, b in pairs]


def unsure(readings, period_ns):
    """value·seconds by which a sum over readings at random moments may miss the truth.

    Neighbours differ by noise and by what happened between them; readings that hang together are seen by the
    differences of blocks of them. What a sensor that averages all the time has seen needs no allowance for bursts.
    """
    if len(readings) < 3:
        return 0.0
    gap_ns = (readings[-1][0] - readings[0][0]) / float(len(readings) - 1)
    variance = max(_variance(readings, size, period_ns) for size in _sizes(len(readings)))
    unobserved = max(0.0, 1.0 - period_ns / gap_ns) if gap_ns > 0 else 0.0
    effective = max(2.0, len(readings) * min(1.0, gap_ns / period_ns) if period_ns else len(readings))
    sigmas = _SIGMAS * (1.0 + _FEW / (effective - 1.0))
    return sigmas * math.sqrt(variance) + _JUMPS * unobserved * _rare_jump(readings) * gap_ns / 1e9


def _rare_jump(readings):
    """The second largest step between neighbours, as far as such steps are rare: of many the variance knows."""
    jumps = sorted(abs(b[1] - a[1]) for a, b in zip(readings, readings[1:]))
    large = sum(jump > jumps[-2] / 2.0 for jump in jumps)
    return jumps[-2] * max(0.0, 1.0 - 4.0 * large / len(jumps))


def _sizes(count):
    """1, 2, 4, … readings to a block as long as enough blocks are left."""
    size, found = 1, []
    while not found or count // size >= _LEAST_BLOCKS:
        found.append(size)
        size *= 2
    return found


def _variance(readings, size, period_ns):
    """Variance of the sum as the differences of neighbouring blocks tell it."""
    blocks = [readings[n : n + size] for n in range(0, len(readings) - size + 1, size)]
    points = [(sum(ns for ns, _v in block) / float(size), sum(v for _ns, v in block) / size) for block in blocks]
    squares = sorted((max(b[0] - a[0], period_ns) / 1e9 * (b[1] - a[1])) ** 2 / 2.0 for a, b in zip(points, points[1:]))
    # One step of the power is no noise; single readings already allow for where in its gap it was.
    return sum(squares) if size == 1 else sum(squares[:-2]) * len(squares) / (len(squares) - 2.0)


def longest_run(values):
    """(length of the longest run of equal values, changes between neighbours outside of it)."""
    longest = length = 1
    changes = 0
    for before, now in zip(values, values[1:]):
        length = length + 1 if now == before else 1
        changes += now != before
        longest = max(longest, length)
    return longest, changes


def step(values):
    """The sensor's step where the values look rounded (few of them differ), else 0."""
    distinct = sorted(set(values))
    if not 3 <= len(distinct) <= len(values) // 2:
        return 0.0
    found = min(b - a for a, b in zip(distinct, distinct[1:]))
    return found if found * _FINEST > max(map(abs, distinct)) else 0.0
