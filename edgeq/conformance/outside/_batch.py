"""Run a folder of models. A script for an outside tool's Python, which has NumPy and knows nothing of edgeq.

`_batch.py ENGINE FOLDER START_SECONDS ITEM_SECONDS` reads `jobs.json`, `<number>.model` and `<number>.npz`, and writes
`<number>.out.npz` or `<number>.raised`, beside `<number>.err` with what the model's run wrote to stderr. The models run
in a worker, which is used until it dies or hangs; the model that ended it is tried again as the first of the next one.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

BROKEN = 70
"""Exit code of a worker whose engine failed: not the model's fault."""


def main(engine: Path, folder: Path, start_seconds: float, item_seconds: float) -> None:
    """Run all models; raises SystemExit where the engine itself does not work."""
    jobs = json.loads((folder / "jobs.json").read_text())
    todo = list(range(len(jobs["outputs"])))
    while todo:
        done, ending = work(engine, folder, jobs, todo, (start_seconds, item_seconds))
        todo = todo[done:]
        if todo and not done:
            (folder / f"{todo.pop(0)}.raised").write_text(ending)


def work(
    engine: Path, folder: Path, jobs: dict[str, Any], todo: list[int], limits: tuple[float, float]
) -> tuple[int, str]:
    """Let one worker go through `todo`: how many it finished, and how it ended."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        os.close(reader)
        serve(engine, folder, jobs, todo, writer)
    os.close(writer)
    try:
        done, late = watch(reader, len(todo), *limits)
    finally:
        os.close(reader)
        os.kill(process, signal.SIGKILL)
        status = os.waitpid(process, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == BROKEN:
        raise SystemExit(1)  # the worker said why
    ending = f"no answer after {limits[done >= 0]:g} s" if late else named(status)
    if done < 0:
        raise SystemExit(f"the runtime cannot be loaded: {ending}")
    return done, ending


def watch(reader: int, count: int, start_seconds: float, item_seconds: float) -> tuple[int, bool]:
    """How many models the worker finished, -1 where it did not even start; and whether its time was up."""
    done = -1
    while done < count:
        deadline = time.monotonic() + (start_seconds if done < 0 else item_seconds)
        ready, _, _ = select.select([reader], [], [], max(deadline - time.monotonic(), 0))
        if not ready:
            return done, True
        marks = os.read(reader, 1)
        if not marks:
            time.sleep(0.05)  # it closed its pipe because it ends: let it say how
            return done, False
        done += 1
    return done, False


def named(status: int) -> str:
    """How a process ended, in words."""
    if os.WIFSIGNALED(status):
        return f"died with {signal.Signals(os.WTERMSIG(status)).name}"
    return f"died with exit code {os.WEXITSTATUS(status)}"


# --- in the worker ---------------------------------------------------------------------------


def serve(engine: Path, folder: Path, jobs: dict[str, Any], todo: list[int], writer: int) -> NoReturn:
    """Run models and write a mark for each; never returns."""
    errors = os.dup(2)
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        loaded = runpy.run_path(str(engine))
        os.write(writer, b".")
        for number in todo:
            with (folder / f"{number}.err").open("wb") as chatter:
                os.dup2(chatter.fileno(), 2)
            answer(loaded, folder, jobs, number)
            os.write(writer, b".")
        os._exit(0)
    except BaseException:  # noqa: BLE001 - a fork must never return into its parent's code
        os.dup2(errors, 2)
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(BROKEN)


def answer(loaded: dict[str, Any], folder: Path, jobs: dict[str, Any], number: int) -> None:
    """Run one model and write what it answers."""
    with np.load(folder / f"{number}.npz", allow_pickle=False) as stored:
        feeds = {name: stored[name] for name in stored.files}
    model = (folder / f"{number}.model").read_bytes()
    try:
        outputs = loaded["run"](model, feeds, jobs["outputs"][number], jobs["settings"])
    except loaded["REFUSALS"] as problem:
        (folder / f"{number}.raised").write_text(f"{problem}" or type(problem).__name__)
        return
    part = folder / f"{number}.part"
    with part.open("wb") as stream:
        np.savez(stream, **{str(place): values for place, values in enumerate(outputs)})
    part.replace(folder / f"{number}.out.npz")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
