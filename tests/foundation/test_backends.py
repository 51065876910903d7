"""Backends are modules found by their names."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import edgeq
from edgeq import backends
from edgeq.errors import BackendNotFound


def test_every_kind_finds_what_its_folder_holds() -> None:
    for kind in ("runtimes", "converters", "builders", "lab.transports", "lab.meters"):
        package = importlib.import_module(f"edgeq.{kind}")
        own = {module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")}
        own -= set(getattr(package, "HELPERS", ()))
        assert own == set(backends.names(kind)), kind
        for name in own:
            assert backends.find(kind, name).__name__ == f"edgeq.{kind}.{name}"


@pytest.mark.parametrize("name", ["nosuch", "", "../errors", "os", "litert.x", "__init__"])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(BackendNotFound) as caught:
        backends.find("runtimes", name)
    assert "litert" in (caught.value.hint or "")


def test_helpers_are_no_backends() -> None:
    assert backends.names("runtimes") == ["litert", "onnxruntime"]


def test_private_modules_are_no_backends() -> None:
    assert not any(name.startswith("_") for name in backends.names("lab.transports"))
    assert edgeq.__version__
