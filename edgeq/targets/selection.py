"""Which profiles of the shelf somebody asks for."""

from __future__ import annotations

from collections.abc import Iterable

from edgeq.errors import TargetError
from edgeq.targets.names import nearest
from edgeq.types import Target


def select(
    found: Iterable[Target],
    *,
    kind: str | None = None,
    ram_at_least_bytes: int | None = None,
    flash_at_least_bytes: int | None = None,
    runtime: str | None = None,
) -> list[Target]:
    """Those of that kind, memory and runtime; raises TargetError for a runtime that none has.

    Kind `npu` is any with an accelerator. Memory is the whole of what the profile states, before anything is reserved;
    without a flash there is none.
    """
    targets = list(found)
    known = sorted({spec.name for target in targets for spec in target.runtimes})
    if runtime is not None and runtime not in known:
        raise TargetError(f"no target has a runtime {runtime[:100]!r}{nearest(runtime, known)}")
    return [
        target
        for target in targets
        if _is_of_kind(target, kind)
        and (ram_at_least_bytes is None or target.memory.ram_bytes >= ram_at_least_bytes)
        and (flash_at_least_bytes is None or (target.memory.flash_bytes or 0) >= flash_at_least_bytes)
        and (runtime is None or runtime in {spec.name for spec in target.runtimes})
    ]


def _is_of_kind(target: Target, kind: str | None) -> bool:
    return target.accelerator is not None if kind == "npu" else kind in (None, target.kind)
