"""Turn a float model into a quantized one. Each module has `convert`, or is an importer from another format."""

from __future__ import annotations

import resource
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgeq.types import Artifact, QuantizedModel, silent

if TYPE_CHECKING:
    from edgeq.types import Dataset, ModelGraph, Plan, Port, Progress


class Convert(Protocol):
    """The `convert` of a converter module."""

    def __call__(
        self,
        graph: ModelGraph,
        plan: Plan,
        dataset: Dataset | None,
        out: Path,
        *,
        progress: Progress = silent,
        prepared: Path | None = None,
        state: Path | None = None,
    ) -> QuantizedModel:
        """Write the model that `plan` asks for to the file `out`, whole or not at all, and describe it.

        `prepared` gets the float model as it was quantized (restored, folded, equalized), where it was changed.
        `state` is a folder in which passes over the calibration samples are kept: one that was interrupted goes on
        where it was, and one that is finished is not done again for another range method.
        `dataset` is bound to the model; a static scheme needs its calibration samples. Raises ConvertError,
        OutputError. Scores are left open: evaluation fills them.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one call of `convert` works on."""

    graph: ModelGraph
    plan: Plan
    dataset: Dataset | None
    progress: Progress
    prepared: Path | None = None
    state: Path | None = None


def describe(
    graph: ModelGraph,
    plan: Plan,
    out: Path,
    *,
    inputs: tuple[Port, ...],
    outputs: tuple[Port, ...],
    notes: tuple[str, ...],
    tools: Mapping[str, str],
    seconds: float,
) -> QuantizedModel:
    """The document of the finished file `out`; hash and size are read from it."""
    from edgeq import __version__, store

    artifact = Artifact(
        path=out.name,
        format=graph.format,
        sha256=store.sha256(out),
        size_bytes=out.stat().st_size,
        float_size_bytes=graph.size_bytes,
    )
    return QuantizedModel(
        plan=plan,
        artifact=artifact,
        float_path=graph.path,
        float_sha256=graph.sha256,
        inputs=inputs,
        outputs=outputs,
        notes=notes,
        tools={"edgeq": __version__, **tools},
        seconds=round(seconds, 3),
        peak_rss_bytes=peak_rss_bytes(),
    )


def listed(what: str, counts: Counter[str]) -> list[str]:
    """A note that counts types of operators, or none."""
    shown = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
    return [f"{what}: {shown}"] if counts else []


def peak_rss_bytes() -> int:
    """The most memory that this process has held so far.

    Linux's getrusage also counts what the parent held when it started this process; its VmHWM does not.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    high = [1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return high[0] if high else rusage_peak_bytes(resource.RUSAGE_SELF)


def rusage_peak_bytes(who: int) -> int:
    """The largest peak memory among what `who` (resource.RUSAGE_…) stands for."""
    peak = resource.getrusage(who).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
