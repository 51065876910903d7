"""What may cost accuracy in a plan: operators that 8 bits serve badly, and weights whose channels differ widely.

A risk's docstring is the sentence that the user reads. Scores order plans; they predict no figure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from edgeq.planning import sensitive, spread
from edgeq.planning import view as views
from edgeq.planning.ground import Placed
from edgeq.planning.rules import rule_name, sentence
from edgeq.planning.spread import Spread
from edgeq.planning.view import View
from edgeq.types import Operator, Risk

_FINE_SHARE = 0.05
"""Part of a risk that is left with int16 activations, whose steps are 256 times finer."""


class Struck(NamedTuple):
    """A risk of the graph, whatever the scheme: its rule and the operators that it strikes when they are integers."""

    rule: Callable[..., Collection[int]]
    score: float
    operators: frozenset[int]


def recurrent_cell(look: View) -> set[int]:
    """Rounding errors of a recurrent cell add up from step to step."""
    return _of_types(look, sensitive.CELLS)


def layer_normalization(look: View) -> set[int]:
    """A normalization divides by a statistic of few large values."""
    return _of_types(look, sensitive.NORMALIZATIONS) | sensitive.written_out(look)


def squeeze_excite(look: View) -> set[int]:
    """A gate, as in squeeze-and-excite, scales everything that follows."""
    return {operator.index for operator in look.graph.operators if sensitive.is_gated(look, operator)}


def hard_swish(look: View) -> set[int]:
    """Hard-swish is flat below zero and steep above, so that small values lose their sign."""
    return _of_types(look, ("HARD_SWISH", "HardSwish"))


def softmax(look: View) -> set[int]:
    """An exponential spreads its values over many magnitudes, and 256 steps keep only the largest."""
    return _of_types(look, sensitive.EXPONENTIALS)


def depthwise(look: View) -> set[int]:
    """Channels of a depthwise convolution have few weights each, so that bad rounding is not averaged out."""
    return {operator.index for operator in look.graph.operators if _is_depthwise(look, operator)}


def wide_channels(placed: Iterable[Placed], found: Spread) -> set[int]:
    """Channels of very different ranges share one scale, which leaves the small ones few steps."""
    shared = (
        one for one in placed if one.signature.granularity == "per-tensor" and one.signature.weights in views.INTEGERS
    )
    return {one.operator.index for one in shared if found.get(one.operator.index, 1.0) >= spread.WIDE}


def four_bits(placed: Iterable[Placed]) -> set[int]:
    """Weights of 4 bits have 15 steps, which convolutions and small models rarely bear without training."""
    return {one.operator.index for one in placed if one.signature.weights == "int4"}


_OF_GRAPHS: tuple[tuple[Callable[[View], set[int]], float], ...] = (
    (recurrent_cell, 0.5),
    (layer_normalization, 0.4),
    (squeeze_excite, 0.3),
    (hard_swish, 0.3),
    (softmax, 0.1),
    (depthwise, 0.1),
)
"""In the order of what quantizing such operators cost on the models measured (design/facts.md, design/peers.md)."""
_WIDE_SCORE = 0.6
_FOUR_BITS_SCORE = 0.6


def struck(look: View) -> tuple[Struck, ...]:
    """The risks that the graph brings, looked for once."""
    return tuple(Struck(rule, score, frozenset(rule(look))) for rule, score in _OF_GRAPHS)


def of_plan(of_graph: Iterable[Struck], placed: Iterable[Placed], known: Spread) -> tuple[Risk, ...]:
    """The risks of what runs in integers, in a fixed order; of weights as far as their spread is known."""
    placed = tuple(placed)
    running = {one.operator.index: one for one in placed if _is_integer(one)}
    found = [_risk(rule, score, sorted(operators & running.keys()), running) for rule, score, operators in of_graph]
    found.append(_wide(placed, known))
    found.append(_risk(four_bits, _FOUR_BITS_SCORE, sorted(four_bits(placed)), {}))
    return tuple(risk for risk in found if risk is not None)


def _wide(placed: tuple[Placed, ...], known: Spread) -> Risk | None:
    """The risk of shared scales, with the widest spread in its words."""
    struck_operators = wide_channels(placed, known)
    risk = _risk(wide_channels, _WIDE_SCORE, sorted(struck_operators), {})
    evidence = spread.widest([one.operator for one in placed if one.operator.index in struck_operators], known)
    return risk if risk is None else dataclasses.replace(risk, why=f"{risk.why} {evidence}")


def total(risks: Iterable[Risk]) -> float:
    """All risks together, 0 to 1, as if they were independent."""
    safe = 1.0
    for risk in risks:
        safe *= 1.0 - risk.score
    return 1.0 - safe


def _risk(rule: Callable[..., object], score: float, indices: list[int], running: Mapping[int, Placed]) -> Risk | None:
    if not indices:
        return None
    is_fine = bool(running) and all(running[index].signature.activations in ("int16", "uint16") for index in indices)
    return Risk(
        rule=rule_name(rule),
        operators=tuple(indices),
        why=sentence(rule),
        score=round(score * (_FINE_SHARE if is_fine else 1.0), 6),
    )


def _of_types(look: View, types: Collection[str]) -> set[int]:
    return {operator.index for operator in look.graph.operators if operator.type in types}


def _is_depthwise(look: View, operator: Operator) -> bool:
    if operator.type != "Conv":
        return operator.type == "DEPTHWISE_CONV_2D"
    group, layers = operator.attributes.get("group"), views.weights(look, operator)
    return isinstance(group, int) and group > 1 and bool(layers) and layers[0].shape[1:2] == (1,)


def _is_integer(one: Placed) -> bool:
    return one.placement == "cpu" and one.signature.activations in views.INTEGERS
