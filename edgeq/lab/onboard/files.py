"""Small reads of /proc and /sys that never raise for what is absent."""

from pathlib import Path

LIMIT = 1 << 20


class Roots:
    """Where the kernel's trees are and which program asks the Raspberry Pi's firmware."""

    def __init__(self, sysfs="/sys", proc="/proc", vcgencmd="vcgencmd"):
        self.sys = Path(sysfs)
        self.proc = Path(proc)
        self.vcgencmd = vcgencmd


def text(path):
    """The stripped text of a small file, or None."""
    try:
        with Path(path).open("rb") as stream:
            return stream.read(LIMIT).decode("utf-8", "replace").strip("\0 \n\t")
    except OSError:
        return None


def integer(path):
    """The whole number in a file, or None."""
    try:
        return int(text(path) or "")
    except ValueError:
        return None


def children(folder, pattern="*"):
    """Sorted entries of a folder; empty where there is none."""
    try:
        return sorted(Path(folder).glob(pattern))
    except OSError:
        return []


def fields(path):
    """`name: value` lines of a file such as /proc/meminfo."""
    pairs = (line.split(":", 1) for line in (text(path) or "").splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def kib_field(path, name):
    """Bytes of a `name: 123 kB` line, or None."""
    words = fields(path).get(name, "").split()
    return int(words[0]) * 1024 if words and words[0].isdecimal() else None
