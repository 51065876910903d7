"""The model as an Arduino library: `arduino/` in the bundle, to be copied into the sketchbook's `libraries`.

Arduino compiles everything below `src/` with that folder alone on the include path and no macros of ours, so kernels
lie beside the model, and macros stand in each file's first lines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from edgeq import store
from edgeq.builders.mcu import files
from edgeq.codegen.generate import Compiled

_TEMPLATES = {
    "library.properties.j2": "library.properties",
    "EdgeqModel.h.j2": "src/EdgeqModel.h",
    "SelfTest.ino.j2": "examples/SelfTest/SelfTest.ino",
}


def write(place: Path, compiled: Compiled, words: Mapping[str, object]) -> None:
    """Write the library into a bundle whose other files are there already."""
    folder = place / "arduino"
    sources = [place / "model.h", place / "model.c", place / "io.h"]
    sources += [place / "kernels" / name for name in compiled.kernels]
    for path in sources:
        head = "".join(f"#define {macro}\n" for macro in compiled.defines) if path.suffix == ".c" else ""
        store.write_bytes(folder / "src" / path.name, head.encode() + path.read_bytes())
    for path in (place / "golden.c", place / "runtime/eq_golden.h"):
        store.write_bytes(folder / "examples/SelfTest" / path.name, path.read_bytes())
    given = {**words, "library": _library(str(words["title"]))}
    for template, written in _TEMPLATES.items():
        store.write_bytes(folder / written, files.render(template, given).encode())


def _library(title: str) -> str:
    """A library's name: letters, digits, dashes and the like, a letter first, at most 63 of them."""
    return ("edgeq_" + re.sub(r"[^A-Za-z0-9_.-]+", "_", title))[:63]
