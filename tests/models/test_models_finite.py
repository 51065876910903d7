"""Which constant of a model is no number, by name, in both formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeq import models
from edgeq.errors import ModelError
from edgeq.models import finite
from edgeq.testing import models as made
from edgeq.testing.altered import alter

Make = Callable[[Path], Path]
BOTH: list[tuple[Make, str, str]] = [
    (made.conv_tflite, "conv/w", "CONV_2D (operator 0)"),
    (made.conv_onnx, "conv_w", "Conv (operator 0)"),
]
both = pytest.mark.parametrize(("make", "name", "operator"), BOTH)


def put(value: float, *places: int) -> Callable[[NDArray[np.float32]], None]:
    def change(values: NDArray[np.float32]) -> None:
        values.reshape(-1)[list(places)] = value

    return change


@pytest.mark.parametrize("make", [made.conv_tflite, made.conv_onnx, made.mlp_tflite, made.external_data_onnx])
def test_good_models_have_none(make: Make, tmp_path: Path) -> None:
    assert finite.first_broken(models.read(make(tmp_path))) is None


@both
@pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_a_broken_weight_is_named_with_its_operator(
    make: Make, name: str, operator: str, value: float, what: str, tmp_path: Path
) -> None:
    path = alter(make(tmp_path), name, put(value, 3, 77))
    assert finite.first_broken(models.read(path)) == (name, operator, what, 2, 216)


@both
def test_both_kinds_at_once_are_nan(make: Make, name: str, operator: str, tmp_path: Path) -> None:
    path = alter(alter(make(tmp_path), name, put(np.nan, 3)), name, put(np.inf, 4))
    assert finite.first_broken(models.read(path)) == (name, operator, "NaN", 2, 216)


@both
def test_the_first_that_is_read_is_told(make: Make, name: str, operator: str, tmp_path: Path) -> None:
    later = name.replace("conv", "dense")
    path = alter(alter(make(tmp_path), later, put(np.nan, 0)), name, put(np.nan, 0))
    found = finite.first_broken(models.read(path))
    assert found is not None
    assert (found.tensor, found.operator) == (name, operator)


@both
def test_a_bias_counts_too(make: Make, name: str, operator: str, tmp_path: Path) -> None:
    found = finite.first_broken(models.read(alter(make(tmp_path), name.replace("w", "b"), put(np.nan, 0))))
    assert found is not None
    assert (found.tensor, found.operator, found.values) == (name.replace("w", "b"), operator, 8)


def test_an_infinite_limit_is_no_weight_but_a_limit_that_is_nan_is_broken(tmp_path: Path) -> None:
    limits = models.read(alter(made.conv_onnx(tmp_path), "high", put(np.inf, 0)))
    assert finite.first_broken(limits) is None
    found = finite.first_broken(models.read(alter(made.conv_onnx(tmp_path), "high", put(np.nan, 0))))
    assert found is not None
    assert (found.tensor, found.operator, found.values) == ("high", "Clip (operator 1)", 1)


@both
def test_a_file_that_changed_meanwhile_is_an_error(make: Make, name: str, operator: str, tmp_path: Path) -> None:
    graph = models.read(make(tmp_path))
    path = alter(Path(graph.path), name, put(0.5, 0))
    if path.suffix == ".tflite":  # whose hash is not looked at, for it is mapped, not read
        path.write_bytes(path.read_bytes() + bytes(64))
    with pytest.raises(ModelError, match="changed"):
        finite.first_broken(graph)
