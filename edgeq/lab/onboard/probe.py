"""The `probe` verb: what the device is, which interpreters really run there, which sensors it has."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from . import conditions, events, interpreters, machine, meters, private

CHECK_SECONDS = 120


def run(roots, runtime=None):
    """Emit everything; each interpreter is tried in a process of its own, for it may crash."""
    names = [name for group in interpreters.FORMATS.values() for name in group]
    if runtime is not None:
        names = [name for name in names if name == runtime]
    found = {}
    for number, name in enumerate(names):
        events.progress("interpreters", number, len(names))
        found[name] = check(name)
    events.emit(
        "result",
        device=machine.describe(roots),
        runtimes=found,
        sensors=meters.survey(roots),
        conditions=conditions.read(roots),
    )


def check(name):
    """{version, ok, why}: an interpreter was built and an inference was right, or why not."""
    if not interpreters.installed(name):
        return {"version": None, "ok": False, "why": "not installed"}
    own = private.folder()
    answer = ask(name, [] if own is None else ["--own", str(own)])
    if not answer["ok"] and private.found(interpreters.format_of(name)) is not None:
        answer["why"] = ("%s" % answer["why"])[:300] + private.MARK
    return answer


def ask(name, words):
    """The answer of a `check` in a process of its own; `words` say where it looks."""
    argv = [sys.executable, "-I", str(Path(__file__).with_name("__main__.py")), "check", "--runtime", name]
    argv += words
    try:
        done = subprocess.run(
            argv,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=CHECK_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return {"version": None, "ok": False, "why": "no answer in %d s" % CHECK_SECONDS}
    if done.returncode < 0:
        return {"version": None, "ok": False, "why": "killed by %s" % _signal(-done.returncode)}
    return _answer(done.stdout)


def _signal(number):
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return "signal %d" % number


def _answer(output):
    try:
        answer = json.loads(output.splitlines()[-1].decode())
        return {key: answer[key] for key in ("version", "ok", "why")}
    except (IndexError, ValueError, KeyError, TypeError):
        return {"version": None, "ok": False, "why": "it ended without an answer"}


def check_here(name, only=None):
    """The `check` verb: prove one interpreter in this process, with `only` that folder beside Python's library."""
    version, why = None, None
    if only is None:
        private.enter(interpreters.format_of(name))
    else:
        private.narrow(only)
    try:
        version = interpreters.version(name)
        interpreters.prove(name)
    except Exception as error:  # a broken native package raises anything, SystemError for one
        why = interpreters.explain(error)
    events.emit("result", version=version, ok=why is None, why=why)
