"""The `evaluate` verb: stored inputs through the model, stored outputs to a file."""

import os
import shutil
import time
from pathlib import Path

from . import bundle as bundles
from . import events, files, interpreters
from .events import Failure
from .session import Session, groups

STALE_SECONDS = 86400


def run(folder, settings, source, destination):
    """Run the vectors of one .npz and write another, whole or not at all."""
    bundle = bundles.Bundle(folder, settings.get("files"))
    sweep(bundle.folder / ".evaluate")
    interpreter = interpreters.choose(bundle.format)  # first of all: NumPy comes with it
    inputs = bundles.arrays(Path(source), "input", bundle.inputs)
    session = Session(bundle, interpreter, settings.get("threads") or 1)
    count = groups(session, inputs)
    parts = []
    for number in range(count):
        events.progress("evaluate", number + 1, count)
        parts.append([output.copy() for output in session.run(inputs, number)])
    write(Path(destination), [list(outputs) for outputs in zip(*parts)])
    events.emit("result", vectors=count * session.batch, runtime=session.about())


def sweep(folder):
    """Remove what runs left behind that were cut off a day ago or more."""
    for left in files.children(folder):
        try:
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(str(left), ignore_errors=True)
        except OSError:
            continue


def write(path, outputs):
    """Write `output_0…`, each one's parts joined on the first axis, under a temporary name first."""
    import numpy as np

    temporary = path.with_name("." + path.name + ".part")
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, **{"output_%d" % number: np.concatenate(parts) for number, parts in enumerate(outputs)})
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        kind = {28: "disk-full", 122: "disk-full"}.get(error.errno, "not-writable")
        raise Failure(kind, "%s: %s" % (path, error.strerror)) from None
    except ValueError as error:
        raise Failure("model-failed", "the outputs of different vectors do not fit together: %s" % error) from None
    finally:
        if temporary.exists():
            temporary.unlink()
