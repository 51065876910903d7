"""How much of a tensor's rounding noise arrives at the model's outputs.

An operator that subtracts two large values makes little noise large, a normalization makes it small: what an operator
loses by itself says little about what it costs. So noise of that size is added to one tensor of the float model after
another, and the outputs are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq import runtimes
from edgeq.analysis.net import FLOATS, Net
from edgeq.types import OperatorAnalysis, Progress, silent

if TYPE_CHECKING:
    from edgeq.analysis.measuring import Sample
    from edgeq.runtimes import Array, Session

STEP = "follow noise"
SEED = 0
NOISELESS_DB = 150.0
"""An SQNR from which nothing was rounded: float operators are left out."""


def costs(
    formats: Any,
    net: Net,
    rows: Iterable[OperatorAnalysis],
    samples: Sequence[Sample],
    folder: Path,
    progress: Progress = silent,
) -> dict[str, float]:
    """By a tensor's name, noise at the outputs over their signal (1 is 0 dB) when only it is as noisy as its row says.

    `formats` runs such files (`analysis.tflite`, `analysis.onnx`), `net` is the float model. Tensors that the float
    model does not have are left out. Raises ModelError.
    """
    numbers = {tensor.name: tensor.index for tensor in net.graph.tensors}
    known = [(row.name, row.alone_db) for row in rows if row.alone_db is not None and row.alone_db < NOISELESS_DB]
    noisy = {numbers[name]: db for name, db in known if name in numbers}
    wanted = [tensor for tensor in noisy if net.is_activation(tensor) and _is_float(net, tensor)]
    if not wanted or not samples:
        return {}
    trace = formats.trace(net, wanted, folder, exact=False)
    made = [tensor for tensor in wanted if tensor not in net.graph.inputs]
    session: Session | None = None
    found: dict[int, float] = dict.fromkeys(wanted, 0.0)
    for number, sample in enumerate(samples):
        progress(STEP, number, len(samples))
        seen = trace(sample)
        session = formats.noisy(net, made, seen, folder) if session is None else session
        for tensor, cost in _of_sample(net, session, sample, seen, noisy, made).items():
            found[tensor] += cost / len(samples)
    progress(STEP, len(samples), len(samples))
    return {net.graph.tensors[tensor].name: cost for tensor, cost in found.items()}


def _is_float(net: Net, tensor: int) -> bool:
    return net.graph.tensors[tensor].dtype in FLOATS


def _of_sample(
    net: Net,
    session: Session,
    sample: Sample,
    seen: Mapping[int, Array],
    noisy: Mapping[int, float],
    made: Sequence[int],
) -> dict[int, float]:
    draw = np.random.default_rng(SEED)
    silence = {tensor: np.zeros(seen[tensor].shape, np.float32) for tensor in made}
    ports = dict(zip(net.graph.inputs, sample, strict=True))

    def run(changed: Mapping[int, Array]) -> list[Array]:
        real = [np.add(value, changed[tensor]) if tensor in changed else value for tensor, value in ports.items()]
        return runtimes.infer(session, [*real, *(changed.get(tensor, silence[tensor]) for tensor in made)])

    clean = run({})
    found = {}
    for tensor, db in noisy.items():
        if tensor in seen and np.issubdtype(seen[tensor].dtype, np.floating):
            rms = float(np.sqrt(np.mean(np.square(seen[tensor], dtype=np.float64))))
            noise = draw.normal(0, rms * 10 ** (-db / 20), seen[tensor].shape).astype(np.float32)
            found[tensor] = _distance(clean, run({tensor: noise}))
    return found


def _distance(clean: Sequence[Array], noised: Sequence[Array]) -> float:
    """Energy of the change over that of the outputs; the largest of them."""
    shares = [0.0]
    for one, other in zip(clean, noised, strict=True):
        signal = float(np.square(one, dtype=np.float64).sum())
        change = float(np.square(np.subtract(one, other, dtype=np.float64)).sum())
        if signal > 0 and np.isfinite(change):
            shares.append(change / signal)
    return max(shares)
