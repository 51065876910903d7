"""What preflight finds: on /sys trees, over a real sshd with full disks and little memory, and from lying devices."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.errors import CommandFailed, DiskFull, EdgeqError, NotWritable, OutOfMemory
from edgeq.lab import deploy, preflight, readiness, runner
from edgeq.lab.readiness import Asked, Ready
from edgeq.lab.runner import Roots
from edgeq.lab.transports import local, ssh
from edgeq.testing import models
from edgeq.testing import sshd as servers
from edgeq.testing.bundles import make_bundle
from edgeq.testing.sshd import Server
from edgeq.testing.sysfs import lay
from edgeq.testing.transport import FakeTransport, said
from edgeq.types import Check, Device, FileEntry, Manifest

HERE = Device(name="here", transport="local", python=sys.executable)
CALM: dict[str, Any] = {
    "event": "result",
    "device": {
        "python": "3.11.2", "machine": "aarch64", "libc": "glibc 2.36", "kernel": "6.6", "hostname": "pi",
        "board": "Raspberry Pi 4", "memory_total_bytes": 4 << 30, "memory_available_bytes": 3 << 30,
        "disk_free_bytes": 1 << 33, "pip": "venv",
        "cpu": {"model": "Cortex-A72", "cores": 4, "features": ["asimd", "crc32"], "max_clock_hz": 1_800_000_000},
    },
    "deployed": False,
    "runtimes": {"ai_edge_litert": {"version": "2.1", "ok": True, "why": None}},
    "conditions": {
        "governor": "performance", "frequency_hz": [1_800_000_000], "temperature_c": 45.0, "load_1min": 0.1,
        "memory_available_bytes": 3 << 30, "throttled_bits": 0, "throttle_count": None,
    },
    "disk": {"free_bytes": 1 << 33, "free_files": 1_000_000, "obstacle": None, "present_bytes": 0},
    "memory_free_bytes": 3 << 30,
    "busy": [],
    "throttles_at_c": 80.0,
    "clock": {"capped_hz": None, "max_hz": None, "governors": ["ondemand", "performance"], "cpupower": False},
    "time_s": 1_800_000_000.0,
}  # fmt: skip
ASKED = Asked(
    target="raspberry-pi-4",
    arch="aarch64",
    features=("asimd",),
    begun_s=1_799_999_999.0,
    ended_s=1_800_000_001.0,
)
NTP = "on the device: sudo timedatectl set-ntp true"


def manifest(**words: Any) -> Manifest:
    usual: dict[str, Any] = {
        "name": "x", "target": "raspberry-pi-4", "runtime": "litert", "runtime_versions": "", "format": "tflite",
        "scheme": "s", "model": "m", "entry_point": "e", "golden": "g", "golden_vectors": 16, "tools": {},
        "files": (FileEntry(path="m", sha256="0" * 64, size_bytes=1 << 20),),
    }  # fmt: skip
    return Manifest(**{**usual, **words})


def changed(**words: Any) -> dict[str, Any]:
    """The calm device with values changed, `a__b` for b within a."""
    told = json.loads(json.dumps(CALM))
    for path, value in words.items():
        *outer, last = path.split("__")
        place = told
        for key in outer:
            place = place[key]
        place[last] = value
    return dict(told)


def looked(told: dict[str, Any], **words: Any) -> preflight.Fit:
    """Preflight of a device that answers so."""
    return preflight.preflight("there/b", manifest(**words), FakeTransport([said(told)]))


def found(told: dict[str, Any], asked: Asked = ASKED) -> dict[str, Check]:
    """Warnings by subject."""
    from edgeq import documents

    ready = documents.decode(Ready, told, where="test", error=CommandFailed)
    return {check.subject: check for check in readiness.warnings(ready, asked)}


def test_a_calm_device_has_no_findings() -> None:
    assert found(CALM) == {}
    fit = looked(changed(time_s=time.time()))
    assert fit.interpreter == "ai_edge_litert"
    assert fit.warnings == ()


# --- what warns ---

PERFORMANCE = "on the device: echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
WARNS: list[tuple[dict[str, Any], str, str, str | None]] = [
    ({"conditions__governor": "powersave"}, "governor", "the governor is powersave", PERFORMANCE),
    ({"conditions__governor": "ondemand,performance"}, "governor", "the governor is ondemand:", PERFORMANCE),
    (
        {"conditions__governor": "schedutil", "clock__cpupower": True},
        "governor",
        "the clock follows the load",
        "on the device: sudo cpupower frequency-set -g performance",
    ),
    ({"conditions__governor": "userspace", "clock__governors": ["userspace"]}, "governor", "userspace", None),
    (
        {"clock__capped_hz": 600_000_000, "clock__max_hz": 1_800_000_000},
        "clock",
        "capped at 600 of 1800 MHz",
        "on the device: echo 1800000 | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_max_freq",
    ),
    (
        {"busy": [{"pid": 4711, "name": "stress", "share": 0.98}]},
        "load",
        "stress (process 4711) takes 98% of a core",
        "on the device: kill 4711, or wait until it ends",
    ),
    ({"conditions__load_1min": 3.4}, "load", "the load of the last minute is 3.4 on 4 cores", "on the device: top"),
    ({"conditions__temperature_c": 71.5}, "temperature", "72 °C, and it throttles at 80 °C", "let it cool"),
    ({"conditions__throttled_bits": 0x50001}, "throttling", "under-voltage", "use a power supply"),
    ({"conditions__throttled_bits": 0x4}, "throttling", "now: throttled", "cool it"),
    ({"conditions__throttled_bits": 0x8}, "throttling", "soft temperature limit", "cool it"),
    ({"memory_free_bytes": 50 << 20}, "memory", "50.0 MiB of memory are free", "on the device: ps aux"),
    ({"time_s": 1_700_000_000.0}, "time", "its clock is 3 years behind this host's", NTP),
    ({"time_s": 1_800_000_500.0}, "time", "8 minutes ahead of this host's", NTP),
    ({"time_s": 0.0}, "time", "57 years behind", NTP),
    ({"device__machine": "x86_64"}, "processor", "planned for raspberry-pi-4 (aarch64); this is x86_64", None),
    ({"device__cpu__features": ["fp"]}, "processor", "it lacks asimd, which raspberry-pi-4 has", None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "subject", "why", "hint"), WARNS, ids=[f"{row[1]}-{n}" for n, row in enumerate(WARNS)]
)
def test_what_warns(words: dict[str, Any], subject: str, why: str, hint: str | None) -> None:
    warned = found(changed(**words))
    assert set(warned) == {subject}
    check = warned[subject]
    assert why in check.why
    assert (check.rule, check.ok) == ("preflight", False)
    assert check.hint is None if hint is None else str(check.hint).startswith(hint)


@pytest.mark.parametrize(
    "words",
    [
        {"conditions__governor": None},
        {"conditions__load_1min": 1.9},
        {"conditions__temperature_c": 69.0},
        {"conditions__temperature_c": 95.0, "throttles_at_c": None},
        {"conditions__throttled_bits": 0xF0000},
        {"conditions__throttled_bits": None},
        {"device__cpu__features": []},
        {"time_s": 1_800_000_100.0},
        {"memory_free_bytes": None},
        {"device__cpu__cores": 64, "conditions__load_1min": 20.0},
        {"clock__capped_hz": 5, "clock__max_hz": None},
    ],
)
def test_what_does_not_warn(words: dict[str, Any]) -> None:
    assert found(changed(**words)) == {}


def test_everything_at_once() -> None:
    words = {key: value for row in WARNS[:1] + WARNS[4:6] + WARNS[7:9] + WARNS[11:13] for key, value in row[0].items()}
    subjects = {"governor", "clock", "load", "temperature", "throttling", "memory", "time"}
    assert set(found(changed(**words))) == subjects


def test_a_device_cannot_write_to_the_terminal() -> None:
    nasty = "\x1b[31mred\x1b[0m\nsecond line\r" * 20
    warned = found(changed(busy=[{"pid": 1, "name": nasty, "share": 1.0}], conditions__governor=nasty[:100]))
    for check in warned.values():
        assert check.why.isprintable()
        assert len(check.why) < 600


# --- what stops ---


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ({"disk__free_bytes": 1000}, DiskFull, "has 1000 B free for a bundle of 1.0 MiB"),
        ({"disk__free_files": 0}, DiskFull, "no room for 1 more files"),
        ({"disk__obstacle": "Permission denied"}, NotWritable, "there/b cannot be written: Permission denied"),
        ({"memory_free_bytes": 1 << 20}, OutOfMemory, "1.0 MiB of memory free, the model needs 5.0 MiB"),
    ],
)
def test_what_stops(words: dict[str, Any], error: type[EdgeqError], message: str) -> None:
    with pytest.raises(error) as caught:
        looked(changed(**words), planned_ram_bytes=5 << 20)
    assert message in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "words",
    [
        {"disk__free_bytes": 1000, "disk__present_bytes": 1 << 20},
        {"disk__free_bytes": 0, "deployed": True, "runtimes": {}},
        {"disk__free_bytes": None, "disk__free_files": None, "disk__obstacle": None},
        {"disk__obstacle": "Read-only file system", "deployed": True, "runtimes": {}},
        {"memory_free_bytes": None},
    ],
)
def test_what_lies_there_already_needs_no_room(words: dict[str, Any]) -> None:
    assert looked(changed(time_s=time.time(), **words), planned_ram_bytes=5 << 20).warnings == ()


# --- lying devices ---

LIES: list[dict[str, Any]] = [
    {"disk__free_bytes": -1},
    {"disk__free_bytes": "much"},
    {"busy": [{"pid": 1, "name": "x", "share": 1.0}] * 21},
    {"busy": [{"pid": 1, "name": "x" * 3000, "share": 1.0}]},
    {"busy": [{"pid": 1, "name": "x", "share": 1.0, "more": 1}]},
    {"clock__governors": ["x"] * 21},
    {"time_s": 1e300},
    {"time_s": None},
    {"throttles_at_c": 1e9},
    {"deployed": "yes"},
    {"runtimes": {str(n): {"version": None, "ok": False, "why": None} for n in range(21)}},
    {"device__cpu__cores": 0},
    {"surprise": 1},
    {"memory_free_bytes": 2**60},
]


@pytest.mark.parametrize("words", LIES, ids=[next(iter(words)) + str(n) for n, words in enumerate(LIES)])
def test_lies_are_one_clear_error(words: dict[str, Any]) -> None:
    with pytest.raises(CommandFailed) as caught:
        looked(changed(**words))
    assert "\n" not in caught.value.message


@given(
    key=st.sampled_from(sorted(CALM)),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.floats(allow_nan=False),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    ),
)
@settings(max_examples=150, deadline=None)
def test_any_value_anywhere_is_an_error_of_the_tree_or_an_answer(key: str, value: object) -> None:
    with contextlib.suppress(EdgeqError):
        looked({**CALM, key: value})


# --- /sys trees, through the real runner ---


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("bundle")
    x, _ = models.tiny_samples(models.CONV_SHAPE, models.CLASSES, 16)
    return folder / "b", make_bundle(models.conv_tflite(folder), folder / "b", [x])


def deployed(bundle: tuple[Path, Manifest]) -> dict[str, str]:
    """Asked about a bundle that lies there, the interpreter is left alone."""
    return {"manifest_sha256": hashlib.sha256((bundle[0] / "manifest.json").read_bytes()).hexdigest()}


def test_a_board_that_is_not_at_rest(bundle: tuple[Path, Manifest], tmp_path: Path) -> None:
    sysfs, proc = tmp_path / "sys", tmp_path / "proc"
    for core, most in (("cpu0", 1_800_000), ("cpu4", 2_400_000)):
        clocks = {"scaling_cur_freq": 600_000, "scaling_max_freq": 1_500_000, "cpuinfo_max_freq": most}
        names = "conservative ondemand performance"
        governors = {"scaling_governor": "ondemand", "scaling_available_governors": names}
        lay(sysfs, f"devices/system/cpu/{core}/cpufreq", **governors, **clocks)
    trips = {"trip_point_0_type": "passive", "trip_point_0_temp": 75_000, "trip_point_1_type": "critical"}
    lay(sysfs, "class/thermal/thermal_zone0", type="cpu-thermal", temp=71_000, trip_point_1_temp=110_000, **trips)
    lay(
        sysfs,
        "class/thermal/thermal_zone1",
        type="pch",
        temp=30_000,
        trip_point_0_type="active",
        trip_point_0_temp=40_000,
    )
    lay(proc, ".", loadavg="5.50 1 1 2/300 1000", meminfo="MemTotal: 512000 kB\nMemAvailable: 60000 kB")
    (tmp_path / "vcgencmd").write_text("#!/bin/sh\necho throttled=0x50005\n")
    (tmp_path / "vcgencmd").chmod(0o755)
    roots = Roots(sysfs=str(sysfs), proc=str(proc), vcgencmd=str(tmp_path / "vcgencmd"))
    with local.connect(HERE) as transport:
        fit = preflight.preflight(str(bundle[0]), bundle[1], transport, roots=roots, **deployed(bundle))
    said_so = {check.subject: check.why for check in fit.warnings}
    assert said_so["governor"].startswith("the governor is ondemand")
    assert said_so["clock"] in ("the clock is capped at 1500 of 1800 MHz", "the clock is capped at 1500 of 2400 MHz")
    assert said_so["load"].startswith("the load of the last minute is 5.5")
    assert said_so["temperature"] == "71 °C, and it throttles at 75 °C"
    assert said_so["memory"].startswith("58.6 MiB of memory are free")
    assert sum(check.subject == "throttling" for check in fit.warnings) == 2
    assert "time" not in said_so


def test_a_probe_needs_no_bundle(tmp_path: Path) -> None:
    lay(tmp_path / "sys", "devices/system/cpu/cpu0/cpufreq", scaling_governor="powersave")
    with local.connect(HERE) as transport:
        warned = preflight.spoils(transport, roots=Roots(sysfs=str(tmp_path / "sys")))
    assert "governor" in {check.subject for check in warned}
    assert not {"processor", "time"} & {check.subject for check in warned}


def test_control_groups_limit_what_is_free(bundle: tuple[Path, Manifest], tmp_path: Path) -> None:
    sysfs, proc = tmp_path / "sys", tmp_path / "proc"
    lay(proc, ".", meminfo="MemAvailable: 4000000 kB")
    lay(proc, "self", cgroup="0::/user.slice/user-1000.slice/session-4.scope")
    lay(sysfs, "fs/cgroup/user.slice/user-1000.slice/session-4.scope", **{"memory.max": "max", "memory.current": 1})
    limit = {"memory.max": 300 << 20, "memory.current": 290 << 20}
    lay(sysfs, "fs/cgroup/user.slice/user-1000.slice", **limit)
    roots = Roots(sysfs=str(sysfs), proc=str(proc))
    with local.connect(HERE) as transport:
        asked, told = preflight.ask(str(bundle[0]), bundle[1], transport, roots=roots)
        assert told.memory_free_bytes == 10 << 20
        with pytest.raises(OutOfMemory, match=r"10\.0 MiB of memory free"):
            preflight.preflight("b", dataclasses.replace(bundle[1], planned_ram_bytes=11 << 20), transport, roots=roots)
    assert asked.begun_s <= told.time_s <= asked.ended_s


def test_who_takes_a_core_is_named(bundle: tuple[Path, Manifest]) -> None:
    """A real process that spins; what asks does not name itself."""
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE
    ) as spinning:
        try:
            assert spinning.stdout
            spinning.stdout.readline()
            with local.connect(HERE) as transport:
                for _ in range(5):  # a busy machine may not give it a third of a core just then
                    fit = preflight.preflight(str(bundle[0]), bundle[1], transport, **deployed(bundle))
                    hints = [str(check.hint) for check in fit.warnings if check.subject == "load"]
                    if any(f"kill {spinning.pid}," in hint for hint in hints):
                        break
                else:
                    pytest.fail(f"nobody named the process that spins: {fit.warnings}")
            assert not any(f"kill {os.getpid()}," in hint for hint in hints)
        finally:
            spinning.kill()


# --- over a real sshd ---


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Server]:
    """A server whose `device` folder is a tmpfs of its own, which nobody outside of it sees."""
    if os.getuid() != 0:
        pytest.skip("only root may mount")
    (folder / "device").mkdir(parents=True)
    mount = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@"'
    prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh", size, str(folder / "device")]
    with servers.running(folder, prefix=prefix) as server:
        yield server


def test_a_full_disk_is_told_before_the_upload(
    bundle: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "server", "64k") as server, ssh_to(server, monkeypatch) as transport:
        folder = deploy.destination(deploy.load_bundle(bundle[0]), transport)
        with pytest.raises(DiskFull, match="free for a bundle of") as caught:
            preflight.preflight(folder, bundle[1], transport)
        assert str(caught.value.hint).endswith(f"; on the device: df -h {server.folder}/device")
        listed = transport.run(["ls", "-A", f"{server.folder}/device"], timeout_seconds=20)
        assert listed.stdout == b"", "nothing was sent"
    assert list((tmp_path / "server/device").iterdir()) == []


def test_a_disk_with_room_is_none(
    bundle: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "server", "64m") as server, ssh_to(server, monkeypatch) as transport:
        loaded = deploy.load_bundle(bundle[0])
        folder = deploy.destination(loaded, transport)
        assert preflight.preflight(folder, bundle[1], transport).interpreter == "ai_edge_litert"
        deploy.deploy(loaded, transport)
        again = preflight.preflight(folder, bundle[1], transport, **deployed(bundle))
        assert again.interpreter is None


@contextlib.contextmanager
def ssh_to(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    home = server.folder / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/known_hosts").write_text(server.known_hosts.read_text())
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    with ssh.connect(server.device()) as transport:
        yield transport


def test_a_limit_of_memory_is_told_before_the_upload(
    bundle: tuple[Path, Manifest], sshd: Server, tmp_path: Path
) -> None:
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\nulimit -v 4000000\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    with ssh.connect(sshd.device(python=str(python))) as transport:
        needy = dataclasses.replace(bundle[1], planned_ram_bytes=5 << 30)
        with pytest.raises(OutOfMemory, match=r"has 3\.81 GiB of memory free, the model needs 5\.00 GiB"):
            preflight.preflight("b", needy, transport)
        assert preflight.preflight("b", bundle[1], transport).interpreter == "ai_edge_litert"


def test_it_leaves_nothing_and_costs_little(bundle: tuple[Path, Manifest], sshd: Server, tmp_path: Path) -> None:
    """Half a second on a quiet machine; the tests' machine is not quiet."""
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\nexport TMPDIR={tmp_path}/tmp\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "tmp").mkdir()
    spent = []
    with ssh.connect(sshd.device(python=str(python))) as transport:
        for _ in range(4):
            begun = time.monotonic()
            preflight.preflight(f"{tmp_path}/none/b", bundle[1], transport)
            spent.append(time.monotonic() - begun)
    assert min(spent) < 2.0
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "none").exists()
    assert len(runner.files()) > 10
