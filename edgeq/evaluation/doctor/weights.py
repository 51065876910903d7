"""The rule about weights that are no numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.evaluation.doctor.findings import finding
from edgeq.types import Finding

if TYPE_CHECKING:
    from edgeq.models.finite import Broken


def broken_weights(found: Broken | None) -> Finding | None:
    """The model's own weights are broken."""
    if found is None:
        return None
    what = f"{found.broken} {found.what} among {found.values} values"
    detail = f"{found.tensor!r}, which {found.operator} reads, has {what}"
    hint = "export it again from a checkpoint that still answers: training has diverged, or the file was damaged"
    return finding(broken_weights, "stop", detail, hint, broken=found.broken, values=found.values)
