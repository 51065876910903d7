"""Where channels may be multiplied: only where layers alone make and read them."""

from __future__ import annotations

import numpy as np

from edgeq.converters.sites import Tie, sites
from edgeq.quantization.layers import Layer


def layer(name: str, source: str, result: str, outputs: int = 4, inputs: int = 4) -> Layer:
    weights = np.ones((outputs, inputs, 1), np.float32)
    return Layer(
        name=name,
        source=source,
        result=result,
        weights=weights,
        bias=None,
        groups=1,
        window=None,
        channels_last=True,
    )


def named(*layers: Layer) -> dict[str, Layer]:
    return {one.name: one for one in layers}


CHAIN = named(layer("a", "input", "x"), layer("b", "y", "output"))


def test_a_tensor_between_two_layers_is_a_place() -> None:
    (found,) = sites(named(layer("a", "input", "x"), layer("b", "x", "output")), [], ("input", "output"))
    assert found == (("a",), ("b",), 4, None)


def test_what_is_free_between_them_belongs_to_it() -> None:
    (found,) = sites(CHAIN, [Tie(("x",), ("y",), None)], ("input", "output"))
    assert (found.makers, found.readers) == (("a",), ("b",))


def test_the_lowest_clip_is_the_limit() -> None:
    (found,) = sites(CHAIN, [Tie(("x",), ("z",), 6.0), Tie(("z",), ("y",), 4.0)], ("input", "output"))
    assert found.limit == 4.0


def test_what_is_not_free_lets_nothing_be_multiplied() -> None:
    assert sites(CHAIN, [Tie(("x",), ("y",), None, is_free=False)], ("input", "output")) == []


def test_a_second_reader_that_is_no_layer_forbids_it() -> None:
    ties = [Tie(("x",), ("y",), None), Tie(("x",), ("z",), None, is_free=False)]
    assert sites(CHAIN, ties, ("input", "output", "z")) == []


def test_a_port_forbids_it() -> None:
    assert sites(CHAIN, [Tie(("x",), ("y",), None)], ("input", "output", "y")) == []


def test_a_sum_binds_all_that_it_adds() -> None:
    layers = named(layer("a", "input", "x"), layer("b", "x", "y"), layer("c", "z", "output"))
    (found,) = sites(layers, [Tie(("x", "y"), ("z",), None)], ("input", "output"))
    assert found == (("a", "b"), ("b", "c"), 4, None)


def test_a_sum_with_a_constant_or_port_forbids_it() -> None:
    assert sites(CHAIN, [Tie(("x", "constant"), ("y",), None)], ("input", "output", "constant")) == []


def test_numbers_of_channels_that_differ_forbid_it() -> None:
    layers = named(layer("a", "input", "x"), layer("b", "x", "output", inputs=16))
    assert sites(layers, [], ("input", "output")) == []


def test_places_are_apart() -> None:
    layers = named(layer("a", "input", "x"), layer("b", "x", "y"), layer("c", "y", "output"))
    found = sites(layers, [], ("input", "output"))
    assert [(one.makers, one.readers) for one in found] == [(("a",), ("b",)), (("b",), ("c",))]


def test_a_result_that_nothing_reads_is_no_place() -> None:
    assert sites(named(layer("a", "input", "x")), [], ("input",)) == []
