"""Many devices in one call beside one: time, and memory of the host's process.

The devices are OpenSSH servers on this machine, so that what runs *on* them (a second of processor time each: the
runtime's imports, the runs themselves) is paid here as well, which no lab of boards does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from measuring import EDGEQ, ROOT, Ran, Row, not_run, peak_bytes, run

from edgeq.errors import ToolError
from edgeq.testing import sshd
from edgeq.testing.sshd import Server

COUNT = 32
MOST_TIMES = 3
MOST_BYTES = 500e6


def rows(scratch: Path) -> Iterator[Row]:
    """Time of all against one, and the most memory."""
    what = f"profile on {COUNT} devices (sshd on loopback, {os.cpu_count()} cores)"
    try:
        sshd.program()
    except ToolError as error:
        yield not_run(what, f"<= {MOST_TIMES} x", str(error.hint))
        return
    with sshd.farm(scratch / "farm", COUNT) as servers:
        one, every = _measure(scratch, servers)
    holds = every.seconds / one.seconds <= MOST_TIMES
    yield Row(what, every.seconds, one.seconds, "s", f"<= {MOST_TIMES} x", holds, "one of them")
    most = peak_bytes([every])
    yield Row(f"memory of edgeq with {COUNT} devices", most, peak_bytes([one]), "bytes", "< 500 MB", most < MOST_BYTES,
              "with one")  # fmt: skip


def _measure(scratch: Path, servers: list[Server]) -> tuple[Ran, Ran]:
    """The better of two calls for one device and for all; every device has its bundle before."""
    home = {"HOME": str(scratch), "EDGEQ_DEVICES": str(scratch / "devices.yaml")}
    home["EDGEQ_KNOWN_HOSTS"] = str(_register(scratch, servers, home["EDGEQ_DEVICES"]))
    out = scratch / "fleet"
    example, target = ROOT / "examples" / "digits", f"generic-linux-{os.uname().machine}"
    words = ("-t", target, "--data", example / "dataset.yaml", "-o", out, "-q")
    run([*EDGEQ, "build", example / "digits_float.tflite", *words], home)
    profile = [*EDGEQ, "profile", out / "bundle", "--json", "-q", "-d"]
    run([*EDGEQ, "deploy", out / "bundle", "-d", "all", "--json", "-q"], home)
    one = [run([*profile, "board00"], home) for _ in range(2)]
    every = [run([*profile, "all"], home) for _ in range(2)]
    return min(one), min(every)


def _register(scratch: Path, servers: list[Server], path: str) -> Path:
    """Write devices.yaml and a known_hosts file; returns the latter."""
    lines, known = ["schema: 1", "devices:"], []
    for number, server in enumerate(servers):
        words = f'address: "{server.url}", identity: "{server.key}", python: "{sys.executable}"'
        lines.append(f"  board{number:02}: {{{words}}}")
        known.append(server.known_hosts.read_text())
    Path(path).write_text("\n".join(lines) + "\n")
    (scratch / "known_hosts").write_text("".join(known))
    return scratch / "known_hosts"
