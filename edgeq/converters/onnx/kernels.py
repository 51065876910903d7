"""What onnxruntime makes of a quantized file on this host: which kernels run, and whether they saturate."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgeq.converters.kernel_gaps import gap_db
from edgeq.runtimes import onnxruntime as runtime

if TYPE_CHECKING:
    from edgeq.runtimes import Array
    from edgeq.types import Cpu, Scheme

_FLOAT = frozenset({"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"})
_INTEGER = frozenset(
    {"QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"}
    | {"ConvInteger", "MatMulInteger", "DynamicQuantizeLSTM", "QAttention"}
)
_BYTES = ("int8", "uint8")
_X86 = ("x86_64", "amd64", "i386", "i686")
_VNNI = ("avx512_vnni", "avx_vnni")
_SENTENCES = {
    (True, False): (
        "the target's CPU is not known to have VNNI, and adds products of bytes in 16 bits, which may saturate; this "
        "host adds them in 32, so that the score does not show it"
    ),
    (False, True): "this host's kernels saturate for want of VNNI, the target's do not: the score may be too low",
}
"""By whether the target's and this host's kernels saturate."""


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
    return gap_db(runtime.open(path), runtime.open(path, optimise=False), samples)


def host_differs(cpu: Cpu, scheme: Scheme, features: frozenset[str] | None = None) -> str | None:
    """Why a score on this host does not hold for a target's CPU, in a sentence; None where both compute alike.

    x86 without VNNI adds two products of an unsigned and a signed byte in 16 bits, which saturates; unsigned weights,
    and signed ones of 7 bits, do not. VNNI and ARM's instructions add in 32 bits. `features` are this host's.
    """
    here = host_features() if features is None else features
    is_integer = scheme.default.activations in _BYTES or scheme.name.startswith("dynamic")
    if not is_integer or scheme.reduce_range or scheme.default.weights != "int8":
        return None
    known = (_saturates(cpu.arch, frozenset(cpu.features)), _saturates(platform.machine(), here))
    return _SENTENCES.get(known)


def host_features() -> frozenset[str]:
    """What Linux says of this host's processor, such as avx512_vnni or asimddp; nothing on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    found = (line.split(":", 1)[1] for line in lines if line.lower().startswith(("flags", "features")) and ":" in line)
    return frozenset(next(found, "").split())


def _saturates(arch: str, features: frozenset[str]) -> bool:
    return arch.lower() in _X86 and features.isdisjoint(_VNNI)
