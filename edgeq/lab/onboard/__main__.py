"""`python3 -I runner/__main__.py VERB …`; VERBS below has them."""

import argparse
import importlib
import json
import os
import site
import sys
import time
from pathlib import Path

if not __package__:
    # -I leaves the script's folder off sys.path and its name unset; relative imports need the package.
    _here = Path(__file__).resolve().parent
    sys.path.insert(0, str(_here.parent))
    __package__ = _here.name
    importlib.import_module(__package__)
    del sys.path[0]

from . import events, files, private


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(prog="runner", description="edgeq's onboard runner")
    verbs = parser.add_subparsers(dest="verb")
    verbs.required = True
    for name, words in VERBS.items():
        verb = verbs.add_parser(name)
        verb.set_defaults(call=words["call"])
        for option, details in list(words["options"].items()) + list(ROOTS.items()):
            verb.add_argument(option, **details)
        verb.add_argument("--own", help="edgeq's folder, where private runtimes lie")
    return parser.parse_args()


def settings(text):
    """A JSON object of settings."""
    try:
        value = json.loads(text)
    except ValueError:
        raise argparse.ArgumentTypeError("not JSON") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("not a JSON object")
    return value


def cpus(text):
    """Core numbers, comma-separated."""
    return [int(word) for word in text.split(",") if word]


def _probe(args, roots):
    from . import probe

    probe.run(roots, args.runtime)


def _check(args, _roots):
    from . import probe

    probe.check_here(args.runtime, args.only)


def _facts(_args, roots):
    from . import install

    install.facts(roots)


def _install(args, _roots):
    from . import install

    events.stop_after(float(args.settings.get("timeout_seconds", 600)))
    install.run(args.settings)


def _preflight(args, roots):
    from . import ready

    ready.run(roots, args.format, args.folder, args.manifest)


def _bench(args, roots):
    from . import bench

    events.stop_after(float(args.settings.get("timeout_seconds", 600)))
    bench.run(args.bundle, args.settings, roots, args.clock)


def _parts(args, roots):
    from . import parts

    parts.run(args.verbs.split(","), lambda verb: VERBS[verb]["call"](args, roots))


def _memory(args, roots):
    from . import memory

    events.stop_after(float(args.settings.get("timeout_seconds", 600)))
    memory.run(args.bundle, args.settings, roots)


def _operators(args, _roots):
    from . import operators

    events.stop_after(float(args.settings.get("timeout_seconds", 600)))
    operators.run(args.bundle, args.settings)


def _beside(args, roots):
    from . import beside

    events.stop_after(float(args.settings.get("timeout_seconds", 600)))
    beside.run(args.bundle, args.settings, roots, args.clock)


def _evaluate(args, _roots):
    from . import evaluate

    events.stop_after(float(args.settings.get("timeout_seconds", 600)))
    evaluate.run(args.bundle, args.settings, args.inputs, args.outputs)


def _sample(args, roots):
    from . import bench, sampler

    bench.pin(args.cpus)
    events.stop_after(args.seconds + 30)
    announced, ended = {}, sampler.stdin_ended
    if not args.until_eof:
        stop_file = sampler.stop_file()
        announced, ended = {"stop_file": stop_file}, sampler.file_appeared(stop_file, args.seconds)
    try:
        sampler.run(args.source, roots, args.seconds, ended, announced, args.watch)
    finally:
        if not args.until_eof:
            sampler.forget(stop_file)


ROOTS = {"--sysfs": {"default": "/sys"}, "--proc": {"default": "/proc"}, "--vcgencmd": {"default": "vcgencmd"}}
_BUNDLE = {"--bundle": {"required": True}, "--settings": {"type": settings, "default": {}}}
VERBS = {
    "probe": {"call": _probe, "options": {"--runtime": {}}},
    "check": {"call": _check, "options": {"--runtime": {"required": True}, "--only": {}}},
    "facts": {"call": _facts, "options": {}},
    "install": {"call": _install, "options": {"--settings": {"type": settings, "required": True}}},
    "preflight": {
        "call": _preflight,
        "options": {"--format": {"required": True}, "--folder": {"required": True}, "--manifest": {"default": ""}},
    },
    "bench": {"call": _bench, "options": _BUNDLE},
    "parts": {"call": _parts, "options": dict(_BUNDLE, **{"--verbs": {"required": True}})},
    "memory": {"call": _memory, "options": _BUNDLE},
    "operators": {"call": _operators, "options": _BUNDLE},
    "beside": {"call": _beside, "options": _BUNDLE},
    "evaluate": {
        "call": _evaluate,
        "options": dict(_BUNDLE, **{"--inputs": {"required": True}, "--outputs": {"required": True}}),
    },
    "sample": {
        "call": _sample,
        "options": {
            "--source": {"default": "auto"},
            "--seconds": {"type": float, "default": 86400.0},
            "--cpus": {"type": cpus, "default": []},
            "--until-eof": {"action": "store_true"},
            "--watch": {"action": "store_true"},
        },
    },
}


def add_packages():
    """Add what -I drops along with the working folder: PYTHONPATH, and what `pip install --user` put there."""
    words = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [word for word in words if os.path.isabs(word)]  # noqa: PTH117, no pathlib needed for text
    site.addsitedir(site.getusersitepackages())


def main(clock=time.monotonic_ns):
    """Run one verb; returns the exit status. Another clock than the kernel's is for tests."""
    args = arguments()
    args.clock = clock
    events.open_stream()
    events.stop_on_signals()
    add_packages()
    private.use(args.own or private.here())
    try:
        args.call(args, files.Roots(args.sysfs, args.proc, args.vcgencmd))
        return 0
    except events.Failure as failure:
        return _failed(failure.kind, failure.message, **failure.facts)
    except MemoryError:
        return _failed("out-of-memory", "the runner ran out of memory")
    except events.Stopped as stopped:
        return stopped.status


def _failed(kind, message, **facts):
    """Emit the error with what the host needs to say how to mend it."""
    from . import machine

    known = {"machine": os.uname().machine, "python": sys.version.split()[0], "pip": machine.pip()}
    try:
        events.emit("error", kind=kind, message=message[:1000], device=known, **facts)
    except events.Stopped as stopped:
        return stopped.status
    return 1


if __name__ == "__main__":
    sys.exit(main())
