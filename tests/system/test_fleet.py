"""A lab of 32 real SSH servers in one call: some die, one freezes, the host is killed and goes on where it was."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeq import devices, history
from edgeq.errors import ToolError
from edgeq.testing import sshd as servers
from edgeq.testing.sshd import Server, started_through
from edgeq.workflow import folder_of

TARGET = "generic-linux-x86_64" if platform.machine() == "x86_64" else "generic-linux-aarch64"
COUNT = 32
MEASURE = ("--runs", "3", "--seconds", "1", "--warmup-seconds", "0", "--no-float")
PROGRAM = (sys.executable, "-m", "edgeq")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> Path:
    """The shipped example, built once."""
    folder = tmp_path_factory.mktemp("digits")
    argv = ["build", examples / "digits/digits_float.tflite", "-t", TARGET]
    argv += ["--data", examples / "digits/dataset.yaml", "-o", folder, "-q"]
    environment = {**os.environ, "HOME": str(folder)}
    subprocess.run([*PROGRAM, *map(str, argv)], check=True, timeout=120, env=environment)
    return folder / "bundle"


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Devices by name; each with a host key, a home and a folder of its own."""
    try:
        servers.program()
    except ToolError as error:
        pytest.skip(f"{error.message} ({error.hint})")
    with servers.farm(tmp_path_factory.mktemp("farm"), COUNT) as made:
        named = {f"board{number:02}": server for number, server in enumerate(made)}
        yield named
        for server in named.values():  # also those that a test started again
            server.stop()


@pytest.fixture
def lab(farm: dict[str, Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Server]:
    """The devices, known here by name and vouched for."""
    known = tmp_path / "known_hosts"
    known.write_text("".join(server.known_hosts.read_text() for server in farm.values()))
    monkeypatch.setenv("EDGEQ_KNOWN_HOSTS", str(known))
    monkeypatch.setenv("EDGEQ_DEVICES", str(tmp_path / "devices.yaml"))
    for name, server in farm.items():
        devices.add(name, server.url, identity=str(server.key), python=sys.executable, groups=("lab",))
    return farm


@contextlib.contextmanager
def calling(*argv: object) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    words = [*PROGRAM, *map(str, argv)]
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, env=dict(os.environ)) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str], seconds: float = 90) -> tuple[int, dict[str, Any]]:
    out, err = process.communicate(timeout=seconds)
    assert "Traceback" not in err, err
    return process.returncode, json.loads(out) if out.strip() else {}


def results(out: Path) -> dict[str, bytes]:
    """What was measured of each device, as it is on the disk."""
    return {path.parent.name: path.read_bytes() for path in out.glob("devices/*/measurement.json")}


def kill_host_after(process: subprocess.Popen[str], out: Path, count: int) -> dict[str, bytes]:
    """Kill it when so many results are there; returns those that were there once it was dead."""
    give_up = time.monotonic() + 60
    while len(results(out)) < count:
        assert process.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return results(out)


def nothing_runs_on(alive: list[Server], seconds: float = 25) -> None:
    """No process that edgeq started, no lease."""
    give_up = time.monotonic() + seconds
    while any(started_through(server) for server in alive) and time.monotonic() < give_up:
        time.sleep(0.2)
    assert not [server.port for server in alive if started_through(server)]
    assert not [path for server in alive for path in server.folder.glob(".cache/edgeq/lease*")]


def strike(process: subprocess.Popen[str], lab: dict[str, Server]) -> dict[str, str]:
    """Once they are in the middle of their runs, the first two devices die and the third freezes."""
    assert process.stderr is not None
    hit: dict[str, str] = {}
    for line in process.stderr:
        found = re.fullmatch(r"(board\d\d): runs\n", line)
        if found and found[1] not in hit:
            server = lab[found[1]]
            hit[found[1]] = "TimedOut" if len(hit) == 2 else "Disconnected"
            server.freeze() if len(hit) == 3 else server.stop()
        if len(hit) == 3:
            return hit
    pytest.fail("it ended before three devices were in the middle of their runs")


def test_32_devices_of_which_three_fail_and_a_host_that_is_killed(
    lab: dict[str, Server], bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    argv = ("profile", bundle, "-d", "lab", "-o", out, "--json", *MEASURE)
    with calling(*argv) as process:
        kept = kill_host_after(process, out, 8)
    assert 8 <= len(kept) < COUNT - 3
    nothing_runs_on(list(lab.values()))

    with calling(*argv, "--resume") as process:
        hit = strike(process, lab)
        code, document = ended(process)
    check(document, code, hit, kept, results(out))
    nothing_runs_on([server for name, server in lab.items() if name not in hit])

    bring_back(lab, hit)
    with calling(*argv, "--resume") as process:
        code, document = ended(process)
    assert (code, document["ok"], document["succeeded"]) == (0, True, COUNT)
    assert sorted(run.device for run in history.find()) == sorted(lab)


def check(
    document: dict[str, Any], code: int, hit: dict[str, str], before: dict[str, bytes], after: dict[str, bytes]
) -> None:
    """29 results, each exactly once, three errors of the right kind."""
    entries = {entry["device"]: entry for entry in document["devices"]}
    assert len(entries) == len(document["devices"]) == COUNT
    assert (code, document["ok"], document["succeeded"], document["exit_code"]) == (4, False, COUNT - 3, 4)
    assert {name: entry["error"]["type"] for name, entry in entries.items() if "error" in entry} == hit
    assert all(entries[name]["error"]["exit_code"] == 4 for name in hit)
    assert set(after) == set(entries) - set(hit)
    assert {name: after[name] for name in before} == before  # what was measured was not measured again
    for name in after:
        assert entries[name]["report"]["device"]["name"] == name
        assert entries[name]["report"]["parity"]["exact"]
    assert sorted(run.device for run in history.find()) == sorted(after)


def bring_back(lab: dict[str, Server], hit: dict[str, str]) -> None:
    """The frozen device goes on, the dead ones start again."""
    for name, kind in hit.items():
        server = lab[name]
        if kind == "TimedOut":
            server.thaw()
            nothing_runs_on([server])
        else:
            lab[name] = servers.start(server.folder, port=server.port, options=[f"SetEnv HOME={server.folder}"])
            servers.wait_for_greeting(lab[name])


def test_ctrl_c_ends_all_devices_and_keeps_what_was_finished(
    lab: dict[str, Server], bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    names = sorted(lab)[:6]
    chosen = [word for name in names for word in ("-d", name)]
    long = ("--runs", "3", "--seconds", "60", "--warmup-seconds", "0")
    first = names[0]
    done = subprocess.run(
        [*PROGRAM, "profile", bundle, "-d", first, "-d", names[1], "-o", out, "--json", "-q", *MEASURE],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert json.loads(done.stdout)["succeeded"] == 2
    kept = results(out)
    with calling("profile", bundle, *chosen, "-o", out, "--json", *long) as process:
        assert process.stderr is not None
        running: set[str] = set()
        for line in process.stderr:
            running |= {line.partition(":")[0]} if line.endswith(": runs\n") else set()
            if len(running) == len(names):
                break
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        code, document = ended(process, 20)
    assert (code, document) == (130, {})
    assert time.monotonic() - started < 10
    assert results(out) == kept
    nothing_runs_on([lab[name] for name in names], seconds=3)


def test_a_second_host_is_told_who_has_the_device(lab: dict[str, Server], bundle: Path, tmp_path: Path) -> None:
    name = sorted(lab)[-1]
    argv = ("profile", bundle, "-d", name, "--json")
    with calling(*argv, "-o", tmp_path / "one", "--runs", "3", "--seconds", "6", "--warmup-seconds", "0") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("runs"):
                break
        with calling(*argv, "-o", tmp_path / "two", *MEASURE) as second:
            code, document = ended(second)
        assert (code, document["error"]["kind"]) == (4, "DeviceBusy")
        assert f"(process {process.pid}, since " in document["error"]["message"]
        assert "--wait" in document["error"]["hint"]
        with calling(*argv, "-o", tmp_path / "two", *MEASURE, "--wait", "60") as third:
            waited, document = ended(third)
        assert (waited, document["parity"]["exact"]) == (0, True)
        assert ended(process)[0] == 0
    times = [(tmp_path / one / "measurement.json").stat().st_mtime_ns for one in ("one", "two")]
    assert times == sorted(times)
    nothing_runs_on([lab[name]], seconds=3)


def test_addresses_have_folders_of_their_own(lab: dict[str, Server], bundle: Path, tmp_path: Path) -> None:
    """A name, an address that it is not known by, and one that nobody answers at."""
    name, closed = sorted(lab)[5], f"ssh://nobody@127.0.0.1:{servers.free_port()}"
    argv = ("profile", bundle, "-d", name, "-d", closed, "-d", name, "-o", tmp_path, "--json", *MEASURE)
    with calling(*argv) as process:
        code, document = ended(process)
    assert code == 4
    assert [(entry["device"], entry["ok"]) for entry in document["devices"]] == [(name, True), (closed, False)]
    assert document["devices"][1]["error"]["type"] == "Unreachable"
    assert folder_of(tmp_path, name) == tmp_path / "devices" / name
    assert sorted(results(tmp_path)) == [name]
