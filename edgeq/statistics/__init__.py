"""Statistics of latency samples: steady state, intervals, comparisons."""
