"""The same network with channels of very unlike reach: what training sometimes leaves, and INT8 dislikes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeq.converters import _flatbuffer as flatbuffer
from edgeq.converters.onnx import layers as onnx_layers
from edgeq.converters.onnx import prepare
from edgeq.converters.tflite import layers as tflite_layers
from edgeq.quantization.equalization import Site, as_maker, as_reader
from edgeq.quantization.layers import Layer


def rescaled(model: Path, out: Path, *, most: float = 64.0, both_ways: bool = False, seed: int = 0) -> int:
    """Write a float model whose channels are multiplied by 1 / `most` to 1, and what reads them divided.

    `both_ways` is up to `most`, not 1. Factors are spread evenly in their logarithm. Returns at how many places; those
    with a clip are left alone, so that the function stays to the last digit or so.
    """
    return (_tflite if model.suffix == ".tflite" else _onnx)(model, out, (1 / most, most if both_ways else 1.0), seed)


def _tflite(model: Path, out: Path, ends: tuple[float, float], seed: int) -> int:
    content = flatbuffer.load(model)
    names = flatbuffer.number_names(content)
    known = tflite_layers.layers(content)
    after, count = _changed(known, tflite_layers.channel_sites(content, known), ends, seed)
    tflite_layers.write(content, after.values())
    flatbuffer.restore_names(content, names)
    out.write_bytes(flatbuffer.dump(content))
    return count


def _onnx(model: Path, out: Path, ends: tuple[float, float], seed: int) -> int:
    content = prepare.prepared(prepare.load(model), out.parent, str(model))
    known = onnx_layers.layers(content)
    after, count = _changed(known, onnx_layers.channel_sites(content, known), ends, seed)
    prepare.save(onnx_layers.written(content, after.values()), out, str(model))
    return count


def _changed(
    known: Mapping[str, Layer], places: list[Site], ends: tuple[float, float], seed: int
) -> tuple[dict[str, Layer], int]:
    random, (low, high) = np.random.default_rng(seed), np.log(ends)
    layers = dict(known)
    free = [site for site in places if site.limit is None]
    for site in free:
        made = np.exp(random.uniform(low, high, size=site.channels))
        for name in site.makers:
            weights, bias = as_maker(layers[name], made)
            layers[name] = replace(layers[name], weights=weights, bias=bias)
        for name in site.readers:
            layers[name] = replace(layers[name], weights=as_reader(layers[name], made))
    return layers, len(free)
