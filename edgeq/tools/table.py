"""The external compilers that edgeq knows: data only."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

Release = tuple[int, ...]
ANY = ((3, 10), (3, 13))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a tool is installed and recognised.

    `requirements` are what pip is given, by span of Python releases (first and last), newest preferred.
    `distribution` is the package whose version is the tool's. `modules` must be importable, and `console` is the
    package's console script that `running.program` starts. `glibc` is the oldest C library that its wheels load with.
    `size_bytes` is what the environment takes on disk, roughly.
    """

    name: str
    purpose: str
    requirements: tuple[tuple[tuple[Release, Release], tuple[str, ...]], ...]
    distribution: str
    modules: tuple[str, ...]
    size_bytes: int
    console: str | None = None
    glibc: Release | None = None

    def packages(self, python: Release) -> tuple[str, ...] | None:
        """What pip installs for a release of Python; None where the tool does not run on it."""
        return next((wanted for (low, high), wanted in self.requirements if low <= python[:2] <= high), None)

    @property
    def releases(self) -> str:
        """The releases of Python that it runs on, for people."""
        low = min(span[0] for span, _ in self.requirements)
        high = max(span[1] for span, _ in self.requirements)
        shown = [".".join(map(str, release)) for release in (low, high)]
        return shown[0] if low == high else f"{shown[0]} to {shown[1]}"


RECIPES = (
    Recipe(
        name="vela",
        purpose="building for Ethos-U (tested: 5.2.0)",
        requirements=((ANY, ("ethos-u-vela>=5.2,<6",)),),
        distribution="ethos-u-vela",
        modules=("ethosu.vela.vela",),
        console="vela",
        size_bytes=150 << 20,
    ),
    Recipe(
        name="onnx2tf",
        purpose="ONNX models on TFLite targets (tested: 2.6.9 and 1.29.24)",
        # 2.x needs Python 3.12; 1.29 is the last for older ones and is held to the versions that it ran with.
        requirements=(
            (((3, 12), (3, 13)), ("onnx2tf>=2.6,<3",)),
            (((3, 10), (3, 11)), ("onnx2tf>=1.29.24,<2", "tensorflow>=2.19,<2.20", "numpy==1.26.4")),
        ),
        distribution="onnx2tf",
        modules=("onnx2tf",),
        console="onnx2tf",
        size_bytes=2500 << 20,
    ),
    Recipe(
        name="qnn",
        purpose="proving the Qualcomm HTP table (tested: 2.7.0)",
        requirements=((((3, 11), (3, 13)), ("onnxruntime-qnn>=2.7,<3",)),),
        distribution="onnxruntime-qnn",
        modules=("onnxruntime",),  # the wheel for x86-64 has no module of its own
        size_bytes=1000 << 20,
        glibc=(2, 35),
    ),
    Recipe(
        name="tflm",
        purpose="proving the tflite-micro table",
        # All its releases are pre-releases; a bound that names one lets pip take them.
        requirements=((((3, 11), (3, 11)), ("tflite-micro>=0.dev0",)),),
        distribution="tflite-micro",
        modules=("tflite_micro",),
        size_bytes=200 << 20,
    ),
)
TABLE = MappingProxyType({recipe.name: recipe for recipe in RECIPES})
