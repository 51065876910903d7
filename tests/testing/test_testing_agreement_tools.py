"""Rows of outside tools, with a stand-in for tflite-micro that answers as LiteRT's reference kernels do."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from edgeq.testing import agreement
from edgeq.testing.agreement import Job, Seat
from edgeq.testing.tools import install_stand_in

SEAT = Seat("stm32h743", "tflite-micro", "tflite_micro", tool="tflm")
ANSWERS = """
from ai_edge_litert import interpreter as litert

class Interpreter:
    @classmethod
    def from_bytes(cls, model, arena_size):
        assert arena_size == 64 << 20
        made = cls()
        kinds = litert.OpResolverType
        made.real = litert.Interpreter(model_content=model, experimental_op_resolver_type=kinds.BUILTIN_REF)
        made.real.allocate_tensors()
        return made

    def set_input(self, values, place):
        self.real.set_tensor(self.real.get_input_details()[place]["index"], values)

    def invoke(self):
        self.real.invoke()

    def get_output(self, place):
        return self.real.get_tensor(self.real.get_output_details()[place]["index"])

class runtime:
    Interpreter = Interpreter

def main():
    pass
"""
REFUSES = (
    "class runtime:\n    class Interpreter:\n        @classmethod\n        def from_bytes(cls, model, arena_size):\n"
)
REFUSES += "            raise RuntimeError('no kernel for it')\n\ndef main():\n    pass\n"


def tool(folder: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = install_stand_in(folder, "tflm", source)
    packages = next(environment.glob("lib/python*/site-packages"))
    (packages / "host.pth").write_text(sysconfig.get_path("purelib") + "\n")  # numpy, for the worker
    monkeypatch.setenv("EDGEQ_TOOLS", str(folder))


def job(examples: Path) -> Job:
    folder = examples / "digits"
    return Job(folder / "digits_float.tflite", folder / "dataset.yaml", "static_wi8_ai8", (SEAT,))


def test_tflite_micro_is_asked(tmp_path: Path, examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tmp_path, ANSWERS, monkeypatch)
    (row,) = agreement.examine(job(examples))
    assert (row.runtime, row.plan, row.wrong) == ("tflite-micro on stm32h743", "yes", ())
    assert row.reality.startswith("converted and run")


def test_its_refusal_of_a_plan_that_says_yes_is_told(
    tmp_path: Path, examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool(tmp_path, REFUSES, monkeypatch)
    (row,) = agreement.examine(job(examples))
    assert "a plan that says yes does not run" in row.wrong
    assert "no kernel for it" in row.reality
