"""Which accelerators a profile may name, and which settings of their compilers belong together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields

from edgeq.documents import PathError
from edgeq.targets.names import nearest
from edgeq.types import Accelerator, Target

# Vela 5: the choices of --accelerator-config, and the sections of its Arm/vela.ini with the memory on the second port.
_MACS = {"ethos-u55": (32, 64, 128, 256), "ethos-u65": (256, 512), "ethos-u85": (128, 256, 512, 1024, 2048)}
_SYSTEM_CONFIGS = {
    "Ethos_U55_Deep_Embedded": "flash",
    "Ethos_U55_High_End_Embedded": "flash",
    "Ethos_U65_Embedded": "flash",
    "Ethos_U65_Mid_End": "dram",
    "Ethos_U65_High_End": "dram",
    "Ethos_U65_Client_Server": "dram",
    "Ethos_U85_SYS_Flash_Low": "flash",
    "Ethos_U85_SYS_Flash_High": "flash",
    "Ethos_U85_SYS_DRAM_Low": "dram",
    "Ethos_U85_SYS_DRAM_Mid": "dram",
    "Ethos_U85_SYS_DRAM_High": "dram",
}
_MEMORY_MODES = (
    "Sram_Only",
    "Shared_Sram",
    "Dedicated_Sram",
    "Dedicated_Sram_256KB",
    "Dedicated_Sram_384KB",
    "Dedicated_Sram_512KB",
)

# onnxruntime-qnn: SoC numbers and the Hexagon that each has (SM8550, SM8650, SM8750).
_HEXAGONS = {43: "v73", 57: "v75", 69: "v79"}

# rknn-toolkit2: names of target_platform.
_ROCKCHIPS = ("rk3562", "rk3566", "rk3568", "rk3576", "rk3588", "rv1103", "rv1103b", "rv1106", "rv1106b", "rk2118")

_VELA_KEYS = ("config", "system_config", "memory_mode")
_KEYS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_MACS, _VELA_KEYS),
    "hexagon": ("soc_id", "arch"),
    "rknpu2": ("platform",),
    "edgetpu": (),
    "imx500": (),
}
_REQUIRED = {"config", "soc_id", "arch", "platform"}
_COMPILERS = {
    **dict.fromkeys(_MACS, "vela"),
    "hexagon": "qnn",
    "rknpu2": "rknn",
    "edgetpu": "edgetpu",
    "imx500": "imx500",
}


def accelerator_problems(target: Target) -> Iterator[PathError]:
    """What is wrong with the accelerator of a profile and the compiler that its runtimes name for it."""
    found = target.accelerator
    if found is not None and found.name not in _KEYS:
        yield _unknown("name", found.name, _KEYS)
        return
    yield from _compiler_problems(target)
    if found is None:
        return
    yield from _key_problems(found)
    if found.name in _MACS:
        yield from _vela_problems(found)
    if found.name == "hexagon":
        yield from _hexagon_problems(found)
    if found.platform is not None and found.platform not in _ROCKCHIPS:
        yield _unknown("platform", found.platform, _ROCKCHIPS)


def _unknown(key: str, value: str, known: Iterable[str]) -> PathError:
    return PathError(("accelerator", key), f"{value[:100]!r} is not known{nearest(value, known)}")


def _key_problems(found: Accelerator) -> Iterator[PathError]:
    """Keys of another vendor's compiler, and those that this one cannot do without."""
    for item in fields(Accelerator):
        is_given = getattr(found, item.name) is not None
        if item.name == "name" or is_given == (item.name in _KEYS[found.name]):
            continue
        if is_given:
            yield PathError(("accelerator", item.name), f"does not apply to {found.name}")
        elif item.name in _REQUIRED:
            yield PathError(("accelerator",), f"{found.name} needs {item.name}")


def _vela_problems(found: Accelerator) -> Iterator[PathError]:
    configs = [f"{found.name}-{macs}" for macs in _MACS[found.name]]
    if found.config is not None and found.config not in configs:
        yield PathError(("accelerator", "config"), f"{found.config[:100]!r} is not one of {', '.join(configs)}")
    system, mode = found.system_config, found.memory_mode
    if (system is None) != (mode is None):
        yield PathError(("accelerator",), "system_config and memory_mode belong together: give both or neither")
    if system is not None:
        yield from _system_problems(found.name, system)
    if mode is not None and mode not in _MEMORY_MODES:
        yield _unknown("memory_mode", mode, _MEMORY_MODES)
    elif mode is not None and system is not None:
        yield from _pair_problems(found.name, system, mode)


def _system_problems(name: str, system: str) -> Iterator[PathError]:
    prefix = name.replace("ethos-u", "Ethos_U")
    own = [known for known in _SYSTEM_CONFIGS if known.startswith(prefix)]
    if system not in own:
        yield PathError(("accelerator", "system_config"), f"{system[:100]!r} is not for {name}{nearest(system, own)}")


def _pair_problems(name: str, system: str, mode: str) -> Iterator[PathError]:
    """A dedicated SRAM is a cache before an arena in DRAM, which an Ethos-U55 and a system with flash have not."""
    if not mode.startswith("Dedicated_Sram"):
        return
    if name == "ethos-u55":
        yield PathError(("accelerator", "memory_mode"), f"{mode} is not for ethos-u55; use Shared_Sram or Sram_Only")
    elif _SYSTEM_CONFIGS.get(system) == "flash":
        yield PathError(
            ("accelerator", "memory_mode"),
            f"{mode} keeps the arena in DRAM, {system} has flash there; use Shared_Sram or Sram_Only",
        )


def _hexagon_problems(found: Accelerator) -> Iterator[PathError]:
    if found.soc_id is None or found.arch is None:
        return
    if found.soc_id not in _HEXAGONS:
        known = ", ".join(f"{number} ({arch})" for number, arch in _HEXAGONS.items())
        yield PathError(("accelerator", "soc_id"), f"{found.soc_id} is not known; known are {known}")
    elif found.arch != _HEXAGONS[found.soc_id]:
        wanted = _HEXAGONS[found.soc_id]
        yield PathError(("accelerator", "arch"), f"SoC {found.soc_id} has {wanted}, got {found.arch[:100]!r}")


def _compiler_problems(target: Target) -> Iterator[PathError]:
    own = _COMPILERS.get(target.accelerator.name) if target.accelerator else None
    names = [spec.name for spec in target.runtimes]
    for index, name in enumerate(names):
        if name in _COMPILERS.values() and name != own:
            has = target.accelerator.name if target.accelerator else "no accelerator"
            yield PathError(("runtimes", index, "name"), f"{name} compiles for an accelerator that is not here: {has}")
    if own is not None and own not in names:
        yield PathError(("accelerator",), f"no runtime uses it: add one called {own}")
