"""Parts of a measurement that take a process of their own: what the runs have loaded must not disturb them."""

import json
import subprocess
import sys
from pathlib import Path

from . import events

_LONGEST_LINE = 4 << 20


def ask(verbs, folder, settings, roots):
    """{verb: its result as a dict, or the Failure that it ended with} of other verbs of this runner.

    One process takes them in their order, so that the runtime is loaded once; the first finds it fresh. When it dies,
    another takes those that are left.
    """
    found = {}
    while len(found) < len(verbs):
        left = verbs[len(found) :]
        answers, status = _run(left, folder, settings, roots)
        found.update(zip(left, answers))
        if len(answers) < len(left):
            verb = left[len(answers)]
            found[verb] = events.Failure("model-failed", _message(verb, status))
    return found


def run(verbs, call):
    """In the process of its own: `call(verb)` for each; a Failure ends one of them, not all."""
    for verb in verbs:
        try:
            call(verb)
        except events.Failure as failure:
            events.emit("error", kind=failure.kind, message=failure.message[:1000])
        except MemoryError:
            events.emit("error", kind="out-of-memory", message="the runner ran out of memory")


def _run(verbs, folder, settings, roots):
    """(results and Failures in the order of the verbs, as many as came; how the process ended)."""
    argv = [sys.executable, "-I", str(Path(__file__).with_name("__main__.py")), "parts", "--verbs", ",".join(verbs)]
    argv += ["--bundle", str(folder), "--settings", json.dumps(settings)]
    argv += ["--sysfs", str(roots.sys), "--proc", str(roots.proc), "--vcgencmd", roots.vcgencmd]
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    answers = []
    try:
        for line in iter(lambda: child.stdout.readline(_LONGEST_LINE), b""):
            told = _parsed(line)
            if told.get("event") == "progress":
                events.progress(str(told.get("step")), int(told.get("done", 0)), int(told.get("total", 0)))
            elif told.get("event") == "result":
                answers.append(told)
            elif told.get("event") == "error":
                answers.append(events.Failure(str(told.get("kind")), str(told.get("message"))))
        child.wait()
    finally:
        _end(child)
    return answers, child.returncode


def _parsed(line):
    try:
        found = json.loads(line.decode("utf-8", "replace"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _message(verb, status):
    how = "was ended by signal %d" % -status if status < 0 else "ended with %d" % status
    return "the process for %s %s" % (verb, how + (" (out of memory?)" if status == -9 else ""))


def _end(child):
    if child.poll() is None:
        child.kill()
    child.wait()
    child.stdout.close()
