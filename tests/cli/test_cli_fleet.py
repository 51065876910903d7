"""Several devices on the command line: documents, exit codes, the live table, what is kept and resumed."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from edgeq import devices, history, workflow
from edgeq.cli import exits, fleet, progress
from edgeq.errors import AtChance, DeviceBusy, DeviceError, DiskFull, EdgeqError, TimedOut, Unreachable, UsageError
from edgeq.lab.fleet import Outcome
from edgeq.lab.leases import leased
from edgeq.lab.transports import local
from edgeq.testing import models

Edgeq = Callable[..., Any]
TARGET = "generic-linux-x86_64"
QUICK = ("--runs", "3", "--seconds", "0", "--warmup-seconds", "0", "--no-float")
AWAY = "ssh://nobody@127.0.0.1:1"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its samples, and the bundle of them."""
    folder = tmp_path_factory.mktemp("desk")
    models.mlp_tflite(folder)
    models.tiny_dataset(folder, models.MLP_SHAPE)
    built = workflow.build(folder / "mlp.tflite", TARGET, str(folder / "dataset.yaml"), output=folder / "out")
    assert built[1] is not None
    return folder


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This host under two names, in a folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        devices.add(name, "local:", folder=str(tmp_path / name), groups=("lab",))
    return tmp_path


def test_one_device_prints_what_it_always_did(edgeq: Edgeq, lab: Path, made: Path) -> None:
    ran = edgeq("profile", made / "out/bundle", "-d", "one", "-o", "out", "--json", *QUICK)
    assert ran.code == 0, ran.err
    assert ran.document["device"]["name"] == "one"
    assert "devices" not in ran.document
    assert sorted(path.name for path in Path("out").iterdir()) == ["measurement.json", "report.json"]


def test_several_devices_are_one_document(edgeq: Edgeq, lab: Path, made: Path) -> None:
    ran = edgeq("profile", made / "out/bundle", "-d", "lab", "-d", AWAY, "-o", "out", "--json", *QUICK)
    assert ran.code == 4
    document = ran.document
    assert (document["ok"], document["succeeded"], document["exit_code"]) == (False, 2, 4)
    assert [(one["device"], one["ok"]) for one in document["devices"]] == [("one", True), ("two", True), (AWAY, False)]
    first, _, last = document["devices"]
    assert first["report"]["schema_version"] == 1
    assert first["report"]["device"]["name"] == "one"
    assert first["seconds"] > 0
    assert last["error"]["type"] == last["error"]["kind"] == "Unreachable"
    assert last["error"]["exit_code"] == 4
    assert {"message", "hint", "where"} <= set(last["error"])
    for name in ("one", "two"):
        stored = json.loads(Path("out/devices", name, "report.json").read_text())
        assert stored["measurement"]["device"]["name"] == name
    assert sorted(run.device for run in history.find()) == ["one", "two"]


def test_for_people_it_is_a_table_and_an_error_line_each(edgeq: Edgeq, lab: Path, made: Path) -> None:
    ran = edgeq("profile", made / "out/bundle", "-d", "lab", "-d", AWAY, "-o", "out", *QUICK)
    assert ran.code == 4
    assert ran.error.startswith("error: ssh://nobody@127.0.0.1:1")
    rows = {line.split()[1]: line for line in ran.out.splitlines() if line.strip()}
    assert rows["one"].startswith("ok")
    assert "p50" in rows["two"]
    assert rows[AWAY].startswith("error")
    assert "one: runs\n" in ran.err
    assert "one: ok after " in ran.err


def test_a_group_of_one_is_still_several(edgeq: Edgeq, lab: Path, made: Path) -> None:
    devices.remove("two")
    ran = edgeq("profile", made / "out/bundle", "-d", "lab", "-o", "out", "--json", "-q", *QUICK)
    assert (ran.code, ran.err) == (0, "")
    assert [one["device"] for one in ran.document["devices"]] == ["one"]


def test_deploy(edgeq: Edgeq, lab: Path, made: Path) -> None:
    argv = ("deploy", made / "out/bundle", "-d", "one", "-d", "two", "--json")
    first, again = edgeq(*argv), edgeq(*argv)
    assert first.code == again.code == 0
    for one, other in zip(first.document["devices"], again.document["devices"], strict=True):
        assert one["deployment"]["sent"] == other["deployment"]["kept"] != []
        assert other["deployment"]["sent_bytes"] == 0
        assert one["deployment"]["folder"].startswith(str(lab / one["device"]))
    assert edgeq(*argv[:-1]).out.count("0 files sent") == 2


def test_validate(edgeq: Edgeq, lab: Path, made: Path) -> None:
    argv = ("validate", made / "out/bundle", "-d", "lab", "--data", made / "dataset.yaml", "-o", "out")
    ran = edgeq(*argv, "--json")
    assert ran.code == 0, ran.err
    assert ran.err.count("this host: scoring on the host") == 1
    alone = edgeq("validate", made / "out/bundle", "-d", "one", "--data", made / "dataset.yaml", "-o", "o", "--json")
    for one in ran.document["devices"]:
        assert one["validation"] == alone.document
        assert Path("out/devices", one["device"], "validation.json").is_file()
    assert re.search(r"^one: ok after .+ s: .+, on this host .+, 0 of \d+ samples differ$", ran.err, re.MULTILINE)


def test_run_converts_and_builds_once(edgeq: Edgeq, lab: Path, made: Path) -> None:
    argv = ("run", made / "mlp.tflite", "-t", TARGET, "--data", made / "dataset.yaml", "-o", "out", *QUICK)
    ran = edgeq(*argv, "-d", "lab", "--json")
    assert ran.code == 0, ran.err
    assert ran.err.count("this host: building the bundle") == 1
    assert [one["report"]["verdict"]["ok"] for one in ran.document["devices"]] == [True, True]
    assert len({one["report"]["artifact"]["sha256"] for one in ran.document["devices"]}) == 1
    again = edgeq("report", "out/devices/one", "--json")
    assert again.document["artifact"] == ran.document["devices"][0]["report"]["artifact"]
    assert again.document["device"]["name"] == "one"
    assert len(edgeq("report", "out", "out/devices/one", "out/devices/two", "--json").document["reports"]) == 3
    refused = edgeq(*argv, "-d", "lab", "--json", "--max-flash", "100")
    assert refused.code == 3
    assert not refused.document["plan"]["ok"]


def test_a_missed_budget_of_all_is_3(edgeq: Edgeq, lab: Path, made: Path) -> None:
    argv = ("profile", made / "out/bundle", "-d", "lab", "-o", "out", "--max-latency-ms", "1e-9", *QUICK)
    ran = edgeq(*argv, "--json")
    assert (ran.code, ran.document["exit_code"]) == (3, 3)
    assert [one["ok"] for one in ran.document["devices"]] == [False, False]
    assert ran.err.count("s: does not hold: budget") == 2


def test_resume_measures_the_rest_and_nothing_twice(edgeq: Edgeq, lab: Path, made: Path) -> None:
    argv = ("profile", made / "out/bundle", "-o", "out", "--json", *QUICK)
    assert edgeq(*argv, "-d", "one", "-d", "two").code == 0
    kept, gone = (Path("out/devices", name, "measurement.json") for name in ("one", "two"))
    before = kept.read_bytes(), kept.stat().st_mtime_ns
    gone.unlink()
    ran = edgeq(*argv, "-d", "lab", "--resume")
    assert ran.code == 0
    assert (kept.read_bytes(), kept.stat().st_mtime_ns) == before
    assert gone.is_file()
    assert "one: runs\n" not in ran.err
    assert "two: runs\n" in ran.err
    assert len(history.find()) == 3
    assert edgeq(*argv, "-d", "one", "-d", "one", "--runs", "4", "--resume").code == 0
    assert kept.read_bytes() != before[0]


def test_a_busy_device_is_its_own_error(edgeq: Edgeq, lab: Path, made: Path) -> None:
    with local.connect(devices.load("two")) as there, leased(there):
        ran = edgeq("profile", made / "out/bundle", "-d", "lab", "-o", "out", "--json", *QUICK)
        assert ran.code == 4
        alone = edgeq("profile", made / "out/bundle", "-d", "two", "-o", "out", "--json", *QUICK)
        assert (alone.code, alone.document["error"]["kind"]) == (4, "DeviceBusy")
    errors = {one["device"]: one.get("error", {}).get("type") for one in ran.document["devices"]}
    assert errors == {"one": None, "two": "DeviceBusy"}


def test_a_history_that_cannot_be_written_is_one_warning(
    edgeq: Edgeq, lab: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lab / "file").write_text("no database")
    monkeypatch.setenv("EDGEQ_DB", f"sqlite:///{lab}/file/history.db")
    ran = edgeq("profile", made / "out/bundle", "-d", "lab", "-o", "out", "--json", "-q", *QUICK)
    assert ran.code == 0
    assert ran.document["succeeded"] == 2
    assert ran.err.count("warning: the run is not in the history: ") == len(ran.err.splitlines()) == 1
    one = edgeq("profile", made / "out/bundle", "-d", "one", "-o", "out", "--json", "-q", *QUICK)
    assert (one.code, one.err.count("warning: ")) == (0, 1)


def test_a_wrong_name_stops_before_anything_is_measured(edgeq: Edgeq, lab: Path, made: Path) -> None:
    ran = edgeq("profile", made / "out/bundle", "-d", "lab", "-d", "tow", "-o", "out", "--json", *QUICK)
    assert (ran.code, ran.document["error"]["kind"]) == (1, "DeviceError")
    assert "did you mean two?" in ran.err
    assert not Path("out").exists()


@pytest.mark.parametrize("text", ["device: one", "device: [one, two]", "device: lab"])
def test_the_project_file_may_name_devices(edgeq: Edgeq, lab: Path, made: Path, text: str) -> None:
    (lab / "edgeq.yaml").write_text(text + "\n")
    ran = edgeq("deploy", made / "out/bundle", "--json")
    assert ran.code == 0, ran.err
    assert ("devices" in ran.document) == (text != "device: one")


@pytest.mark.parametrize("text", ["device: []", "device: [1]", "device: {a: b}", "device: true", "runs: [1]"])
def test_the_project_file_names_them_rightly(edgeq: Edgeq, lab: Path, made: Path, text: str) -> None:
    (lab / "edgeq.yaml").write_text(text + "\n")
    ran = edgeq("deploy", made / "out/bundle")
    assert ran.code == 2
    assert "edgeq.yaml:1" in ran.err
    assert ran.error


def test_the_environment_may_name_devices(edgeq: Edgeq, lab: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_DEVICE", "one two")
    assert [one["device"] for one in edgeq("deploy", made / "out/bundle", "--json").document["devices"]] == [
        "one",
        "two",
    ]


# --- the rule for exit codes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "code"),
    [([], 0), ([0, 0], 0), ([0, 3, 0], 3), ([3, 4, 0], 4), ([4, 1, 3], 1), ([2, 4, 3, 0], 2), ([2, 1], 1)],
)
def test_the_gravest_code_counts(codes: list[int], code: int) -> None:
    assert exits.gravest(codes) == code
    assert exits.gravest(reversed(codes)) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DeviceBusy("x"), 4),
        (Unreachable("x"), 4),
        (TimedOut("x"), 4),
        (DiskFull("x"), 1),
        (UsageError("x"), 2),
        (AtChance("x"), 3),
        (DeviceError("x"), 1),
    ],
)
def test_a_devices_code_is_the_one_it_has_alone(error: EdgeqError, code: int) -> None:
    shape: fleet.Shape[str] = fleet.Shape(key="word", plain=str, ok=bool, words=str)
    outcomes = [Outcome(device="a", seconds=1.0, result="fine"), Outcome(device="b", seconds=1.0, error=error)]
    document = fleet.document(outcomes, shape, fleet.code_of(outcomes[1], shape))
    assert document["exit_code"] == document["devices"][1]["error"]["exit_code"] == code
    assert document["devices"][0] == {"device": "a", "ok": True, "seconds": 1.0, "word": "fine"}


# --- the live table --------------------------------------------------------------------------------


def drawn(rows: dict[str, progress.Row], height: int = 40) -> str:
    stream = io.StringIO()
    Console(file=stream, width=100, height=height).print(progress._fleet_table(rows, height))
    return stream.getvalue()


def test_the_table_shows_every_device_and_counts_them() -> None:
    now = time.monotonic()
    rows = {
        progress.HOST: progress.Row(),
        "late": progress.Row(),
        "busy": progress.Row(step="runs", done=3, total=10, started=now - 7),
        "good": progress.Row(started=now - 9, ended=now - 2, result=("ok", "p50 1 ms")),
        "bad[red]": progress.Row(started=now - 9, ended=now - 8, result=("error", "gone [bold]")),
    }
    text = drawn(rows)
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "runs" in lines["busy"]
    assert "7 s" in lines["busy"]
    assert "ok p50 1 ms" in lines["good"]
    assert "error gone [bold]" in lines["bad[red]"]
    assert "2 to do, 1 ok, 1 error" in text
    assert progress.HOST not in text
    order = [line.split()[0] for line in text.splitlines()]
    assert order.index("bad[red]") < order.index("busy") < order.index("late") < order.index("good")


def test_the_table_fits_on_the_terminal() -> None:
    rows = {f"board{n:02}": progress.Row(started=0.0, result=("ok", "")) for n in range(60)}
    rows[progress.HOST] = progress.Row()
    rows["last"] = dataclasses.replace(rows["board00"], result=("error", "no"))
    text = drawn(rows, height=12)
    assert len(text.splitlines()) <= 12
    assert "last" in text
    assert "60 ok, 1 error" in text


def test_a_terminal_shows_it_live(lab: Path, made: Path) -> None:
    ours, theirs = pty.openpty()
    words = ["profile", made / "out/bundle", "-d", "lab", "-d", AWAY, "-o", "out", *QUICK]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    argv = [sys.executable, "-m", "edgeq", *map(str, words)]
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # the terminal is gone when the process is
            while piece := os.read(ours, 4096):
                seen += piece
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode(errors="replace"))
    assert process.returncode == 4, text
    assert "Traceback" not in text
    assert re.search(r"device +step +result", text)
    assert "to do" in text
    assert text.rstrip().splitlines()[-1].startswith(("error: ", "  hint: "))


def test_followed_rows_know_step_and_end() -> None:
    rows = {"a": progress.Row(), progress.HOST: progress.Row(step="building", started=0.0)}
    assert "building" in drawn(rows)
    told = progress._followed(rows)("a")
    told("upload", 3, 9)
    assert (rows["a"].step, rows["a"].done, rows["a"].total) == ("upload", 3, 9)
    progress._finished(rows, lambda outcome: ("ok", "fine"))(Outcome(device="a", seconds=2.0, result=1))
    assert rows["a"].result == ("ok", "fine")
    assert not {"upload", "building"} & set(drawn(rows).split())
