"""edgeq history and edgeq compare from the command line, over a real run."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeq import history, store, types

Edgeq = Callable[..., Any]
Reports = Callable[..., types.Report]
TARGET = "generic-linux-x86_64" if platform.machine() == "x86_64" else "generic-linux-aarch64"
QUICK = ("--runs", "200", "--seconds", "0.3", "--warmup-seconds", "0.1")


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> Path:
    """A folder with a real run of the digits, in `out`, and the state that it left, in `state`."""
    folder = tmp_path_factory.mktemp("real")
    digits = examples / "digits"
    argv = [sys.executable, "-m", "edgeq", "run", digits / "digits_float.tflite", "-t", TARGET, "-d", "local:",
            "--data", digits / "dataset.yaml", "-o", folder / "out", "-q", *QUICK]  # fmt: skip
    quiet = {key: value for key, value in os.environ.items() if not key.startswith(("EDGEQ_", "XDG_"))}
    env = {**quiet, "HOME": str(folder), "EDGEQ_STATE": str(folder / "state"), "EDGEQ_LABELS": "nightly, main"}
    ran = subprocess.run(
        [str(word) for word in argv], env=env, capture_output=True, text=True, timeout=200, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.fixture
def run(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run's folder, with a copy of its history that the test may change."""
    shutil.copytree(kept / "state", tmp_path / "state")
    monkeypatch.setenv("EDGEQ_STATE", str(tmp_path / "state"))
    return kept / "out"


def slowed(folder: Path, into: Path, factor: float) -> Path:
    """The same run, measured slower: by far, since a busy host's own samples may spread over twice the median."""
    shutil.copytree(folder, into)
    found = store.read(into / "measurement.json", types.Measurement)
    assert found.latency_ms is not None
    samples = tuple(round(one * factor) for one in found.latency_samples_ns)
    latency = replace(found.latency_ms, p50=found.latency_ms.p50 * factor)
    beside = found.speedup and replace(found.speedup, quantized_p50_ms=found.speedup.quantized_p50_ms * factor)
    changed = replace(found, latency_samples_ns=samples, latency_ms=latency, speedup=beside)
    store.write(into / "measurement.json", changed)
    return into


def keep(folder: Path) -> str:
    """Record what a folder holds."""
    from edgeq import workflow

    return history.record(workflow.report(folder), folder=folder, command="test")


def test_a_run_is_kept_by_itself(edgeq: Edgeq, run: Path) -> None:
    ran = edgeq("history", "--json")
    assert ran.code == 0, ran.err
    (one,) = ran.document["runs"]
    assert (one["model"], one["target"], one["device"]) == ("digits_float", TARGET, "local:")
    assert (one["command"], one["folder"], one["labels"]) == ("run", str(run), ["main", "nightly"])
    assert one["p50_ms"] > 0
    assert one["at"].endswith("Z")
    measured = store.read(run / "measurement.json", types.Measurement)
    assert history.get(one["id"])[1].measurement == measured
    assert history.get(one["id"])[1] == store.read(run / "report.json", types.Report)


def test_compared_with_itself_it_is_undecided(edgeq: Edgeq, run: Path) -> None:
    ran = edgeq("compare", run, run, "--json")
    assert ran.code == 0, ran.err
    latency = ran.document["differences"][0]
    assert (latency["quantity"], latency["answer"], ran.document["ok"]) == ("latency p50", "undecided", True)
    (one,) = history.find()
    for name in (one.id, f"run:{one.id}", one.id[:20]):
        assert edgeq("compare", name, run).code == 0


def test_compared_with_a_slowed_copy_it_is_a_regression(edgeq: Edgeq, run: Path, tmp_path: Path) -> None:
    slow = slowed(run, tmp_path / "slow", 10)
    xml, notes = tmp_path / "junit.xml", tmp_path / "notes.md"
    os.environ["GITHUB_STEP_SUMMARY"] = str(notes)
    try:
        ran = edgeq("compare", run, slow, "--junit", xml, "--github")
    finally:
        del os.environ["GITHUB_STEP_SUMMARY"]
    assert ran.code == 3
    assert "worse than before: latency p50" in ran.out
    assert 'failures="1"' in xml.read_text()
    assert "**worse than before: latency p50**" in notes.read_text()
    assert edgeq("compare", run, slow, "--tolerance", "1000").code == 0
    assert edgeq("compare", slow, run).code == 0


def test_compared_with_its_baseline(edgeq: Edgeq, run: Path, tmp_path: Path) -> None:
    first = history.find()[0].id
    ran = edgeq("compare", run, "--baseline", "last")
    assert ran.code == 1
    assert "no run of digits_float on local: was kept before this one" in ran.error
    slow = keep(slowed(run, tmp_path / "slow", 10))
    fast = keep(slowed(run, tmp_path / "fast", 0.1))
    for path in ("slow", "fast"):
        os.utime(tmp_path / path / "measurement.json")
    named = {which: edgeq("compare", tmp_path / "fast", "--baseline", which, "--json").document["before"]["name"]
             for which in ("last", "best", first, "run:" + first)}  # fmt: skip
    assert named == {"last": slow, "best": first, first: first, "run:" + first: first}
    again = slowed(run, tmp_path / "again", 1.01)
    assert edgeq("compare", again, "--baseline", "last").code == 3
    assert edgeq("compare", again, "--baseline", "best", "--json").document["before"]["name"] == fast
    assert edgeq("compare", again, "--baseline", slow).code == 0


def test_what_profile_leaves_in_another_folder_is_the_same_model(edgeq: Edgeq, run: Path, tmp_path: Path) -> None:
    ran = edgeq("profile", run / "bundle", "-d", "local:", "-o", tmp_path / "p", "-q", "--no-float", *QUICK)
    assert ran.code == 0, ran.err
    assert not (tmp_path / "p" / "quantized.json").exists()
    document = edgeq("compare", tmp_path / "p", "--baseline", "last", "--json").document
    assert document["before"]["name"] == history.find()[1].id
    assert {"latency p50", "size", "top1", "parity"} <= {one["quantity"] for one in document["differences"]}
    stale = replace(store.read(run / "report.json", types.Report), model="another")
    store.write(tmp_path / "p" / "report.json", stale)
    assert edgeq("compare", tmp_path / "p", tmp_path / "p", "--json").document["before"]["model"] != "another"


def test_a_baseline_is_of_the_same_model_target_and_device(edgeq: Edgeq, run: Path, reports: Reports) -> None:
    history.record(reports(1))
    assert edgeq("compare", run, "--baseline", "last").code == 1


def test_other_hardware_is_refused_unless_anyway(edgeq: Edgeq, run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    found = store.read(other / "measurement.json", types.Measurement)
    store.write(other / "measurement.json", replace(found, device={**found.device, "machine": "riscv64"}))
    ran = edgeq("compare", run, other)
    assert ran.code == 1
    assert f"these two cannot be compared: architecture {platform.machine()} and riscv64" in ran.error
    assert "--anyway" in ran.err
    ran = edgeq("compare", run, other, "--anyway")
    assert ran.code == 0
    assert "not under the same circumstances" in ran.out


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (("{run}",), 2, "two runs, or one and --baseline"),
        (("{run}", "{run}", "--baseline", "last"), 2, "two runs, or one and --baseline"),
        (("{run}", "{run}/nothing"), 1, "no folder with stage files"),
        (("{run}", "{empty}"), 1, "no stage files here"),
        (("{run}", "nothing"), 1, "no run is called 'nothing'"),
        (("{run}", "run:"), 1, "no run is called ''"),
        (("{run}", "--baseline", "20"), 1, ""),
    ],
)
def test_what_cannot_be_compared_is_told(
    edgeq: Edgeq, run: Path, tmp_path: Path, argv: tuple[str, ...], code: int, told: str
) -> None:
    (tmp_path / "empty").mkdir()
    words = [word.format(run=run, empty=tmp_path / "empty") for word in argv]
    if told:
        ran = edgeq("compare", *words)
        assert (ran.code, told in ran.error) == (code, True), ran.err
    else:  # the start of the only id there is
        assert edgeq("compare", *words).code == 0


def test_a_run_is_written_out_whole(edgeq: Edgeq, run: Path, tmp_path: Path) -> None:
    (one,) = history.find()
    ran = edgeq("history", "export", one.id, tmp_path / "copy", "--json")
    assert ran.code == 0, ran.err
    assert ran.document["run"] == one.id
    assert store.read(tmp_path / "copy" / "report.json", types.Report) == history.get(one.id)[1]
    assert (tmp_path / "copy" / "measurement.json").read_bytes() == (run / "measurement.json").read_bytes()
    assert edgeq("compare", tmp_path / "copy", run).code == 0
    again = edgeq("history", "export", one.id, tmp_path / "copy")
    assert again.code == 1
    assert "there already" in again.error
    for name in ("measurement.json", "quantized.json"):
        (tmp_path / "copy" / name).unlink()
    assert edgeq("compare", tmp_path / "copy", run).code == 0


def test_a_run_is_shown_labelled_and_forgotten(edgeq: Edgeq, run: Path) -> None:
    (one,) = history.find()
    ran = edgeq("history", "show", one.id[:20])
    assert ran.code == 0
    assert one.id in ran.out
    assert "everything holds" in ran.out
    assert edgeq("history", "show", one.id, "--json").document["run"]["id"] == one.id
    assert edgeq("history", "label", one.id, "before  the\nchange", "", "nightly").code == 0
    assert history.find()[0].labels == ("before the change", "main", "nightly")
    assert len(edgeq("history", "--label", "before the change", "--json").document["runs"]) == 1
    assert edgeq("history", "--label", "after", "--json").document["runs"] == []
    assert edgeq("history", "forget", one.id).code == 0
    ran = edgeq("history")
    assert (ran.code, ran.out) == (0, "")
    assert "no run was kept that fits" in ran.err
    assert edgeq("history", "show", one.id).code == 1


def test_the_list_is_narrowed_by_flags_and_by_nothing_else(
    edgeq: Edgeq, run: Path, tmp_path: Path, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.record(reports(1))
    project = tmp_path / "project"
    project.mkdir()
    (project / "edgeq.yaml").write_text("target: raspberry-pi-4\ndevice: somewhere\n")
    monkeypatch.chdir(project)
    monkeypatch.setenv("EDGEQ_TARGET", "raspberry-pi-4")

    def models(*flags: str) -> list[str]:
        return [one["model"] for one in edgeq("history", *flags, "--json").document["runs"]]

    assert models() == ["kws", "digits_float"]
    assert models("--model", "kws") == ["kws"]
    assert models("-t", TARGET) == ["digits_float"]
    assert models("-d", "desk-pi") == ["kws"]
    assert models("--limit", "1") == ["kws"]
    assert models("--since", "1h") == ["kws", "digits_float"]
    assert models("--since", "2999-01-01") == []
    assert edgeq("history", "list", "--json").document["runs"][0]["model"] == "kws"
    ids = re.findall(r"\d{8}-\d{6}-[0-9a-f]{12}", edgeq("history").out)
    assert ids == [one.id for one in history.find()]


@pytest.mark.parametrize("words", ["yesterday", "7x", "2026-13-01", "", "999999w"])
def test_a_time_that_is_none_is_told(edgeq: Edgeq, sqlite: Path, words: str) -> None:
    ran = edgeq("history", "--since", words)
    if words:
        assert ran.code == 2
        assert "is no time" in ran.error
    else:
        assert ran.code == 0


def test_times_as_people_write_them() -> None:
    from datetime import datetime, timedelta, timezone

    from edgeq import workflow

    assert workflow.since("2026-11-01T08:30Z") == datetime(2026, 11, 1, 8, 30, tzinfo=timezone.utc)
    assert workflow.since("2026-11-01T08:30+02:00") == datetime(2026, 11, 1, 6, 30, tzinfo=timezone.utc)
    assert abs(workflow.since("90m") - (datetime.now(timezone.utc) - timedelta(minutes=90))) < timedelta(seconds=5)


def test_the_plot_holds_every_line_and_no_script(edgeq: Edgeq, run: Path, tmp_path: Path, reports: Reports) -> None:
    evil = "<script>alert(1)</script>"
    for number in range(3):
        device = {"name": evil, "machine": "aarch64", "board": evil}
        history.record(reports(number, model=evil, measured={"device": device}))
    history.record(reports(9, measured={"latency_ms": None, "latency_samples_ns": ()}))
    ran = edgeq("history", "--html", tmp_path / "out" / "history.html", "--json")
    assert ran.code == 0, ran.err
    text = (tmp_path / "out" / "history.html").read_text()
    assert text.count("<figure>") == 2
    assert "digits_float on local:" in text
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "kws on" not in text
    assert edgeq("history", "--model", "none", "--html", tmp_path / "none.html").code == 0
    assert "No run with a latency" in (tmp_path / "none.html").read_text()


def test_one_document_and_nothing_else_on_stdout(edgeq: Edgeq, run: Path, tmp_path: Path) -> None:
    identity = history.find()[0].id
    for argv in (
        ("history",), ("history", "list"), ("history", "show", identity), ("history", "label", identity, "x"),
        ("history", "export", identity, tmp_path / "x"), ("compare", run, run), ("history", "forget", identity),
    ):  # fmt: skip
        ran = edgeq(*argv, "--json")
        assert json.loads(ran.out)["schema_version"] == 1
        assert ran.code == 0


def test_the_same_over_postgresql(edgeq: Edgeq, run: Path, tmp_path: Path, postgresql: str) -> None:
    first = keep(run)
    assert keep(run) == first
    again = slowed(run, tmp_path / "again", 10)
    ran = edgeq("compare", again, "--baseline", "last", "--json")
    assert (ran.code, ran.document["before"]["name"]) == (3, first)
    assert edgeq("compare", again, "--baseline", "best", "--tolerance", "1000").code == 0
    assert edgeq("compare", first, again).code == 3
    assert edgeq("history", "label", first, "release").code == 0
    assert [one["id"] for one in edgeq("history", "--label", "release", "--json").document["runs"]] == [first]
    assert edgeq("history", "--html", tmp_path / "history.html").code == 0
    assert edgeq("history", "export", first, tmp_path / "copy").code == 0
    assert store.read(tmp_path / "copy" / "measurement.json", types.Measurement) == store.read(
        run / "measurement.json", types.Measurement
    )
    assert edgeq("history", "forget", first).code == 0
    assert edgeq("history", "--json").document["runs"] == []
