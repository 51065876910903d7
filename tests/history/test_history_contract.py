"""What the run history promises, over a SQLite file and a real PostgreSQL."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from edgeq import history, store, types
from edgeq.errors import HistoryError, OutputError

Reports = Callable[..., types.Report]
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["edgeq.history.runs", "edgeq.documents", "pydantic", "psycopg"])

pytestmark = pytest.mark.usefixtures("database")


def test_a_run_comes_back_as_it_was(reports: Reports, tmp_path: Path) -> None:
    report = reports(7)
    identity = history.record(report, folder=tmp_path, command="profile")
    run, found = history.get(identity)
    assert found == report
    assert (run.id, run.model, run.device, run.hardware) == (
        identity, "kws", "desk-pi", "Raspberry Pi 4 Model B (aarch64)"
    )  # fmt: skip
    assert (run.runtime, run.runtime_version, run.threads) == ("ai_edge_litert", "2.3.0", 2)
    assert (run.p50_ms, run.p90_ms, run.p99_ms, run.energy_mj) == (4.0, 4.4, 6.0, 1.5)
    assert (run.peak_rss_bytes, run.parity_ok, run.throttled, run.ok) == (60 << 20, True, False, True)
    assert (run.command, run.folder) == ("profile", str(tmp_path))
    assert run.at.tzinfo is timezone.utc
    assert abs(run.at - datetime.now(timezone.utc)) < timedelta(minutes=1)


def test_what_was_not_measured_stays_none(reports: Reports) -> None:
    nothing = {"latency_ms": None, "latency_samples_ns": (), "energy": None, "parity": None}
    run, found = history.get(history.record(reports(1, measured=nothing)))
    assert (run.p50_ms, run.energy_mj, run.parity_ok, run.accuracy, run.size_bytes) == (None,) * 5
    assert found.measurement is not None
    assert found.measurement.latency_samples_ns == ()


def test_the_same_measurement_is_one_run(reports: Reports, tmp_path: Path) -> None:
    first = history.record(reports(1))
    store.write(tmp_path / "measurement.json", reports(1).measurement)
    again = replace(reports(1), measurement=store.read(tmp_path / "measurement.json", types.Measurement))
    assert history.record(again, folder=tmp_path, command="run --resume") == first
    assert history.record(reports(2)) != first
    assert len(history.find()) == 2


def test_an_edgeq_that_knows_more_fields_takes_it_for_the_same_run(reports: Reports, tmp_path: Path) -> None:
    first = history.record(reports(1))
    older = json.loads(store.to_json(reports(1).measurement))
    for name in ("warmup", "steadiness", "sustained", "speedup", "operators", "watched", "preflight"):
        del older[name]
    del older["settings"]["compare_float"]
    (tmp_path / "measurement.json").write_text(json.dumps(older))
    again = replace(reports(1), measurement=store.read(tmp_path / "measurement.json", types.Measurement))
    assert history.record(again) == first


def test_samples_can_be_had_without_reports(reports: Reports) -> None:
    made = {history.record(reports(number)): reports(number) for number in range(3)}
    found = history.latency_samples_ns([*made, "no such run"])
    assert found == {name: one.measurement.latency_samples_ns for name, one in made.items() if one.measurement}


def test_the_time_is_that_of_the_measurement(reports: Reports, tmp_path: Path) -> None:
    store.write(tmp_path / "measurement.json", reports(1).measurement)
    os.utime(tmp_path / "measurement.json", (1_700_000_000.123, 1_700_000_000.123))
    identity = history.record(reports(1), folder=tmp_path)
    assert identity.startswith("20231114-221320-07b")
    assert history.find()[0].at == datetime(2023, 11, 14, 22, 13, 20, 123000, timezone.utc)
    os.utime(tmp_path / "measurement.json", (9e9, 9e9))
    future = history.record(reports(2), folder=tmp_path)
    assert abs(history.get(future)[0].at - datetime.now(timezone.utc)) < timedelta(minutes=1)


def test_ids_sort_by_time(reports: Reports) -> None:
    made = []
    for number in range(5):
        made.append(history.record(reports(number)))
        time.sleep(0.002)
    assert made == sorted(made)
    assert [run.id for run in history.find()] == made[::-1]
    assert all(re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{12}", identity) for identity in made)


def test_runs_are_found_by_what_they_are(reports: Reports) -> None:
    for number in range(4):
        device = {"name": f"pi-{number % 2}", "machine": "aarch64", "board": "Pi 4"}
        history.record(reports(number, model=f"model-{number // 2}", measured={"device": device}))
    assert len(history.find(model="model-1")) == 2
    assert len(history.find(device="pi-0")) == 2
    assert [run.model for run in history.find(model="model-1", device="pi-0")] == ["model-1"]
    assert len(history.find(hardware="Pi 4 (aarch64)")) == 4
    assert len(history.find(limit=3)) == 3
    assert history.find(target="raspberry-pi-4") == ()
    assert history.find(since=datetime.now(timezone.utc) + timedelta(seconds=5)) == ()
    assert len(history.find(since=datetime.now(timezone.utc) - timedelta(seconds=60))) == 4


def test_a_run_is_called_by_the_start_of_its_id(reports: Reports) -> None:
    first = history.record(reports(1))
    second = history.record(reports(2))
    shared = next(place for place in range(len(first)) if first[place] != second[place])
    assert history.get(second[: shared + 1])[0].id == second
    with pytest.raises(HistoryError, match="may be"):
        history.get(first[:shared])
    for name in ("", "%", "_" * 28, "20991231", "x' OR '1'='1", "\0", "\ud800"):
        with pytest.raises(HistoryError, match="no run is called"):
            history.get(name)


def test_a_run_can_be_forgotten(reports: Reports) -> None:
    first, second = history.record(reports(1), labels=["nightly"]), history.record(reports(2))
    assert history.forget(first) == first
    assert [run.id for run in history.find()] == [second]
    with pytest.raises(HistoryError, match="no run is called"):
        history.forget(first)
    again = history.record(reports(1))
    assert again != first
    assert history.get(again)[0].labels == ()


def test_a_report_without_a_measurement_is_no_run(reports: Reports) -> None:
    with pytest.raises(OutputError, match="nothing was measured"):
        history.record(reports(1, measurement=None))


def _named() -> dict[str, str]:
    """Where the database is: a process that was forked earlier has not been told."""
    return {name: value for name, value in os.environ.items() if name.startswith("EDGEQ_")}


def _record_many(reports: Reports, named: dict[str, str], worker: int, count: int) -> None:
    os.environ.update(named)
    for number in range(count):
        history.record(reports(worker * 1000 + number))
        if number % 4 == 0:
            history.record(reports(number))  # what all the others record too


def test_eight_processes_write_at_the_same_time(reports: Reports) -> None:
    workers = [PROCESSES.Process(target=_record_many, args=(reports, _named(), worker, 20)) for worker in range(1, 9)]
    for one in workers:
        one.start()
    for one in workers:
        one.join(120)
    assert [one.exitcode for one in workers] == [0] * 8
    found = history.find()
    assert len(found) == 8 * 20 + 5
    assert len({run.id for run in found}) == len(found)


def test_thirty_two_threads_write_at_the_same_time(reports: Reports) -> None:
    with ThreadPoolExecutor(32) as pool:
        made = list(pool.map(lambda number: history.record(reports(number)), range(32)))
    assert len(set(made)) == 32
    assert len(history.find()) == 32


def _record_for_ever(reports: Reports, named: dict[str, str], started: Any) -> None:
    os.environ.update(named)
    for number in range(10**6):
        history.record(reports(number))
        started.set()


@pytest.mark.parametrize("patience", [0.0, 0.05])
def test_a_writer_that_is_killed_leaves_whole_runs(reports: Reports, patience: float) -> None:
    started = PROCESSES.Event()
    writer = PROCESSES.Process(target=_record_for_ever, args=(reports, _named(), started))
    writer.start()
    assert started.wait(60)
    time.sleep(patience)
    os.kill(writer.pid or 0, signal.SIGKILL)
    writer.join(20)
    kept = len(history.find())
    assert kept >= 1
    for number in range(kept + 1):  # the one that it was writing is recorded now, or was
        history.record(reports(number))
    found = history.find()
    assert len(found) in (kept, kept + 1)
    for run in found[:3]:
        assert history.get(run.id)[1].measurement is not None


def test_hostile_names_are_kept_as_text(reports: Reports) -> None:
    names = ["'; DROP TABLE edgeq_runs; --", "a\0b", "\ud800", "x" * 100_000, "%(name)s {0} :p ?", "\u202etxt\r\n", ""]
    for number, name in enumerate(names):
        device = {"name": name, "machine": name, "board": name}
        identity = history.record(
            reports(number, model=name, measured={"device": device, "runtime": {"name": name, "version": name}}),
            command=name,
            folder=Path(name.replace("\0", "")[:50]),
        )
        run = history.find(limit=1)[0]
        assert run.id == identity
        assert len(run.model) <= 500
        assert "\0" not in run.model
    assert len(history.find()) == len(names)
    assert len(history.find(model=names[0])) == 1
    assert history.find(model="%") == ()
