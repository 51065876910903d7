"""tflite-micro's interpreter, for `_batch.py`."""

from __future__ import annotations

from typing import Any

from tflite_micro import runtime  # type: ignore[import-not-found]

ARENA_BYTES = 4 << 20
REFUSALS = (RuntimeError, ValueError, IndexError)


def run(model: bytes, feeds: dict[str, Any], outputs: int, settings: dict[str, Any]) -> list[Any]:
    """Run a model once on its inputs in order, in an arena of `arena_bytes`; its outputs."""
    arena_bytes = settings.get("arena_bytes", ARENA_BYTES)
    interpreter = runtime.Interpreter.from_bytes(model, arena_size=arena_bytes)
    for number, values in enumerate(feeds.values()):
        interpreter.set_input(values, number)
    interpreter.invoke()
    return [interpreter.get_output(number) for number in range(outputs)]
