"""Which tensors' channels can be multiplied alike without changing what a model computes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from edgeq.quantization.equalization import Site
from edgeq.quantization.layers import Layer


class Tie(NamedTuple):
    """An operator that is no layer, by what it reads and makes; one that is not free lets nothing be multiplied.

    `limit` is where it clips from above.
    """

    read: tuple[str, ...]
    made: tuple[str, ...]
    limit: float | None
    is_free: bool = True


def sites(layers: Mapping[str, Layer], ties: Iterable[Tie], outside: Iterable[str]) -> list[Site]:
    """Groups of tensors that only layers make and read; `outside` are the model's ports and constants."""
    ties = list(ties)
    roots: dict[str, str] = {}
    for tie in ties:
        if tie.is_free:
            for name in (*tie.read, *tie.made):
                roots[_root(roots, name)] = _root(roots, tie.read[0])
    fixed = {_root(roots, name) for name in outside}
    fixed |= {_root(roots, name) for tie in ties if not tie.is_free for name in (*tie.read, *tie.made)}
    limits: dict[str, float] = {}
    for tie in ties:
        if tie.limit is not None:
            root = _root(roots, tie.made[0])
            limits[root] = min(tie.limit, limits.get(root, tie.limit))
    groups: dict[str, tuple[list[Layer], list[Layer]]] = {}
    for layer in layers.values():
        groups.setdefault(_root(roots, layer.result), ([], []))[0].append(layer)
        groups.setdefault(_root(roots, layer.source), ([], []))[1].append(layer)
    return [
        Site(_names(makers), _names(readers), readers[0].inputs, limits.get(root))
        for root, (makers, readers) in groups.items()
        if root not in fixed and makers and readers and _fit(makers, readers)
    ]


def _fit(makers: list[Layer], readers: list[Layer]) -> bool:
    return len({len(layer.weights) for layer in makers} | {layer.inputs for layer in readers}) == 1


def _names(layers: list[Layer]) -> tuple[str, ...]:
    return tuple(layer.name for layer in layers)


def _root(roots: dict[str, str], name: str) -> str:
    while roots.get(name, name) != name:
        name = roots[name]
    return name
