"""Which tensor of one model is which of another that was made from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from edgeq.analysis.net import DEQUANTIZE, QUANTIZE, Net
from edgeq.types import Operator

Same = Mapping[int, int]


def same_tensors(later: Net, earlier: Net) -> Same:
    """Tensor of the later model to the one of the earlier model whose values it should hold.

    By name first, then by place among inputs and outputs; what quantizes or dequantizes a tensor holds the same
    values. Operators of files whose names changed are matched in order where both models have the same ones.
    """
    found = _by_name(later, earlier) | _by_place(later, earlier)
    groups = list(_groups(later))
    _spread(groups, found)
    if not _covers(later, found):
        for tensor, other in _in_order(later, earlier):
            found.setdefault(tensor, other)
        _spread(groups, found)
        _by_reading(later, earlier, found, groups)
    return found


def _named(net: Net) -> dict[tuple[str, int], int]:
    """Activations by name and how often the name came before: TFLite allows a name twice."""
    counts: Counter[str] = Counter()
    found = {}
    for tensor in net.graph.tensors:
        if tensor.name and net.is_activation(tensor.index):
            found[tensor.name, counts[tensor.name]] = tensor.index
            counts[tensor.name] += 1
    return found


def _by_name(later: Net, earlier: Net) -> dict[int, int]:
    names = _named(earlier)
    return {tensor: names[key] for key, tensor in _named(later).items() if key in names}


def _by_place(later: Net, earlier: Net) -> dict[int, int]:
    sides = ((later.graph.inputs, earlier.graph.inputs), (later.graph.outputs, earlier.graph.outputs))
    return {ours: theirs for one, other in sides if len(one) == len(other) for ours, theirs in zip(one, other)}  # noqa: B905


def _groups(net: Net) -> Iterator[list[int]]:
    """Tensors that hold the same values, but for rounding."""
    roots: dict[int, list[int]] = {}
    for operator in net.operators:
        source, made = operator.inputs[0] if operator.inputs else -1, operator.outputs[0]
        if operator.type in QUANTIZE | DEQUANTIZE and net.is_activation(source):
            group = roots.setdefault(source, [source])
            group.append(made)
            roots[made] = group
    return iter({id(group): group for group in roots.values()}.values())


def _spread(groups: list[list[int]], found: dict[int, int]) -> None:
    for group in groups:
        known = [found[tensor] for tensor in group if tensor in found]
        for tensor in group:
            if known:
                found.setdefault(tensor, known[0])


def _covers(later: Net, found: Same) -> bool:
    made = [tensor for operator in later.operators for tensor in operator.outputs if later.is_activation(tensor)]
    return all(tensor in found for tensor in made)


def _in_order(later: Net, earlier: Net) -> Iterator[tuple[int, int]]:
    ours, theirs = _computing(later), _computing(earlier)
    if [one.type for one in ours] == [one.type for one in theirs]:
        for one, other in zip(ours, theirs, strict=True):
            yield from zip(one.outputs, other.outputs)  # noqa: B905 a second output may be left out


def _by_reading(later: Net, earlier: Net, found: dict[int, int], groups: list[list[int]]) -> None:
    """Results without a counterpart: of the only operator of that type that reads the same tensors."""
    readers: dict[tuple[str, tuple[int, ...]], list[Operator]] = {}
    for operator in earlier.operators:
        readers.setdefault((operator.type, earlier.read(operator)), []).append(operator)
    for operator in later.operators:
        read = later.read(operator)
        if operator.outputs[0] in found or not read or not found.keys() >= set(read):
            continue
        same = readers.get((operator.type, tuple(dict.fromkeys(found[tensor] for tensor in read))), [])
        if len(same) == 1:
            found.update(zip(operator.outputs, same[0].outputs))  # noqa: B905 a second output may be left out
            _spread(groups, found)


def _computing(net: Net) -> list[Operator]:
    return [operator for operator in net.operators if operator.type not in QUANTIZE | DEQUANTIZE]
