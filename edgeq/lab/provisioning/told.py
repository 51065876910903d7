"""What the onboard runner may answer to `facts` and `install`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval, Len

from edgeq.lab.answers import Interpreter, Machine, Text
from edgeq.lab.readiness import Disk

Number = Annotated[int, Interval(ge=0, le=1000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What decides which wheels run there; `folder` is where runtimes go."""

    event: Text
    device: Machine
    implementation: Annotated[str, Len(1, 40)]
    version: tuple[Number, Number, Number]
    abi: Annotated[str, Len(1, 200)]
    libc: Text
    disk: Disk
    folder: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """Where the runtime is now; None when no interpreter could be built in it."""

    event: Text
    folder: Text | None
    interpreter: Interpreter
