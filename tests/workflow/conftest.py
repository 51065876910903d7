"""A folder with both tiny models and their samples, and a device that is this host."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgeq.testing import models

TARGET = "generic-linux-x86_64"
UNREACHABLE = "ssh://nobody@127.0.0.1:1"


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """conv.tflite and mlp.tflite, with `dataset.yaml` for the first and `flat/dataset.yaml` for the second."""
    models.conv_tflite(tmp_path)
    models.mlp_tflite(tmp_path)
    models.tiny_dataset(tmp_path)
    (tmp_path / "flat").mkdir()
    models.tiny_dataset(tmp_path / "flat", models.MLP_SHAPE)
    return tmp_path


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """This host as a device, with this Python and a folder of its own."""
    from edgeq import devices

    monkeypatch.setenv("EDGEQ_DEVICES", str(tmp_path / "devices.yaml"))
    devices.add("here", "local:", python=sys.executable, folder=str(tmp_path / "device"))
    return "here"
