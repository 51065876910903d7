"""Which runtime a device can have: what it tells of itself against what wheels there are. Pure.

Sources: the packages' own wheels; onnxruntime's issues 23957, 24112 and 24512 (1.21.0 dies on ARM processors without
newer extensions, 1.20.1 and 1.21.1 do not); NumPy 2.4 raised its x86 baseline to x86-64-v2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from edgeq.lab.provisioning.told import Facts

OLDEST_GLIBC = 5
LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
"""Names of the manylinux tags of glibc 2.N before PEP 600."""
_LEGACY_MACHINES = {"manylinux2010": ("x86_64", "i686"), "manylinux1": ("x86_64", "i686")}
_SOABI = re.compile(r"cpython-(\d{2,4})([a-z]*)-([a-z0-9_]+)-linux-(gnu|gnueabihf|gnueabi|musl|musleabihf)")
_WITHOUT_WHEELS = {"musl": "musl", "musleabihf": "musl", "gnueabi": "soft-float ARM"}
_MACHINES = {"arm": "armv7l", "i386": "i686"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A distribution that holds an interpreter: for which format, on which machines and Pythons there are wheels."""

    format: str
    distribution: str
    module: str
    machines: tuple[str, ...]
    first_python: tuple[int, int]
    last_python: tuple[int, int] | None = None
    constraints: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """Only `allowed` versions run on a machine whose processor lacks one of `features`; without features: on any."""

    distribution: str
    allowed: str
    machine: str
    features: tuple[str, ...] = ()


PACKAGES = (
    Package(
        format="tflite",
        distribution="ai-edge-litert",
        module="ai_edge_litert",
        machines=("x86_64", "aarch64"),
        first_python=(3, 10),
        constraints={},
    ),
    Package(
        format="tflite",
        distribution="tflite-runtime",
        module="tflite_runtime",
        machines=("x86_64", "aarch64", "armv7l"),
        first_python=(3, 7),
        last_python=(3, 11),  # it ended at 2.14.0
        constraints={"numpy": "<2"},  # beside NumPy 2 it imports and cannot build an Interpreter
    ),
    Package(
        format="onnx",
        distribution="onnxruntime",
        module="onnxruntime",
        machines=("x86_64", "aarch64"),
        first_python=(3, 7),
        constraints={},
    ),
)
BAD = (
    Bad(distribution="onnxruntime", allowed="!=1.21.0", machine="aarch64"),
    Bad(distribution="numpy", allowed="<2.4", machine="x86_64", features=("ssse3", "sse4_1", "sse4_2", "popcnt")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What wheels must be for: pip's words for a device.

    `environment` is what markers of requirements are evaluated with.
    """

    machine: str
    python: tuple[int, int, int]
    abi: str
    glibc: int

    def tags(self) -> list[str]:
        """Platform tags from the newest to the oldest; pip adds none of the older ones by itself."""
        found = []
        for minor in range(self.glibc, OLDEST_GLIBC - 1, -1):
            found.append(f"manylinux_2_{minor}_{self.machine}")
            legacy = LEGACY.get(minor)
            if legacy and self.machine in _LEGACY_MACHINES.get(legacy, (self.machine,)):
                found.append(f"{legacy}_{self.machine}")
        return [*found, f"linux_{self.machine}"]

    def pip_options(self) -> list[str]:
        """pip's options for exactly this platform."""
        platforms = [word for tag in self.tags() for word in ("--platform", tag)]
        version = ".".join(map(str, self.python))
        words = ["--only-binary=:all:", "--implementation", "cp", "--python-version", version, "--abi", self.abi]
        return [*words, *platforms]

    def environment(self) -> dict[str, str]:
        """What markers see there. pip evaluates them with its own Python's (pip's issues 10050 and 11010)."""
        return {
            "implementation_name": "cpython",
            "implementation_version": ".".join(map(str, self.python)),
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": ".".join(map(str, self.python)),
            "python_version": f"{self.python[0]}.{self.python[1]}",
            "sys_platform": "linux",
            "extra": "",
        }


def platform(facts: Facts) -> Platform | str:
    """The platform of a device's Python, or why there are no wheels for it.

    The interpreter's own ABI says it: a 64-bit kernel's `uname -m` says nothing of a 32-bit Python.
    """
    if facts.implementation != "cpython":
        return f"its Python is {facts.implementation}; there are wheels for CPython only"
    found = _SOABI.fullmatch(facts.abi)
    if found is None:
        return f"its Python's ABI, {facts.abi}, is none that wheels are made for"
    digits, flags, machine, library = found.groups()
    if library in _WITHOUT_WHEELS:
        return f"its Python is built for {_WITHOUT_WHEELS[library]}; no runtime has wheels for that"
    glibc = re.fullmatch(r"glibc 2\.(\d{1,2})(?:\.\d+)?", facts.libc)
    if glibc is None:
        return f"its C library is not glibc ({facts.libc or 'unknown'})"
    machine = _MACHINES.get(machine, machine)
    if machine == "armv7l" and facts.device.machine.startswith("armv6"):
        return "its processor is ARMv6; no runtime has wheels for that"
    return Platform(machine=machine, python=facts.version, abi=f"cp{digits}{flags}", glibc=int(glibc[1]))


def candidates(model_format: str, wanted: Platform) -> list[Package]:
    """Packages that may have wheels for a platform, the best first."""
    python = wanted.python[:2]
    return [
        package
        for package in PACKAGES
        if package.format == model_format
        and wanted.machine in package.machines
        and package.first_python <= python <= (package.last_python or python)
    ]


def bounds(package: Package, wanted: Platform, features: tuple[str, ...]) -> dict[str, SpecifierSet]:
    """Which versions of which distributions may be taken, where not all may."""
    found = {name: SpecifierSet(text) for name, text in package.constraints.items()}
    for name, text in _excluded(wanted, features):
        found[name] = found.get(name, SpecifierSet()) & SpecifierSet(text)
    return found


def _excluded(wanted: Platform, features: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for bad in BAD:
        lacks = not bad.features or (features and not set(bad.features) <= set(features))
        if bad.machine == wanted.machine and lacks:
            yield bad.distribution, bad.allowed
