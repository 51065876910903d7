"""Who is measured: the peers, pinned, each in an environment of its own, and edgeq's commands."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from measuring import EDGEQ, ROOT

from edgeq.errors import EdgeqError
from edgeq.tools.environments import look
from edgeq.tools.installing import install_recipe
from edgeq.tools.table import Recipe

SCRIPTS = Path(__file__).resolve().parent / "peers"
ENVIRONMENTS = ROOT / "build" / "peers"
TARGET = f"generic-linux-{platform.machine()}"
SEEKING = ("--retries", "1", "--timeout", "30")
"""pip's own words: a host without a network is told so at once."""
TRANSFORMER = "LayerNormalization"


class Peer(NamedTuple):
    """One way of quantizing; `environment` names the row of RECIPES that it runs in."""

    name: str
    format: str
    script: str
    environment: str
    words: tuple[str, ...] = ()
    only_with: str = ""
    """A type of operator without which it is not asked."""


def _recipe(name: str, packages: Sequence[str], modules: Sequence[str]) -> Recipe:
    return Recipe(
        name=name,
        purpose="make bench-accuracy",
        requirements=((((3, 10), (3, 13)), tuple(packages)),),
        distribution=packages[0].partition("==")[0],
        modules=tuple(modules),
        size_bytes=3 << 30,
    )


_ONNX = ("onnx==1.23.2", "onnxruntime==1.31.1")
RECIPES: Mapping[str, Recipe] = {
    one.name: one
    for one in (
        _recipe(
            "litert-quantizer", ("litert-quantizer==0.11.0", "ai-edge-litert==2.3.0"), ("litert_quantizer", "numpy")
        ),
        _recipe("tensorflow", ("tensorflow==2.21.0", "tf_keras==2.21.0"), ("tensorflow", "tf_keras")),
        _recipe("onnxruntime", ("onnxruntime==1.31.1", "onnx==1.23.2", "sympy"), ("onnxruntime", "onnx")),
        _recipe("nncf", ("nncf==3.4.0", *_ONNX), ("nncf", "onnxruntime")),
        _recipe("quark", ("amd-quark==0.13", *_ONNX, "torch"), ("quark", "onnxruntime")),
    )
}
PEERS = (
    Peer("litert_quantizer", "tflite", "with_litert_quantizer.py", "litert-quantizer"),
    Peer("tf_ptq", "tflite", "with_tensorflow.py", "tensorflow"),
    Peer("ort", "onnx", "with_onnxruntime.py", "onnxruntime"),
    Peer("nncf", "onnx", "with_nncf.py", "nncf"),
    Peer("nncf_transformer", "onnx", "with_nncf.py", "nncf", ("transformer",), TRANSFORMER),
    Peer("quark_a8w8", "onnx", "with_quark.py", "quark", ("A8W8",)),
    Peer("quark_xint8", "onnx", "with_quark.py", "quark", ("XINT8",)),
)
MIN_MAX = ("tf_ptq", "ort")
"""Those with the true minimum and maximum and a scale for each output channel."""


class Seat(NamedTuple):
    """The interpreter that a peer runs in, or why there is none."""

    python: str | None
    told: str


def seat(peer: Peer, *, install: bool) -> Seat:
    """Its own environment, made when it may be, else the project's where the packages are there."""
    return _seat(peer.environment, install)


@cache
def _seat(name: str, install: bool) -> Seat:
    recipe = RECIPES[name]
    try:
        made = install_recipe(recipe, ENVIRONMENTS, arguments=SEEKING) if install else look(recipe, ENVIRONMENTS / name)
        return Seat(str(made.python), f"own environment, {recipe.distribution} {made.version}")
    except EdgeqError as error:
        why = f"no environment of its own: {error.message}"
    found, missing = _here(recipe)
    if found is None or missing:
        return Seat(None, f"not run: {why}")
    return Seat(sys.executable, f"the project's environment, {recipe.distribution} {found} ({why})")


def _here(recipe: Recipe) -> tuple[str | None, list[str]]:
    from edgeq.tools.environments import examine

    return examine(Path(sys.executable), recipe)


def peer_argv(peer: Peer, python: str, model: Path, samples: Path, out: Path) -> list[object]:
    """A peer's command line."""
    return [python, SCRIPTS / peer.script, model, samples, out, *peer.words]


EDGEQ_STATIC = {"edgeq": (), "edgeq --prefer accuracy": ("--prefer", "accuracy")}
EDGEQ_SCHEMES = {f"edgeq {name}": ("--scheme", name) for name in ("dynamic_wi8_af32", "weight_only_wi8")}
EDGEQ_SCHEMES["edgeq weight_only_wi4"] = ("--scheme", "weight_only_wi4")


def edgeq_argv(words: Sequence[str], model: Path, dataset: Path, out: Path) -> list[object]:
    """edgeq's command line; static INT8 where the words name no scheme."""
    scheme = () if "--scheme" in words else ("--scheme", "static_wi8_ai8")
    asked = ("quantize", model, "-t", TARGET, "--data", dataset, "-o", out, "--json", "-q")
    return [*EDGEQ, *asked, *scheme, *words]
