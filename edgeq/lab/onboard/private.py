"""Runtimes that `--provision` brought: `<edgeq's folder>/runtimes/<Python's ABI>/<format>-<digest>/`.

A process uses the device's own packages or one such folder, never both: NumPy of the one and an interpreter of the
other do not fit together.
"""

import os
import sys
import sysconfig
from pathlib import Path

MARKER = "edgeq-runtime.json"
MARK = " (provisioned)"
_state = {"folder": None}


def here():
    """edgeq's folder as this file's place tells it: the runner of a bundle lies there; elsewhere None.

    A runner that travels along lies in a temporary folder: what is beside that is anybody's.
    """
    bundle = Path(os.path.abspath(__file__)).parents[1]  # noqa: PTH100, links stay as they are
    return str(bundle.parent) if (bundle / "manifest.json").is_file() else None


def use(folder):
    """Look for runtimes below this folder of edgeq's from now on; None for no folder."""
    _state["folder"] = folder


def folder():
    """edgeq's folder, absolute, or None."""
    return None if _state["folder"] is None else Path(os.path.abspath(_state["folder"]))  # noqa: PTH100


def abi():
    """This Python's binary interface, such as `cpython-311-x86_64-linux-gnu`."""
    told = sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag or "unknown"
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in told)


def place():
    """Folder of the runtimes for this Python, or None."""
    return None if folder() is None else folder() / "runtimes" / abi()


def found(model_format):
    """The whole runtime for a format that was installed last, or None."""
    if place() is None or not model_format.isalnum():
        return None
    whole = [one for one in place().glob(model_format + "-*") if (one / MARKER).is_file()]
    return max(whole, key=lambda one: (one / MARKER).stat().st_mtime_ns, default=None)


def enter(model_format):
    """From now on this process imports from the format's private runtime and Python's own library alone, if it is
    there."""
    runtime = found(model_format)
    if runtime is not None:
        narrow(runtime)


def narrow(runtime):
    """Exactly this folder and Python's own library on sys.path."""
    library = os.path.dirname(os.__file__)  # noqa: PTH120, text is compared with text
    own = [library, os.path.join(library, "lib-dynload"), sysconfig.get_path("platstdlib")]  # noqa: PTH118
    last = ("%spython%d%d.zip" % (os.sep, sys.version_info[0], sys.version_info[1]), os.sep + "lib-dynload")
    stay = [word for word in sys.path if word in own or word.endswith(last)]
    sys.path[:] = [str(runtime), *stay]
