"""`make agreement`: what the planner says against what converters, runtimes and compilers do.

Every model x every verifiable runtime x every scheme. Prints a table, writes build/agreement.json, and ends with 1
when one row does not agree. See `edgeq.testing.agreement` for what is asked of each row.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edgeq import backends, targets, tools
from edgeq.conformance import child
from edgeq.errors import ToolError
from edgeq.planning import schemes
from edgeq.testing import agreement
from edgeq.testing.agreement import NOT_RUN, Job, Row, Seat
from edgeq.types import Case, Outcome

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("EDGEQ_SHARED", ROOT.parent / "shared")) / "models"
WORKERS = 2
LIMITS = child.Limits(item_s=600, start_s=60, memory_bytes=16 << 30)
SEATS = (
    Seat("generic-linux-x86_64", "litert", "litert"),
    Seat("raspberry-pi-4", "litert", "litert"),
    Seat("generic-linux-x86_64", "litert", "litert_reference", "tflite-litert-reference"),
    Seat("generic-linux-x86_64", "onnxruntime", "onnxruntime"),
    Seat("raspberry-pi-4", "onnxruntime", "onnxruntime"),
    Seat("stm32h743", "tflite-micro", "tflite_micro", tool="tflm"),
    Seat("ethos-u55-128", "vela", "vela", tool="vela"),
    Seat("ethos-u65-256", "vela", "vela", tool="vela"),
    Seat("ethos-u85-256", "vela", "vela", tool="vela"),
    Seat("snapdragon-8-gen3", "qnn", "qnn", tool="qnn"),
)
Verdicts = Mapping[tuple[str, Case], Outcome]


def main(words: Sequence[str] | None = None) -> int:
    """Run everything that was asked for."""
    asked = _arguments(words)
    if not asked.models.is_dir():
        sys.stderr.write(f"error: {asked.models} is absent\n  hint: --models FOLDER\n")
        return 2
    started = time.monotonic()
    seats, left_out = _present(SEATS)
    jobs = list(_jobs(asked.models, asked.only, asked.scheme, seats))
    if not jobs:
        sys.stderr.write(f"error: no model in {asked.models} matches\n")
        return 2
    examined = _examined(jobs)
    verdicts = _proved(examined)
    rows = [*(_judged(row, verdicts) for row in examined), *left_out]
    _print(rows)
    _write(rows, time.monotonic() - started, asked.output)
    return 0 if all(row.agrees for row in rows) else 1


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="what the planner says against what really runs")
    parser.add_argument("--models", type=Path, default=SHARED, help="folder of folders with models and a dataset.yaml")
    parser.add_argument("--only", action="append", default=[], metavar="MODEL", help="part of a file's path; again")
    parser.add_argument("--scheme", action="append", default=[], choices=schemes.KNOWN, help="one scheme; again")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "agreement.json")
    return parser.parse_args(words)


def _present(seats: Sequence[Seat]) -> tuple[list[Seat], list[Row]]:
    """The seats whose tools are there, and a row for each of the others."""
    there, left_out = [], []
    for seat in seats:
        try:
            if seat.tool is not None:
                tools.find(seat.tool)
            there.append(seat)
        except ToolError:
            words = f"{NOT_RUN}install with edgeq tools install {seat.tool}"
            left_out.append(Row("every model", seat.label, "every scheme", "-", words))
    return there, left_out


def _jobs(folder: Path, only: Sequence[str], names: Sequence[str], seats: Sequence[Seat]) -> Iterator[Job]:
    """One job for each model and scheme; large models first, so that no worker is left alone with one."""
    files = sorted((*folder.glob("*/*.tflite"), *folder.glob("*/*.onnx")), key=lambda path: -path.stat().st_size)
    for path in files:
        dataset = path.parent / "dataset.yaml"
        reading = tuple(seat for seat in seats if agreement.reads(seat, path.suffix))
        wanted = not only or any(part in str(path.relative_to(folder)) for part in only)
        for scheme in names or schemes.KNOWN if wanted and reading and dataset.is_file() else ():
            yield Job(path, dataset, scheme, reading)


# --- models ----------------------------------------------------------------------------------


def _examined(jobs: Sequence[Job]) -> list[Row]:
    """The rows of all jobs; each worker has a child process, which a crash of native code may end."""
    rows: dict[Job, list[Row]] = {}
    queue, lock = iter(jobs), threading.Lock()
    failures: list[BaseException] = []

    def taken() -> Iterator[Job]:
        while True:
            with lock:
                job = next(queue, None)
            if job is None or failures:
                return
            todo.job = job
            yield job

    def work() -> None:
        try:
            for answer in child.run("edgeq.testing.agreement:examine", taken(), LIMITS):
                job = todo.job
                rows[job] = _alone(job) if isinstance(answer, child.Lost) else answer
                _told(len(rows), len(jobs), f"{job.model.name} {job.scheme}", rows[job])
        except RuntimeError as problem:  # a bug in a child: raised below, in the main thread
            failures.append(problem)

    todo = threading.local()
    threads = [threading.Thread(target=work) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return [row for job in sorted(rows, key=lambda job: str(job.model)) for row in rows[job]]


def _alone(job: Job) -> list[Row]:
    """A job whose child died, seat by seat: what ends its child is no agreement with either word of a plan."""
    found: list[Row] = []
    for seat in job.seats:
        (answer,) = child.run("edgeq.testing.agreement:examine", [job._replace(seats=(seat,))], LIMITS)
        if isinstance(answer, child.Lost):
            row = Row(job.model.name, seat.label, job.scheme, "?", answer.why, ("the process did not survive it",))
            answer = [row]
        found += answer
    return found


def _told(done: int, count: int, what: str, rows: Sequence[Row]) -> None:
    wrong = sum(not row.agrees for row in rows)
    words = f": {wrong} of {len(rows)} rows do not agree" if wrong else ""
    sys.stderr.write(f"[{done}/{count}] {what}{words}\n")


# --- what plans denied -------------------------------------------------------------------------


def _proved(rows: Sequence[Row]) -> Verdicts:
    """What the real thing does with each signature that some plan denied an operator."""
    found: dict[tuple[str, Case], Outcome] = {}
    for name in sorted({row.table for row in rows if row.denied}):
        cases = list(dict.fromkeys(case for row in rows if row.table == name for case in row.denied))
        table = targets.load_table(name)
        sys.stderr.write(f"{len(cases)} denied signatures of {name} are put to its prover\n")
        if table.prover is not None:
            outcomes = backends.find("conformance", table.prover).prove(cases, table)
            found.update({(name, outcome.case): outcome for outcome in outcomes})
    return found


def _judged(row: Row, verdicts: Verdicts) -> Row:
    """The row with what became of its denials: one that runs after all was denied wrongly."""
    outcomes = [verdicts[row.table, case] for case in row.denied if (row.table, case) in verdicts]
    if not row.denied:
        return row
    counts = Counter("refused" if one.result in ("refused", "wrong") else one.result for one in outcomes)
    counts["untried"] += len(row.denied) - len(outcomes)
    told = ", ".join(f"{counts[key]} {key}" for key in ("refused", "runs", "untried") if counts[key])
    missed = tuple(
        f"{one.case.operator} {one.case.signature} {one.case.variant}".strip() + " is denied and runs"
        for one in outcomes
        if one.result == "runs"
    )
    return row._replace(reality=f"{row.reality}; denied signatures: {told}", wrong=(*row.wrong, *missed))


# --- results ---------------------------------------------------------------------------------


def _print(rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("model", "runtime", "scheme", "plan", "reality", "agrees")
    for row in rows:
        table.add_row(row.model, row.runtime, row.scheme, row.plan, "\n".join((row.reality, *row.wrong)), _word(row))
    console = Console(width=None if sys.stdout.isatty() else 200, markup=False)
    console.print(table)
    asked = [row for row in rows if row.is_run]
    agreed = sum(row.agrees for row in asked)
    said = Counter(row.plan[:3].rstrip(":") for row in asked)
    console.print(f"{len(asked)} rows asked ({said['yes']} yes, {said['no']} no), {len(rows) - len(asked)} not run")
    console.print(f"agreement {100 * agreed / max(len(asked), 1):.1f} %")


def _word(row: Row) -> str:
    return ("yes" if row.agrees else "NO") if row.is_run else "-"


def _write(rows: Sequence[Row], seconds: float, output: Path) -> None:
    """Keep the rows, with the versions that they hold for."""
    found = [
        {**row._asdict(), "denied": [_plain(case) for case in row.denied], "agrees": row.agrees if row.is_run else None}
        for row in rows
    ]
    versions = {name: backends.find("runtimes", name).version() for name in ("litert", "onnxruntime")}
    document = {"schema_version": 1, "versions": versions, "seconds": round(seconds, 1), "rows": found}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=2) + "\n")


def _plain(case: Case) -> dict[str, object]:
    return {"operator": case.operator, "signature": dataclasses.asdict(case.signature), "variant": case.variant}


if __name__ == "__main__":
    sys.exit(main())
