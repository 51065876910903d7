"""The fault table: every fault played for real, and what came of it. Writes build/faults.json and build/faults.md.

    python tests/faults/table.py [--only WORD] [--quick] [--jobs 3] [--list] [-o FOLDER]

Exit 1 when a row does not hold. As root it gives itself a mount namespace for small disks; else rows that need them
are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from rows import Row, rows
from scene import FINISHED, Ended, Scene, Stage, make_stage, scene

INSIDE = "EDGEQ_FAULTS_INSIDE"
HEAD = ("fault", "step", "expected", "found", "s", "lost", "doubled", "orphans", "leases", "left", "again", "holds")


@dataclass(frozen=True, kw_only=True)
class Found:
    """One row, played. `lost` are results that were finished before and are gone, `doubled` such as exist twice,
    `orphans` processes on either side, `leases` leases left on the device, `left` half and temporary files and files
    at a wrong place; `seconds` from the fault to edgeq's end; `again` how the same command ended afterwards."""

    fault: str
    step: str
    group: str
    expected: str
    found: str = ""
    seconds: float = 0.0
    lost: int = 0
    doubled: int = 0
    orphans: int = 0
    leases: int = 0
    left: tuple[str, ...] = ()
    again: str = ""
    problems: tuple[str, ...] = ()
    message: str = ""

    @property
    def holds(self) -> bool:
        """Whether all is as it must be."""
        clean = not (self.lost or self.doubled or self.orphans or self.leases or self.left or self.problems)
        return clean and self.again == "0"

    @property
    def words(self) -> str:
        """That it holds, or what does not."""
        return "holds" if self.holds else "DOES NOT HOLD: " + "; ".join((*self.problems, *self.left, self.again))


def told(error: str, code: int) -> str:
    return f"{error.replace('|', ' or ')} ({code})" if error else f"({code})"


def play(row: Row, folder: Path, stage: Stage) -> Found:
    """Play one row from the fault to the same command afterwards."""
    found = Found(fault=row.fault, step=row.step, group=row.group, expected=told(row.error, row.code))
    try:
        with scene(folder, stage, row.step) as one:
            return observe(row, one, found)
    except Exception:  # noqa: BLE001 the table goes on; a row that cannot be played does not hold
        return replace(found, problems=(traceback.format_exc(limit=-3),))


def observe(row: Row, one: Scene, found: Found) -> Found:
    files, earlier = one.finished_files(), set(one.runs())
    acts = row.play(one)
    ended = next(acts)
    lost = sum(one.finished_files().get(name) != content for name, content in files.items())
    kept = {path: path.read_bytes() for path in one.results()}
    lost += len(earlier - set(one.runs()))
    problems = judge(row, ended, bool(kept))
    processes = one.processes()
    next(acts, None)
    again = one.run()
    orphans = one.orphans(processes | one.processes())
    runs = [device for _, device in one.runs()]
    lost += sum(one.finished_files().get(name) != content for name, content in files.items())
    lost += sum(path.read_bytes() != content for path, content in kept.items() if path.is_file() and again.code == 0)
    doubled = sum(max(0, runs.count(device) - 1) for device in ("board", FINISHED)) + max(0, len(one.results()) - 1)
    if again.code == 0 and ("board" not in runs or len(one.results()) != 1):
        problems.append("the result of the same command afterwards is not there")
    return replace(
        found,
        found=told(ended.error.get("kind") or ended.error.get("type") or "", ended.code),
        message=str(ended.error.get("message", "")),
        seconds=round(ended.seconds, 1),
        lost=lost,
        doubled=doubled,
        orphans=len(orphans),
        leases=len(one.leases()),
        left=tuple(one.leftovers()),
        again=str(again.code) if again.code == 0 else f"{again.code}: {again.error.get('message', again.told[-300:])}",
        problems=tuple(problems),
    )


def judge(row: Row, ended: Ended, has_result: bool) -> list[str]:
    """What is wrong with how it ended."""
    kind = ended.error.get("kind") or ended.error.get("type") or ""
    problems = []
    if kind not in row.error.split("|") or ended.code != row.code:
        problems.append(f"ended with {told(kind, ended.code)}: {ended.error.get('message', ended.told[-400:])}")
    if "Traceback" in ended.told:
        problems.append(f"a traceback: {ended.told[-600:]}")
    words = str(ended.error.get("message", "")) if row.error else ended.told + json.dumps(ended.document)
    if row.says and not re.search(row.says, words):
        problems.append(f"does not say {row.says!r}")
    if row.error and has_result:
        problems.append("an error, and a result all the same")
    if ended.code == 0 and not has_result:
        problems.append("no error, and no result")
    if row.error and ended.seconds > 60:
        problems.append(f"it took {ended.seconds:.0f} s")
    return problems


def markdown(found: list[Found]) -> str:
    """The table for people, and what does not hold in full."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for one in found:
        cells = (one.fault, one.step, one.expected, one.found, one.seconds, one.lost, one.doubled, one.orphans)
        last = (one.leases, len(one.left), "yes" if one.again == "0" else one.again, "yes" if one.holds else "**no**")
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in (*cells, *last)) + " |")
    lines += ["", f"{sum(one.holds for one in found)} of {len(found)} rows hold.", ""]
    for one in found:
        if not one.holds:
            lines.append(f"- **{one.fault}, {one.step}**: {'; '.join((*one.problems, *one.left)) or 'see the table'}")
    return "\n".join(lines) + "\n"


def expected(chosen: list[Row]) -> str:
    """The table of docs/faults.md: what comes of each fault, by the steps at which it may strike."""
    steps: dict[tuple[str, str], list[str]] = {}
    for row in chosen:
        steps.setdefault((row.fault, told(row.error, row.code)), []).append(row.step)
    lines = ["| fault | at | comes to |", "|---|---|---|"]
    lines += [f"| {fault} | {', '.join(at)} | {result} |" for (fault, result), at in steps.items()]
    return "\n".join(lines) + "\n"


def enter_own_namespace() -> None:
    """Go on in a mount namespace, so that small disks are seen by nobody else."""
    if os.environ.get(INSIDE) or os.geteuid() != 0 or shutil.which("unshare") is None:
        return
    words = ["unshare", "--mount", "--propagation", "private"]
    if subprocess.run([*words, "true"], check=False, capture_output=True).returncode == 0:
        argv = [*words, sys.executable, *sys.argv]
        os.execvpe("unshare", argv, {**os.environ, INSIDE: "1"})  # noqa: S606 no shell is wanted


def needs_a_disk(row: Row) -> bool:
    """Whether a row mounts something."""
    names = ("disk_full_there", "disk_fills_there", "disk_full_here", "read_only_there", "read_only_here", "no_history")
    return getattr(row.play, "__name__", "") in names


def main() -> int:
    """Play the rows that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="rows with this in fault, step or group (a regular expression)")
    parser.add_argument("--quick", action="store_true", help="the rows that the tests play")
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument("--list", action="store_true", help="print what is expected, play nothing")
    parser.add_argument("-o", "--output", type=Path, default=Path("build"))
    asked = parser.parse_args()
    chosen = [row for row in rows() if re.search(asked.only, f"{row.fault}, {row.step}, {row.group}")]
    chosen = [row for row in chosen if row.quick or not asked.quick]
    if asked.list:
        say(expected(chosen).rstrip())
        return 0
    enter_own_namespace()
    left_out = [] if os.environ.get(INSIDE) else [row for row in chosen if needs_a_disk(row)]
    for row in left_out:
        say(f"left out, nothing may be mounted here: {row.fault}, {row.step}")
    found = play_all([row for row in chosen if row not in left_out], asked.jobs)
    asked.output.mkdir(parents=True, exist_ok=True)
    (asked.output / "faults.md").write_text(markdown(found))
    document = {"schema_version": 1, "rows": [{**asdict(one), "holds": one.holds} for one in found]}
    (asked.output / "faults.json").write_text(json.dumps(document, indent=2) + "\n")
    say(f"{sum(one.holds for one in found)} of {len(found)} rows hold; {asked.output / 'faults.md'}")
    return 0 if all(one.holds for one in found) else 1


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def play_all(chosen: list[Row], jobs: int) -> list[Found]:
    with tempfile.TemporaryDirectory(prefix="edgeq-faults-") as name:
        stage, started = make_stage(Path(name) / "stage"), time.monotonic()

        def one(numbered: tuple[int, Row]) -> Found:
            place = Path(name) / f"row{numbered[0]}"
            found = play(numbered[1], place, stage)
            shutil.rmtree(place, ignore_errors=True)
            seconds = time.monotonic() - started
            say(f"{seconds:5.0f} s  {found.fault}, {found.step}: {found.found} {found.words}")
            return found

        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(one, enumerate(chosen)))


if __name__ == "__main__":
    sys.exit(main())
