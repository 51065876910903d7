"""What onnxruntime makes of a quantized file on this host: which kernels run, and whether they saturate."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgeq import runtimes
from edgeq.runtimes import onnxruntime as runtime

if TYPE_CHECKING:
    from edgeq.runtimes import Array

_FLOAT = frozenset({"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"})
_INTEGER = frozenset(
    {"QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"}
    | {"ConvInteger", "MatMulInteger", "DynamicQuantizeLSTM", "QAttention"}
)


class Kernels(NamedTuple):
    """How many operators with weights run in integers and in float once onnxruntime has fused the graph."""

    integer: int
    floating: int


def kernels(path: Path) -> Kernels:
    """Count kernels in the graph as it runs on this host; raises ModelError."""
    import onnx

    with tempfile.TemporaryDirectory(prefix="edgeq-") as folder:
        fused = Path(folder) / "fused.onnx"
        runtime.optimised(path, fused)
        types = [node.op_type for node in onnx.load(str(fused)).graph.node]
    return Kernels(sum(kind in _INTEGER for kind in types), sum(kind in _FLOAT for kind in types))


def kernel_gap(path: Path, samples: Iterable[tuple[Array, ...]]) -> float | None:
    """SQNR in dB between the file run normally and without fusing, over all outputs; None if they are equal.

    Integer kernels agree with float arithmetic to 25 dB and more. Far less (-2.4 dB for kws_dscnn in
    int8/int8 on AVX2 without VNNI) says that this CPU's kernels saturate, not that the quantization is bad.
    """
    fused, plain = runtime.open(path), runtime.open(path, optimise=False)
    signal = noise = 0.0
    for sample in samples:
        pairs = zip(runtimes.infer(fused, sample), runtimes.infer(plain, sample), strict=True)
        for ours, theirs in pairs:
            exact = theirs.astype(np.float64)
            signal += float(np.sum(exact**2))
            noise += float(np.sum((exact - ours.astype(np.float64)) ** 2))
    if noise == 0:
        return None
    return float(10 * np.log10(max(signal, 1e-300) / noise))
