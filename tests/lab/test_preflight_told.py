"""Where preflight's warnings go: to whoever deploys, into the measurement, into the report's checks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgeq import store
from edgeq.cli import common
from edgeq.cli import deploy as verb
from edgeq.lab.deploy import Deployment
from edgeq.report import json, terminal, verdict
from edgeq.types import (
    Budgets,
    Check,
    Conditions,
    ConditionsPair,
    Energy,
    MeasuredMemory,
    Measurement,
    RunSettings,
)

WARNED = Check(
    rule="preflight",
    subject="governor",
    ok=False,
    why="the governor is powersave: the clock follows the load",
    hint="on the device: sudo cpupower frequency-set -g performance",
)
ENERGY = Energy(
    per_inference_mj=41.70,
    idle_mw=2000.0,
    load_mw=5000.0,
    source="hwmon (VDD_IN), idle subtracted",
    samples=70,
    uncertainty_mj=1.26,
    uncertainty_parts_mj={"resolution": 0.4, "drift": 0.1},
    idle_before_mw=1990.0,
    idle_after_mw=2010.0,
    includes="the board's input",
)


def measurement(**words: object) -> Measurement:
    moment = Conditions()
    usual = Measurement(
        device={"name": "pi"},
        runtime={},
        settings=RunSettings(),
        latency_ms=None,
        latency_samples_ns=(),
        batch=1,
        memory_bytes=MeasuredMemory(),
        energy=None,
        parity=None,
        conditions=ConditionsPair(before=moment, after=moment),
        manifest_sha256="0" * 64,
    )
    return dataclasses.replace(usual, **words)  # type: ignore[arg-type]


def test_deploying_says_it_with_the_command() -> None:
    done = Deployment(folder="/b", sent=("m",), kept=(), sent_bytes=3, warnings=(WARNED,))
    assert verb._words(done).splitlines() == [
        "1 files sent (3 bytes), 0 kept: /b",
        "warning: the governor is powersave: the clock follows the load",
        "  hint: on the device: sudo cpupower frequency-set -g performance",
    ]
    assert json.plain(done)["warnings"][0]["subject"] == "governor"
    assert common.warning(dataclasses.replace(WARNED, hint=None)).count("\n") == 0


def test_a_warning_is_a_check_of_the_report_and_no_reason_for_a_no() -> None:
    found = verdict.judge(None, measurement(preflight=(WARNED,)), None, Budgets())
    assert found.ok
    check = next(one for one in found.checks if one.rule == "preflight")
    assert (check.ok, check.why, check.hint) == (True, f"warning: {WARNED.why}", WARNED.hint)


def test_it_is_kept_with_the_measurement(tmp_path: Path) -> None:
    taken = measurement(preflight=(WARNED,), energy=ENERGY)
    store.write(tmp_path / "measurement.json", taken)
    assert store.read(tmp_path / "measurement.json", Measurement) == taken


def test_a_measurement_of_an_older_edgeq_still_loads(tmp_path: Path) -> None:
    import json as plain

    store.write(tmp_path / "measurement.json", measurement(energy=ENERGY))
    told = plain.loads((tmp_path / "measurement.json").read_text())
    del told["preflight"]
    told["energy"] = {
        name: told["energy"][name] for name in ("per_inference_mj", "idle_mw", "load_mw", "source", "samples")
    }
    (tmp_path / "measurement.json").write_text(plain.dumps(told))
    found = store.read(tmp_path / "measurement.json", Measurement)
    assert found.preflight == ()
    assert found.energy is not None
    assert found.energy.uncertainty_mj is None


def test_energy_is_shown_with_its_uncertainty_and_what_it_includes() -> None:
    rows = terminal._energy(ENERGY)
    assert rows == [("energy", "41.7 ± 1.3 mJ, from hwmon (VDD_IN), idle subtracted"), ("", "of the board's input")]
    older = dataclasses.replace(ENERGY, uncertainty_mj=None, includes="")
    assert terminal._energy(older) == [("energy", "41.7 mJ, from hwmon (VDD_IN), idle subtracted")]
