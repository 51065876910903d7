"""The error tree is the one that its module draws."""

from __future__ import annotations

import inspect
import re

from edgeq import errors


def _tree() -> dict[str, str]:
    """Child to parent, as drawn at the top of the module."""
    stack: list[str] = []
    parents: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^((?:│   |    )*)(?:├── |└── )?([A-Z][A-Za-z]+)(?:\s|$)", line)
        if not match or match.group(2) not in vars(errors):
            continue
        depth = len(match.group(1)) // 4 + (1 if "── " in line else 0)
        stack[depth:] = [match.group(2)]
        if depth:
            parents[match.group(2)] = stack[depth - 1]
    return parents


def test_the_drawing_and_the_classes_agree() -> None:
    classes = {
        name: found.__bases__[0].__name__
        for name, found in vars(errors).items()
        if inspect.isclass(found) and issubclass(found, errors.EdgeqError) and found is not errors.EdgeqError
    }
    assert _tree() == classes


def test_every_error_says_what_it_stands_for() -> None:
    for name, found in vars(errors).items():
        if inspect.isclass(found) and issubclass(found, errors.EdgeqError):
            assert found.__doc__, name


def test_an_error_carries_place_and_hint() -> None:
    error = errors.ModelError("truncated", where="a.tflite", hint="export it again")
    assert (str(error), error.where, error.hint) == ("truncated", "a.tflite", "export it again")
