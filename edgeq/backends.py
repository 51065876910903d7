"""Find a backend module by its name: the package first, then entry points."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points
from types import ModuleType

from edgeq.errors import BackendNotFound


def names(kind: str) -> list[str]:
    """Names of all backends of a kind such as `lab.transports`; its package names other modules in HELPERS."""
    package = importlib.import_module(f"edgeq.{kind}")
    helpers = getattr(package, "HELPERS", ())
    modules = (module.name for module in pkgutil.iter_modules(package.__path__))
    own = [name for name in modules if not name.startswith("_") and name not in helpers]
    return sorted({*own, *(point.name for point in entry_points(group=f"edgeq.{kind}"))})


def find(kind: str, name: str) -> ModuleType:
    """The module of a kind with that name; raises BackendNotFound."""
    known = names(kind)
    if name not in known:
        raise BackendNotFound(f"no {kind} is called {name!r}", hint=f"known: {', '.join(known)}")
    for point in entry_points(group=f"edgeq.{kind}", name=name):
        module = point.load()
        if isinstance(module, ModuleType):
            return module
    return importlib.import_module(f"edgeq.{kind}.{name}")
