"""Samples and labels: what edgeq feeds a model and how the answer is scored.

`load` reads a description, `bind` checks it against a model, `samples` and `labels` stream from it. The
modules behind these names import NumPy, so they are imported when a name is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeq.datasets.binding import bind
    from edgeq.datasets.feeding import samples, spread
    from edgeq.datasets.identity import fingerprint
    from edgeq.datasets.loading import load
    from edgeq.datasets.steps import preprocessing
    from edgeq.datasets.streaming import ahead
    from edgeq.datasets.truth import labels

__all__ = ["ahead", "bind", "fingerprint", "labels", "load", "preprocessing", "samples", "spread"]

_HOMES = {
    "ahead": "streaming",
    "bind": "binding",
    "fingerprint": "identity",
    "labels": "truth",
    "load": "loading",
    "preprocessing": "steps",
    "samples": "feeding",
    "spread": "feeding",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
