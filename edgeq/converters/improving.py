"""What makes a float model easier to quantize, and a quantized one nearer to float, in numbers of any format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from edgeq.quantization import equalization
from edgeq.quantization.equalization import Site
from edgeq.quantization.layers import Layer, Statistics

SAMPLES = 32
"""Calibration samples from which layers' statistics are taken."""


def equalized(
    known: Mapping[str, Layer], seen: Mapping[str, Statistics], places: Iterable[Site]
) -> tuple[dict[str, Layer], dict[str, Statistics], int]:
    """Layers and statistics after channels were multiplied where that pays, and at how many places it did."""
    layers, statistics, count = dict(known), dict(seen), 0
    for site in places:
        made = equalization.factors(site, layers, statistics)
        if made is None:
            continue
        count += 1
        for name in site.makers:
            weights, bias = equalization.as_maker(layers[name], made)
            layers[name] = replace(layers[name], weights=weights, bias=bias)
        for name in site.readers:
            layers[name] = replace(layers[name], weights=equalization.as_reader(layers[name], made))
            statistics[name] = statistics[name].multiplied(layers[name], made)
    statistics = {name: one if one.layer is layers[name] else one.of(layers[name]) for name, one in statistics.items()}
    return layers, statistics, count


def note(count: int, places: int) -> list[str]:
    """What users are told of equalization."""
    return [f"channels were equalized at {count} of {places} places"] if count else []
