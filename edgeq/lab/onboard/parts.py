"""Parts of a measurement that take a process of their own: what one loads must not disturb the others."""

import json
import subprocess
import sys
from pathlib import Path

from . import events

_LONGEST_LINE = 4 << 20


def ask(verb, folder, settings, roots):
    """The result of another verb of this runner as a dict; raises Failure with its message, or how it ended."""
    argv = [sys.executable, "-I", str(Path(__file__).with_name("__main__.py"))]
    argv += [verb, "--bundle", str(folder), "--settings", json.dumps(settings)]
    argv += ["--sysfs", str(roots.sys), "--proc", str(roots.proc), "--vcgencmd", roots.vcgencmd]
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    last = {}
    try:
        for line in iter(lambda: child.stdout.readline(_LONGEST_LINE), b""):
            last = _parsed(line)
            if last.get("event") == "progress":
                events.progress(str(last.get("step")), int(last.get("done", 0)), int(last.get("total", 0)))
        child.wait()
    finally:
        _end(child)
    if child.returncode == 0 and last.get("event") == "result":
        return last
    raise events.Failure(str(last.get("kind", "model-failed")), _message(verb, child.returncode, last))


def _parsed(line):
    try:
        found = json.loads(line.decode("utf-8", "replace"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _message(verb, status, last):
    if last.get("event") == "error":
        return str(last.get("message"))
    how = "was ended by signal %d" % -status if status < 0 else "ended with %d" % status
    return "the process for %s %s" % (verb, how + (" (out of memory?)" if status == -9 else ""))


def _end(child):
    if child.poll() is None:
        child.kill()
    child.wait()
    child.stdout.close()
