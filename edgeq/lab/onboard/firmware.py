"""What the Raspberry Pi's firmware tells through vcgencmd."""

import re
import subprocess

TIMEOUT_SECONDS = 5
_RAIL = re.compile(r"^\s*(\w+)_([AV])\s+(?:current|volt)\(\d+\)=(\S+?)[AV]\s*$")


def ask(program, *words):
    """vcgencmd's answer, or None where there is no vcgencmd or no firmware."""
    try:
        done = subprocess.run(
            [program, *words],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("ascii", "replace") if done.returncode == 0 else None


def throttled_bits(program):
    """Bits of get_throttled: 0-3 now, 16-19 since boot; None where it is not told."""
    match = re.search(r"throttled=0x([0-9a-fA-F]{1,8})\b", ask(program, "get_throttled") or "")
    return int(match.group(1), 16) if match else None


def rails(program):
    """Milliwatts of every rail that has both current and voltage in pmic_read_adc; values can be NaN."""
    found = {"A": {}, "V": {}}
    for line in (ask(program, "pmic_read_adc") or "").splitlines():
        match = _RAIL.match(line)
        if match:
            found[match.group(2)][match.group(1)] = _number(match.group(3))
    return {name: amperes * found["V"][name] * 1000 for name, amperes in found["A"].items() if name in found["V"]}


def _number(word):
    try:
        return float(word)
    except ValueError:
        return float("nan")
