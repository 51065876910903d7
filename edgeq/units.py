"""Sizes and durations as people write them."""

from __future__ import annotations

import re

_BINARY = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_DECIMAL = {"KB": "KiB", "kB": "KiB", "MB": "MiB", "GB": "GiB", "K": "KiB", "M": "MiB", "G": "GiB"}


def parse_size(text: int | str) -> int:
    """Bytes in `512`, `64 KiB` or `1.5 MiB`; raises ValueError with what would be right."""
    if isinstance(text, bool):
        raise ValueError(f"{text!r} is not a size; write a number of bytes or '64 KiB'")
    if isinstance(text, int):
        if text < 0:
            raise ValueError(f"a size cannot be negative, got {text}")
        return text
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,6})?)\s*([A-Za-z]*)\s*", text)
    if match is None:
        raise ValueError(f"{text!r} is not a size; write a number of bytes or '64 KiB'")
    number, unit = match.groups()
    if unit in _DECIMAL:
        raise ValueError(f"{unit} is ambiguous; write '{number} {_DECIMAL[unit]}'")
    if unit and unit not in _BINARY:
        raise ValueError(f"{unit!r} is not a unit of size; write one of {', '.join(_BINARY)}")
    size = float(number) * _BINARY[unit or "B"]
    if size != int(size):
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return int(size)


def format_size(size_bytes: int | float | None) -> str:
    """`1.5 MiB` for people; `-` for what was not measured."""
    if size_bytes is None:
        return "-"
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"


def format_ms(duration_ms: float | None) -> str:
    """`12.3 ms`, `45 µs`, `2.1 s` for people; `-` for what was not measured."""
    if duration_ms is None:
        return "-"
    if duration_ms < 1:
        return f"{duration_ms * 1000:.3g} µs"
    return f"{duration_ms:.3g} ms" if duration_ms < 1000 else f"{duration_ms / 1000:.3g} s"
