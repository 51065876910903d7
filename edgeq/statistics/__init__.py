"""Statistics of latency samples: intervals, comparisons, steady state. Numbers in, numbers out.

Latency samples depend on one another (clocks, caches and neighbours change slowly), have heavy tails, and repeat
values where the clock is coarse. Nothing here assumes otherwise.
"""
